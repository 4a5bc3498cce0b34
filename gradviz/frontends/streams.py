"""Who writes where: our result on standard output, everything said aside on standard error."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["aside", "colored", "output_on_stderr", "stage"]


def colored() -> bool:
    """Whether standard error takes colors: a terminal, and NO_COLOR (no-color.org) not set."""
    return not os.environ.get("NO_COLOR") and sys.stderr is not None and sys.stderr.isatty()


def aside(text: str, warning: bool = False) -> None:
    """Say one line on standard error."""
    import click  # only now: a script that draws says nothing aside

    # A closed standard error must not turn a drawing that succeeded into a failure.
    with contextlib.suppress(OSError):
        click.echo(click.style(text, fg="yellow") if warning and colored() else text, err=True)


@contextlib.contextmanager
def output_on_stderr() -> Iterator[None]:
    """Send what a program prints to standard error, so that our own output stays whole.

    Python's ``print`` is redirected, and so is what its C code and child processes write.
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
    """Show on a terminal what is being done, when it takes longer than a second.

    A stage within a stage shows its own name while it lasts.

    Args:
        name: what is being done: ``"running train.py"``.
        spinner: False for a plain line, which does not disturb what others print meanwhile.
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
    """The stages under way, and the one spinner that shows the innermost of them."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._status: Any = None
        self._lock = threading.RLock()  # Ctrl-C may come while it is held

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
        from rich.console import Console  # only now: it costs as much as all the rest of us

        with self._lock:
            if self._names and self._status is None:
                self._status = Console(stderr=True).status(f"{self._names[-1]} ...")
                self._status.start()

    def _update(self) -> None:
        if self._status is not None:
            self._status.update(f"{self._names[-1]} ...")


_stages = _Stages()
