"""Copies a graph: networkx would do it at several times the price."""

from __future__ import annotations

from collections.abc import Mapping

from gradviz.graph import GradGraph

__all__ = ["copy_graph"]


def copy_graph(graph: GradGraph, keys: Mapping[str, str] | None = None) -> GradGraph:
    """The same graph, under other keys if any are given.

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
    stay = keys or {key: key for key in graph}
    copy._node.update((stay[key], dict(data)) for key, data in graph._node.items())
    return copy.take_columns(graph.edge_columns())
