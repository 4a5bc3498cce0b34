"""Replacements that several open recordings share: made by the first, undone after the last."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["SharedInstall"]


class SharedInstall:
    """Something that is installed while at least one recording is open, in any thread.

    Args:
        install: called when the first recording begins.
        undo: called when the last one has ended.

    Example:
        >>> shared = SharedInstall(lambda: print("installed"), lambda: print("undone"))
        >>> shared.begin()
        installed
        >>> shared.begin(); shared.end()
        >>> shared.end()
        undone
    """

    def __init__(self, install: Callable[[], None], undo: Callable[[], None]) -> None:
        self._install, self._undo = install, undo
        self._lock = threading.Lock()
        self._open = 0

    def begin(self) -> None:
        """A recording begins."""
        with self._lock:
            if self._open == 0:
                self._install()
            self._open += 1

    def end(self) -> None:
        """A recording has ended."""
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._undo()
