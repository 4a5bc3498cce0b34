"""The decorator that makes a function a view, and `reverse_flow`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gradviz.graph import GradGraph
from gradviz.graph.columns import collector_paused

View = Callable[..., Any]
"""Takes a graph and returns a graph; called with only options, it returns a view."""


def view(function: Callable[..., GradGraph]) -> View:
    """Make a function a view that takes options before the graph: ``v``, ``v()``, ``v(depth=2)``.

    Args:
        function: takes the graph first, then options, and returns a new graph.

    Returns:
        The view: given a graph it returns a graph; given only options, a view.

    Example:
        >>> @view
        ... def nothing(graph: GradGraph, *, times: int = 1) -> GradGraph:
        ...     return graph
        >>> nothing(GradGraph())
        GradGraph(0 edges)
        >>> nothing(times=2)(GradGraph())
        GradGraph(0 edges)
    """

    @functools.wraps(function)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        if not arguments or not isinstance(arguments[0], GradGraph):
            partial = functools.partial(_later, wrapper, arguments, options)
            # The wrapper has the function's name, so that pickle finds it.
            return functools.update_wrapper(partial, wrapper)
        with collector_paused():
            return function(*arguments, **options)

    return wrapper


def _later(
    wrapper: View, arguments: tuple[Any, ...], options: dict[str, Any], graph: GradGraph
) -> Any:
    return wrapper(graph, *arguments, **options)


@view
def reverse_flow(graph: GradGraph) -> GradGraph:
    """Reverse every arrow, so that it shows the direction of the gradient, not of the data.

    Args:
        graph: its edges may have either direction.

    Returns:
        The same nodes with each edge reversed; reversing twice gives the original graph.

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
    """Let a view that expects edges in the direction of the data accept reversed graphs."""

    @functools.wraps(function)
    def turned(graph: GradGraph, *arguments: Any, **options: Any) -> GradGraph:
        if graph.graph.get("flow") != "gradient":
            return function(graph, *arguments, **options)
        seen: GradGraph = reverse_flow(function(reverse_flow(graph), *arguments, **options))
        return seen

    return turned
