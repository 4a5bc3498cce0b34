"""Views: functions from a graph to a simpler graph.

The name of a view says what it does (`hide_bookkeeping`, `clone_shared_leaves`). A view does not
modify its graph; it returns a new one. A list of views is applied in order. A view that leaves
something out adds a note to the graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.views.colors import SCALES, color_by, highlight, paint, relabel
from gradviz.views.details import clone_shared_leaves, hide_bookkeeping, hide_numbers
from gradviz.views.focus import focus_on, only_paths_to, only_reaching, top
from gradviz.views.modules import group_by_module, infer_modules
from gradviz.views.page import fit_page
from gradviz.views.repeats import fold_repeats
from gradviz.views.siblings import dock_leaves, fold_chains, fold_chunks, fold_siblings
from gradviz.views.view import View, reverse_flow, view

__all__ = [
    "ALL",
    "DEFAULT",
    "RENAMED",
    "SCALES",
    "View",
    "apply",
    "clone_shared_leaves",
    "color_by",
    "dock_leaves",
    "fit_page",
    "focus_on",
    "fold_chains",
    "fold_repeats",
    "fold_siblings",
    "fold_chunks",
    "group_by_module",
    "hide_bookkeeping",
    "hide_numbers",
    "highlight",
    "infer_modules",
    "only_paths_to",
    "only_reaching",
    "paint",
    "relabel",
    "reverse_flow",
    "through_views",
    "top",
    "view",
]

ALL: dict[str, View] = {
    "hide_bookkeeping": hide_bookkeeping,
    "clone_shared_leaves": clone_shared_leaves,
    "reverse_flow": reverse_flow,
    "infer_modules": infer_modules,
    "group_by_module": group_by_module,
    "fold_repeats": fold_repeats,
    "fold_siblings": fold_siblings,
    "dock_leaves": dock_leaves,
    "fold_chains": fold_chains,
    "fold_chunks": fold_chunks,
    "focus_on": focus_on,
    "top": top,
    "only_paths_to": only_paths_to,
    "only_reaching": only_reaching,
    "fit_page": fit_page,
    "color_by": color_by,
    "hide_numbers": hide_numbers,
}
"""Every view by its name, for the commands and the docs."""

RENAMED = {"colour_by": "color_by", "fold_stretches": "fold_chunks"}
"""The new names of views by their deprecated names."""

DEFAULT: tuple[View, ...] = (fit_page,)
"""The views that `gradviz.draw` applies by default."""


def apply(graph: GradGraph, views: Sequence[View] | None = None) -> GradGraph:
    """Apply ``views`` to a graph, in order.

    Args:
        graph: is not modified.
        views: the views; None for the default ones, ``()`` for none.

    Raises:
        UsageError: if a view returns anything but a graph.

    Example:
        >>> apply(GradGraph(), [hide_bookkeeping, reverse_flow])
        GradGraph(0 edges)
    """
    for one in DEFAULT if views is None else views:
        seen = one(graph)
        if not isinstance(seen, GradGraph):
            called = getattr(one, "__name__", repr(one))
            raise UsageError(
                f"the view {called} returned {type(seen).__name__}: a view takes a GradGraph and "
                "returns one"
            )
        graph = seen
    return graph


def through_views(graphs: Sequence[GradGraph], views: Sequence[View]) -> list[GradGraph]:
    """Graphs through views of which each has to find its name in one of the graphs at least."""
    seen = list(graphs)
    for one in views:
        faults = []
        for number, graph in enumerate(seen):
            try:
                seen[number] = one(graph)
            except UsageError as error:
                faults.append(error)
        if seen and len(faults) == len(seen):
            raise faults[-1]
    return seen


def __getattr__(name: str) -> View:
    """A view by its deprecated name."""
    if name not in RENAMED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    new = RENAMED[name]
    warnings.warn(f"{name} is now called {new}", DeprecationWarning, stacklevel=2)
    return ALL[new]
