"""In which module each operation ran, from when each call of a module began and ended.

Nodes are numbered in the order of their creation. So a call of a module is a stretch of numbers,
calls lie within calls, and an operation belongs to the innermost one around its number. That
costs two reads per call of a module, and nothing per operation.
"""

from __future__ import annotations

import sys
import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import nn

from gradviz.capture.autograd.calls import call_depth, listen_to_calls, unlisten_to_calls
from gradviz.capture.autograd.engine import BackwardCall, creation_count, listen, unlisten
from gradviz.graph.text import Path, without_wrappers

__all__ = ["ModuleCall", "ModuleStack"]


class ModuleCall(NamedTuple):
    """An open call of a module.

    Args:
        path: of the module.
        calls: for each part of the path, and before them for the model itself: the number of
            the innermost call around that is not deeper.
        module: its path as text.
    """

    path: Path
    calls: tuple[int, ...]
    module: str

    def inner(self, path: Path, number: int) -> ModuleCall:
        """A call that begins within this one."""
        around = self.calls[: len(path)]
        around += around[-1:] * (len(path) - len(around))
        return ModuleCall(path, (*around, number), ".".join(path))


_OUTSIDE = ModuleCall((), (0,), "")


class _Track:
    """The calls that ran in one thread, as stretches of the numbers of its nodes.

    Args:
        outside: what runs in no call of a module; None if that is not known.

    Attributes:
        starts: where each stretch starts; it ends where the next one starts.
        spans: the innermost call of each stretch; None where nothing is known.
        stack: the calls that are open, each with the ``id`` of its module.
    """

    def __init__(self, outside: ModuleCall | None) -> None:
        self.starts = [creation_count()]
        self.spans = [outside]
        self.stack: list[tuple[int, ModuleCall]] = []
        self._outside = outside

    @property
    def running(self) -> ModuleCall | None:
        """The innermost call."""
        return self.stack[-1][1] if self.stack else self._outside

    def mark(self, span: ModuleCall | None) -> None:
        """From here on the nodes belong to this call."""
        count = creation_count()
        if count == self.starts[-1]:  # nothing was made since the last mark
            self.spans[-1] = span
        elif span is not self.spans[-1]:
            self.starts.append(count)
            self.spans.append(span)

    def find(self, created: int) -> ModuleCall | None:
        """The call in which the node with this number was made."""
        index = bisect_right(self.starts, created) - 1
        return self.spans[index] if index >= 0 else None

    def forget(self, before: int) -> None:
        """Drop stretches that end at this number or earlier."""
        old = bisect_right(self.starts, before) - 1
        if old > 0:
            del self.starts[:old], self.spans[:old]


class ModuleStack:
    """Writes down in which module what happened.

    Args:
        modules: by what to call them; "" for the only one.
        failed: called with what went wrong in here.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> spans = ModuleStack({"": model})
        >>> spans.begin()
        >>> before = creation_count()
        >>> loss = model(torch.ones(2)).sum()
        >>> spans.end()
        >>> spans.of(before).module, spans.of(creation_count() - 1).module
        ('0', '')
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self.failed = failed
        self._roots = [(name, weakref.ref(module)) for name, module in modules.items()]
        self._known: dict[int, tuple[weakref.ref[nn.Module], list[Path]]] = {}
        self._tracks: dict[int, _Track] = {}
        self._past: list[_Track] = []
        self._paused = 0
        self._count = 0

    def begin(self) -> None:
        """The recording begins, in this thread."""
        if self._roots:
            self._learn()
            self._tracks[threading.get_ident()] = _Track(_OUTSIDE)
            listen_to_calls(self)
            listen(self)

    def end(self) -> None:
        """The recording is over."""
        if self._roots:
            unlisten(self)
            unlisten_to_calls(self)
            self._known.clear()
            for track in self._tracks.values():
                track.stack.clear()

    def of(self, created: int) -> ModuleCall | None:
        """The call of a module in which the node with this number was made.

        Returns:
            With the path ``()`` for the model itself and for what ran in no module. None if it
            is not known: not recorded, or two threads made a node with this number, in a call
            each.
        """
        found = {track.find(created) for track in (*self._past, *self._tracks.values())}
        found.discard(None)
        return found.pop() if len(found) == 1 else None

    def forget(self, before: int) -> None:
        """Drop what is known of nodes with lower numbers.

        Args:
            before: a number of the thread in which the recording began.
        """
        track = self._tracks.get(threading.get_ident())
        if track is not None:
            track.forget(before)

    # What the hooks tell.

    def enter(self, module: nn.Module) -> None:
        """A call of a module begins."""
        if self._paused:
            return
        track = self._track()
        paths = self._paths_of(module, track)
        if not paths:
            return  # not one of ours: what it does is done by the module that called it
        if any(known == id(module) for known, _ in track.stack):
            _drop_stale(track)
        around = track.running or _OUTSIDE
        path = paths[0] if len(paths) == 1 else _nearest(paths, around.path)
        self._count += 1
        span = around.inner(path, self._count)
        track.mark(span)
        track.stack.append((id(module), span))

    def leave(self, module: nn.Module) -> None:
        """A call of a module ends, or has failed."""
        if self._paused:
            return
        track, number = self._track(), id(module)
        if any(known == number for known, _ in track.stack):
            while track.stack.pop()[0] != number:
                pass  # calls within it that ended by what is no ``Exception``
            track.mark(track.running)

    # A backward pass runs modules only to compute again what was computed before, and what it
    # makes itself was made in no call: names may tell to which module that belongs.

    def before_backward(self, call: BackwardCall) -> None:
        """A backward pass is about to run."""
        self._paused += 1
        self._track().mark(None)

    def after_backward(self, call: BackwardCall, outcome: object) -> None:
        """A backward pass has run, or failed."""
        self._paused -= 1
        track = self._track()
        track.mark(track.running)

    def module_hook(self, hook: Any, module: Any, given: Any, result: Any) -> None:
        """What a hook of a module did to a gradient is not told by where nodes were made."""

    def parameter_created(self, data: object, parameter: object) -> None:
        """A new parameter belongs to no call."""

    def mode_changed(self) -> None:
        """Neither is ``inference_mode``, which makes none."""

    def _track(self) -> _Track:
        """What is known of this thread; a new thread may have the number of one that ended."""
        ident = threading.get_ident()
        track = self._tracks.get(ident)
        if track is not None and creation_count() >= track.starts[-1]:
            return track
        if track is not None:
            self._past.append(track)
        self._tracks[ident] = track = _Track(None)
        return track

    def _paths_of(self, module: nn.Module, track: _Track) -> list[Path]:
        known = self._known.get(id(module))
        if (known is None or known[0]() is not module) and track.stack:
            self._learn()  # it may have been made in the meantime
            known = self._known.setdefault(id(module), (weakref.ref(module), []))
        return known[1] if known is not None and known[0]() is module else []

    def _learn(self) -> None:
        """Find the paths of all modules, of shared ones each."""
        self._known = {
            number: each for number, each in self._known.items() if each[0]() is not None
        }
        for prefix, ref in self._roots:
            root = ref()
            if root is None:
                continue
            try:
                found = list(root.named_modules(remove_duplicate=False))
            except (RecursionError, TypeError):  # it contains itself, or has a method of its own
                found = list(root.named_modules())
            for name, module in found:
                path = without_wrappers(name.split(".") if name else [])
                path = (*prefix.split("."), *path) if prefix else path
                known = self._known.get(id(module))
                if known is None or known[0]() is not module:
                    known = self._known[id(module)] = (weakref.ref(module), [])
                if path not in known[1]:
                    known[1].append(path)


def _nearest(paths: list[Path], running: Path) -> Path:
    """Of a shared module's paths, the one within the module that calls it."""

    def in_common(path: Path) -> int:
        alike = [a == b for a, b in zip(path, running, strict=False)]
        return [*alike, False].index(False)

    return max(paths, key=in_common)  # of equals the first


def _drop_stale(track: _Track) -> None:
    """Forget calls that were left by Ctrl-C or its like, of which no hook tells.

    A module that is called while a call of it is open calls itself, or else was left that way.
    """
    if call_depth(sys._getframe(1)) <= len(track.stack):
        track.stack.clear()
