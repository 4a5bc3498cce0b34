"""Notebook cells: code that has a number instead of a file."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable
from typing import Any


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
