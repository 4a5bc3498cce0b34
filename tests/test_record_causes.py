"""Why an edge carries no gradient: every cause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from recording import cuts, find, strict
from torch import nn

import gradviz
from gradviz import Verdict
from gradviz.diagnosis.values import Values
from gradviz.graph import Cause, EdgeKind, NodeKind

__all__ = ["strict"]


def test_the_same_line_five_ways() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        a = x.detach()
        with torch.no_grad():
            b = x + 2
        with torch.inference_mode():
            c = x * 3
        d = x.data
        e = torch.tensor(x.tolist())
        loss = (x * 3).sum()
        loss.backward()
    graph = run.frames[0].graph
    assert cuts(graph) == {
        ("x", "a", "detach"),
        ("x", "b", "no_grad"),
        ("x", "c", "inference_mode"),
        ("x", "d", "data"),
        ("x", "tolist", "item"),
        ("tolist", "e", "item"),
    }
    assert find(graph, "c")["inference"] is True
    assert find(graph, "b")["op"] == "add"
    assert a is not None and b is not None and c is not None and d is not None and e is not None


def test_a_cut_says_where() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        z = x.detach()
        loss = (x * z).sum()
        loss.backward()
    graph = run.frames[0].graph
    for _, _, data in graph.edges(data=True):
        if data["kind"] is EdgeKind.CUT:
            assert data["source"] == find(graph, "z")["source"]
    assert cuts(graph) == {("x", "z", "detach"), ("z", "mul", "detach")}


def test_a_cut_goes_into_the_input_that_has_no_gradient() -> None:
    with gradviz.record() as run:
        x, v = torch.ones(3, requires_grad=True), torch.full((3,), 2.0)
        y = v * x
        loss = (y + v).sum()
        loss.backward()
    graph = run.frames[0].graph
    inputs = {
        (graph.nodes[target]["op"], data["input"])
        for _, target, data in graph.edges(data=True)
        if data["kind"] is EdgeKind.CUT
    }
    assert inputs == {("mul", 0), ("add", 1)}
    assert cuts(graph) == {("v", "y", "constant"), ("v", "add", "constant")}
    assert not any("untracked_inputs" in data for _, data in graph.nodes(data=True))


def test_data_from_before_the_recording_is_not_guessed_at() -> None:
    v = torch.ones(3, requires_grad=True).detach()
    x = torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        w = v * 2
        (x * v + w).sum().backward()
    unknown = "not recorded"
    assert cuts(run.frames[0].graph) == {
        ("v", "mul", unknown),
        ("v", "w", unknown),
        ("w", "add", unknown),
    }


def test_a_frozen_leaf() -> None:
    with gradviz.record() as run:
        x, w = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
        w.requires_grad_(False)
        u = w * 2
        (x * w + u).sum().backward()
    graph = run.frames[0].graph
    assert cuts(graph) == {
        ("w", "mul", "requires_grad_"),
        ("w", "u", "requires_grad_"),
        ("u", "add", "requires_grad_"),
    }


def test_what_has_no_gradient_by_its_nature() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        mask = x > 0
        values, indices = x.max(dim=0)
        (x * mask + values).sum().backward()
    graph = run.frames[0].graph
    assert cuts(graph) == {
        ("x", "mask", "not differentiable"),
        ("mask", "mul", "not differentiable"),
        ("x", "indices", "not differentiable"),
    }
    assert indices is not None


def test_what_takes_only_the_shape_takes_no_data() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        (x * torch.zeros_like(x)).sum().backward()
    assert cuts(run.frames[0].graph) == {("zeros_like", "mul", "constant")}


def test_numbers_are_dead_ends_with_their_value() -> None:
    with gradviz.record() as run:
        x = torch.full((2,), 3.0, requires_grad=True)
        loss = (x * x).sum()
        total = loss.item()
        loss.backward()
    graph = run.frames[0].graph
    key = next(key for key, data in graph.nodes(data=True) if data.get("op") == "item")
    assert graph.nodes[key]["value"].values == (18.0,) == (total,)
    assert cuts(graph) == {("loss", "total", "item")} or cuts(graph) == {("loss", "item", "item")}
    assert not list(graph.successors(key))


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires")
def test_a_number_that_is_read_again_and_again_is_shown_once() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        for _ in range(5):
            x.sum().item()
            total = float(x[0])
        x.sum().backward()
    assert total == 1.0
    words = [data.get("op") for _, data in run.frames[0].graph.nodes(data=True)]
    assert (words.count("item"), words.count("float")) == (1, 1)


def test_a_copy_by_value() -> None:
    with pytest.warns(UserWarning, match="To copy construct"), gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        c = torch.tensor(x)
        (x * c).sum().backward()
    assert cuts(run.frames[0].graph) == {("x", "c", "torch.tensor"), ("c", "mul", "torch.tensor")}


def test_the_branch_behind_a_detach_is_shown() -> None:
    generator, critic = nn.Linear(2, 3), nn.Linear(3, 1)
    with gradviz.record() as run:
        fake = generator(torch.randn(4, 2))
        loss = critic(fake.detach()).mean()
        loss.backward()
    graph = run.frames[0].graph
    assert ("fake", "detach", "detach") in cuts(graph)
    assert {"generator.weight", "critic.weight"} <= {
        data.get("name") for _, data in graph.nodes(data=True)
    }
    assert len(graph.roots) == 1
    assert find(run.frames[-1].graph, "generator.weight")["grad"] is None


def test_what_was_detached_and_then_dropped_leaves_its_last_operations() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        y = (x * 2 + 1).detach()
    graph = run.frames[-1].graph
    assert cuts(graph) == {("add", "y", "detach")}
    assert {data.get("op") for _, data in graph.nodes(data=True)} == {None, "mul", "add", "detach"}
    assert set(graph.predecessors(next(iter(graph.predecessors(graph.find("y"))))))
    assert y.shape


def test_a_leaf_made_of_a_detached_tensor_shows_where_it_came_from() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        h = x * 2
        g = h.detach().requires_grad_()
        (g * 3).sum().backward()
    graph = run.frames[0].graph
    assert cuts(graph) == {("h", "g", "detach")}
    assert graph.nodes[graph.find("g")]["kind"] is NodeKind.LEAF


def test_an_average_kept_under_no_grad() -> None:
    with gradviz.record() as run:
        w = nn.Parameter(torch.ones(2))
        average = torch.zeros(2)
        with torch.no_grad():
            average.mul_(0.9).add_(w, alpha=0.1)
        (w * 2).sum().backward()
    graph = run.frames[0].graph
    assert cuts(graph) == {("w", "average", "no_grad")}
    assert find(graph, "average")["op"] == "zeros, mul_, add_"
    assert find(graph, "average")["version"] == 2


def test_views_are_joined_to_what_they_share_once_one_is_changed() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        z = x.detach()
        z.add_(1)
        (x * 2).sum().backward()
    graph = run.frames[0].graph
    aliases = [
        (graph.nodes[a]["name"], graph.nodes[b]["name"])
        for a, b, data in graph.edges(data=True)
        if data["kind"] is EdgeKind.ALIAS
    ]
    assert aliases == [("x", "z")]


def test_a_running_sum_forgets_its_far_past() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        total = torch.zeros(())
        for _ in range(300):
            total = total + (x * 2).sum().detach()
        (x * 3).sum().backward()
    assert len(run.frames[0].graph) < 200
    assert ("sum", "detach", "detach") in cuts(run.frames[0].graph)


def test_what_was_lost_earlier_is_told_with_the_line_that_lost_it() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        z = x.detach()
        w = z * 2
        (x * w).sum().backward()
    graph = run.frames[0].graph
    assert cuts(graph) == {("x", "z", "detach"), ("z", "w", "detach"), ("w", "mul", "detach")}
    lines = {d["source"] for *_, d in graph.edges(data=True) if d["kind"] is EdgeKind.CUT}
    assert lines == {find(graph, "z")["source"]}


@pytest.mark.parametrize("is_held", [True, False])
def test_a_layer_frozen_between_two_rounds(is_held: bool) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    held = []
    with gradviz.record() as run:
        loss = second(first(torch.ones(1, 2))).sum()
        loss.backward()
        for layer in (first, second):
            layer.weight.grad = layer.bias.grad = None
        first.requires_grad_(False)
        held += [loss] if is_held else []
        loss = second(first(torch.ones(1, 2))).sum()
        loss.backward()
    for frame in run.frames[-2:]:
        frozen = "requires_grad_"
        assert cuts(frame.graph) >= {
            ("first.weight", "linear", frozen),
            ("first.bias", "linear", frozen),
            ("linear", "addmm", frozen),
        }
        assert find(frame.graph, "first.weight")["kind"] is NodeKind.UNTRACKED
    keys = {frame.graph.find("first.weight") for frame in run.frames}
    assert len(keys) == 1 and len(held) == is_held


def test_a_layer_frozen_before_the_recording_is_shown_and_not_guessed_at() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    first.requires_grad_(False)
    with gradviz.record() as run:
        second(first(torch.ones(1, 2))).sum().backward()
    graph = run.frames[0].graph
    unknown = "not recorded"
    assert cuts(graph) == {
        ("first.weight", "linear", unknown),
        ("first.bias", "linear", unknown),
        ("linear", "addmm", unknown),
    }
    cut_lines = [d.get("source") for *_, d in graph.edges(data=True) if "cause" in d]
    assert cut_lines == [None] * 3


def test_a_parameter_of_a_graph_that_was_frozen_since() -> None:
    """The old graph still has it as a leaf; the new one does not."""
    w = nn.Parameter(torch.ones(2))
    x = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        old = (w * x).sum()
        w.requires_grad_(False)
        run.mark("frozen")
        new = (w * x).sum()
        new.backward()
    marked = run.frames[0].graph
    assert {"w", "x"} <= {data.get("name") for _, data in marked.nodes(data=True)}
    assert ("w", "mul", "requires_grad_") in cuts(run.frames[-1].graph)
    assert old.shape == new.shape


def _written_before_backward(write: str) -> gradviz.Explanations:
    v, w = (torch.ones(2, requires_grad=True) for _ in range(2))
    with gradviz.record() as run:
        loss = (w * v).sum()
        exec(write, {"w": w, "torch": torch})
        loss.backward()
    assert not torch.equal(v.grad, torch.ones(2)) or write in _HARMLESS
    return gradviz.explain(v, w, loss=run)


_HARMLESS = ("w.data = torch.full((2,), 3.0)", "w.clone().data.mul_(3)")


@pytest.mark.parametrize(
    "write", ["w.data.mul_(3)", "w.data[0] = 3", "w.data.copy_(torch.zeros(2))", "w.data.zero_()"]
)
def test_a_leaf_is_written_through_an_alias_before_backward(write: str) -> None:
    of_v, of_w = _written_before_backward(write)
    assert of_v.verdict is gradviz.Verdict.CHANGED_UNSEEN or of_v.verdict is gradviz.Verdict.ZERO
    if of_v.verdict is gradviz.Verdict.CHANGED_UNSEEN:
        assert "wrote into w through an alias, after mul at" in of_v.reason
    assert of_w.verdict is gradviz.Verdict.FINE


@pytest.mark.parametrize("write", _HARMLESS)
def test_another_storage_is_no_alias(write: str) -> None:
    assert {each.verdict for each in _written_before_backward(write)} == {gradviz.Verdict.FINE}


def test_a_step_by_hand_through_data_that_clears_at_its_end_is_fine() -> None:
    w, v = (torch.ones(2, requires_grad=True) for _ in range(2))
    with gradviz.record() as run:
        for _ in range(3):
            (w * v).sum().backward()
            for each in (w, v):
                each.data.sub_(0.1 * each.grad)
                each.grad.zero_()
    assert {each.verdict for each in gradviz.explain(run)} == {gradviz.Verdict.FINE}


def test_gradients_that_autograd_grad_returned_are_no_fault_in_a_list() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(2, 1), torch.ones(3, 2)
    with gradviz.record() as run:
        for _ in range(2):
            found = torch.autograd.grad(model(x).sum(), list(model.parameters()))
            with torch.no_grad():
                for parameter, gradient in zip(model.parameters(), found, strict=True):
                    parameter -= 0.1 * gradient
    told = gradviz.explain(run, names=model)
    assert not told.wrong
    assert told.of("weight").verdict is Verdict.FINE
    assert gradviz.explain(model.weight, run).verdict is Verdict.LEFT_OUT


def test_an_attack_asks_for_the_gradient_of_the_input_alone() -> None:
    torch.manual_seed(0)
    model, x = nn.Linear(2, 1), torch.ones(3, 2)
    with gradviz.record() as run:
        for _ in range(2):
            x = x.detach().requires_grad_()
            gradient = torch.autograd.grad(model(x).sum(), x)[0]
            x = x + gradient.sign()
    told = gradviz.explain(run, names=model)
    assert not told.wrong
    assert "returned the gradients of other tensors" in told.of("weight").reason


def test_gradients_that_were_dropped_are_a_fault() -> None:
    model = nn.Linear(2, 1)
    with gradviz.record() as run:
        torch.autograd.grad(model(torch.ones(3, 2)).sum(), list(model.parameters()))
    assert {each.verdict for each in gradviz.explain(run, names=model)} == {Verdict.LEFT_OUT}


@pytest.mark.parametrize("name", ["std", "var"])
def test_the_spread_of_a_single_element(name: str) -> None:
    def gradient(**correction: int) -> gradviz.Explanation:
        torch.manual_seed(0)
        model = nn.Linear(2, 1)
        with gradviz.record() as run:
            getattr(model(torch.ones(3, 2)), name)(dim=1, **correction).sum().backward()
        return gradviz.explain(model.weight, run)

    told = gradient()
    assert told.verdict is Verdict.NAN
    assert "correction=0" in told.fix
    assert gradient(correction=0).verdict is not Verdict.NAN  # the fix, applied


@pytest.mark.parametrize("of_result", [False, True])
@pytest.mark.parametrize(
    "view", [torch.t, lambda w: w[:2], lambda w: w.view(4), lambda w: w.expand(3, 2, 2)[0]]
)
def test_a_view_made_under_no_grad_is_cut_although_it_requires_grad(
    view: Callable[[torch.Tensor], torch.Tensor], of_result: bool
) -> None:
    net = torch.nn.ParameterDict({"w": torch.ones(2, 2), "u": torch.ones(1)})
    with gradviz.record(net) as run:
        base = net["w"] * 2 if of_result else net["w"]
        with torch.no_grad():
            seen = view(base)
        assert seen.requires_grad
        (seen * net["u"]).sum().backward()
    told = {each.name: each for each in gradviz.explain(run)}
    assert told["w"].verdict is gradviz.Verdict.CUT and "no_grad" in told["w"].reason
    assert told["u"].verdict is gradviz.Verdict.FINE


@pytest.mark.parametrize(
    ("back", "word"),
    [
        (lambda h: torch.from_numpy(h.detach().numpy()), "numpy"),
        (lambda h: torch.as_tensor(h.detach().cpu().numpy()), "numpy"),
        (lambda h: torch.tensor(h.data.numpy()), "numpy"),
        (lambda h: torch.tensor(h.detach().tolist()), "tolist"),
    ],
)
def test_data_that_comes_back_from_an_array_is_joined_to_it(back, word):
    w = torch.tensor([2.0, 3.0], requires_grad=True)
    v = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        loss = (back(w * 2) * v).sum()
        loss.backward()
    graph = run.frames[-1].graph
    (key,) = (each for each, data in graph.nodes(data=True) if data.get("name") == "w")
    assert key in nx.ancestors(graph, graph.roots[0])
    answer = str(gradviz.explain(run, names={"w": w}))
    assert f"cut by {word}()" in answer and "cut by detach" not in answer


def test_an_array_of_other_memory_is_not_joined():
    w = torch.tensor([2.0, 3.0], requires_grad=True)
    with gradviz.record() as run:
        array = (w * 2).detach().numpy()
        other = torch.from_numpy(np.ones(2, "float32"))
        loss = (other * torch.ones(2, requires_grad=True)).sum()
        loss.backward()
    graph = run.frames[-1].graph
    assert all(
        "numpy" not in str(data.get("cause"))
        for *_, data in graph.in_edges(nx.ancestors(graph, graph.roots[0]), data=True)
    )
    assert array is not None


def test_a_result_that_became_a_number_is_drawn_with_its_leaves():
    w = torch.tensor([2.0, 3.0], requires_grad=True)
    with gradviz.record() as run:
        torch.tensor((w * w).sum().item() * 2)
    text = gradviz.draw(run).render("txt").decode()
    assert "2 operations from 1 leaf" in text and "← mul\n├─ w" in text


def test_what_a_pass_suggests_is_read_once_for_all_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []
    start = Values.__init__

    def counted(self: Values, *args: object, **options: object) -> None:
        made.append(self)
        start(self, *args, **options)  # type: ignore[arg-type]

    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(12)))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    with gradviz.record(model) as run:
        for step in range(4):
            loss = model(torch.ones(2, 4)).sum()
            loss = loss * float("nan") if step > 1 else loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    monkeypatch.setattr(Values, "__init__", counted)
    found = gradviz.explain(model, run)
    assert {each.verdict for each in found} == {gradviz.Verdict.NAN}
    assert 0 < len(made) < 6


@pytest.mark.parametrize(
    "like",
    [
        lambda h: torch.arange(6.0).view_as(h),
        lambda h: torch.ones(3).expand_as(h),
        lambda h: torch.arange(6.0).reshape_as(h),
        lambda h: torch.ones(2, 3, dtype=torch.int).type_as(h),
        lambda h: torch.ones(2, 3, dtype=torch.int).to(h),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_of_a_tensor_that_only_gives_its_shape_or_dtype_no_data_flows(
    like: Any, times: int
) -> None:
    x, weight = torch.ones(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    with gradviz.record() as run:
        for _ in range(times):
            hidden = x * 2
            loss = (weight * like(hidden)).sum()
            loss.backward()
    assert gradviz.explain(x, run).verdict is Verdict.NOT_CONNECTED
    graph = run.story.frames[-1].graph
    causes = {data["cause"] for *_, data in graph.edges(data=True) if "cause" in data}
    assert causes <= {Cause.CONSTANT}


@pytest.mark.parametrize("heads", [1, 2])
def test_attention_over_one_key(heads: int) -> None:
    layers = nn.ModuleDict({name: nn.Linear(4, 4) for name in "qkv"})

    def reason(keys: int) -> str:
        x = torch.randn(2, keys, 4)
        layers.zero_grad()
        with gradviz.record(layers) as run:
            q, k, v = (layers[name](x) for name in "qkv")
            if heads > 1:
                q, k, v = (each.view(2, keys, heads, -1).transpose(1, 2) for each in (q, k, v))
            made = nn.functional.scaled_dot_product_attention(q, k, v)
            loss = (made - 1).pow(2).mean()
            loss.backward()
        return gradviz.explain(layers["q"].weight, run).reason

    assert "one entry" in reason(1) or "only key" in reason(1)
    assert reason(3).startswith("it has a gradient")
