"""The options of the directive: what each may be, and what it means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args

from docutils.parsers.rst import directives

from gradviz.errors import UsageError
from gradviz.frontends.frames import parse_numbers
from gradviz.renderers.theme import Theme

if TYPE_CHECKING:
    from gradviz.views import View

__all__ = ["FORMATS", "OPTIONS", "THEMES", "views_of"]

FORMATS = ("svg", "png", "txt", "dot", "mmd", "json")
"""What ``:format:`` may ask for; all but the first two are shown as text."""

THEMES = ("site", "both", *get_args(Theme))
"""``site`` does as the site does; ``both`` is two pictures, of which the site shows one."""


def _one_of(*values: str) -> Callable[[str | None], str]:
    return lambda text: directives.choice(text or "", values)


def _context(text: str | None) -> str:
    return directives.choice(text, ("reset", "close")) if text else "keep"


def _numbers(text: str | None) -> list[int]:
    numbers = parse_numbers(text or "", ":frames:")
    if not numbers:
        raise ValueError("it takes numbers from 1 up, like 1,3,5")
    return numbers


def _depth(text: str | None) -> int:
    depth: int = directives.positive_int(text or "")
    return depth


def _views(text: Any) -> str:
    words = directives.unchanged_required(text)
    views_of(words, None)
    return ",".join(word.strip() for word in words.split(","))


OPTIONS: dict[str, Callable[..., Any]] = {
    "alt": directives.unchanged,
    "align": _one_of("left", "center", "right"),
    "caption": directives.unchanged_required,
    "class": directives.class_option,
    "context": _context,
    "depth": _depth,
    "format": _one_of(*FORMATS),
    "frames": _numbers,
    "hide-code": directives.flag,
    "name": directives.unchanged,
    "raises": directives.unchanged_required,
    "theme": _one_of(*THEMES),
    "views": _views,
    "width": directives.length_or_percentage_or_unitless,
}


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
    from gradviz.views import (
        ALL,
        clone_shared_leaves,
        fold_repeats,
        group_by_module,
        hide_bookkeeping,
    )

    if names is None:
        if depth is None:
            return None
        return [fold_repeats, hide_bookkeeping, group_by_module(depth=depth), clone_shared_leaves]
    words = [] if names.strip() == "none" else [word.strip() for word in names.split(",")]
    unknown = [word for word in words if word not in ALL]
    if unknown:
        raise UsageError(f"there is no view {unknown[0]!r}; views are none, {', '.join(ALL)}")
    views = [ALL[word] for word in words]
    return views if depth is None else [*views, group_by_module(depth=depth)]
