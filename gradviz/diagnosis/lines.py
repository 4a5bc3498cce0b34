"""Lines of the user's program, with their code."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterable
from pathlib import Path

from gradviz.cells import files_of_cell
from gradviz.facts import SourceLocation

__all__ = ["code_of", "locations_of", "mention"]


def locations_of(sources: Iterable[str]) -> tuple[SourceLocation, ...]:
    """Lines as typed locations, each once; what is no line is left out."""
    found = []
    for source in dict.fromkeys(sources):
        file, _, number = source.rpartition(":")
        if file and number.isdigit():
            found.append(SourceLocation(file, int(number), text=code_of(source)))
    return tuple(found)


def mention(place: str | SourceLocation) -> str:
    """A line with its code: ``train.py:31 (h = h.detach())``."""
    text = _plain_code(place.text) if isinstance(place, SourceLocation) else ""
    text = text or code_of(str(place))
    return f"{place} ({text})" if 0 < len(text) <= 60 else str(place)


def _plain_code(line: str) -> str:
    """The code of a line without its comment."""
    text = " ".join(line.split())
    code, _, comment = text.partition(" # ")
    return text if set("'\"") & set(comment) else code


def code_of(source: str) -> str:
    """What is written in a line, without a comment; "" if that is not known.

    Only files that have been read as source are looked at: those whose lines were recorded.
    """
    display, _, number = source.rpartition(":")
    known = [name for name in (display, str(Path(display).absolute())) if name in linecache.cache]
    known = known[:1] or [name for name in linecache.cache if name.endswith(os.sep + display)]
    # The latest last: under a magic command a cell has the code of the command as well.
    known = known or files_of_cell(display)[-1:]
    if len(known) != 1 or not number.isdigit():
        return ""
    return _plain_code(linecache.getline(known[0], int(number)))
