"""Ways through a graph: where a gradient can go, and where data went that no gradient follows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gradviz.graph import EdgeData, GradGraph, NodeData, NodeKind, TensorSummary
from gradviz.graph.algorithms import ancestors as below
from gradviz.graph.algorithms import descendants as above
from gradviz.graph.algorithms import is_data, is_gradient

__all__ = [
    "CutEdge",
    "Cuts",
    "above",
    "below",
    "is_data",
    "is_gradient",
    "plain",
    "value_of",
    "word_of",
]

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
        self._below: dict[str, set[str]] = {}

    def of(self, key: str) -> list[CutEdge]:
        """Those to which the data of a node comes, with its gradient up to there."""
        if len(self._by_source) > _FEW:
            way = above(self._graph, [key])
        else:  # asked for one leaf after the other, what they have in common is walked once
            way = {source for source in self._by_source if key in self._all_below(source)}
        return [cut for source, cuts in self._by_source.items() if source in way for cut in cuts]

    def _all_below(self, source: str) -> set[str]:
        if source not in self._below:
            self._below[source] = below(self._graph, [source])
        return self._below[source]


def value_of(graph: GradGraph, key: str) -> TensorSummary | None:
    """What is known of the values of a tensor, or of the one output of an operation."""
    data: NodeData = graph.nodes[key]
    if "value" in data or data.get("outputs", 1) != 1:
        return data.get("value")
    for target in graph.successors(key):
        if graph.nodes[target]["kind"] is NodeKind.RESULT:
            made: NodeData = graph.nodes[target]
            return made.get("value")
    return None


def plain(graph: GradGraph, key: str) -> str:
    """The leaf in place of its ``AccumulateGrad``."""
    if graph.nodes[key]["kind"] is NodeKind.ACCUMULATE:
        return next((source for source, _ in graph.inputs(key)), key)
    return key


def word_of(data: NodeData) -> str:
    """What to call a node: the user's name for it, else its operation."""
    return data.get("name") or data.get("op") or data["kind"].value
