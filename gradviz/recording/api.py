"""`record`: record what a program does with autograd while it runs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from gradviz.capture.autograd.engine import listen, modes_below, unlisten
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import quietly
from gradviz.capture.tensors.names import Named, module_names
from gradviz.capture.tensors.subjects import shortly
from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.recording.event_log import Entry, EventLog
from gradviz.recording.intercept import user_warnings
from gradviz.recording.intercept.calls import Handlers
from gradviz.recording.intercept.mode import RecordingMode
from gradviz.recording.module_stack import ModuleStack
from gradviz.recording.observer import Observer
from gradviz.recording.saved_values import Contents
from gradviz.recording.snapshots import CutOff
from gradviz.recording.source_lines import SourceLines
from gradviz.recording.state import RecordingState
from gradviz.shown import Shown
from gradviz.story import Event, EventKind, Frame, Story

__all__ = ["Recording", "record"]

_NO_MOMENT = (
    "the recording holds no moment yet: one is taken before each backward pass and at the end of "
    'its block; run.mark("now"), inside the block, takes one at once'
)


def record(*modules: nn.Module, max_frames: int = 12, max_events: int = 10_000) -> Recording:
    """Watch what a block of code does with autograd: operations, cuts, backward passes, steps.

    The program runs as it would without: the same numbers, gradients and random state. Nothing
    is kept alive by it; what it keeps are facts.

    It sees the thread that enters it: torch has function modes for each thread, so what threads
    do that the program starts is not seen. Those that autograd starts for backward are.

    Args:
        modules: their parameters are called by their names within them, and each operation
            knows in which module it ran; other tensors are called by the variables of the code.
            Of several modules the names begin with the variable of each.
        max_frames: how many moments to keep: of more, the first, the last, and those between
            that differ from them in more than numbers: other operations, cuts or freed tensors,
            another pass in a gradient, a gradient that is None, zero or NaN.
        max_events: how many events to keep: of more, the first half and the last.

    Returns:
        The recording, to be entered by ``with``, once.

    Raises:
        UsageError: if an argument is not what it says above.

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
                f"record cannot take {shortly(module)}: pass modules, or nothing; "
                "tensors are found while the program runs"
            )
    for name, value, least in (("max_frames", max_frames, 1), ("max_events", max_events, 0)):
        if type(value) is not int or value < least:
            raise UsageError(f"{name} cannot be {value!r}: pass a whole number from {least} up")
    named = dict(zip(module_names(modules, sys._getframe(1)), modules, strict=True))
    return Recording(named, max_frames, max_events)


class Recording(Shown):
    """What `record` has seen, so far or in all.

    Args:
        modules: as for `record`, by what to call them; "" for the only one.
        max_frames, max_events: as for `record`.
    """

    def __init__(self, modules: Mapping[str, nn.Module], max_frames: int, max_events: int) -> None:
        lines = SourceLines()
        self._state = RecordingState(EventLog(max_events, lines), lines, Handlers())
        self._state.module_stack = ModuleStack(modules, self._state.failed)
        self._observer = Observer(self._state, modules, max_frames)
        self._mode: Any = RecordingMode(self._state)
        self._hooks: list[Any] = []
        self._phase = "new"

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, in order; numbers have gaps where there was too much to keep."""
        with quietly():
            return self._state.event_log.events()

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The moments, in order, without those that show nothing new."""
        return self.story.frames

    @property
    def story(self) -> Story:
        """The moments as a story, with notes on what was left out."""
        if self._phase == "open":
            self._state.end_gradient_change()
        if self._phase != "closed" and not self._observer.frame_store.count:
            return Story((), "", (_NO_MOMENT,))
        left_out = self._state.event_log.left_out
        too_many = f"{left_out:,} events in the middle are left out" if left_out else ""
        notes = (self._observer.frame_store.note, too_many, *self._state.notes)
        frames = self._observer.frame_store.frames
        return Story(frames, "", filter(None, notes), self.events)

    def key_of(self, tensor: torch.Tensor, graph: GradGraph | None = None) -> str:
        """The key of the node that stands for a tensor in the frames.

        A name will not do: another tensor may be called the same.

        Args:
            tensor: one that is alive; asked for or not.
            graph: of a frame: of an operation and its result, the one that is in there is meant.

        Returns:
            The key; "" if no frame has shown the tensor.

        Raises:
            UsageError: if it is no tensor.

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
            raise UsageError(f"key_of takes a tensor, not {shortly(tensor)}")
        with quietly():
            identities = self._state.provenance.identities(tensor)
            known = [key for each in identities if (key := self._state.event_log.key_of(each))]
            there = [key for key in known if graph is not None and key in graph]
            return next(iter([*there, *known]), "")

    def _event_of(self, tensor: torch.Tensor) -> Event | None:
        """The event of the operation that made a result.

        Args:
            tensor: the result.

        Returns:
            The event; None for a leaf, and when it was not recorded or is left out.

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

    def _cut_off(self, graph: GradGraph, targets: Iterable[str]) -> dict[str, list[CutOff]]:
        """Where leaves lost their gradient, also those that the frame does not show.

        Args:
            graph: of a frame.
            targets: keys of nodes in there; what their data comes from is told.

        Returns:
            For the key of each leaf the node that got its data, with the cause and the line.

        Example:
            >>> import torch
            >>> with record() as run:
            ...     x = torch.ones(2, requires_grad=True)
            ...     z = (x * 3).detach()
            ...     (z * x).sum().backward()
            >>> graph = run.frames[-1].graph
            >>> found = run._cut_off(graph, [run.key_of(z)])
            >>> [(cut.target == run.key_of(z), cut.cause.value) for cut in found[run.key_of(x)]]
            [(True, 'detach')]
        """
        return self._observer.snapshots.cut_off(graph, targets)

    def _contents(self, graph: GradGraph) -> Contents:
        """What saved tensors had in them before a backward pass, of a few kinds of operations.

        Args:
            graph: of the frame before that pass; there is nothing to tell of any other.

        Returns:
            For keys of operations what is known of the tensors saved as ``"result"``, ``"self"``
            and ``"other"``.

        Example:
            >>> import torch
            >>> with record() as run:
            ...     x = torch.ones(2, requires_grad=True)
            ...     (x - 1).relu().sum().backward()
            >>> [{name: each.values for name, each in found.items()}
            ...  for found in run._contents(run.frames[0].graph).values()]
            [{'result': (0.0, 0.0)}]
        """
        return self._observer.snapshots.contents(graph)

    def _parameters(self) -> list[Named]:
        """The parameters of the recorded modules, those that require grad and are alive.

        Returns:
            Each with its name in the modules; none when no module was passed to `record`.

        Example:
            >>> import torch
            >>> model = torch.nn.Linear(2, 2)
            >>> [named.name for named in record(model)._parameters()]
            ['weight', 'bias']
        """
        return self._observer.snapshots.parameters()

    def mark(self, name: str) -> None:
        """Take a frame now.

        Args:
            name: what to call the moment: the title says ``mark: name``.

        Raises:
            UsageError: outside of the ``with`` block.
        """
        if self._phase != "open":
            raise UsageError(f"mark({name!r}) outside of the recording: call it inside the block")
        with quietly():
            self._state.end_gradient_change()
            entry = Entry(EventKind.MARK, "mark", self._state.place(), str(name))
            self._observer.mark(self._state.log(entry))

    def __enter__(self) -> Recording:
        if self._phase != "new":
            raise UsageError(
                f"this recording is {self._phase} already: call gradviz.record() for another"
            )
        self._phase = "open"
        observer = self._observer
        observer.begin(sys._getframe(1).f_code)
        self._hooks = [
            register_optimizer_step_pre_hook(observer.before_step),
            register_optimizer_step_post_hook(observer.after_step),
        ]
        listen(observer)
        self._state.module_stack.begin()
        user_warnings.install()
        self._mode.is_alone = modes_below() == 0
        self._mode.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._mode.__exit__(kind, error, traceback)
        user_warnings.remove()
        self._state.module_stack.end()
        unlisten(self._observer)
        for hook in self._hooks:
            hook.remove()
        self._phase = "closed"
        self._observer.end(error)

    def __reduce_ex__(self, protocol: object) -> Any:
        raise UsageError(
            "a recording cannot be pickled or copied, as it knows the program that it watched: "
            "take its moments, run.story, or write them with gradviz.draw(run).save('story.json')"
        )

    def __repr__(self) -> str:
        events, frames = self._state.event_log.count, self._observer.frame_store.frames
        return f"Recording({self._phase}, {events} events, {len(frames)} frames)"
