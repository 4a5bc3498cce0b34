"""Views as options ask for them: by name, or by how deep modules are opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradviz.errors import UsageError

if TYPE_CHECKING:
    from gradviz.views import View

__all__ = ["views_of"]


def views_of(names: str | None, depth: int | None) -> Sequence[View] | None:
    """The views that the options ask for.

    Args:
        names: as on the command line: ``"hide_bookkeeping,reverse_flow"`` or ``"none"``.
        depth: how deep modules are opened.

    Returns:
        The views in order; None for the default ones.

    Raises:
        UsageError: if there is no view of a name.

    Example:
        >>> [view.__name__ for view in views_of("hide_bookkeeping", None)]
        ['hide_bookkeeping']
    """
    if names is None:
        return None if depth is None else _at_depth(depth)
    from gradviz.views import ALL, group_by_module

    words = [] if names.strip() == "none" else [word.strip() for word in names.split(",")]
    unknown = [word for word in words if word not in ALL]
    if unknown:
        raise UsageError(f"there is no view {unknown[0]!r}; views are none, {', '.join(ALL)}")
    views = [ALL[word] for word in words]
    return views if depth is None else [*views, group_by_module(depth=depth)]


def _at_depth(depth: int) -> Sequence[View]:
    from gradviz import views

    folded, grouped = views.fold_repeats(depth=depth), views.group_by_module(depth=depth)
    # Once repeats are folded, names tell less of the modules around them.
    found = [views.infer_modules, folded, views.hide_bookkeeping, grouped]
    return [*found, views.clone_shared_leaves]
