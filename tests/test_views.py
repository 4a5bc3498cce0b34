"""Every view returns a valid graph, keeps the paths of the gradient, and changes no other."""

from __future__ import annotations

import networkx as nx
import pytest
from graphs import graph_of, graphs
from hypothesis import given, settings

from gradviz import serialize, views
from gradviz.graph import EdgeKind, GradGraph, NodeKind
from gradviz.story import Frame, Story
from gradviz.views import clone_shared_leaves, hide_bookkeeping, infer_modules, reverse_flow

# Those that fold nothing of a small graph; the others are tested in test_views_fold.py.
ALL = [
    "clone_shared_leaves",
    "fit_page",
    "hide_bookkeeping",
    "hide_numbers",
    "infer_modules",
    "reverse_flow",
]
LEAVES = (NodeKind.LEAF, NodeKind.PARAMETER)


def as_json(graph: GradGraph) -> str:
    return serialize.to_json(Story((Frame("", graph),)))


def reach(graph: GradGraph) -> set[tuple[str, str]]:
    """Which leaf (a copy counts as its leaf) is reachable from which result."""
    gradient = nx.MultiDiGraph(
        edge for edge in graph.edges if graph.edges[edge].get("kind") is not EdgeKind.CUT
    )
    gradient.add_nodes_from(graph)
    turned = graph.graph.get("flow") == "gradient"
    return {
        (data.get("clone_of", leaf), root)
        for leaf, data in graph.nodes(data=True)
        if data["kind"] in LEAVES
        for root in graph.roots
        if nx.has_path(gradient, *((root, leaf) if turned else (leaf, root)))
    }


@pytest.mark.parametrize("name", ALL)
@given(graph=graphs())
@settings(max_examples=60, deadline=None)
def test_a_view_keeps_the_graph_valid_and_the_gradients_ways(name: str, graph: GradGraph) -> None:
    before = as_json(graph)
    seen = views.ALL[name](graph)
    assert as_json(graph) == before
    assert seen is not graph
    assert nx.is_directed_acyclic_graph(seen)
    assert reach(seen) == reach(graph)
    assert all("kind" in data for _, data in seen.nodes(data=True))
    assert seen.roots == graph.roots
    assert as_json(views.ALL[name](graph)) == as_json(seen)


@pytest.mark.parametrize("view", [hide_bookkeeping, clone_shared_leaves, infer_modules])
@given(graph=graphs())
@settings(max_examples=40, deadline=None)
def test_once_is_enough(view: views.View, graph: GradGraph) -> None:
    once = view(graph)
    assert as_json(view(once)) == as_json(once)


@given(graph=graphs())
@settings(max_examples=40, deadline=None)
def test_turned_twice_is_as_before(graph: GradGraph) -> None:
    twice = reverse_flow(reverse_flow(graph))
    assert sorted(twice.edges) == sorted(graph.edges)
    assert twice.graph == graph.graph


def test_no_view_shows_the_accumulate_node() -> None:
    kinds = [data["kind"] for _, data in graph_of("mul_chain").nodes(data=True)]
    assert NodeKind.ACCUMULATE in kinds
    seen = hide_bookkeeping(graph_of("mul_chain"))
    assert NodeKind.ACCUMULATE not in [data["kind"] for _, data in seen.nodes(data=True)]


def test_reshaping_becomes_a_mark_on_the_edge() -> None:
    seen = hide_bookkeeping(graph_of("linear_layer"))
    edges = {
        seen.nodes[source].get("name"): data.get("through")
        for source, _, data in seen.edges(data=True)
    }
    assert edges["weight"] is edges["bias"] is None  # addmm with a transposed weight is linear
    assert not any("reshaping" in note for note in seen.notes)


def test_a_chain_of_reshaping_is_listed_in_order() -> None:
    seen = hide_bookkeeping(graph_of("views"))
    (x,) = seen.leaves
    ((_, clone, first),) = seen.out_edges(x, data=True)
    ((_, _, then),) = seen.out_edges(clone, data=True)
    assert (first["through"], then["through"]) == (("t",), ("view", "expand"))


def test_what_has_a_name_stays() -> None:
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.LEAF, name="x")
    graph.add_node("n1", kind=NodeKind.OPERATION, op="view", name="h")
    graph.add_node("n2", kind=NodeKind.OPERATION, op="sum")
    graph.add_edge("n0", "n1", 0)
    graph.add_edge("n1", "n2", 0)
    assert "n1" in hide_bookkeeping(graph)


def test_a_leaf_used_at_every_step_is_drawn_again_at_each() -> None:
    graph = graph_of("lstm_cell")
    seen = clone_shared_leaves(hide_bookkeeping(graph))
    copies = [data for _, data in seen.nodes(data=True) if data.get("clone_of")]
    assert {data["name"] for data in copies} == {"weight_ih", "weight_hh", "bias_ih", "bias_hh"}
    assert all("grad" not in data for data in copies)
    assert seen.leaves == hide_bookkeeping(graph).leaves


def test_a_leaf_with_two_uses_side_by_side_is_drawn_once() -> None:
    seen = views.apply(graph_of("x_times_x"))
    assert not [key for key, data in seen.nodes(data=True) if "clone_of" in data]


def test_two_uses_by_one_operation_stay_two_edges() -> None:
    seen = views.apply(graph_of("x_times_x"))
    (x,) = seen.leaves
    assert sorted(data["input"] for _, _, data in seen.out_edges(x, data=True)) == [0, 1]


def test_a_long_row_of_views_is_one_edge_with_a_few_words() -> None:
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.LEAF)
    for number in range(1, 20_001):
        graph.add_node(f"n{number}", kind=NodeKind.OPERATION, op="view")
        graph.add_edge(f"n{number - 1}", f"n{number}", 0)
    graph.add_node("end", kind=NodeKind.OPERATION, op="sum")
    graph.add_edge("n20000", "end", 0)
    seen = hide_bookkeeping(graph)
    assert seen.number_of_nodes() == 2
    assert len(seen.edges["n0", "end", 0]["through"]) < 10


def test_an_operation_without_recorded_inputs_has_no_step_of_gradient_descent() -> None:
    graph = GradGraph()
    graph.add_node("s", kind=NodeKind.OPERATION, op="sub", shape=(2,))
    graph.add_node("w", kind=NodeKind.LEAF, name="net.weight", parameter="net.weight", shape=(2,))
    graph.add_node("n", kind=NodeKind.OPERATION, op="mul", shape=(2,), root=0)
    graph.add_edge("s", "n", 0, kind=EdgeKind.GRADIENT, input=0, output=0)
    graph.add_edge("w", "n", 1, kind=EdgeKind.GRADIENT, input=1, output=0)
    assert views.group_by_module()(graph).number_of_nodes()
