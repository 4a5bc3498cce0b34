"""Processes that the tests start."""

from __future__ import annotations

import signal
import subprocess
from typing import Any


def start(command: list[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process that Ctrl-C can end, also where the tests run with SIGINT ignored.

    A shell without job control ignores SIGINT in what it starts in the background (`make test &`
    in a script), and children inherit that.
    """
    return subprocess.Popen(command, preexec_fn=_default_sigint, **options)


def _default_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
