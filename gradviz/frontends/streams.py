"""Output streams: results go to standard output, messages to standard error."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["aside", "colored", "columns", "echo", "output_on_stderr", "stage", "styled", "wrapped"]

_NARROWEST = 40  # columns


def colored() -> bool:
    """Whether standard error supports colors: a terminal, without NO_COLOR (no-color.org)."""
    return not os.environ.get("NO_COLOR") and sys.stderr is not None and sys.stderr.isatty()


def columns() -> int:
    """The width of the terminal that standard output is; 0 if it is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return 0
    return max(shutil.get_terminal_size().columns, _NARROWEST)


def styled() -> bool:
    """Whether standard output is a terminal that takes colors."""
    return bool(columns()) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def wrapped(data: bytes | Iterable[bytes]) -> bytes | Iterable[bytes]:
    """Text for standard output: on a terminal its lines are wrapped to the width of it."""
    from gradviz.renderers.text import in_columns

    width = columns()
    if not width:
        return data
    text = (data if isinstance(data, bytes) else b"".join(data)).decode()
    # Lines with codes for bold and color have been wrapped before these were put in.
    lines = [[line] if "\033" in line else in_columns(line, width) for line in text.split("\n")]
    return "\n".join(part for parts in lines for part in parts).encode("utf-8", "backslashreplace")


def echo(text: str) -> None:
    """Print a result; on a terminal its lines are wrapped to the width of it."""
    import click  # only now: a script that draws prints nothing

    data = wrapped(text.encode("utf-8", "backslashreplace"))
    click.echo(data if isinstance(data, bytes) else b"".join(data))


def aside(text: str, warning: bool = False) -> None:
    """Print one line on standard error."""
    import click  # imported here: a script that draws does not need it

    # A closed standard error must not make a successful drawing fail.
    with contextlib.suppress(OSError):
        click.echo(click.style(text, fg="yellow") if warning and colored() else text, err=True)


@contextlib.contextmanager
def output_on_stderr() -> Iterator[None]:
    """Redirect a program's output to standard error, to keep it out of gradviz's own output.

    Output of Python's ``print``, of C code and of child processes is redirected.
    """
    with contextlib.ExitStack() as undo:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stdout.flush()
            kept = os.dup(1)
            undo.callback(os.close, kept)
            os.dup2(2, 1)
            undo.callback(os.dup2, kept, 1)
        undo.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


@contextlib.contextmanager
def stage(name: str, spinner: bool = True) -> Iterator[None]:
    """Show a task on a terminal if it takes longer than a second.

    A nested stage shows its own name while it lasts.

    Args:
        name: the task: ``"running train.py"``.
        spinner: False for a plain line, which does not interfere with other output.
    """
    on_terminal = sys.stderr is not None and sys.stderr.isatty()
    if not on_terminal or threading.current_thread() is not threading.main_thread():
        yield
        return
    begin = _stages.show if spinner else functools.partial(aside, f"{name} ...")
    timer = threading.Timer(1.0, begin)
    timer.daemon = True
    if spinner:
        _stages.enter(name)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if spinner:
            _stages.leave()
        timer.join()


class _Stages:
    """The current stages, and the spinner that shows the innermost one."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._status: Any = None
        self._lock = threading.RLock()  # reentrant, because Ctrl-C can occur while it is held

    def enter(self, name: str) -> None:
        with self._lock:
            self._names.append(name)
            self._update()

    def leave(self) -> None:
        with self._lock:
            self._names.pop()
            if self._status is not None and not self._names:
                self._status.stop()
                self._status = None
            self._update()

    def show(self) -> None:
        from rich.console import Console  # imported here: it takes as long as the rest of gradviz

        with self._lock:
            if self._names and self._status is None:
                self._status = Console(stderr=True).status(f"{self._names[-1]} ...")
                self._status.start()

    def _update(self) -> None:
        if self._status is not None:
            self._status.update(f"{self._names[-1]} ...")


_stages = _Stages()
