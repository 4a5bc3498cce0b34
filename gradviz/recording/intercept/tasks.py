"""Recordings in asyncio programs: each records its own task; only one is open per thread.

Torch has one stack of modes per thread, so alternating tasks would record each other's operations,
and close each other's recordings.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

from gradviz.errors import UsageError

__all__ = ["current", "enter", "leave"]


class _ThisThread(threading.local):
    def __init__(self) -> None:
        self.open: list[tuple[int, Callable[[], object]]] = []


_here = _ThisThread()


def current() -> Any:
    """The asyncio task that runs in this thread, or None."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task()


def enter(recording: object) -> Callable[[], object] | None:
    """Register an opened recording.

    Returns:
        A weak reference to the task that opened it; None outside of asyncio.

    Raises:
        UsageError: if a recording of another task is open in this thread.
    """
    task = current()
    if _here.open and _here.open[-1][1]() is not task:
        raise UsageError(
            "a recording of another asyncio task is open in this thread: wait until it has ended, "
            "for example by an asyncio.Lock around both"
        )
    reference = weakref.ref(task) if task is not None else None
    _here.open.append((id(recording), reference or _none))
    return reference


def leave(recording: object) -> None:
    """Unregister a closed recording."""
    _here.open = [each for each in _here.open if each[0] != id(recording)]


def _none() -> None:
    """The reference outside of asyncio: no task."""
