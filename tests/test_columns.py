"""A traced graph stores its edges as columns, but behaves like any networkx graph."""

import copy
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import networkx as nx
import pytest
import torch
from cases import CASES, Case
from graphs import graphs
from hypothesis import given, settings

import gradviz
from gradviz import serialize, views
from gradviz.capture.tracer import copy_graph
from gradviz.graph import GradGraph
from gradviz.graph.columns import EdgeColumns
from gradviz.story import Frame, Story


def traced() -> GradGraph:
    x = torch.ones(3, requires_grad=True)
    first, second = (x * torch.ones(3)).split([1, 2])
    return gradviz.trace((first * second).sum(), names={})


def is_packed(graph: GradGraph) -> bool:
    return "_columns" in vars(graph)


def by_hand(graph: GradGraph) -> GradGraph:
    """The same graph, as networkx makes it edge by edge."""
    made = GradGraph(**graph.graph)
    made.add_nodes_from(graph.nodes(data=True))
    for source, target, key, data in graph.edge_rows():
        made.add_edge(source, target, key, **data)
    return made


@pytest.mark.parametrize(
    "use",
    [
        lambda graph: graph.remove_node("n1"),
        lambda graph: graph.remove_nodes_from(["n1", "n2"]),
        lambda graph: graph.add_node("new"),
        lambda graph: graph.add_edge("n1", "new", 0),
        lambda graph: graph.add_edges_from([("n0", "n1", 5)]),
        lambda graph: graph.remove_edge(*next(iter(graph.edges))),
        lambda graph: graph.clear_edges(),
        lambda graph: graph.clear(),
        lambda graph: graph.update(nodes=["other"]),
        lambda graph: nx.set_edge_attributes(graph, 1, "weight"),
    ],
)
def test_a_traced_graph_can_be_changed_like_any_other(use: Callable[[GradGraph], object]) -> None:
    graph = traced()
    other = by_hand(graph)
    assert is_packed(graph)
    use(graph)
    use(other)
    assert nx.utils.graphs_equal(graph, other)
    assert graph.pred == other.pred
    assert graph.number_of_edges() == other.number_of_edges()


@pytest.mark.parametrize(
    "ask",
    [
        lambda graph: list(graph.edges(keys=True, data=True)),
        lambda graph: {key: dict(graph.pred[key]) for key in graph},
        lambda graph: list(graph.successors("n1")),
        lambda graph: list(nx.topological_sort(graph)),
        lambda graph: dict(graph.degree),
        lambda graph: graph.number_of_edges(),
        lambda graph: graph.has_edge("n1", "n0"),
        lambda graph: list(graph.inputs("n1")),
        lambda graph: sorted(nx.ancestors(graph, "n0")),
        lambda graph: list(graph.reverse().edges),
        lambda graph: list(graph.subgraph(["n0", "n1"]).edges),
        lambda graph: nx.to_numpy_array(graph).tolist(),
        lambda graph: len(graph.adj["n1"]),
        repr,
    ],
)
def test_it_answers_like_any_other(ask: Callable[[GradGraph], object]) -> None:
    graph = traced()
    assert is_packed(graph)
    assert ask(graph) == ask(by_hand(traced()))


@pytest.mark.parametrize(
    "again",
    [
        copy.deepcopy,
        copy.copy,
        lambda graph: pickle.loads(pickle.dumps(graph)),
        lambda graph: graph.copy(),
        lambda graph: serialize.loads(serialize.to_json(Story((Frame("", graph),))))[0].graph,
    ],
)
def test_copies_are_whole(again: Callable[[GradGraph], GradGraph]) -> None:
    graph = traced()
    assert nx.utils.graphs_equal(again(graph), by_hand(traced()))


def test_attributes_of_an_edge_are_its_own() -> None:
    graph = traced()
    packed = copy.copy(graph)
    edges = list(graph.edges(keys=True))
    graph.edges[edges[0]]["mine"] = 1
    assert all("mine" not in graph.edges[edge] for edge in edges[1:])
    assert all("mine" not in data for *_, data in packed.edges(data=True))


def test_a_copy_is_apart_also_from_what_was_looked_at() -> None:
    graph = traced()
    edge = next(iter(graph.edges))
    copied = copy_graph(graph)
    graph.edges[edge]["mine"] = 1
    assert "mine" not in copied.edges[edge]


def test_threads_that_look_first_see_the_same() -> None:
    for _ in range(50):
        graph, gate = traced(), threading.Barrier(2)

        def look(graph: GradGraph = graph, gate: threading.Barrier = gate) -> object:
            gate.wait()
            return graph._succ

        with ThreadPoolExecutor(2) as pool:
            one, other = (pool.submit(look) for _ in range(2))
        assert one.result() is other.result()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_text_does_not_depend_on_who_looked_first(case: Case) -> None:
    program = case.build()
    first, second = (gradviz.trace(*program.subjects, names=program.names) for _ in range(2))
    list(second.edges)
    assert is_packed(first) and not is_packed(second)
    for pair in ((first, second), (views.apply(first), views.apply(second))):
        one, other = (serialize.to_json(Story((Frame("", graph),))) for graph in pair)
        assert one == other


@given(graph=graphs())
@settings(max_examples=50, deadline=None)
def test_columns_hold_any_graph(graph: GradGraph) -> None:
    columns = EdgeColumns.of(graph._node, graph._succ)
    for packed in (columns, columns.by_source()):
        other = GradGraph()
        other.add_nodes_from(graph.nodes(data=True))
        assert nx.utils.graphs_equal(other.take_columns(packed), graph)


def test_folding_a_long_chain_never_writes_its_edges_out() -> None:
    y = torch.ones(1, requires_grad=True)
    for _ in range(5_000):
        y = y.sin()
    graph = gradviz.trace(y, names={})
    assert len(views.apply(graph)) < 20
    assert is_packed(graph)
