"""Backward passes and optimizer steps of a program, reported while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from torch.optim.optimizer import register_optimizer_step_post_hook

from gradviz.capture.autograd.engine import BackwardCall, listen, unlisten
from gradviz.capture.autograd.tensors import quietly
from gradviz.capture.tensors.names import locals_of, with_attributes
from gradviz.recording.source_lines import UserFiles, user_frame

__all__ = ["Passes", "variables_around"]


class Passes:
    """Calls back around each backward pass of this thread that adds to ``.grad``.

    It is entered before a recording, so that the recording has finished with a pass when it is
    reported. A callback may raise to end the program.

    Args:
        before: called before a pass, with the user's frame that started it.
        after: called after a pass that did not raise, with what it started from and that frame.
        stepped: called after each step of an optimizer that follows a pass.
    """

    def __init__(
        self,
        before: Callable[[FrameType], None],
        after: Callable[[tuple[Any, ...], FrameType], None],
        stepped: Callable[[], None],
    ) -> None:
        self._before, self._after, self._stepped = before, after, stepped
        self._files = UserFiles()
        self._hook: Any = None
        self._listens = False

    def __enter__(self) -> Passes:
        listen(self)
        self._listens = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> None:
        """Call back no more."""
        if self._listens:
            unlisten(self)
            self._listens = False
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def before_backward(self, call: BackwardCall) -> None:
        """Called by the engine."""
        frame = user_frame(sys._getframe(1), self._files)
        if call.accumulates and frame is not None:
            self._before(frame)

    def after_backward(self, call: BackwardCall, outcome: object) -> None:
        """Called by the engine."""
        frame = user_frame(sys._getframe(1), self._files)
        if not call.accumulates or frame is None or isinstance(outcome, BaseException):
            return
        if self._hook is None:
            # Hooks run in the order of registration: that of a recording comes first.
            self._hook = register_optimizer_step_post_hook(lambda *_: self._stepped())
        with quietly():
            self._after(call.roots, frame)

    def module_hook(self, hook: Any, module: Any, given: Any, result: Any) -> None:
        """Called by the engine; not needed here."""

    def parameter_created(self, *_: Any) -> None:
        """Called by the engine; not needed here."""

    def mode_changed(self) -> None:
        """Called by the engine; not needed here."""


def variables_around(frame: FrameType | None, within: str) -> dict[str, object]:
    """The variables that the user's code can see at a frame, and in the code that called it.

    Args:
        frame: the innermost one.
        within: the file of the code that runs the program: frames from there on are not its.

    Returns:
        Values by name; inner ones hide outer ones. The attributes of an object whose method is
        running are named ``self.model``.
    """
    files = UserFiles()
    frames = []
    while frame is not None and frame.f_code.co_filename != within:
        if files[frame.f_code.co_filename]:
            frames.append(frame)
        frame = frame.f_back
    found: dict[str, object] = {}
    for each in reversed(frames):
        found.update(each.f_globals)
    for each in reversed(frames):
        found.update(with_attributes(locals_of(each)))
    return found
