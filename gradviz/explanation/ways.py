"""Ways through a graph: where a gradient can go, and where data went that no gradient follows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from gradviz.graph import EdgeData, EdgeKind, GradGraph, NodeData, NodeKind, TensorSummary

__all__ = [
    "Cut",
    "above",
    "below",
    "cuts_between",
    "is_data",
    "is_gradient",
    "plain",
    "value_of",
    "word_of",
]

Follow = Callable[[str, str, EdgeData], bool]


class Cut(NamedTuple):
    """An edge along which data left the graph."""

    source: str
    target: str
    edge: EdgeData


def is_gradient(source: str, target: str, edge: EdgeData) -> bool:
    """Whether a gradient flows back along an edge."""
    return edge["kind"] is EdgeKind.GRADIENT


def is_data(source: str, target: str, edge: EdgeData) -> bool:
    """Whether data flows along an edge, with or without a gradient that flows back."""
    return edge["kind"] in (EdgeKind.GRADIENT, EdgeKind.CUT)


def above(graph: GradGraph, starts: Iterable[str], follow: Follow = is_gradient) -> set[str]:
    """What the data of some nodes leads to, and they themselves."""
    seen = {key for key in starts if key in graph}
    stack = list(seen)
    while stack:
        key = stack.pop()
        for _, target, edge in graph.out_edges(key, data=True):
            if target not in seen and follow(key, target, edge):
                seen.add(target)
                stack.append(target)
    return seen


def below(graph: GradGraph, starts: Iterable[str], follow: Follow = is_gradient) -> set[str]:
    """What some nodes were computed from, and they themselves."""
    seen = {key for key in starts if key in graph}
    stack = list(seen)
    while stack:
        key = stack.pop()
        for source, _, edge in graph.in_edges(key, data=True):
            if source not in seen and follow(source, key, edge):
                seen.add(source)
                stack.append(source)
    return seen


def cuts_between(graph: GradGraph, start: str, roots: Iterable[str]) -> list[Cut]:
    """The first cut on each way of the data from a node to the roots; [] if there is no way."""
    ends = below(graph, roots, is_data)
    found = [
        Cut(key, target, edge)
        for key in above(graph, [start])
        for _, target, edge in graph.out_edges(key, data=True)
        if edge["kind"] is EdgeKind.CUT and target in ends
    ]
    return sorted(found, key=lambda cut: (int(cut.source[1:]), int(cut.target[1:])))


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
