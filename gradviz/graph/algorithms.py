"""Reachability and cycles in a graph, implemented once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

import numpy as np

from gradviz.graph.grad_graph import GradGraph
from gradviz.graph.schema import EdgeData, EdgeKind, NodeData, NodeKind

__all__ = [
    "Follow",
    "ancestors",
    "descendants",
    "every",
    "has_cycle",
    "is_data",
    "is_gradient",
    "leaf_of_node",
    "longest_paths",
    "word_of",
]

K = TypeVar("K", bound=Hashable)

Follow = Callable[[str, str, EdgeData], bool]
"""Whether to follow an edge: called with its source, its target and its attributes."""

_CHUNK = 256


def has_cycle(graph: GradGraph) -> bool:
    """Whether some node depends on itself, which autograd never records.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edge("x", "y"), graph.add_edge("y", "x")
        >>> has_cycle(graph)
        True
    """
    starts, ends = _numbered(graph)
    waiting = array("i", bytes(ends.itemsize * len(graph)))
    for target in ends:
        waiting[target] += 1
    ready = array("i", (node for node, count in enumerate(waiting) if not count))
    done = 0
    while ready:
        node = ready.pop()
        done += 1
        for at in range(starts[node], starts[node + 1]):
            target = ends[at]
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return done < len(graph)


def _numbered(graph: GradGraph) -> tuple[array[int], array[int]]:
    """The users of each node, all in one row, and where those of each node begin in it.

    Nodes are found by the hashes of their keys: a dictionary takes ten times the memory.
    """
    hashes = np.fromiter(map(hash, graph), np.int64, len(graph))
    order = np.argsort(hashes).astype(np.int32)
    hashes.sort()
    starts, ends, chunk = array("i", [0]), array("i"), array("q")
    for users in graph._succ.values():
        chunk.extend(map(hash, users))
        starts.append(len(ends) + len(chunk))
        if len(chunk) > _CHUNK:
            ends.frombytes(order[np.searchsorted(hashes, chunk)].tobytes())
            chunk = array("q")
    ends.frombytes(order[np.searchsorted(hashes, chunk)].tobytes())
    return starts, ends


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
    return _reached(graph._pred, starts, lambda key, source, edge: follow(source, key, edge))


def descendants(graph: GradGraph, starts: Iterable[str], follow: Follow = is_gradient) -> set[str]:
    """The start nodes and all nodes computed from them; same arguments as `ancestors`.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edge("x", "y", 0, kind=EdgeKind.GRADIENT)
        >>> sorted(descendants(graph, "x"))
        ['x', 'y']
    """
    return _reached(graph._succ, starts, follow)


def _reached(
    neighbors: Mapping[str, Mapping[str, Mapping[int, EdgeData]]],
    starts: Iterable[str],
    follow: Follow,
) -> set[str]:
    seen = {key for key in starts if key in neighbors}
    stack = list(seen)
    while stack:
        key = stack.pop()
        for other, edges in neighbors[key].items():
            if other not in seen and any(follow(key, other, edge) for edge in edges.values()):
                seen.add(other)
                stack.append(other)
    return seen


def longest_paths(after: Mapping[K, Iterable[K]]) -> dict[K, int]:
    """The number of edges on the longest path to each node; nothing may form a cycle.

    Args:
        after: the nodes that follow each node, one entry per edge.

    Example:
        >>> longest_paths({"x": ["y", "z"], "y": ["z"], "z": []})
        {'x': 0, 'y': 1, 'z': 2}
    """
    longest = dict.fromkeys(after, 0)
    waiting = dict.fromkeys(after, 0)
    for others in after.values():
        for other in others:
            waiting[other] += 1
    ready = [node for node, count in waiting.items() if not count]
    while ready:
        node = ready.pop()
        for other in after[node]:
            longest[other] = max(longest[other], longest[node] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    return longest


def leaf_of_node(graph: GradGraph, key: str) -> str:
    """The leaf of an ``AccumulateGrad`` node; any other node itself."""
    if graph.nodes[key]["kind"] is NodeKind.ACCUMULATE:
        return next((source for source, _ in graph.inputs(key)), key)
    return key


def word_of(data: NodeData) -> str:
    """The name of a node: the user's name for it, else its operation."""
    return data.get("name") or data.get("op") or data["kind"].value
