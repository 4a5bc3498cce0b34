"""Pictures say what is true: labels, captions and edges of programs that were drawn wrongly."""

import functools

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradviz
from gradviz.diagnosis.answers import Verdict
from gradviz.graph import GradGraph, NodeKind, TensorSummary
from gradviz.renderers.caption import caption, changes_caption, legend_of
from gradviz.renderers.labels import labels_of
from gradviz.renderers.theme import edge_look
from gradviz.story import Frame, Story
from gradviz.views import color_by, dock_leaves, fold_repeats, group_by_module, hide_bookkeeping

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


def test_values_of_leaves_that_were_not_recorded_are_the_current_ones():
    for change in (lambda w: w.data.mul_(10), lambda w: w.detach().numpy().fill(10), len):
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        loss = (w * w).sum()
        change(w)
        values = " ".join(f"{value:g}" for value in w.tolist())
        assert f"now  {values}" in str(gradviz.draw(loss))
        assert f"=  {values}" in str(gradviz.draw(w))


def test_a_recorded_leaf_that_did_not_change_has_its_value():
    with gradviz.record() as run:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        (w * w).sum().backward()
    assert all("=  1 2" in label_of(frame.graph, "w") for frame in gradviz.draw(run).shown)


def test_a_recording_says_what_a_changed_leaf_was():
    with gradviz.record() as run:
        w = torch.tensor([1.0, 2.0], requires_grad=True)
        loss = (w * w).sum()
        loss.backward()
        with torch.no_grad():
            w -= 0.25 * w.grad
    assert "0.5 1  changed since  was 1 2" in label_of(gradviz.draw(run).shown[-1].graph, "w")


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
    found = ["freed" in label_of(frame.graph, "mul") for frame in gradviz.draw(run).shown]
    assert found == [False, True, True]


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
    said = [changes_caption(frame.graph) for frame in gradviz.draw(run, views=()).shown]
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


def failing_function():
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            raise ValueError("no")

    return Fails.apply(torch.ones(2, requires_grad=True)).sum()


def with_failing_hook():
    def fail(grad):
        raise KeyError("größe 📐")

    y = torch.ones(2, requires_grad=True) * 2
    y.register_hook(fail)
    return y.sum()


FAILURES = {
    "a Function raises": failing_function,
    "a hook raises": with_failing_hook,
    "not a scalar": lambda: torch.ones(2, requires_grad=True) * 2,
    "no graph": lambda: torch.ones(2).sum(),
}


@pytest.mark.parametrize("make", FAILURES.values(), ids=FAILURES)
def test_a_backward_that_fails_is_called_failed_whatever_the_reason(make):
    with pytest.raises((RuntimeError, ValueError, KeyError)), gradviz.record() as run:
        make().backward()
    last = gradviz.draw(run).shown[-1]
    assert last.title.startswith("backward failed: ")
    assert last.caption.startswith("Backward failed")


def test_an_error_outside_of_backward_is_not_called_a_failed_backward():
    with pytest.raises(IndexError), gradviz.record() as run:
        kept = torch.ones(2, requires_grad=True).exp()
        kept.tolist()[5]
    assert "ackward failed" not in str(gradviz.draw(run))


def group_names(loss, model, *views):
    drawing = gradviz.draw(loss, names=model, views=list(views))
    graph = drawing.shown[0].graph
    return {d["name"]: d for _, d in graph.nodes(data=True) if d["kind"] is NodeKind.GROUP}


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.outer(self.inner(x).tanh())


STACKS = {
    "encoder": lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 6, enable_nested_tensor=False
    ),
    "residual": lambda: nn.Sequential(*[Residual(8) for _ in range(5)]),
    "plain": lambda: nn.Sequential(*[nn.Sequential(nn.Linear(8, 8), nn.ReLU()) for _ in range(7)]),
    "after another": lambda: nn.Sequential(nn.Linear(8, 8), *[Residual(8) for _ in range(4)]),
}


def members_of(name):
    """The numbers in a name like ``layers.1…4``."""
    first, last = name.rpartition(".")[2].split("…")
    return range(int(first), int(last) + 1)


@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
@pytest.mark.parametrize("depth", [1, 2, None])
def test_a_group_of_layers_has_the_parameters_of_the_layers_in_its_name(make, depth):
    torch.manual_seed(0)
    model = make()
    loss = model(torch.randn(2, 4, 8)).square().mean()
    views = (hide_bookkeeping, group_by_module(depth=depth), fold_repeats)
    for name, data in group_names(loss, model, *views).items():
        if "…" not in name:
            continue
        prefix = name.rpartition(".")[0]
        modules = [".".join(filter(None, (prefix, str(n)))) for n in members_of(name)]
        assert data["repeat"] == len(modules)
        count = sum(
            p.numel()
            for n, p in model.named_parameters()
            if any(n.startswith(f"{module}.") for module in modules)
        )
        assert data["parameters"] == count


def checkpointed(run_it):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 1))
    x = torch.ones(2, 4, requires_grad=True)
    return body, checkpoint(run_it(body), x, use_reentrant=True).sum()


CHECKPOINTED = {
    "module": (lambda body: body, True),
    "partial": (lambda body: functools.partial(body), True),
    "lambda": (lambda body: lambda x: body(x), False),
}


@pytest.mark.parametrize(("run_it", "is_known"), CHECKPOINTED.values(), ids=CHECKPOINTED)
def test_a_reentrant_checkpoint_says_when_its_inside_is_recorded(run_it, is_known):
    body, loss = checkpointed(run_it)
    graph = gradviz.draw(loss, names=body).shown[0].graph
    before = label_of(graph, "checkpoint")
    assert "reentrant checkpoint: recorded when backward runs" in before
    assert ("runs a module with  0.weight and 3 more" in before) == is_known
    verdict = str(gradviz.explain(body[0].weight, loss, names=body))
    assert "recorded when backward runs" in verdict and "may be used inside checkpoint" in verdict
    loss.backward()
    after = label_of(gradviz.draw(loss, names=body).shown[0].graph, "checkpoint")
    assert "recorded when" not in after


def test_a_recorded_reentrant_checkpoint_says_it_before_backward_only():
    with gradviz.record() as run:
        _, loss = checkpointed(lambda body: body)
        loss.backward()
    said = ["recorded when" in label_of(f.graph, "checkpoint") for f in gradviz.draw(run).shown]
    assert said == [True, False]


DROPPING = {
    "module": lambda: (nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Linear(4, 1)), None),
    "function": lambda: (None, lambda x: nn.functional.dropout(x * 2, 0.4)),
    "scalar": lambda: (None, lambda x: nn.functional.dropout(x.sum(), 0.4)),
    "in place": lambda: (None, lambda x: nn.functional.dropout(x * 2, 0.4, inplace=True)),
    "features": lambda: (None, lambda x: nn.functional.dropout1d(x.exp(), 0.5)),
}


@pytest.mark.parametrize("make", DROPPING.values(), ids=DROPPING)
def test_a_recorded_dropout_is_called_dropout(make):
    model, function = make()
    x = torch.ones(3, 4, requires_grad=True)
    with gradviz.record(*filter(None, [model])) as run:
        out = (model or function)(x)
        out.sum().backward()
    for frame in gradviz.draw(run).shown:
        ops = {data["op"]: data for _, data in frame.graph.nodes(data=True) if "op" in data}
        (word,) = [op for op in ops if "dropout" in op]
        assert "other" not in ops[word].get("options", {})
        assert "with a constant" not in label_of(frame.graph, word)


def test_a_dropout_of_a_sequential_is_known_without_a_recording():
    layers = nn.Linear(4, 4), nn.Dropout(0.5), nn.ReLU(), nn.Linear(4, 1)
    model = nn.Sequential(*layers)
    loss = model(torch.ones(2, 4)).sum()
    assert "← dropout" in str(gradviz.draw(loss, names=model))
    loss.backward()
    assert "← dropout" in str(gradviz.draw(loss, names=model))


def test_a_product_between_layers_is_not_called_dropout():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.drop, self.b = nn.Linear(4, 4), nn.Dropout(0.0), nn.Linear(4, 1)

        def forward(self, x):
            return self.b(self.a(x) * torch.rand(2, 4))

    model = Scaled()
    assert "dropout" not in str(gradviz.draw(model(torch.ones(2, 4)).sum(), names=model))
    two = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.Dropout(0.5), nn.Linear(4, 1))
    two[2].eval()  # one product, of either of the two
    assert "1.dropout" not in str(gradviz.draw(two(torch.ones(2, 4)).sum(), names=two))


def test_a_number_that_backward_has_freed_is_said_to_be_freed():
    x = torch.ones(2, requires_grad=True)
    loss = (x * 3).sum() + (x / 4).sum()
    assert "×3" in str(gradviz.draw(loss)) and "÷4" in str(gradviz.draw(loss))
    loss.backward()
    assert str(gradviz.draw(loss)).count("with a constant (no longer saved)") == 2
    with gradviz.record() as run:
        loss = (x * 3).sum() + (x / 4).sum()
        loss.backward()
    for frame in gradviz.draw(run).shown:
        assert "×3" in label_of(frame.graph, "mul") and "÷4" in label_of(frame.graph, "div")


def cut_linear(cut):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with gradviz.record(model) as run:
        x = torch.randn(5, 3)
        loss = (cut(model(x)) * model[2].bias).sum()
        loss.backward()
    return run


CUTS = {
    "detach": lambda y: y.detach(),
    "data": lambda y: y.data,
    "copied": lambda y: torch.tensor(y.tolist()),
}


@pytest.mark.parametrize("name", ["detach", "data"])
def test_a_linear_behind_a_cut_has_its_input_and_its_parameters(name):
    for frame in gradviz.draw(cut_linear(CUTS[name])).shown:
        graph = frame.graph
        linear = [key for key, data in graph.nodes(data=True) if data.get("op") == "linear"]
        inputs = [{graph.nodes[s].get("name") for s, _ in graph.inputs(key)} for key in linear]
        assert {"0.weight", "0.bias", "x"} in inputs
        assert any({"2.weight", "2.bias"} <= each for each in inputs)


@pytest.mark.parametrize("name", ["detach", "data"])
def test_the_parameters_behind_a_cut_stand_on_the_way_in_the_picture_of_an_answer(name):
    answer = gradviz.explain(cut_linear(CUTS[name]))
    graph = answer.draw().shown[0].graph
    apart = [graph.nodes[key].get("name") for key in graph if not graph.degree(key)]
    assert apart == []


def test_an_answer_marks_what_was_asked_about():
    v = torch.ones(2, requires_grad=True)
    loss = (v * v).sum()
    loss.backward()
    answer = gradviz.explain(v, loss)
    drawing = answer.draw()
    graph = drawing.shown[0].graph
    assert "asked about" in label_of(graph, "v") and "fine" not in drawing.svg
    assert "it has a gradient" in drawing.svg


def test_a_gradient_of_another_loss_is_not_fine_for_the_one_that_was_asked_about():
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    u = torch.tensor([1.0, 2.0], requires_grad=True)
    (w * 2).sum().backward()
    for other in ((w.detach() * 2).sum(), (u * 2).sum(), (w.detach() * u).sum()):
        answer = gradviz.explain(w, other)
        assert answer.verdict is Verdict.OF_ANOTHER and "other" in answer.reason
    assert gradviz.explain(w, (w * 3).sum()).verdict is Verdict.FINE


def test_gradients_of_tensors_that_retain_them_are_not_counted_as_leaves():
    with gradviz.record() as run:
        a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
        kept = a * b * c
        kept.retain_grad()
        kept.sum().backward()
    texts = [frame.caption for frame in gradviz.draw(run).shown]
    assert any("The gradients of 4 tensors are new." in text for text in texts)


def test_only_the_frame_of_a_failure_is_called_failed():
    w = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        loss = w.exp().sum()
        loss.backward()
        with pytest.raises(RuntimeError):
            loss.backward()
        w.grad = None
    said = [frame.caption.startswith("Backward failed") for frame in gradviz.draw(run).shown]
    assert said == [False, False, True, False]


class Scaled(nn.Module):
    """A module with a parameter, and a leaf that is no parameter."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.scale = torch.ones(4, requires_grad=True)

    def forward(self, x):
        return self.fc(x) * self.scale


def test_leaves_that_are_no_parameters_are_not_counted_as_such():
    net = nn.Sequential(Scaled(), nn.Linear(4, 1))
    loss = net(torch.ones(2, 3)).sum()
    inside = group_by_module(hide_bookkeeping(gradviz.trace(loss, names=net)), depth=1)
    label = label_of(inside, "0")
    assert "16 parameters  4 leaf elements" in label
    assert sum(row.parameters for row in gradviz.summary(loss, names=net).rows) == 21
    assert "16 parameters" in gradviz.draw(loss, names=net, depth=1).text


def test_a_box_of_leaves_that_are_no_parameters_is_called_leaves():
    a, b = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    graph = dock_leaves(hide_bookkeeping(gradviz.trace((a * b).sum())))
    label = label_of(graph, "leaves (2)")
    assert "6 leaf elements" in label and "parameter" not in label
    assert legend_of([graph])["leaves"] == "several leaves drawn as one"


FROZEN = {
    "a weight": lambda net: net[2].weight.requires_grad_(False),
    "a layer": lambda net: net[2].requires_grad_(False),
}


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 4)])
@pytest.mark.parametrize("freeze", FROZEN.values(), ids=FROZEN)
def test_a_frozen_layer_in_a_sequence_is_linear_after_backward_too(freeze, shape):
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 1))
    freeze(net)
    loss = net(torch.ones(shape)).sum()
    loss.backward()
    shown = gradviz.draw(loss, names=net).shown[0].graph
    words = [data.get("op") for _, data in shown.nodes.data()]
    assert words.count("linear") == 3 and "addmm" not in words


def test_a_product_of_the_users_own_is_not_called_linear():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    net.spare = nn.Linear(4, 4).requires_grad_(False)
    hidden = torch.addmm(torch.ones(4), net[0](torch.ones(2, 4)), torch.ones(4, 4))
    loss = net[1](hidden).sum()
    loss.backward()
    assert "addmm  with a constant" in str(gradviz.draw(loss, names=net))
