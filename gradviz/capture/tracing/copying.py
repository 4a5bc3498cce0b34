"""Copies a graph: networkx would do it at several times the price."""

from __future__ import annotations

from collections.abc import Mapping

from gradviz.capture.tracing.insertion import Insertion
from gradviz.graph import GradGraph

__all__ = ["copy_graph"]


def copy_graph(graph: GradGraph, keys: Mapping[str, str] | None = None) -> GradGraph:
    """The same graph, under other keys if any are given; edges share their attributes.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", name="x")
        >>> copy = copy_graph(graph, {"n0": "n7"})
        >>> copy.nodes["n7"]["name"] = "y"
        >>> list(copy), graph.nodes["n0"]["name"]
        (['n7'], 'x')
    """
    copy = GradGraph()
    copy.graph.update(graph.graph)
    into = Insertion(copy)
    nodes, successors, predecessors = into.nodes, into.successors, into.predecessors
    stay = keys or dict.fromkeys(graph)
    for key, data in graph._node.items():
        new = stay[key] or key
        nodes[new], successors[new], predecessors[new] = dict(data), {}, {}
    for key, targets in graph._succ.items():
        source = stay[key] or key
        own = successors[source]
        for target, edges in targets.items():
            new = stay[target] or target
            own[new] = predecessors[new][source] = dict(edges)
    return copy
