"""Paths through a graph: cuts, inputs of nodes, and the part to show."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from itertools import count
from typing import NamedTuple

from gradviz.graph import EdgeData, EdgeKind, GradGraph, NodeData, NodeKind
from gradviz.graph.algorithms import ancestors, descendants, is_data, is_gradient
from gradviz.views.focus import in_focus

__all__ = [
    "CutEdge",
    "Cuts",
    "ValueRead",
    "join_to_cut",
    "leaf_of_node",
    "relevant_part",
    "stops_on_every_way",
    "word_of",
]

_LONG = 12  # operations; a longer path is folded, except near the culprit
_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)


def relevant_part(graph: GradGraph, starts: Sequence[str], marks: Sequence[str]) -> GradGraph:
    """Show the paths from some nodes to the roots, and their inputs.

    Args:
        graph: the whole graph.
        starts: keys of the explained tensors.
        marks: keys of nodes that must be shown.
    """
    if _operations(graph, graph) <= _LONG:
        return graph.copy()  # type: ignore[no-any-return]
    kept = _paths_of(graph, [*starts, *marks])
    kept |= {key for key in (*starts, *marks, *graph.roots) if key in graph}
    before = ancestors(graph, marks, is_data)
    if _operations(graph, before) <= _LONG:
        kept |= before
    kept |= _inputs(graph, kept)
    part: GradGraph = graph.subgraph([key for key in graph if key in kept]).copy()
    left = len(graph) - len(part)
    if left:
        part = part.with_note(f"only the relevant paths: {left:,} nodes left out")
    if _operations(part, part) > _LONG and (target := next(iter([*marks, *starts]), "")) in part:
        part = in_focus(part, target, word_of(part.nodes[target]))
    return part


def join_to_cut(graph: GradGraph, leaf: str, culprit: str) -> None:
    """Draw a leaf before the cut that ends its path, if the operations between were not kept.

    Args:
        graph: is changed.
        leaf: key of the leaf.
        culprit: key of the tensor behind the cut; nothing is done unless both are in the graph.
    """
    if leaf not in graph or culprit not in graph or graph.out_degree(leaf):
        return
    cuts = [data for *_, data in graph.in_edges(culprit, data=True) if not _flows(data)]
    if not cuts:
        return
    taken = {key for key in graph if key[:1] == "g"}
    key = next(name for name in map("g{}".format, count()) if name not in taken)
    graph.add_node(key, kind=NodeKind.GROUP, op="operations that were not kept", members=0)
    graph.add_edge(leaf, key, 0, kind=EdgeKind.GRADIENT, input=0)
    number = 1 + max(data.get("input", 0) for *_, data in graph.in_edges(culprit, data=True))
    graph.add_edge(key, culprit, number, **{**cuts[0], "input": number})


def _flows(edge: EdgeData) -> bool:
    return edge.get("kind") is not EdgeKind.CUT


def _operations(graph: GradGraph, keys: Iterable[str]) -> int:
    return sum(graph.nodes[key]["kind"] is NodeKind.OPERATION for key in keys)


def _paths_of(graph: GradGraph, keys: Iterable[str]) -> set[str]:
    from_there = descendants(graph, keys, is_data)
    paths = from_there & ancestors(graph, graph.roots, is_data)
    return paths or from_there  # no path to a root: all descendants


def _inputs(graph: GradGraph, kept: Iterable[str]) -> set[str]:
    """Leaves and untracked tensors that are inputs of the operations of a path only."""
    found = set()
    for key in kept:
        if graph.nodes[key]["kind"] is not NodeKind.OPERATION:
            continue
        for source, _ in graph.inputs(key):
            kind = graph.nodes[source]["kind"]
            if kind is NodeKind.ACCUMULATE:
                found |= {source, *graph.predecessors(source)}
            elif kind is NodeKind.UNTRACKED or kind in _LEAVES:
                found.add(source)
    return found


_FEW = 16


class CutEdge(NamedTuple):
    """An edge at which data was cut from the graph."""

    source: str
    target: str
    edge: EdgeData


class ValueRead(NamedTuple):
    """Where data of a leaf became a number or an array.

    Args:
        cut: where the gradient was cut, there or before.
        word: what read it: ``"item"``.
        source: the line.
        inside: when that line called a library, the line of the library; else "".
    """

    cut: CutEdge
    word: str
    source: str
    inside: str = ""


def stops_on_every_way(
    graph: GradGraph, roots: Iterable[str], key: str, stops: Container[tuple[str, int]]
) -> list[str]:
    """The operations that stop the gradient on every way from some roots to a node.

    Args:
        graph: where they are.
        roots: where the gradient starts.
        key: the node.
        stops: operations with the number of an input that gets nothing from them.

    Returns:
        Each once, those nearest to the node last; none when a way leads past all of them.
    """
    path = {key, *descendants(graph, [key])}
    stack = [root for root in roots if root in path]
    reached, found = set(stack), []
    while stack:
        target = stack.pop()
        for source, _, edge in graph.in_edges(target, data=True):
            if source not in path or not is_gradient(source, target, edge):
                continue
            if (target, edge.get("input", 0)) in stops:
                found.append(target)
            elif source not in reached:
                reached.add(source)
                stack.append(source)
    return [] if key in reached else list(dict.fromkeys(found))


class Cuts:
    """Cut edges of a graph, by the nodes whose data reaches them.

    Args:
        graph: the graph.
        cuts: the edges.
    """

    def __init__(self, graph: GradGraph, cuts: Iterable[CutEdge]) -> None:
        self._graph = graph
        self._by_source: dict[str, list[CutEdge]] = {}
        for cut in sorted(cuts, key=lambda cut: (int(cut.source[1:]), int(cut.target[1:]))):
            self._by_source.setdefault(cut.source, []).append(cut)
        self._known: dict[str, set[str]] = {}

    def of(self, key: str) -> list[CutEdge]:
        """The cuts that are reached from a node along gradient edges."""
        if len(self._by_source) > _FEW:
            path = descendants(self._graph, [key])
        else:  # for one leaf after another, the common part is searched once
            path = {source for source in self._by_source if key in self._ancestors(source)}
        return [cut for source, cuts in self._by_source.items() if source in path for cut in cuts]

    def _ancestors(self, source: str) -> set[str]:
        if source not in self._known:
            self._known[source] = ancestors(self._graph, [source])
        return self._known[source]


def leaf_of_node(graph: GradGraph, key: str) -> str:
    """The leaf of an ``AccumulateGrad`` node; any other node itself."""
    if graph.nodes[key]["kind"] is NodeKind.ACCUMULATE:
        return next((source for source, _ in graph.inputs(key)), key)
    return key


def word_of(data: NodeData) -> str:
    """The name of a node: the user's name for it, else its operation."""
    return data.get("name") or data.get("op") or data["kind"].value
