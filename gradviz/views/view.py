"""What a view is, and the decorator that makes one."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from gradviz.graph import GradGraph
from gradviz.graph.collector import collector_paused

__all__ = ["View", "view"]

View = Callable[..., Any]
"""Takes a graph and returns a graph; called with options alone, it returns a view."""


def view(function: Callable[..., GradGraph]) -> View:
    """Let a view be used as it is, or with options: ``v``, ``v()`` and ``v(depth=2)``.

    Args:
        function: takes the graph first, then options, and returns a new graph.

    Returns:
        The view: given a graph it returns a graph; given options alone, a view.

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
            # Its name leads to the wrapper, so that pickle finds it.
            return functools.update_wrapper(partial, wrapper)
        with collector_paused():
            return function(*arguments, **options)

    return wrapper


def _later(
    wrapper: View, arguments: tuple[Any, ...], options: dict[str, Any], graph: GradGraph
) -> Any:
    return wrapper(graph, *arguments, **options)
