"""What can be drawn: answers say that they can, and the front-end says how.

An answer stands left of the front-ends and must not import them; they are told to it instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Drawable", "drawn_by"]

_Draw = Callable[..., Any]
_draw: list[_Draw] = []


def drawn_by(draw: _Draw) -> None:
    """Say what draws: called with the thing itself and the options.

    Args:
        draw: `gradviz.draw`, or a stand-in that loads it when it is first needed.
    """
    _draw[:] = [draw]


class Drawable:
    """Something with a ``story``."""

    def draw(self, **options: Any) -> Any:
        """Draw it.

        Args:
            options: ``views``, ``theme`` and ``title``, as for `gradviz.draw`.

        Returns:
            A `Drawing`: a notebook shows it, ``.save("why.svg")`` writes it, ``str()`` is text.

        Example:
            >>> import gradviz, torch
            >>> w = torch.ones(2, requires_grad=True)
            >>> loss = (w * 2).sum()
            >>> print(gradviz.explain(w, loss).draw().text.splitlines()[0])
            loss  f32[]  =  4
        """
        return _draw[0](self, **options)
