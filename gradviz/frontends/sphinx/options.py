"""The options of the directive: what each may be, and what it means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from docutils.parsers.rst import directives

from gradviz.frontends.frames import parse_numbers
from gradviz.frontends.view_names import views_of
from gradviz.renderers.theme import Theme

__all__ = ["FORMATS", "OPTIONS", "THEMES"]

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
