"""`record`: record what a program does with autograd while it runs."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from traceback import walk_tb
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

from gradviz.capture.autograd.collectives import listen_to_collectives, unlisten_to_collectives
from gradviz.capture.autograd.engine import (
    enter_task,
    is_innermost,
    leave_task,
    listen,
    modes_below,
    unlisten,
)
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import is_capturing, quietly
from gradviz.capture.tensors.names import Named, module_names, shortly
from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.recording.event_log import Entry, EventLog
from gradviz.recording.frame_store import Sampling
from gradviz.recording.hooks import step_hook
from gradviz.recording.intercept import collectives
from gradviz.recording.intercept.calls import Handlers, RecordingMode
from gradviz.recording.module_stack import ModuleStack
from gradviz.recording.observer import Observer
from gradviz.recording.source_lines import SourceLines, move_warnings, restore_warnings
from gradviz.recording.state import RecordingState
from gradviz.shown import Shown
from gradviz.story import Event, EventKind, Frame, GradientNorms, Story
from gradviz.wording import sampling_note

_P = ParamSpec("_P")
_R = TypeVar("_R")
_NO_FRAME = (
    "the recording has no frame yet: one is taken before each backward pass and at the end of its "
    'block; run.mark("now") takes one inside the block'
)


def record(
    *modules: nn.Module, max_frames: int = 12, max_events: int = 10_000, every: int | None = None
) -> Recording:
    """Record what a block of code does with autograd: operations, cuts, backward passes, steps.

    The recording does not change the numbers, gradients and random state of the program. It stores
    plain values and no tensors.

    Only the thread that enters it is recorded, and in an asyncio program only the task that enters
    it. Threads that the program starts are not recorded; those that autograd starts for backward
    are.

    Args:
        modules: name their parameters and operations. Other tensors are named after variables. With
            several modules, names begin with the variable of the module.
        max_frames: number of frames to keep, at least 1. If there are more, the first and the last
            are kept, and frames between them that differ in more than numbers: other operations,
            cuts or freed tensors, another pass in a gradient, a gradient that is None, zero or NaN.
        max_events: number of events to keep, at least 0. If there are more, the first half and the
            last half are kept.
        every: for long runs. Record the first step of the optimizer and each step that begins this
            many steps after a recorded one; of all other steps keep only the norms of the
            gradients, `Recording.gradient_norms`. None to record every step. With several
            optimizers, the steps of the first one that runs count.

    Returns:
        A recording, to be entered once with ``with``. It is also a decorator: ``@gradviz.record()``
        records each call of a function, and ``function.recording`` is the latest recording.

    Raises:
        UsageError: if an argument has a value that is not allowed.

    Example:
        >>> import torch
        >>> with record() as run:
        ...     x = torch.tensor([1.0, 2.0], requires_grad=True)
        ...     loss = (x * 3).sum()
        ...     loss.backward()
        >>> [frame.title for frame in run.frames]
        ['forward', 'after backward 1 (x.grad +3)']
        >>> [event.word for event in run.events]
        ['tensor', 'mul', 'sum', 'backward', 'accumulate_grad']
    """
    for module in modules:
        if not isinstance(module, nn.Module):
            raise UsageError(
                f"record takes torch.nn.Module objects or nothing, got {shortly(module)}: "
                "tensors are found while the program runs"
            )
    limits: tuple[tuple[str, Any, int], ...] = (
        ("max_frames", max_frames, 1),
        ("max_events", max_events, 0),
        *([] if every is None else [("every", every, 2)]),
    )
    for name, value, least in limits:
        if type(value) is not int or value < least:
            raise UsageError(f"{name} must be an integer >= {least}, got {value!r}")
    named = dict(zip(module_names(modules, sys._getframe(1)), modules, strict=True))
    return Recording(named, max_frames, max_events, every)


def record_a_program(max_events: int = 10_000, every: int | None = None) -> Recording:
    """As `record`, of a program whose modules are not known before it runs."""
    recording = record(max_events=max_events, every=every)
    stack = recording._state.module_stack
    stack.notes_all_calls, stack.find_root = True, recording._snapshots.find_root
    return recording


class Recording(Shown):
    """The events and frames that `record` has recorded; only `record` creates it.

    Args:
        modules: as for `record`, by name; "" for a single one.
        max_frames, max_events, every: as for `record`.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        max_frames: int,
        max_events: int,
        every: int | None = None,
    ) -> None:
        self._arguments: tuple[Any, ...] = modules, max_frames, max_events, every
        lines = SourceLines()
        self._state = RecordingState(EventLog(max_events, lines), lines, Handlers())
        self._state.module_stack = stack = ModuleStack(modules, self._state.failed)
        self._state.provenance.running = stack.running
        self._observer = Observer(self._state, modules, max_frames)
        self._snapshots = self._observer.snapshots
        self._mode: Any = RecordingMode(self._state)
        self._steps_end: Callable[[], None] | None = None
        self._report_collective = partial(collectives.look, self._state)
        failed = self._state.failed
        switch, names = self._record_next, self._observer.snapshots.names_now
        self._sampling = None if every is None else Sampling(every, switch, names, failed)
        self._observer.sampling = self._sampling
        if every is not None:
            self._state.before_cut = None
        self._phase = "new"
        self._ended_by = 0
        self._was_stopped = False  # by SystemExit, perhaps between a forward pass and its backward
        self._was_cut = False  # by a command, or Ctrl-C: what follows a pass may not have run
        self._whole: Story | None = None  # set when the recording ends

    @property
    def events(self) -> tuple[Event, ...]:
        """The events in order; omitted events leave a gap in their numbers."""
        return self.story.events if self._phase == "closed" else self._events_so_far()

    def _events_so_far(self) -> tuple[Event, ...]:
        with quietly():
            return self._state.event_log.events()

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames in order, without those that show nothing new."""
        return self.story.frames

    @property
    def story(self) -> Story:
        """The frames and events as a story, with notes on omitted ones."""
        if self._phase != "closed":
            return self._story_so_far()
        if self._whole is None:
            self._whole = self._story_so_far()
        return self._whole

    def _story_so_far(self) -> Story:
        if self._phase == "open":
            self._state.end_gradient_change()
        if self._phase != "closed" and not self._observer.frame_store.count:
            return Story((), "", (_NO_FRAME,))
        left_out = self._state.event_log.left_out
        too_many = f"{left_out:,} events in the middle are left out" if left_out else ""
        notes = [self._observer.frame_store.note, too_many, *self._state.notes]
        if self._sampling is not None:
            notes.append(sampling_note(self._sampling.every))
        frames = self._observer.frame_store.frames
        return Story(frames, "", filter(None, notes), self._events_so_far())

    @property
    def gradient_norms(self) -> GradientNorms:
        """The gradient norms before each step, as a table that can be drawn.

        Raises:
            UsageError: if the recording was not made with ``every=``.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(2, 1)
            >>> optimizer = torch.optim.SGD(model.parameters(), 0.1)
            >>> with record(model, every=100) as run:
            ...     for _ in range(300):
            ...         optimizer.zero_grad()
            ...         model(torch.ones(1, 2)).sum().backward()
            ...         optimizer.step()
            >>> run.gradient_norms.names, len(run.gradient_norms.steps)
            (('weight', 'bias'), 300)
            >>> run.gradient_norms.draw().svg.startswith("<svg")
            True
        """
        if self._sampling is None:
            raise UsageError("gradient norms are kept by gradviz.record(every=100)")
        return self._sampling.norms

    def key_of(self, tensor: torch.Tensor, graph: GradGraph | None = None) -> str:
        """The key of the node of a tensor in the frames.

        A name does not identify a node: several tensors can have the same one.

        Args:
            tensor: any tensor.
            graph: of a frame. If an operation and its result both represent the tensor, the key of
                the one in this graph is returned.

        Returns:
            The key; "" if the tensor is in no frame.

        Raises:
            UsageError: if it is not a tensor.

        Example:
            >>> import torch
            >>> with record() as run:
            ...     x = torch.ones(2, requires_grad=True)
            ...     loss = (x * 3).sum()
            ...     loss.backward()
            >>> graph = run.frames[-1].graph
            >>> [graph.nodes[run.key_of(tensor)]["name"] for tensor in (x, loss)]
            ['x', 'loss']
            >>> run.key_of(torch.ones(1))
            ''
        """
        if not isinstance(tensor, torch.Tensor):
            raise UsageError(f"key_of takes a tensor, got {shortly(tensor)}")
        with quietly():
            return self._snapshots.key_of(tensor, graph)

    def _event_of(self, tensor: torch.Tensor) -> Event | None:
        """The event of the operation that created a result.

        Returns:
            The event; None for a leaf, or if it was not recorded or is omitted.

        Example:
            >>> import torch
            >>> with record() as run:
            ...     x = torch.ones(2, requires_grad=True)
            ...     y = x * 3
            ...     y.sum().backward()
            >>> run._event_of(y).word, run._event_of(x)
            ('mul', None)
        """
        with quietly():
            node = tensor.grad_fn
            key = self._state.event_log.key_of(sequence_number(node)) if node is not None else ""
        return next((e for e in self.events if key and e.node == key and e.source), None)

    def _leaves(self) -> list[Named]:
        """The leaves that it has met, as its frames call them: those that require grad and live.

        Example:
            >>> import torch
            >>> with record() as run:
            ...     (torch.ones(2, requires_grad=True) * 3).sum().backward()
            ...     w = torch.ones(2, requires_grad=True)
            ...     loss = (w * 3).sum()
            >>> [(leaf.tensor is w, leaf.name) for leaf in run._leaves()]
            [(True, 'w')]
        """
        found = sorted(self._state.provenance.alive_leaves(), key=lambda row: row[0].number)
        tensors = [tensor for _, tensor in found if tensor.requires_grad]
        names = {
            key: data["name"]
            for frame in self.frames
            for key, data in frame.graph.nodes(data=True)
            if "name" in data
        }
        return [Named(each, names.get(self.key_of(each), "a leaf"), ()) for each in tensors]

    def mark(self, name: str) -> None:
        """Take a frame now.

        Args:
            name: for the title of the frame: ``mark: name``.

        Raises:
            UsageError: outside of the ``with`` block.
        """
        if self._phase != "open":
            raise UsageError(
                f"mark({name!r}) was called outside of the recording: call it inside the with block"
            )
        with quietly():
            self._state.end_gradient_change()
            entry = Entry(EventKind.MARK, "mark", self._state.location(), str(name))
            self._observer.mark(self._state.log(entry))

    def _grad_reads(self) -> list[torch.Tensor]:
        """The non-leaf tensors that live, and whose ``.grad`` the program read as None."""
        alive = (ref() for ref in self._state.grad_reads.values())
        return [each for each in alive if each is not None and each.grad_fn is not None]

    def __enter__(self) -> Recording:
        if self._phase != "new":
            raise UsageError(
                f"this recording is already {self._phase}: call gradviz.record() for another"
            )
        if is_capturing():
            raise UsageError(
                "a recording cannot begin while a CUDA graph is captured: begin it before "
                "torch.cuda.graph(...), or record a step that is not captured"
            )
        self._state.task = enter_task(self)
        self._state.update_alert()
        self._phase = "open"
        self._arguments = ()  # keep no module alive
        observer = self._observer
        observer.begin(sys._getframe(1).f_code)
        self._steps_end = step_hook(observer.before_step, observer.after_step)
        self._listen()
        return self

    def _listen(self) -> None:
        """Let the program's calls be reported."""
        listen(self._observer)
        listen_to_collectives(self._report_collective)
        self._state.module_stack.begin()
        move_warnings()
        self._mode.is_alone = self._state.is_alone = modes_below() == 0
        self._mode.__enter__()
        self._observer.is_listening = True

    def _stop_listening(self) -> None:
        self._mode.__exit__(None, None, None)
        restore_warnings()
        self._state.module_stack.end()
        unlisten(self._observer)
        unlisten_to_collectives(self._report_collective)
        self._observer.is_listening = False

    def _record_next(self, wanted: bool) -> None:
        """Begin or stop recording after a step, with ``every=``."""
        state = self._state
        is_listening = self._observer.is_listening
        if wanted and not is_listening:
            with quietly():
                state.resume()
                self._observer.resume()
            self._listen()
        elif not wanted and is_listening and is_innermost(self._mode):
            with quietly():
                state.end_gradient_change()
            self._stop_listening()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._phase != "open":
            raise UsageError(
                f"this recording is {self._phase}, so its block cannot end: enter it by "
                "`with gradviz.record() as run:`"
            )
        leave_task(self)
        if self._observer.is_listening:
            self._stop_listening()
        if self._steps_end is not None:
            self._steps_end()
        self._phase = "closed"
        self._was_stopped = isinstance(error, SystemExit)
        is_ours = self._was_stopped and type(error) is not SystemExit  # a command
        self._was_cut = is_ours or isinstance(error, KeyboardInterrupt)
        self._observer.end(error)
        self._ended_by = id(error)

    def saw(self, error: BaseException) -> bool:
        """Whether an exception was raised while the recording ran: it ended it, or a pass in it.

        Args:
            error: the exception, with its traceback.

        Example:
            >>> with record() as run: pass
            >>> run.saw(ValueError())
            False
        """
        if id(error) not in (self._ended_by, self._observer.seen_error):
            return False
        lines = {line for _, line in walk_tb(error.__traceback__)}
        last = [event for event in self.events if event.kind is EventKind.ERROR][-1:]
        # An exception that is gone may have had the same id.
        return [e.word for e in last if e.location.line in lines] == [type(error).__name__]

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Record each call of a function.

        Args:
            function: not a coroutine function, nor a generator function.

        Returns:
            The function; its attribute ``recording`` is that of the latest call, or this object
            before the first call. A call inside a recorded call is part of that recording.

        Raises:
            UsageError: for other callables, whose code would run after the call has returned.

        Example:
            >>> import torch
            >>> @record()
            ... def step(w):
            ...     (w * 3).sum().backward()
            >>> step(torch.ones(2, requires_grad=True))
            >>> [frame.title for frame in step.recording.frames]
            ['forward', 'after backward 1 (w.grad +3)']
        """
        is_late = (
            inspect.iscoroutinefunction(function)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        )
        if not callable(function) or is_late:
            raise UsageError(
                f"record() decorates plain functions, got {shortly(function)}: write "
                "`with gradviz.record() as run:` inside it"
            )

        @functools.wraps(function)
        def recorded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            run: Recording = recorded.recording  # type: ignore[attr-defined]
            if run._phase == "open":
                return function(*args, **kwargs)
            if run._phase == "closed":
                run = recorded.recording = Recording(*arguments)  # type: ignore[attr-defined]
            with run:
                return function(*args, **kwargs)

        arguments = self._arguments
        recorded.recording = self  # type: ignore[attr-defined]
        return recorded

    def __reduce_ex__(self, protocol: object) -> Any:
        raise UsageError(
            "a recording cannot be pickled or copied, as it refers to the program that runs: "
            "take its frames and events, run.story, or write them with run.save('story.json')"
        )

    def __repr__(self) -> str:
        events, frames = self._state.event_log.count, self._observer.frame_store.frames
        return f"Recording({self._phase}, {events} events, {len(frames)} frames)"
