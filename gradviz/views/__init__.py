"""Views: functions from a graph to a graph that make it fit for a reader's eye.

A view is a sentence about the picture (`hide_bookkeeping`, `clone_shared_leaves`) and changes
no graph that it is given: it returns another. A list of views is applied in order. A view
that leaves something out says so in a note of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence

from gradviz.graph import GradGraph
from gradviz.views.bookkeeping import hide_bookkeeping
from gradviz.views.flow import reverse_flow
from gradviz.views.sharing import clone_shared_leaves
from gradviz.views.view import View, view

__all__ = [
    "ALL",
    "DEFAULT",
    "View",
    "apply",
    "clone_shared_leaves",
    "hide_bookkeeping",
    "reverse_flow",
    "view",
]

ALL: dict[str, View] = {
    "hide_bookkeeping": hide_bookkeeping,
    "clone_shared_leaves": clone_shared_leaves,
    "reverse_flow": reverse_flow,
}
"""Every view by its name, as the command line and the docs spell it."""

DEFAULT: tuple[View, ...] = (hide_bookkeeping, clone_shared_leaves)
"""What `gradviz.draw` applies when it is not told otherwise."""


def apply(graph: GradGraph, views: Sequence[View] | None = None) -> GradGraph:
    """The graph as seen through ``views``, in order.

    Args:
        graph: what was recorded; it is not changed.
        views: the views; None for the default ones, ``()`` for the graph as it is.

    Example:
        >>> apply(GradGraph(), [hide_bookkeeping, reverse_flow])
        GradGraph(0 edges)
    """
    for one in DEFAULT if views is None else views:
        graph = one(graph)
    return graph
