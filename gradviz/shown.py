"""How an answer is drawn, and how a notebook shows it: asked here, and told by the package.

Answers stand to the left of the renderers and know nothing of pictures. So what draws them is
put in from the right, by ``gradviz/__init__.py``, which knows all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Shown", "show_with"]

_ways: dict[str, Callable[..., Any]] = {}


def show_with(draw: Callable[..., Any], to_html: Callable[[Any], str]) -> None:
    """Say what draws an answer, and what turns it into HTML.

    Args:
        draw: `gradviz.draw`, or a stand-in that loads it when it is first needed.
        to_html: called with the answer.
    """
    _ways.update(draw=draw, html=to_html)


class Shown:
    """An answer with a ``story``: it can be drawn, and a notebook shows it at the end of a cell.

    Example:
        >>> from gradviz.story import Frame, Story
        >>> from gradviz.graph import GradGraph
        >>> "<img alt=" in Story([Frame("before", GradGraph())])._repr_html_()
        True
    """

    def __init_subclass__(cls) -> None:
        # IPython takes a class's own __repr__, which a dataclass has, before what it inherits.
        cls._repr_pretty_ = Shown._repr_pretty_  # type: ignore[method-assign]

    def draw(self, **options: Any) -> Any:
        """Draw it.

        Args:
            options: ``views``, ``theme``, ``title``, ..., as for `gradviz.draw`.

        Returns:
            A `Drawing`: a notebook shows it, ``.save("why.svg")`` writes it, ``str()`` is text.

        Example:
            >>> import gradviz, torch
            >>> w = torch.ones(2, requires_grad=True)
            >>> loss = (w * 2).sum()
            >>> print(gradviz.explain(w, loss).draw().text.splitlines()[0])
            loss  f32[]  =  4
        """
        return _ways["draw"](self, **options)

    def _repr_html_(self) -> str:
        html: str = _ways["html"](self)
        return html

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))
