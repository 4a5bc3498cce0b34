"""Keeps the cyclic garbage collector away while a graph is built."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]

_MANY = 1_000  # new objects; the collector would not have waited for so many


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    A graph is nothing but containers, made at once and all kept. The collector would go through
    them again and again and find nothing, for about half of the time.

    Example:
        >>> with collector_paused():
        ...     gc.isenabled()
        False
    """
    was_enabled = gc.isenabled()
    if was_enabled:
        gc.collect(1)  # what is garbage by now shall not count as old
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            _pass_over_the_new()
            gc.enable()


def _pass_over_the_new() -> None:
    """Count what was made as old, or the collector would go through all of it at once.

    For a graph of a million operations that takes four seconds. Who froze objects is left alone:
    they would thaw.
    """
    if gc.get_count()[0] > _MANY and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
