"""Who writes where: our result on standard output, everything said aside on standard error."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import click

__all__ = ["aside", "coloured", "output_on_stderr", "stage"]


def coloured() -> bool:
    """Whether standard error takes colours: a terminal, and NO_COLOR (no-color.org) not set."""
    return not os.environ.get("NO_COLOR") and sys.stderr is not None and sys.stderr.isatty()


def aside(text: str, warning: bool = False) -> None:
    """Say one line on standard error."""
    # A closed standard error must not turn a drawing that succeeded into a failure.
    with contextlib.suppress(OSError):
        click.echo(click.style(text, fg="yellow") if warning and coloured() else text, err=True)


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

    Args:
        name: what is being done: ``"running train.py"``.
        spinner: False for a plain line, which does not disturb what others print meanwhile.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    status: list[Any] = []

    def begin() -> None:
        if not spinner:
            aside(f"{name} ...")
            return
        from rich.console import Console  # only now: it costs as much as all the rest of us

        shown = Console(stderr=True).status(f"{name} ...")
        shown.start()
        status.append(shown)

    timer = threading.Timer(1.0, begin)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for shown in status:
            shown.stop()
