"""Run programs one after another in one process, each with its settings, modules and threads."""

from __future__ import annotations

import atexit
import functools
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

import numpy as np
import torch


class GlobalSettings:
    """One program's global settings of torch, numpy and Python's ``random``.

    They are random states, initially seeded with 0, and torch's gradient mode, anomaly mode and
    default dtype. The program may run in several parts; each part restores its settings.

    Example:
        >>> mine, yours = GlobalSettings(), GlobalSettings()
        >>> with mine.in_force():
        ...     a = torch.rand(1)
        ...     _ = torch.set_grad_enabled(False)
        >>> with yours.in_force():
        ...     a.equal(torch.rand(1)), torch.is_grad_enabled()
        (True, True)
        >>> with mine.in_force():
        ...     a.equal(torch.rand(1)), torch.is_grad_enabled()
        (False, False)
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, ...] | None = None

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Apply these settings within the block, and restore the previous ones afterwards."""
        others = _read()
        if self._kept is None:
            _fresh()
        else:
            _write(self._kept)
        try:
            yield
        finally:
            self._kept = _read()
            _write(others)


def _read() -> tuple[Any, ...]:
    return (
        torch.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
        torch.is_grad_enabled(),
        torch.is_anomaly_enabled(),
        torch.get_default_dtype(),
    )


def _write(state: tuple[Any, ...]) -> None:
    torch_state, numpy_state, python_state, grad, anomaly, dtype = state
    torch.set_rng_state(torch_state)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    torch.set_grad_enabled(grad)
    torch.autograd.set_detect_anomaly(anomaly)
    torch.set_default_dtype(dtype)


def _fresh() -> None:
    torch.default_generator.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    torch.set_grad_enabled(True)
    torch.autograd.set_detect_anomaly(False)
    torch.set_default_dtype(torch.float32)


@contextmanager
def modules_forgotten(*folders: Path) -> Iterator[list[str]]:
    """Forget the modules that are imported from some folders, as other programs have their own.

    Args:
        folders: whose modules are forgotten, including subfolders, except installed packages.

    Yields:
        A list that is filled at the end with the files of these modules.
    """
    loaded: list[str] = []
    before = set(sys.modules)
    try:
        yield loaded
    finally:
        for name in sorted(set(sys.modules) - before):
            file = getattr(sys.modules[name], "__file__", None)
            if file and _is_below(Path(file), folders):
                loaded.append(file)
                del sys.modules[name]


def _is_below(file: Path, folders: Sequence[Path]) -> bool:
    path = file.resolve()
    if {"site-packages", "dist-packages"} & set(path.parts):
        return False
    return any(folder.resolve() in path.parents for folder in folders)


_POOL = sys.modules[ThreadPoolExecutor.__module__].__file__


_LATER = ("click", "graphviz", "markdown", "pygments", "pygraphviz", "rich")
"""Packages that gradviz imports when it needs them, which may be after a program has run."""


def forget_shadows(folder: Path) -> None:
    """Forget the modules of a program that have the names of packages that gradviz imports."""
    for name in list(sys.modules):
        if name.partition(".")[0] in _LATER:
            file = getattr(sys.modules[name], "__file__", None)
            if file and _is_below(Path(file), (folder,)):
                del sys.modules[name]


_OWN = frozenset({"__main__", "gradviz", "torch", "numpy", "networkx"})


def hide_modules(folder: Path) -> dict[str, ModuleType]:
    """Give the files of a program priority over modules that only gradviz has imported (``click``).

    Modules that the interpreter itself starts with cannot be replaced, as in Python.
    """
    local = {each.stem for each in folder.glob("*.py")}
    local |= {each.parent.name for each in folder.glob("*/__init__.py")}
    local -= {*_OWN, *sys.builtin_module_names, *sys.stdlib_module_names}
    hidden = {}
    for name in list(sys.modules):
        file = getattr(sys.modules[name], "__file__", None)
        if name.split(".")[0] in local and file and folder.resolve() not in Path(file).parents:
            hidden[name] = sys.modules.pop(name)
    return hidden


class Threads:
    """Runs a function around each thread that a program starts, if it runs code of the program.

    Enter it in the main thread. Threads of libraries, such as a progress bar, run as they are.

    Args:
        around: called in the thread with what the thread runs.
        is_library: whether a file is a library's.

    Attributes:
        ending: what ended the first thread that did not end normally.
        ended: that thread.
    """

    def __init__(
        self, around: Callable[[Callable[[], None]], None], is_library: Callable[[str], bool]
    ) -> None:
        self._around, self._is_library = around, is_library
        self._own: list[tuple[threading.Thread, threading.Event]] = []
        self._lock = threading.Lock()
        self._is_over = False
        self.ending: BaseException | None = None
        self.ended: threading.Thread | None = None

    def __enter__(self) -> Threads:
        original = self._original = threading.Thread.start

        def start(thread: threading.Thread) -> None:
            code = _code_run_by(thread)
            if code is not None and self._is_own(code.co_filename):
                self._take_interrupts()
                over = threading.Event()
                thread.run = functools.partial(self._run, thread.run, over)  # type: ignore[method-assign]
                if code.co_filename != _POOL and not thread.daemon:
                    self._own.append((thread, over))
            original(thread)

        self._start = threading.Thread.start = start  # type: ignore[assignment, method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        if threading.Thread.start is self._start:
            threading.Thread.start = self._original  # type: ignore[method-assign]
        if signal.getsignal(signal.SIGINT) == self._interrupt:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _take_interrupts(self) -> None:
        """Where SIGINT is ignored, as under ``nohup``, let the end of a thread interrupt."""
        is_main = threading.current_thread() is threading.main_thread()  # only it may set a handler
        if is_main and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, *_: object) -> None:
        if self._is_over:  # else it stays ignored
            raise KeyboardInterrupt

    def _is_own(self, file: str) -> bool:
        return file == _POOL or not (file == threading.__file__ or self._is_library(file))

    def _run(self, run: Callable[[], None], over: threading.Event) -> None:
        try:
            self._around(run)
        except BaseException as error:
            with self._lock:
                is_first = self.ending is None
                if is_first:
                    self.ending, self.ended = error, threading.current_thread()
            if not isinstance(error, SystemExit) or type(error) is SystemExit:
                entry = error.__traceback__
                inside = _within(getattr(run, "__code__", None), entry)
                if entry is not None and inside is not entry:
                    entry.tb_next = error.__traceback__ = inside  # 3.10 raises with the entry
                raise
            # A command ends the program: the main thread may wait for this one for ever.
            self._is_over |= is_first
            handler = signal.getsignal(signal.SIGINT)
            if is_first and handler in (signal.default_int_handler, self._interrupt):
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        finally:
            over.set()

    def join(self, within: float | None = None) -> None:
        """Wait for the threads for which Python waits at the end of a program.

        A ``join`` of the program that Ctrl-C interrupts marks a thread as ended in Python 3.11,
        and Python would kill it, and abort, at its exit.

        Args:
            within: seconds, in all; those that run on are waited for at the end of Python; None
                for any time.
        """
        end = None if within is None else time.monotonic() + within
        for thread, over in self._own:
            if thread.ident is not None:  # it could be started
                over.wait(None if end is None else max(0.0, end - time.monotonic()))
        if within is not None and not all(over.is_set() for _, over in self._own):
            atexit.register(self.join)


def _within(code: object, traceback: TracebackType | None) -> TracebackType | None:
    """The part of a traceback from the frame of some code on."""
    entry = traceback
    while entry is not None and entry.tb_frame.f_code is not code:
        entry = entry.tb_next
    return entry or traceback


def _code_run_by(thread: threading.Thread) -> CodeType | None:
    run = type(thread).run
    if run is threading.Thread.run:
        run = getattr(thread, "_target", None)  # type: ignore[assignment]  # no public way
        run = getattr(run, "func", run)  # of a partial
    return getattr(run, "__code__", None)
