"""What gradviz knows of notebooks: `Shown`, the base class of answers, and the names of cells.

Answers must not import the renderers (imports go one way), so ``gradviz/__init__.py`` registers
the two functions that draw them with `show_with`. `import gradviz` loads this file, so it imports
neither torch nor networkx. The code of a cell has a number instead of a file.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_functions: dict[str, Callable[..., Any]] = {}


def show_with(draw: Callable[..., Any], to_html: Callable[[Any], str]) -> None:
    """Register the functions that draw an answer and turn it into HTML.

    Args:
        draw: `gradviz.draw`, or a function that imports and calls it.
        to_html: called with the answer; returns HTML.
    """
    _functions.update(draw=draw, html=to_html)


class Shown:
    """Base class of an answer with a ``story``: it can be drawn, and a notebook displays it.

    Example:
        >>> from gradviz.story import Frame, Story
        >>> from gradviz.graph import GradGraph
        >>> "<img alt=" in Story([Frame("before", GradGraph())])._repr_html_()
        True
    """

    def __init_subclass__(cls) -> None:
        # IPython prefers a class's own __repr__, which a dataclass has, to an inherited method.
        cls._repr_pretty_ = Shown._repr_pretty_  # type: ignore[method-assign]

    def draw(self, **options: Any) -> Any:
        """Draw the answer.

        Args:
            options: ``views``, ``theme``, ``title``, ..., as for `gradviz.draw`.

        Returns:
            A `Drawing`: notebooks display it; ``.save("why.svg")`` writes it, ``str()`` is text.

        Example:
            >>> import gradviz, torch
            >>> w = torch.ones(2, requires_grad=True)
            >>> loss = (w * 2).sum()
            >>> print(gradviz.explain(w, loss).draw().text.splitlines()[0])
            loss  f32[]  =  4
        """
        return _functions["draw"](self, **options)

    def save(self, path: str | Path, **options: Any) -> Path:
        """Draw the answer and write the picture to a file.

        Args:
            path: ends in one of ``.svg .png .pdf .eps .html .dot .json .mmd .txt``; an existing
                file is replaced.
            options: ``views``, ``theme``, ``title``, ..., as for `gradviz.draw`.

        Returns:
            The path.

        Raises:
            UsageError: if the suffix is none of these.
            OutputError: if the file cannot be written.

        Example:
            >>> import tempfile, torch
            >>> import gradviz
            >>> with gradviz.record() as run:
            ...     w = torch.ones(2, requires_grad=True)
            ...     (w * 2).sum().backward()
            >>> run.save(Path(tempfile.mkdtemp()) / "run.txt").read_text().splitlines()[0]
            '1  forward'
        """
        written: Path = self.draw(**options).save(path)
        return written

    def show(self, **options: Any) -> None:
        """Draw the answer and open the picture in the browser; in a notebook display it.

        Args:
            options: ``views``, ``theme``, ``title``, ..., as for `gradviz.draw`.

        Raises:
            OutputError: if there is no browser.
        """
        self.draw(**options).show()

    def _repr_html_(self) -> str:
        html: str = _functions["html"](self)
        return html

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))


def cell_name(filename: str) -> str:
    """The name of a cell as IPython's tracebacks print it: ``In[3]``.

    Args:
        filename: the file name in the code object; IPython generates one for each cell.

    Returns:
        The name of the cell; "" for a file that is not a cell.

    Example:
        >>> cell_name("train.py")
        ''
    """
    return _namer()(filename)


def files_of_cell(name: str) -> list[str]:
    """The file names that IPython generated for the code of a cell."""
    name_of = _namer()
    return [filename for filename in linecache.cache if name and name_of(filename) == name]


def _namer() -> Callable[[str], str]:
    # Ask IPython only if the program has imported it already.
    get_ipython: Any = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython else None
    look: Any = getattr(getattr(shell, "compile", None), "format_code_name", None)

    def name_of(filename: str) -> str:
        found = look(filename) if look else None
        return str(found[1]) if found else ""

    return name_of
