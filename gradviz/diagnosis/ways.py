"""What leads where in a graph, and where data left it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gradviz.graph import EdgeData, GradGraph, NodeData, NodeKind
from gradviz.graph.algorithms import ancestors, descendants

__all__ = ["CutEdge", "Cuts", "leaf_behind", "word_of"]

_FEW = 16


class CutEdge(NamedTuple):
    """An edge along which data left the graph."""

    source: str
    target: str
    edge: EdgeData


class Cuts:
    """Some edges along which data leaves the graph, and to which of them that of a node comes.

    Args:
        graph: where they are.
        cuts: the edges.
    """

    def __init__(self, graph: GradGraph, cuts: Iterable[CutEdge]) -> None:
        self._graph = graph
        self._by_source: dict[str, list[CutEdge]] = {}
        for cut in sorted(cuts, key=lambda cut: (int(cut.source[1:]), int(cut.target[1:]))):
            self._by_source.setdefault(cut.source, []).append(cut)
        self._behind: dict[str, set[str]] = {}

    def of(self, key: str) -> list[CutEdge]:
        """Those to which the data of a node comes, with its gradient up to there."""
        if len(self._by_source) > _FEW:
            path = descendants(self._graph, [key])
        else:  # for one leaf after the other, what they have in common is walked once
            path = {source for source in self._by_source if key in self._all_behind(source)}
        return [cut for source, cuts in self._by_source.items() if source in path for cut in cuts]

    def _all_behind(self, source: str) -> set[str]:
        if source not in self._behind:
            self._behind[source] = ancestors(self._graph, [source])
        return self._behind[source]


def leaf_behind(graph: GradGraph, key: str) -> str:
    """The leaf in place of its ``AccumulateGrad``; any other node itself."""
    if graph.nodes[key]["kind"] is NodeKind.ACCUMULATE:
        return next((source for source, _ in graph.inputs(key)), key)
    return key


def word_of(data: NodeData) -> str:
    """What to call a node: the user's name for it, else its operation."""
    return data.get("name") or data.get("op") or data["kind"].value
