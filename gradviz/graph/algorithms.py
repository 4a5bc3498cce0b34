"""Reachability and cycles in a graph, implemented once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import networkx as nx

from gradviz.graph.grad_graph import GradGraph
from gradviz.graph.schema import EdgeData, EdgeKind

__all__ = ["Follow", "ancestors", "descendants", "every", "has_cycle", "is_data", "is_gradient"]

Follow = Callable[[str, str, EdgeData], bool]
"""Whether to follow an edge: called with its source, its target and its attributes."""


def has_cycle(graph: GradGraph) -> bool:
    """Whether some node depends on itself, which autograd never records.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edge("x", "y"), graph.add_edge("y", "x")
        >>> has_cycle(graph)
        True
    """
    return not nx.is_directed_acyclic_graph(graph)


def is_gradient(source: str, target: str, edge: EdgeData) -> bool:
    """Whether a gradient flows back along the edge."""
    return edge["kind"] is EdgeKind.GRADIENT


def is_data(source: str, target: str, edge: EdgeData) -> bool:
    """Whether data flows along the edge, whether or not a gradient flows back."""
    return edge["kind"] in (EdgeKind.GRADIENT, EdgeKind.CUT)


def every(source: str, target: str, edge: EdgeData) -> bool:
    """Follow every edge."""
    return True


def ancestors(graph: GradGraph, starts: Iterable[str], follow: Follow = is_gradient) -> set[str]:
    """The start nodes and all nodes that they were computed from.

    Args:
        graph: edges run from input to output.
        starts: keys; keys that are not in the graph are ignored.
        follow: which edges to follow.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edge("x", "y", 0, kind=EdgeKind.GRADIENT)
        >>> _ = graph.add_edge("y", "z", 0, kind=EdgeKind.CUT)
        >>> sorted(ancestors(graph, "z")), sorted(ancestors(graph, "z", is_data))
        (['z'], ['x', 'y', 'z'])
    """
    seen = {key for key in starts if key in graph}
    stack, neighbours = list(seen), graph._pred
    while stack:
        key = stack.pop()
        for source, edges in neighbours[key].items():
            if source not in seen and any(follow(source, key, edge) for edge in edges.values()):
                seen.add(source)
                stack.append(source)
    return seen


def descendants(graph: GradGraph, starts: Iterable[str], follow: Follow = is_gradient) -> set[str]:
    """The start nodes and all nodes computed from them; same arguments as `ancestors`.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edge("x", "y", 0, kind=EdgeKind.GRADIENT)
        >>> sorted(descendants(graph, "x"))
        ['x', 'y']
    """
    seen = {key for key in starts if key in graph}
    stack, neighbours = list(seen), graph._succ
    while stack:
        key = stack.pop()
        for target, edges in neighbours[key].items():
            if target not in seen and any(follow(key, target, edge) for edge in edges.values()):
                seen.add(target)
                stack.append(target)
    return seen
