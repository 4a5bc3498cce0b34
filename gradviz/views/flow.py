"""The graph with its arrows turned round."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gradviz.graph import GradGraph
from gradviz.views.view import view

__all__ = ["along_the_data", "reverse_flow"]


@view
def reverse_flow(graph: GradGraph) -> GradGraph:
    """Turn every arrow round, so that it shows the way of the gradient, not of the data.

    Args:
        graph: with edges from input to output, or from output to input.

    Returns:
        The same nodes with each edge reversed; twice reversed is the graph as it was.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edge("n0", "n1", key=0)
        >>> list(reverse_flow(graph).edges)
        [('n1', 'n0', 0)]
    """
    turned = GradGraph()
    turned.graph.update(graph.graph)
    if turned.graph.pop("flow", "data") == "data":
        turned.graph["flow"] = "gradient"
    turned.add_nodes_from((key, dict(data)) for key, data in graph.nodes(data=True))
    turned.add_edges_from(
        (target, source, key, dict(data))
        for source, target, key, data in graph.edges(keys=True, data=True)
    )
    return turned


def along_the_data(function: Callable[..., GradGraph]) -> Callable[..., GradGraph]:
    """Let a view that reads arrows as the way of the data take graphs with turned arrows too."""

    @functools.wraps(function)
    def turned(graph: GradGraph, *arguments: Any, **options: Any) -> GradGraph:
        if graph.graph.get("flow") != "gradient":
            return function(graph, *arguments, **options)
        seen: GradGraph = reverse_flow(function(reverse_flow(graph), *arguments, **options))
        return seen

    return turned
