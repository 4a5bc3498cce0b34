"""Record how the user's hooks changed gradients during backward.

A hook is recorded when it is registered, or found on a leaf or on a result that a variable holds.
Hooks on nodes (``grad_fn.register_hook``) are not recorded: torch has no list of them. During each
backward pass every hook is replaced by a stand-in, which reads the gradient before and after the
hook and reports changes. What is known around the steps of optimizers is here as well.
"""

from __future__ import annotations

import functools
import math
import sys
import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils.hooks import RemovableHandle

from gradviz.capture.autograd.engine import StandIn
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import (
    Table,
    is_capturing,
    quietly,
    tables_of,
    version_of,
)
from gradviz.capture.tensors.names import Names
from gradviz.capture.tensors.summary import FEW, as_array, memory_of, summarize
from gradviz.facts import Action, HookDetails
from gradviz.graph import TensorSummary
from gradviz.recording.event_log import Entry
from gradviz.recording.source_lines import NOWHERE, CodeLocation, UserFiles, outwards
from gradviz.recording.tensor_records import Leaf
from gradviz.story import EventKind


@dataclass(frozen=True, slots=True, eq=False)
class Hook:
    """A hook of a tensor, or the hooks of one that have the same facts."""

    table: Callable[[], Table | None]  # the dictionary of torch that contains it
    location: CodeLocation  # where it was registered; `NOWHERE` if that was not recorded
    identity: Hashable  # of the node of its tensor
    leaf: Leaf | None  # the leaf that has it, or None
    is_after: bool  # whether it is a post-accumulate-grad hook
    name: str = ""  # of the tensor, if it is a non-leaf tensor that a variable holds


def held_with_hooks(names: Names) -> list[Hook]:
    """The hooks of each non-leaf tensor among named tensors; keeps none of the tensors alive."""
    return [
        Hook(weakref.ref(table), NOWHERE, sequence_number(node), None, False, named.name)
        for named in names
        if (node := named.tensor.grad_fn) is not None and (table := tables_of(named.tensor)[0])
    ]


class Hooks:
    """The hooks that one recording has found.

    Args:
        verdicts: which code is the user's.
        failed: called with the error if reading a gradient failed.

    Attributes:
        on_gradients: changes of gradients by hooks in the latest backward pass.
        on_leaves: changes of ``.grad`` by post-accumulate-grad hooks.
    """

    def __init__(self, verdicts: UserFiles, failed: Callable[[Exception], None]) -> None:
        self.on_gradients: list[Entry] = []
        self.on_leaves: list[Entry] = []
        self._verdicts = verdicts
        self._failed = failed
        self._known: dict[int, Hook] = {}
        self._stand_ins: list[tuple[Callable[[], Table | None], int, StandIn]] = []
        self._waiting: list[_Change] = []
        self._left = _MOST

    @property
    def are_registered(self) -> bool:
        """Whether the program registered hooks on tensors during the recording."""
        return bool(self._known)

    def registered(
        self, handle: RemovableHandle, location: CodeLocation, identity: Hashable, leaf: Leaf | None
    ) -> None:
        """A hook was registered on a leaf, or on the result of an operation."""
        table = handle.hooks_dict_ref
        tensor = leaf.ref() if leaf is not None else None
        is_after = tensor is not None and table() is tables_of(tensor)[1]
        self._known[handle.id] = Hook(table, location, identity, leaf, is_after)

    def begin(self, leaves: Iterable[tuple[Leaf, torch.Tensor]], held: Iterable[Hook]) -> None:
        """Replace each hook by a stand-in at the start of a backward pass.

        Args:
            leaves: the recorded leaves, which can have hooks from before the recording.
            held: other tensors with hooks.
        """
        for number, hook in list(self._known.items()):
            if number not in (hook.table() or ()):
                del self._known[number]
        hooks = dict(self._known)
        for leaf, tensor in leaves:
            for table, is_after in zip(tables_of(tensor), (False, True), strict=True):
                for number in table or ():
                    if table is not None:  # from before the recording, unless known
                        found = Hook(weakref.ref(table), NOWHERE, leaf.identity, leaf, is_after)
                        hooks.setdefault(number, found)
        for each in held:
            hooks.update((number, each) for number in each.table() or () if number not in hooks)
        for number, hook in hooks.items():
            table = hook.table()
            if table is not None:
                look = functools.partial(self._look, hook, table[number])
                stand_in = StandIn(table[number], look)
                table[number] = stand_in
                self._stand_ins.append((hook.table, number, stand_in))

    def end(self) -> None:
        """Restore every hook after the backward pass, unless it was removed; word the changes."""
        while self._stand_ins:
            find, number, stand_in = self._stand_ins.pop()
            table: Any = find()
            if table is not None and table.get(number) is stand_in:
                table[number] = stand_in.hook
        try:
            self._read_changes()
        except Exception as error:
            self._failed(error)

    def _read_changes(self) -> None:
        """Read what the hooks received and returned in this pass, all at once."""
        waiting, self._waiting, self._left = self._waiting, [], _MOST
        if not waiting:
            return
        read = _summarized([each for change in waiting for each in (change.before, change.after)])
        for change, before, after in zip(waiting, read[::2], read[1::2], strict=True):
            if repr(before) == repr(after):  # NaN is not equal to itself
                continue
            name = getattr(change.function, "__name__", "<")
            details = HookDetails("" if name.startswith("<") else name, before, after)
            entry = self._entry(details, change.function, change.location, change.name)
            entry.identities, entry.action = change.identities, change.action
            is_after = change.action is Action.AFTER_ACCUMULATION
            (self.on_leaves if is_after else self.on_gradients).append(entry)

    def take(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """The changes in the latest pass, of gradients and of ``.grad``; clears them."""
        taken = self.on_gradients, self.on_leaves
        self.on_gradients, self.on_leaves = [], []
        return taken

    def of_module(self, hook: Any, name: Callable[[], str], given: Any, result: Any) -> None:
        """A full backward hook of a module was called.

        Args:
            hook: the hook.
            name: returns the name of the module.
            given: the gradients that the hook received.
            result: what it returned.
        """
        if result is None:
            return
        try:
            with quietly():
                for old, new in zip(given, result, strict=False):
                    if old is not new:
                        self._changed(hook, _NO_HOOK, name(), self._kept(old), new)
        except Exception as error:
            self._failed(error)

    def _look(self, hook: Hook, function: Any, given: Any) -> Callable[[Any], None]:
        """Read the gradient before a hook runs; returns the function to call with its result."""
        try:
            with quietly():
                gradient = given.grad if hook.is_after else given
                before = _Seen(self._kept(gradient), id(gradient), _version(gradient))
                return functools.partial(self._after, hook, function, given, before)
        except Exception as error:
            self._failed(error)
            return _say_nothing

    def _after(self, hook: Hook, function: Any, given: Any, before: _Seen, result: Any) -> None:
        try:
            with quietly():
                new = given.grad if hook.is_after else given if result is None else result
                # A large gradient is not read again if its version did not change.
                is_large = isinstance(new, torch.Tensor) and new.numel() > FEW
                if is_large and (id(new), _version(new)) == (before.number, before.version):
                    return
                name = hook.leaf.name if hook.leaf is not None else hook.name
                self._changed(function, hook, name or "", before.gradient, new)
        except Exception as error:
            self._failed(error)

    def _changed(
        self, function: Any, hook: Hook, name: str, before: _Gradient, gradient: Any
    ) -> None:
        """A hook may have changed a gradient: the values are compared after the pass."""
        action = Action.AFTER_ACCUMULATION if hook.is_after else Action.BEFORE_ACCUMULATION
        identities = () if hook is _NO_HOOK else (hook.identity,)
        after = self._kept(gradient)
        self._waiting.append(
            _Change(function, hook.location, name, identities, action, before, after)
        )

    def _kept(self, gradient: Any) -> _Gradient:
        """A copy of a gradient on an accelerator; elsewhere, and of large ones, the summary.

        Reading on an accelerator waits for all its kernels, so it is done once after the pass.
        """
        if not isinstance(gradient, torch.Tensor):
            return None
        is_plain = type(gradient) is torch.Tensor and gradient.layout is torch.strided
        if gradient.is_cpu or not is_plain or gradient.numel() > self._left or is_capturing():
            return summarize([gradient])[0]
        self._left -= gradient.numel()
        return gradient.detach().clone()

    def _entry(
        self, details: HookDetails, function: Any, location: CodeLocation, name: str
    ) -> Entry:
        """The event, on the line that registered the hook, else on the line of its definition."""
        code = getattr(function, "__code__", None)
        if location is NOWHERE and code is not None and self._verdicts[code.co_filename]:
            location = CodeLocation(code, ~0)
        return Entry(EventKind.HOOK, "hook", location, name or None, details=details)


_Gradient = TensorSummary | torch.Tensor | None
"""A gradient that was read, a copy to be read after the pass, or none."""

_MOST = 1 << 24  # elements of the copies that one backward pass holds


class _Seen(NamedTuple):
    """A gradient before a hook ran, its identity, and its version."""

    gradient: _Gradient
    number: int
    version: int


class _Change(NamedTuple):
    """A gradient before and after a hook that ran in this pass."""

    function: Any
    location: CodeLocation
    name: str
    identities: tuple[Hashable, ...]
    action: Action
    before: _Gradient
    after: _Gradient


_NO_HOOK = Hook(lambda: None, NOWHERE, None, None, False)  # full backward hooks of a module


def _version(gradient: Any) -> int:
    return version_of(gradient) if isinstance(gradient, torch.Tensor) else 0


def _summarized(gradients: Sequence[_Gradient]) -> list[TensorSummary | None]:
    """The summaries, in the same order; the copies are read at once."""
    found = iter(summarize([each for each in gradients if isinstance(each, torch.Tensor)]))
    return [next(found) if isinstance(each, torch.Tensor) else each for each in gradients]


def _say_nothing(result: Any) -> None:
    """The function to call after a hook whose gradient could not be read."""


_StepHook = Callable[..., None]
_around_steps: tuple[tuple[_StepHook | None, _StepHook, int], ...] = ()
_registered: list[Any] = []
_stepped: set[int | None] = set()  # threads
_lock = threading.Lock()


def step_hook(before: _StepHook | None, after: _StepHook) -> Callable[[], None]:
    """Call functions around each step of an optimizer, in any thread.

    Torch's own hooks are registered once, and stay while another thread runs that made a step: it
    may be in one, which iterates over them.

    Returns:
        A function that ends it.
    """
    global _around_steps
    pair = (before, after, threading.get_ident())
    with _lock:
        if not _registered:
            _registered.append(register_optimizer_step_pre_hook(_before_step))
            _registered.append(register_optimizer_step_post_hook(_after_step))
        _around_steps = (*_around_steps, pair)

    def end() -> None:
        global _around_steps
        with _lock:
            _around_steps = tuple(each for each in _around_steps if each is not pair)
            others = {each.ident for each in threading.enumerate()} - {pair[2]}
            if not _around_steps and not _stepped & others:
                _stepped.clear()
                while _registered:
                    _registered.pop().remove()

    return end


def _before_step(*arguments: Any) -> None:
    _stepped.add(threading.get_ident())
    for before, _, _ in _around_steps:
        if before is not None:
            before(*arguments)


def _after_step(*arguments: Any) -> None:
    for _, after, _ in _around_steps:
        after(*arguments)


def is_recorded(thread: int) -> bool:
    """Whether a recording was opened in a thread."""
    return any(before and each == thread for before, _, each in _around_steps)


class UndoneSteps:
    """Which part of the change that a step made is left when the next step begins.

    The values are kept from the one to the other, of parameters that are small enough.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, bytes, bytes, dict[Hashable, float], Hashable]] = {}

    def note(self, rows: Iterable[tuple[Any, tuple[torch.Tensor, Any, Any]]]) -> dict[Any, float]:
        """A step has changed parameters: their identities, what they were before, and are now.

        Returns:
            Filled later: for each identity the part of the largest change that is left, below 1.
        """
        left = dict[Hashable, float]()
        for identity, (tensor, held, after) in rows:
            if after is not None and len(after) <= _MOST_KEPT:
                self._known[id(tensor)] = held.ref, held.values, after, left, identity
        return left

    def look(self, rows: Iterable[tuple[torch.Tensor | None, Any]]) -> None:
        """A step begins: parameters, and their values."""
        for tensor, now in rows:
            ref, before, after, left, identity = self._known.pop(id(tensor), _NOT_KNOWN)
            if ref() is None or ref() is not tensor or now == after or not isinstance(now, bytes):
                continue
            start, made, then = (as_array(each, ref().dtype) for each in (before, after, now))
            change = abs(made - start).max(initial=0.0) if start.shape == made.shape else 0.0
            is_number = made.size == 1 and not left  # which may be at a border
            if start.shape == then.shape and 0 < change < math.inf and not is_number:
                left[identity] = float(abs(then - start).max() / change)

    def end(self) -> None:
        """The recording ends: look at all that are kept."""
        known = [tensor for known in self._known.values() if (tensor := known[0]()) is not None]
        self.look([(tensor, memory_of(tensor)) for tensor in known])


_MOST_KEPT = 1 << 16  # bytes
_NOT_KNOWN: Any = (type(None), b"", b"", {}, None)


_SCHEDULES = "torch.distributed.pipelining"


class Microbatches:
    """Whether backward passes belong to one step of a pipeline schedule.

    A step is known by the ``id`` of its frame, until an optimizer runs a step.
    """

    def __init__(self) -> None:
        self._number = 0

    def end_step(self) -> None:
        """An optimizer ran a step."""
        self._number = 0

    def is_same_step(self, accumulates: bool) -> bool:
        """Whether the pass that just ran is of the same step as the one before.

        Args:
            accumulates: whether it accumulates into ``.grad``; any other changes nothing.
        """
        step = 0
        for frame in outwards(sys._getframe(1) if _SCHEDULES in sys.modules else None):
            if frame.f_globals.get("__name__", "").startswith(_SCHEDULES):
                step = id(frame)
        is_same = bool(step) and step == self._number
        self._number = step if accumulates else self._number
        return is_same
