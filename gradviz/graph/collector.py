"""Pauses the cyclic garbage collector while a graph is built."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]

_MANY = 1_000  # New objects after which the collector would have run.


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    A graph consists of containers that are created at once and all stay alive. The collector would
    scan them again and again and free nothing, which takes about half of the time.

    Example:
        >>> with collector_paused():
        ...     gc.isenabled()
        False
    """
    was_enabled = gc.isenabled()
    if was_enabled:
        gc.collect(1)  # free young garbage, which shall not become old
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            _pass_over_the_new()
            gc.enable()


def _pass_over_the_new() -> None:
    """Move the new objects to the oldest generation, so that the collector does not scan them now.

    Scanning takes four seconds for a graph of a million operations. If the program froze objects
    (``gc.freeze``), nothing is moved, because ``gc.unfreeze`` would unfreeze those too.
    """
    if gc.get_count()[0] > _MANY and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
