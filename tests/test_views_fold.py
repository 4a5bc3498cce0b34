"""Views that fold: the graph stays whole in what it says, however much of it is drawn as one."""

from __future__ import annotations

import math
from collections.abc import Callable

import networkx as nx
import pytest
import torch
from folding import folded_graphs, loop_graph, stack
from graphs import graphs
from hypothesis import given, settings
from test_views import as_json
from torch import nn

import gradviz
from gradviz import views
from gradviz.errors import UsageError
from gradviz.graph import EdgeKind, GradGraph, NodeKind
from gradviz.views.groups import count_of
from gradviz.views.module_classes import elements_of
from gradviz.views.op_sequence import op_sequence

LEAVES = (NodeKind.LEAF, NodeKind.PARAMETER)

FOLDS: dict[str, Callable[[GradGraph], GradGraph]] = {
    "group_by_module": views.group_by_module,
    "group_by_module(depth=1)": views.group_by_module(depth=1),
    "fold_repeats": views.fold_repeats,
    "fold_chains": views.fold_chains(min_length=2),
    "fold_chunks": views.fold_chunks(4),
    "top": views.top(2, by="numel"),
    "focus_on": views.focus_on("n3", radius=1),
    "fit_page": views.fit_page(most=10),
}


def traced_stack(layers: int) -> GradGraph:
    loss, model = stack(layers)
    return gradviz.trace(loss, names=model)


def gradient_of(graph: GradGraph) -> nx.DiGraph:
    """The gradient paths, in the direction of the data."""
    turned = graph.graph.get("flow") == "gradient"
    kept = nx.DiGraph()
    kept.add_nodes_from(graph)
    for source, target, data in graph.edges(data=True):
        if data.get("kind") is not EdgeKind.CUT:
            kept.add_edge(*((target, source) if turned else (source, target)))
    return kept


def ways(graph: GradGraph, keys: set[str]) -> set[tuple[str, str]]:
    """Between which of these nodes a gradient flows; a copy of a leaf counts as the leaf."""
    gradient = gradient_of(graph)
    name = {key: data.get("clone_of", key) for key, data in graph.nodes(data=True)}
    return {
        (name[key], name[user])
        for key in gradient
        if name[key] in keys
        for user in nx.descendants(gradient, key)
        if name[user] in keys
    }


def visible(graph: GradGraph, seen: GradGraph) -> set[str]:
    """The nodes of the graph that are still drawn, without what only says how autograd works."""
    return {
        key
        for key, data in graph.nodes(data=True)
        if key in seen and data["kind"] is not NodeKind.ACCUMULATE
    }


@pytest.mark.parametrize("name", FOLDS)
@given(graph=folded_graphs())
@settings(max_examples=60, deadline=None)
def test_a_fold_keeps_the_graph_valid(name: str, graph: GradGraph) -> None:
    if name == "focus_on" and "n3" not in graph:
        return
    before = as_json(graph)
    seen = FOLDS[name](graph)
    assert as_json(graph) == before
    assert seen is not graph
    assert nx.is_directed_acyclic_graph(seen)
    assert seen.roots == graph.roots
    assert all("kind" in data for _, data in seen.nodes(data=True))
    kept = visible(graph, seen)
    assert ways(graph, kept) <= ways(seen, kept)
    if name == "fold_chains":
        assert ways(graph, kept) == ways(seen, kept)
    assert as_json(FOLDS[name](graph)) == as_json(seen)


@pytest.mark.parametrize("name", [name for name in FOLDS if name not in ("top", "focus_on")])
@given(graph=folded_graphs())
@settings(max_examples=40, deadline=None)
def test_a_fold_keeps_the_sums(name: str, graph: GradGraph) -> None:
    seen = FOLDS[name](graph)
    reshaped = sum(
        1 for _, data in graph.nodes(data=True) if data.get("op") in ("view", "t", "expand")
    )
    assert count_of(graph) - count_of(seen) in range(reshaped + 1)
    assert seen.saved_bytes == graph.saved_bytes
    assert elements(seen) == elements(graph)
    assert math.isclose(norm(seen), norm(graph))


def elements(graph: GradGraph) -> int:
    nodes = (data for _, data in graph.nodes(data=True) if "clone_of" not in data)
    return sum(elements_of(nodes).values())


def norm(graph: GradGraph) -> float:
    found = [data["grad"] for _, data in graph.nodes(data=True) if data.get("grad") is not None]
    return math.hypot(*(grad.norm or math.hypot(*grad.values or ()) for grad in found))


@given(graph=graphs())
@settings(max_examples=40, deadline=None)
def test_a_turned_graph_is_folded_alike(graph: GradGraph) -> None:
    turned = views.fold_chains(views.reverse_flow(graph), min_length=2)
    assert sorted(views.reverse_flow(turned).edges) == sorted(
        views.fold_chains(graph, min_length=2).edges
    )


@given(graph=folded_graphs())
@settings(max_examples=40, deadline=None)
def test_straight_runs_are_folded_once(graph: GradGraph) -> None:
    once = views.fold_chains(graph, min_length=2)
    again = views.fold_chains(once, min_length=2)
    assert len(again) <= len(once)
    assert count_of(again) == count_of(once)


@pytest.mark.parametrize("steps", [8, 10, 1000])
@pytest.mark.parametrize("period", [1, 2, 5, 12])
def test_a_loop_keeps_its_first_and_last_step(steps: int, period: int) -> None:
    """The first begins from nothing, so it differs; it is known by its words."""
    graph = loop_graph(steps, period)
    seen = views.fold_repeats(graph)
    (group,) = [data for _, data in seen.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    assert group["repeat"] == steps - 2
    assert group["members"] == (steps - 2) * period
    operations = [d["op"] for _, d in seen.nodes(data=True) if d["kind"] is NodeKind.OPERATION]
    assert sorted(operations) == sorted([f"op{n}" for n in range(period)] * 2)


def test_loops_in_loops_are_folded_inside_out() -> None:
    x = y = torch.ones(1, requires_grad=True)
    for _ in range(6):
        for _ in range(5):
            y = (y * x).sin()
        y = y.exp().cos().log()
    seen = views.fold_repeats(gradviz.trace(y, names={}))
    groups = [data for _, data in seen.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    assert sorted((data["repeat"], data["members"]) for data in groups) == [
        (3, 6),
        (3, 6),
        (4, 4 * 13),
    ]


def test_what_is_joined_otherwise_is_no_repetition() -> None:
    graph = loop_graph(10, 3)
    graph.remove_edge("n14", "n15")
    graph.add_edge("n2", "n15", 0, kind=EdgeKind.GRADIENT, input=0, output=0)
    repeats = [data.get("repeat") for _, data in views.fold_repeats(graph).nodes(data=True)]
    assert 8 not in repeats


def test_stacked_layers_become_one_node() -> None:
    graph = traced_stack(12)
    seen = views.fold_repeats(graph)
    (group,) = [data for _, data in seen.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    assert (group["name"], group["repeat"]) == ("layers.0…11", 12)
    assert group["parameters"] == 12 * (2 * 16 + 16 * 8 + 8 + 8 * 16 + 16)
    assert group["inferred"] is True
    assert not [leaf for leaf in seen.leaves if "layers" in seen.nodes[leaf]["name"]]


def test_a_module_is_one_node_per_call() -> None:
    cell = torch.nn.RNNCell(3, 4)
    h = torch.zeros(1, 4)
    for _ in range(7):
        h = cell(torch.ones(1, 3), h)
    seen = views.group_by_module(gradviz.trace(h, names={"cell": cell}))
    groups = [data for _, data in seen.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    assert [data["name"] for data in groups] == ["cell"] * 7
    assert len({data["structure"] for data in groups}) == 2  # the first begins from a constant
    assert sorted(seen.nodes[leaf]["name"] for leaf in seen.leaves) == [
        "cell.bias_hh",
        "cell.bias_ih",
        "cell.weight_hh",
        "cell.weight_ih",
    ]


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model.", "_orig_mod."])
def test_depth_is_counted_from_where_modules_part(prefix: str) -> None:
    loss, model = stack(3)
    names = {prefix + name: parameter for name, parameter in model.named_parameters()}
    seen = views.group_by_module(gradviz.trace(loss, names=names), depth=2)
    found = [data["name"] for _, data in seen.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    assert [name.split("layers.")[-1] for name in reversed(found) if "layers" in name] == list(
        "012"
    )


def test_names_that_are_no_paths_make_no_modules() -> None:
    w = torch.ones(2, requires_grad=True)
    graph = gradviz.trace((w * w).sum(), names={"w": w})
    assert as_json(views.infer_modules(graph)) == as_json(graph)
    assert len(views.group_by_module(graph)) == len(graph)


def test_a_recorded_module_is_not_overruled() -> None:
    graph = traced_stack(2)
    key = next(key for key, data in graph.nodes(data=True) if data.get("op") == "addmm")
    graph.nodes[key]["module"] = "elsewhere"
    told = views.infer_modules(graph)
    assert told.nodes[key]["module"] == "elsewhere"
    assert "inferred" not in told.nodes[key]


def test_a_gradient_of_nan_is_counted_in_its_group() -> None:
    loss, model = stack(3)
    torch.autograd.backward(loss, torch.tensor(float("nan")))
    seen = views.fold_repeats(gradviz.trace(loss, names=model))
    (group,) = [data for _, data in seen.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    inside = [p.grad for name, p in model.named_parameters() if name.startswith("layers.")]
    assert group["grad"].nan == sum(int(grad.isnan().sum()) for grad in inside) > 0


def test_focus_shows_a_module_in_full_and_counts_the_rest() -> None:
    graph = views.hide_bookkeeping(traced_stack(12))
    seen = views.focus_on(graph, "layers.5", radius=0)
    modules = views.infer_modules(graph)
    inside = {k for k, d in modules.nodes(data=True) if d.get("module", "").startswith("layers.5")}
    assert inside <= set(seen)
    stubs = [data for _, data in seen.nodes(data=True) if data["kind"] is NodeKind.GROUP]
    assert len(stubs) == 2
    assert all(data["op"] == f"… {data['members']} more" for data in stubs)
    assert count_of(seen) == count_of(graph)


@pytest.mark.parametrize("target", ["layers.*.norm", "layer_norm", "NativeLayerNorm*", "layers.1?"])
def test_focus_takes_patterns_and_words(target: str) -> None:
    graph = traced_stack(12)
    seen = views.focus_on(graph, target, radius=0)
    assert "layer_norm" in [data.get("op") for _, data in seen.nodes(data=True)]


def test_focus_on_nothing_says_what_there_is() -> None:
    graph = traced_stack(3)
    with pytest.raises(UsageError, match=r"nothing is called 'layer.2'; there are layers.2"):
        views.focus_on(graph, "layer.2")


def test_only_the_ways_to_a_leaf() -> None:
    x, w = (torch.ones(2, requires_grad=True) for _ in range(2))
    graph = gradviz.trace((x.exp() * w.sin()).sum(), names={"x": x, "w": w})
    seen = views.only_paths_to(graph, "x")
    words = {data["op"] for _, data in seen.nodes(data=True) if "op" in data}
    assert words == {"exp", "mul", "sum", "accumulate_grad"}
    assert [seen.nodes[leaf]["name"] for leaf in seen.leaves] == ["x"]


def test_only_what_a_result_was_made_from() -> None:
    x = torch.ones(2, requires_grad=True)
    a, b = x.exp(), x.sin()
    graph = gradviz.trace(a, b, names={"x": x, "a": a, "b": b})
    seen = views.only_reaching(graph, "a")
    assert {d["op"] for _, d in seen.nodes(data=True) if "op" in d} == {"exp", "accumulate_grad"}


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (views.group_by_module(depth=0), "depth must be an integer >= 1, or None, got 0"),
        (views.fold_chains(min_length=1), "min_length must be an integer >= 2, got 1"),
        (views.fold_chunks(count=0), "count must be an integer >= 1, got 0"),
        (views.focus_on("n1", radius=-1), "radius must be an integer >= 0, got -1"),
        (views.top(0), "n must be an integer >= 1, got 0"),
        (views.top(1, by="size"), "by must be one of saved_bytes, grad_norm, numel, got 'size'"),
        (views.fit_page(most=2), "most must be an integer >= 10, got 2"),
        (views.only_paths_to("nobody"), "no node is called 'nobody'"),
    ],
)
def test_wrong_options_are_named(view: views.View, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        view(loop_graph(3, 2))


def test_what_went_wrong_stays_in_sight() -> None:
    graph = loop_graph(100, 2)
    graph.nodes["n101"]["verdict"] = "RuntimeError"
    for name in ("fold_repeats", "fold_chains", "fit_page"):
        assert "n101" in views.ALL[name](graph), name


def test_a_large_graph_fits_a_page_and_says_how() -> None:
    seen = views.apply(traced_stack(40))
    assert len(seen) <= 60
    assert "operations folded into" in seen.notes[0]


@given(graph=folded_graphs(most_nodes=400))
@settings(max_examples=10, deadline=None)
def test_a_page_holds_any_graph(graph: GradGraph) -> None:
    assert views.fit_page(graph).number_of_nodes() <= 120


def test_a_loop_of_100_000_operations_fits_a_page() -> None:
    seen = views.fit_page(loop_graph(25_000, 4))
    assert len(seen) < 15
    assert count_of(seen) == 100_000


@pytest.mark.parametrize("numbers", [(None, None, None), (0, 1, 2), (0, 1, None)])
def test_a_graph_with_a_cycle_is_refused_in_words(numbers: tuple[int | None, ...]) -> None:
    graph = GradGraph()
    for key, number in zip(("n0", "n1", "n2"), numbers, strict=True):
        more = {} if number is None else {"sequence_nr": number}
        graph.add_node(key, kind=NodeKind.OPERATION, op="mul", **more)
    for source, target in (("n0", "n1"), ("n1", "n2"), ("n2", "n1")):
        graph.add_edge(source, target, 0, kind=EdgeKind.GRADIENT, input=0, output=0)
    with pytest.raises(ValueError, match="the graph has a cycle: it cannot be put in a row"):
        op_sequence(graph)


def encoder(dropout):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=dropout)
    model = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    return model, model(torch.randn(2, 4, 8)).square().mean()


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_layers_with_dropout_fold_as_whole_layers_without_a_recording(dropout):
    model, loss = encoder(dropout)
    loss.backward()  # frees what told a product from a dropout
    text = str(gradviz.draw(loss, names=model))
    assert "layers.1…5  ×5  TransformerEncoderLayer" in text
    assert "norm1 to" not in text


class Scaled(nn.Module):
    """Runs its layer, and a product that may be a dropout of it or of the module around it."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.drop = layer, nn.Dropout(0.5)

    def forward(self, x):
        return self.layer(x) * 2


def test_a_piece_of_a_module_is_not_called_the_module():
    inner = nn.Sequential(Scaled(nn.Linear(4, 4)), nn.Linear(4, 4))
    net = nn.Sequential(nn.Linear(4, 4), Scaled(inner), nn.Linear(4, 1))
    graph = views.group_by_module(gradviz.trace(net(torch.ones(2, 4)).sum(), names=net), depth=1)
    found = [data for _, data in graph.nodes(data=True) if data.get("module_class") == "Scaled"]
    own = sum(parameter.numel() for parameter in net[1].parameters())
    assert all(data["parameters"] in (own, 20) for data in found)
    assert {data["name"] for data in found} <= {"1", "1.layer.0"}


def test_a_transformer_is_drawn_in_whole_layers_without_a_recording():
    attention = nn.Transformer(8, 2, 2, 2, 16, batch_first=True)
    loss = attention(torch.randn(2, 4, 8), torch.randn(2, 3, 8)).mean()
    loss.backward()
    text = str(gradviz.draw(loss, names=attention))
    for name in ("encoder.layers.0", "encoder.layers.1", "decoder.layers.0", "decoder.layers.1"):
        word = "TransformerEncoderLayer" if name.startswith("e") else "TransformerDecoderLayer"
        assert f"{name}  {word}" in text
    assert "ModuleList" not in text


def test_stacks_in_a_stack_are_named_from_the_first_to_the_last() -> None:
    stages = nn.ModuleList(
        nn.Sequential(*[nn.Sequential(nn.Linear(3, 3), nn.ReLU()) for _ in range(4)])
        for _ in range(3)
    )
    x = torch.ones(2, 3)
    for stage in stages:
        x = stage(x)
    graph = views.fold_repeats(gradviz.trace(x.sum(), names={"stages": stages}))
    (group,) = [data for _, data in graph.nodes(data=True) if "repeat" in data]
    assert group["name"] in ("stages.0.0…2.3", "stages.0.1…2.3")
    assert group["module"] == "stages"
