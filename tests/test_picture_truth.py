"""Pictures say what is true: labels, captions and edges of programs that were drawn wrongly."""

import pytest
import torch
from torch import nn

import gradviz
from gradviz.graph import GradGraph, NodeKind, TensorSummary
from gradviz.renderers.caption import caption, news_caption
from gradviz.renderers.labels import labels_of
from gradviz.renderers.legend import legend_of
from gradviz.renderers.theme import edge_look
from gradviz.story import Frame, Story
from gradviz.views import color_by, hide_bookkeeping

LEAVES = (NodeKind.LEAF, NodeKind.PARAMETER)


def label_of(graph, name):
    """The label of the node with that name or operation, in plain text."""
    (key,) = [
        key
        for key, data in graph.nodes(data=True)
        if name in (data.get("name"), data.get("op")) and "clone_of" not in data
    ]
    return labels_of(graph)[key].plain()


def summary(values, shape=None, **more):
    shape = (len(values),) if shape is None else shape
    return TensorSummary(shape, "float32", "cpu", values=tuple(values), **more)


def leaf(**data):
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.LEAF, name="w", **data)
    return graph


def stepped():
    """A leaf that was changed in place after backward."""
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    loss.backward()
    with torch.no_grad():
        w -= 0.25 * w.grad
    return loss, w


def test_a_leaf_that_may_have_changed_since_shows_its_current_value_as_such():
    loss, w = stepped()
    drawing = gradviz.draw(loss)
    assert w.tolist() == [0.5, 1.0]
    assert "now  0.5 1" in label_of(drawing.shown[0].graph, "w")
    assert legend_of([drawing.shown[0].graph])["now"].startswith("now: current value")
    assert "current value" in drawing.svg


def test_a_leaf_that_did_not_change_has_its_value():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * w).sum()
    loss.backward()
    drawing = gradviz.draw(loss)
    assert "=  1 2" in label_of(drawing.shown[0].graph, "w")
    assert "now" not in legend_of([drawing.shown[0].graph])


def test_a_recording_says_what_a_changed_leaf_was():
    with gradviz.record() as run:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        loss = (w * w).sum()
        loss.backward()
        with torch.no_grad():
            w -= 0.25 * w.grad
    last = gradviz.draw(run).shown[-1].graph
    assert "0.5 1  changed since  was 1 2" in label_of(last, "w")


def test_a_large_leaf_that_changed_is_marked():
    with gradviz.record() as run:
        w = torch.ones(50, 50, requires_grad=True)
        loss = (w * w).sum()
        loss.backward()
        with torch.no_grad():
            w -= 0.25 * w.grad
    assert "changed since" in label_of(gradviz.draw(run).shown[-1].graph, "w")


def test_frames_put_together_by_hand_say_nothing_of_changes_since():
    w = torch.tensor([1.0], requires_grad=True)
    frames = []
    for title in ("one", "two"):
        frames.append(Frame(title, gradviz.trace((w * 2).sum())))
        with torch.no_grad():
            w += 1
    assert "changed since" not in str(gradviz.draw(Story(frames)))


def test_freed_persists_in_later_frames():
    with gradviz.record() as run:
        kept = stepped()
    assert kept
    assert ["freed" in label_of(f.graph, "mul") for f in gradviz.draw(run).shown] == [
        False,
        True,
        True,
    ]


NUMBERS = [
    (
        summary([0.12345, -0.23456, 0.34567, -0.45678, 0.56789, -0.67891, 0.098765, 0.5]),
        "0.1235 -0.2346 0.3457 -0.4568 … 8 values",
    ),
    (summary([0.5] * 8), " ".join(["0.5"] * 8)),
    (
        summary([-0.123456] * 8, (2, 4)),
        "[-0.1235 -0.1235 -0.1235 -0.1235] …  8 values",
    ),
]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_numbers_are_never_cut(value, text):
    found = label_of(leaf(value=value), "w")
    words = set(" ".join(map(str, found.split())).replace("[", " ").replace("]", " ").split())
    whole = {f"{number:.4g}" for number in value.values}
    assert {word for word in words if word.lstrip("-")[:1].isdigit()} <= whole | {"8"}
    assert found.count("[") == found.count("]")
    assert ("8 values" in found) == ("8 values" in text)


def test_a_long_path_keeps_its_end():
    name = "base_model.model.transformer.h.3.attn.c_attn.lora_A.default.weight"
    graph = leaf()
    graph.nodes["n0"]["name"] = name
    (label,) = labels_of(graph).values()
    assert (
        label.plain().startswith("…") and "h.3.attn.c_attn.lora_A.default.weight" in label.plain()
    )


def weighted():
    w = torch.tensor([1.0], requires_grad=True)
    loss = (w * 1000).sum() + (w * 0.001).sum()
    loss.backward()
    return loss


def test_an_edge_out_of_a_shared_leaf_has_no_width_of_its_sum():
    graph = gradviz.draw(weighted(), views=[hide_bookkeeping, color_by("grad_norm")]).shown[0].graph
    looks = {edge_look(data) for *_, data in graph.edges(data=True)}
    assert looks == {("line", 1.3)}


def test_the_legend_explains_the_width_of_edges():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    loss = (w * 3).sum()
    loss.backward()
    graph = gradviz.draw(loss, views=[hide_bookkeeping, color_by("grad_norm")]).shown[0].graph
    assert any(edge_look(data)[1] > 1.3 for *_, data in graph.edges(data=True))
    assert "width" in legend_of([graph])


def test_the_caption_counts_what_leads_to_the_result():
    g = torch.tensor(2.0, requires_grad=True)
    c = torch.tensor(0.5, requires_grad=True)
    with gradviz.record() as run:
        critic_loss = c * (g * 3).detach()
        critic_loss.backward()
    text = caption(run.story[0].graph)
    assert text.startswith("1 operation from 1 leaf to critic_loss. 1 more leaf is not reachable")


def test_a_recorded_detach_is_not_called_a_leaf():
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    with gradviz.record() as run:
        loss = (x.detach() * 2).sum()
    text = str(gradviz.draw(run))
    assert "loss has no grad_fn: the path is cut by detach at" in text
    assert "is a leaf" not in text
    assert loss.grad_fn is None and text.index("loss") < text.index("x  f32[3]")


def test_gradients_that_were_cleared_are_called_cleared():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    with gradviz.record(model) as run:
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
        model.zero_grad()
        run.mark("cleared")
    said = [news_caption(frame.graph) for frame in gradviz.draw(run, views=()).shown]
    assert any("The gradients of 4 leaves are new." in text for text in said)
    assert any("The gradients of 4 leaves are cleared (None)." in text for text in said)


def test_a_step_leaves_a_mark_on_folded_groups():
    model = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(8)])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record(model) as run:
        loss = model(torch.ones(1, 8)).sum()
        loss.backward()
        optimizer.step()
    views = [gradviz.views.hide_bookkeeping, gradviz.views.group_by_module]
    graph = gradviz.draw(run, views=views).shown[-1].graph
    groups = [key for key, data in graph.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    labels = labels_of(graph)
    assert groups and all("2 leaves changed in place" in labels[key].plain() for key in groups)


def test_repeated_layers_show_the_gradient_of_each():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(6)])
    loss = model(torch.ones(1, 8)).sum()
    loss.backward()
    views = [gradviz.views.hide_bookkeeping, gradviz.views.fold_repeats]
    drawing = gradviz.draw(loss, names=model, views=views)
    (group,) = [d for _, d in drawing.shown[0].graph.nodes(data=True) if d.get("repeat")]
    each = [
        torch.cat([p.grad.flatten() for p in layer.parameters()]).norm().item() for layer in model
    ]
    assert group["grad_range"] == pytest.approx((min(each), max(each)), rel=1e-4)
    assert " each" in str(drawing)
    assert f"({group['members']} operations repeat" in str(drawing)


def test_explain_marks_what_was_asked_about_and_says_why():
    model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 1))
    with gradviz.record() as run:
        loss = model(torch.randn(16, 4)).detach().square().mean() + model[2].weight.sum()
        loss.backward()
    answer = gradviz.explain(run, names=model)
    graph = answer.draw().shown[0].graph
    names = {data["name"] for _, data in graph.nodes(data=True) if data["kind"] in LEAVES}
    assert names == {name for name, _ in model.named_parameters()}
    for name in ("0.weight", "0.bias", "2.bias"):
        assert "no gradient" in label_of(graph, name)
    assert "no gradient" not in label_of(graph, "2.weight")
    assert "fine" not in answer.draw().text
    assert "the path to loss is cut by detach() at" in answer.draw().shown[0].caption


def test_named_tensors_without_a_gradient_say_so_beside_one_that_retains_it():
    x = torch.ones(3, requires_grad=True)
    kept = x * 2
    kept.retain_grad()
    moved = x + 1
    loss = (kept * moved).sum()
    loss.backward()
    graph = gradviz.draw(loss).shown[0].graph
    assert ".grad  None, not a leaf" in label_of(graph, "moved")
    assert "None" not in label_of(graph, "kept")


def test_a_failed_backward_is_called_failed():
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError, match="inplace"), gradviz.record() as run:
        y = w.exp()
        y.add_(1)
        y.sum().backward()
    assert "Backward failed at exp: needs" in str(gradviz.draw(run))
