"""The options of the directive: what each may be, and what it means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args

from docutils.parsers.rst import directives

from gradviz.frontends.frames import parse_numbers
from gradviz.frontends.view_names import COLOURS, DIRECTIONS, ViewOptions
from gradviz.renderers.theme import Theme

__all__ = ["FORMATS", "OPTIONS", "THEMES", "view_options"]

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


def _radius(text: str | None) -> int:
    radius: int = directives.nonnegative_int(text or "")
    return radius


def _flag(text: str | None) -> bool:
    directives.flag(text)
    return True


def _views(text: Any) -> str:
    words = directives.unchanged_required(text)
    ViewOptions(words).chosen()
    return ",".join(word.strip() for word in words.split(","))


OPTIONS: dict[str, Callable[..., Any]] = {
    "all": _flag,
    "alt": directives.unchanged,
    "align": _one_of("left", "center", "right"),
    "caption": directives.unchanged_required,
    "class": directives.class_option,
    "color-by": _one_of(*COLOURS),
    "colour-by": _one_of(*COLOURS),
    "context": _context,
    "depth": _depth,
    "direction": _one_of(*DIRECTIONS),
    "focus": directives.unchanged_required,
    "format": _one_of(*FORMATS),
    "frames": _numbers,
    "hide-code": directives.flag,
    "name": directives.unchanged,
    "radius": _radius,
    "raises": directives.unchanged_required,
    "theme": _one_of(*THEMES),
    "views": _views,
    "width": directives.length_or_percentage_or_unitless,
}


def view_options(options: dict[str, Any]) -> ViewOptions:
    """What the options of a directive say of how much is drawn.

    Raises:
        UsageError: if two of them contradict each other.
    """
    if "color-by" in options:
        options = {"colour-by": options["color-by"], **options}
    names = {each.name: each.name.replace("_", "-") for each in fields(ViewOptions)}
    given = {name: options[word] for name, word in names.items() if word in options}
    found = ViewOptions(**given)
    found.chosen(":{}:")
    return found
