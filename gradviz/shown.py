"""How a notebook shows an answer: asked here, and told by the package.

Answers stand to the left of the renderers and know nothing of pictures. So what turns them into
HTML is put in from the right, by ``gradviz/__init__.py``, which knows all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Shown", "show_with"]

_ways: list[Callable[[Any], str]] = []


def show_with(to_html: Callable[[Any], str]) -> None:
    """Say what turns an answer into HTML."""
    _ways[:] = [to_html]


class Shown:
    """An answer that a notebook shows as a picture, with its text, when a cell ends with it.

    Example:
        >>> from gradviz.story import Frame, Story
        >>> from gradviz.graph import GradGraph
        >>> Story([Frame("before", GradGraph())])._repr_html_()[:9]
        '<img alt='
    """

    def __init_subclass__(cls) -> None:
        # IPython takes a class's own __repr__, which a dataclass has, before what it inherits.
        cls._repr_pretty_ = Shown._repr_pretty_  # type: ignore[method-assign]

    def _repr_html_(self) -> str:
        return _ways[0](self)

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))
