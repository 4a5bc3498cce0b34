"""Cells of a notebook: code that has a number instead of a file."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["cell_name", "files_of_cell"]


def cell_name(filename: str) -> str:
    """What the reader of a notebook calls some code, as IPython's tracebacks do: ``In[3]``.

    Args:
        filename: the name of the code's file, which IPython has made up for a cell.

    Returns:
        The name of the cell; "" for a file that is no cell.

    Example:
        >>> cell_name("train.py")
        ''
    """
    return _namer()(filename)


def files_of_cell(name: str) -> list[str]:
    """The file names that IPython has made up for the code of a cell."""
    name_of = _namer()
    return [filename for filename in linecache.cache if name and name_of(filename) == name]


def _namer() -> Callable[[str], str]:
    # IPython is asked only where it runs: nothing here needs it.
    get_ipython: Any = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_ipython() if get_ipython else None
    look: Any = getattr(getattr(shell, "compile", None), "format_code_name", None)

    def name_of(filename: str) -> str:
        found = look(filename) if look else None
        return str(found[1]) if found else ""

    return name_of
