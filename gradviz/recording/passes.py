"""Report backward passes, optimizer steps and returns of functions while a program runs."""

from __future__ import annotations

import struct
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import takewhile
from math import inf, isnan
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch

from gradviz.capture.autograd.engine import BackwardCall, Listener, listen, unlisten
from gradviz.capture.autograd.sharded import has_other_ranks, waiting_parameters
from gradviz.capture.autograd.tensors import quietly, version_of
from gradviz.capture.tensors.names import locals_of, with_attributes
from gradviz.capture.tensors.summary import Kept, as_array, memory_of, summarize
from gradviz.capture.tensors.training_sets import attributes_of, entries_of
from gradviz.facts import GradientDetails, StepDetails
from gradviz.graph import TensorSummary
from gradviz.recording.event_log import KeyOf
from gradviz.recording.hooks import step_hook
from gradviz.recording.pass_values import Copies, is_ordinary
from gradviz.recording.source_lines import UserFiles, frames_inside, outwards, user_frame
from gradviz.recording.state import RecordingState
from gradviz.recording.tensor_records import Leaf


class Passes(Listener):
    """Calls functions around the backward passes of this thread that accumulate into ``.grad``.

    Enter it before a recording, so that the recording has processed a pass when it is reported. A
    function may raise to end the program.

    Args:
        before: called before a pass, with its roots and the user's frame that started it.
        after: called after a pass that did not raise, with its arguments and that frame; also for
            `torch.autograd.grad`, which accumulates into no ``.grad``.
        stepped: called with the optimizer after each step that follows a pass.
    """

    def __init__(
        self,
        before: Callable[[tuple[Any, ...], FrameType], None],
        after: Callable[[BackwardCall, FrameType], None],
        stepped: Callable[[Any], None],
    ) -> None:
        self._before, self._after, self._stepped = before, after, stepped
        self._files = UserFiles()
        self._undo = ExitStack()
        self._sees_steps = False

    def __enter__(self) -> Passes:
        self._thread = threading.get_ident()
        listen(self)
        self._undo.callback(unlisten, self)
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop calling the functions."""
        self._undo.close()
        self._sees_steps = False

    def before_backward(self, call: BackwardCall) -> None:
        """Called by the engine."""
        frame = user_frame(sys._getframe(1), self._files)
        if call.accumulates and frame is not None:
            with quietly():
                self._before(call.roots, frame)

    def after_backward(self, call: BackwardCall, outcome: object) -> None:
        """Called by the engine."""
        frame = user_frame(sys._getframe(1), self._files)
        if frame is None or isinstance(outcome, BaseException):
            return
        if not self._sees_steps:
            # Hooks run in the order of registration: the recording's hooks run first.
            self._undo.callback(step_hook(None, self._after_step))
            self._sees_steps = True
        with quietly():
            self._after(call, frame)

    def _after_step(self, optimizer: Any, *_: object) -> None:
        if threading.get_ident() == self._thread:
            self._stepped(optimizer)


class Returns:
    """Calls a function when one of the given functions returns.

    Args:
        codes: their code objects.
        call: called with the frame that returns.
    """

    def __init__(self, codes: set[CodeType], call: Callable[[FrameType], None]) -> None:
        self._codes, self._call = codes, call
        self._old: Any = None
        self._tool = -1

    def start(self) -> None:
        """Start; with ``sys.monitoring``, other code is not slowed down."""
        self._thread = threading.get_ident()
        monitoring: Any = getattr(sys, "monitoring", None)
        if monitoring is None:
            self._old = sys.getprofile()
            sys.setprofile(self._profile)
            return
        self._tool = next(tool for tool in (4, 3, 5) if monitoring.get_tool(tool) is None)
        monitoring.use_tool_id(self._tool, "gradviz")
        events = monitoring.events
        for event in (events.PY_RETURN, events.PY_UNWIND):
            monitoring.register_callback(self._tool, event, self._monitored)
        for code in self._codes:
            monitoring.set_local_events(self._tool, code, events.PY_RETURN)
        monitoring.set_events(self._tool, events.PY_UNWIND)  # there is none for one function

    def stop(self) -> None:
        """Stop."""
        monitoring: Any = getattr(sys, "monitoring", None)
        if monitoring is None:
            if sys.getprofile() == self._profile:
                sys.setprofile(self._old)
        elif self._tool >= 0:
            monitoring.set_events(self._tool, 0)
            for code in self._codes:
                monitoring.set_local_events(self._tool, code, 0)
            monitoring.free_tool_id(self._tool)
            self._tool = -1

    def _monitored(self, code: CodeType, *_: object) -> None:
        if code in self._codes and threading.get_ident() == self._thread:
            self._call(sys._getframe(1))

    def _profile(self, frame: FrameType, event: str, result: object) -> None:
        if event == "return" and frame.f_code in self._codes:
            self._call(frame)
            # Python writes this dict back to the variables of a generator: fill it again.
            _ = frame.f_locals


def variables_around(frame: FrameType | None, within: str) -> dict[str, object]:
    """The variables visible to the user's code at a frame, and in the code that called it.

    Args:
        frame: the innermost one.
        within: the file of the code that runs the program; its frames and outer ones are not
            included.

    Returns:
        Values by name; inner variables hide outer ones. The attributes of ``self`` in a running
        method are named ``self.model``.
    """
    files = UserFiles()
    inner = takewhile(lambda each: each.f_code.co_filename != within, outwards(frame))
    frames = [each for each in inner if files[each.f_code.co_filename] and not _is_wrapper(each)]
    found: dict[str, object] = {}
    for each in reversed(frames):
        found.update(each.f_globals)
    for each in reversed(frames):
        found.update(with_attributes(locals_of(each)))
    return found


def has_step_ahead(frame: FrameType | None, around: Mapping[str, object]) -> bool:
    """Whether an optimizer will make its step after backward.

    Args:
        frame: the user's frame that called backward.
        around: the variables around it.
    """
    modules = (each.f_globals.get("__name__", "") for each in outwards(frame))
    if any(name.startswith("torch.optim") for name in modules):
        return False  # it is inside its step, like LBFGS
    return bool(optimizers_among(around))


def optimizers_among(around: Mapping[str, object]) -> list[Any]:
    """The optimizers among variables, in containers among them, and in attributes of both."""
    values = [*around.values(), *entries_of(around.values())]
    inside = attributes_of(values)
    values += [*inside, *entries_of(inside)]
    return [e for e in values if hasattr(type(e), "zero_grad") and hasattr(type(e), "step")]


def parameters_of(optimizers: Iterable[Any]) -> dict[int, Any]:
    """The parameters of torch's optimizers, or of others like them, by identity."""
    groups = [group for each in optimizers for group in getattr(each, "param_groups", None) or ()]
    return {id(each): each for group in groups for each in group["params"]}


_STEPS = 16  # between two passes, whose gradients are known


_FEW, _SMALL = 64, 1 << 16  # parameters whose values are compared, and their elements


class UsedGradients:
    """The gradients that steps used, until the next pass, and the parameters that they moved."""

    def __init__(self) -> None:
        self._moved: dict[int, weakref.ref[torch.Tensor]] = {}
        self._left = set[int]()
        self._steps = deque[list[tuple[Any, _Used | None]]](maxlen=_STEPS)
        self._values = list[tuple[torch.Tensor, bytes | None]]()

    def add(self, optimizer: Any) -> bool:
        """An optimizer made a step; returns whether it used one of those that were left again."""
        held = parameters_of([optimizer])
        self._moved.update((number, weakref.ref(each)) for number, each in held.items())
        rows = [(each, each.grad) for each in held.values()]
        self._steps.append([(p, None if g is None else _Used.of(g)) for p, g in rows])
        self._values = [(p, memory_of(p)) for p, _ in rows[:_FEW] if p.numel() <= _SMALL]
        return any(id(p) in self._left for p, g in rows if g is not None) and not has_other_ranks()

    def are_written(self) -> bool:
        """Whether the program wrote into a parameter since the last step."""
        values, self._values = self._values, []
        return any(memory_of(tensor) != before for tensor, before in values)

    def are_left(self) -> bool:
        """Whether the pass since then changed some of those of an optimizer, and not others.

        Or it changed none of any.

        Not with other ranks: all have to end after the same pass.
        """
        self._left.clear()
        found = list[dict[int, bool]]()
        for step in self._steps:
            rows = [(p, used) for p, used in step if used is not None or p.grad is not None]
            found += [{id(p): used is not None and used.is_still(p.grad) for p, used in rows}]
        is_none = {key for still in found for key in still if all(still.values())} == {*self._moved}
        for still in found:
            if is_none or not all(still.values()):
                self._left.update(number for number, is_still in still.items() if is_still)
        self._steps.clear()
        return bool(self._left) and not has_other_ranks()

    def are_again_in(self, optimizers: Iterable[Any], steppers: Collection[Any]) -> bool:
        """Whether others, without a step so far, hold parameters that all were moved before."""
        groups = [id(getattr(each, "param_groups", None)) for each in steppers]
        others = [each for each in optimizers if each not in steppers]
        others = [e for e in others if id(getattr(e, "param_groups", None)) not in groups]
        held = parameters_of(each for each in others if not getattr(each, "state", True))
        rows = [(self._moved.get(number), each) for number, each in held.items()]
        return bool(rows) and all(ref is not None and ref() is each for ref, each in rows)


class _Used(NamedTuple):
    """A gradient as a step used it."""

    grad: weakref.ref[torch.Tensor]
    version: int

    @classmethod
    def of(cls, grad: torch.Tensor) -> _Used:
        """A gradient as it is now."""
        return cls(weakref.ref(grad), version_of(grad))

    def is_still(self, grad: torch.Tensor | None) -> bool:
        """Whether a gradient is that one, unchanged."""
        return grad is not None and grad is self.grad() and version_of(grad) == self.version


def _is_wrapper(frame: FrameType) -> bool:
    """Whether a frame runs the program under the program's own file name: its locals are apart."""
    return frame.f_code.co_name == "<module>" and frame.f_locals is not frame.f_globals


_State = tuple[int, int] | None


class Before:
    """The gradients before a backward pass.

    Args:
        state: has the records of leaves.
        summaries: the gradients that the frame before the pass shows, by number of the leaf.
    """

    def __init__(
        self, state: RecordingState, summaries: dict[int, TensorSummary | Kept | None]
    ) -> None:
        self._summaries = summaries
        leaves = state.provenance.alive_leaves()
        self._states = {leaf.number: _state(tensor) for leaf, tensor in leaves}
        self._waiting = waiting_parameters()

    def count_passes(self, state: RecordingState, is_same_step: bool = False) -> list[Leaf]:
        """The leaves into which the pass accumulated, in the order of their numbers.

        Passes over the microbatches of one pipeline step count as one.

        An existing gradient is changed in place or replaced: its version or its identity
        changes. No value is compared, and no hook is needed. A gradient that FSDP2 has not reduced
        yet is counted, too: it becomes part of ``.grad`` in a later pass.
        """
        changed, waiting = [], waiting_parameters()
        for leaf, tensor in sorted(state.provenance.alive_leaves(), key=lambda row: row[0].number):
            before, after = self._states.get(leaf.number), _state(tensor)
            if after is None and before is not None:  # a hook has removed it
                leaf.passes = 0
            was_waiting = before is None and id(tensor) in self._waiting
            if after is None and id(tensor) in waiting:
                leaf.passes = 1 + (leaf.passes or 0) * was_waiting
            if after is None or after == before:
                continue
            if before is None and not (was_waiting and leaf.passes):
                leaf.passes = 1
            elif leaf.passes is not None and not (is_same_step and leaf.passes):
                leaf.passes += 1
            changed.append(leaf)
        return changed

    def add_summaries(
        self, numbers: Collection[int], leaves: Iterable[tuple[Leaf, torch.Tensor]]
    ) -> None:
        """Read the gradients of leaves that the frame does not show.

        Args:
            numbers: the ``id`` of each leaf that matters.
            leaves: the recorded ones.
        """
        if not numbers:
            return
        found = [
            (leaf.number, tensor.grad)
            for leaf, tensor in leaves
            if leaf.number not in self._summaries
            and id(tensor) in numbers
            and tensor.grad is not None
        ]
        summaries = summarize([gradient for _, gradient in found])
        for (number, _), each in zip(found, summaries, strict=True):
            self._summaries[number] = each

    def kept(self, leaf: Leaf) -> TensorSummary | Kept | None:
        """The gradient of a leaf before the pass."""
        return self._summaries.get(leaf.number)


class AddedGradient:
    """What a pass added to the gradient of a leaf; called when it is read.

    Args:
        before: the gradients before the pass.
        leaf: the leaf.
        after: its gradient after the pass.
        number: of the pass.
        ranks: over which it was averaged, and the rest of `GradientDetails`.
    """

    __slots__ = ("_after", "_before", "_facts")

    def __init__(
        self,
        before: Before,
        leaf: Leaf,
        after: TensorSummary | Kept | None,
        number: int,
        *ranks: int,
    ) -> None:
        self._before, self._after = before.kept(leaf), after
        self._facts: tuple[Any, ...] = leaf.passes, number, *ranks

    def __call__(self, key_of: object = None) -> GradientDetails:
        """The details."""
        both = self._before, self._after
        before, after = (each.summary if isinstance(each, Kept) else each for each in both)
        return GradientDetails(before, after, *self._facts)


_COMPARED = 1 << 24  # elements of parameters whose values are compared around a step
_UNDONE = 0.2  # of the change of a step is left, at most


class HeldParameter(NamedTuple):
    """A parameter of an optimizer, before a step."""

    ref: Callable[[], torch.Tensor | None]  # reference to the tensor
    version: int  # its version counter
    values: Any  # a copy, until the step ends; None if it is too large
    at_rest: bool = False  # whether its learning rate is 0
    # whether a step multiplies it by 0 or less, as the weight decay is that large.
    # is_maximized, is_amplified: whether a step goes upwards, and with a momentum of 1 or
    # more.
    is_erased: bool = False
    is_maximized: bool = False
    is_amplified: bool = False
    is_plain: bool = False  # whether it is no parameter, does not require grad and has no gradient


def held_by(optimizer: Any) -> list[HeldParameter]:
    """The parameters of an optimizer, with their values unless there are too many.

    Frozen ones without a gradient are left out if others are trained: a step ignores them.
    """
    groups = optimizer.param_groups
    is_small = sum(each.numel() for group in groups for each in group["params"]) <= _COMPARED
    found = []
    there = _copies_there(groups) if is_small else {}
    for group in groups:
        is_up, momentum = group.get("maximize") is True, group.get("momentum")
        is_amplified = isinstance(momentum, (int, float)) and momentum >= 1
        facts = _rests(group), _erases(optimizer, group), is_up, is_amplified
        for each in {id(each): each for each in group["params"]}.values():
            values = there.get(id(each), _copy(each)) if is_small else None
            is_plain = type(each) is torch.Tensor and not _is_trained(each)
            row = HeldParameter(weakref.ref(each), version_of(each), values, *facts, is_plain)
            found.append(row)
    return [each for each in found if each.is_plain or _is_trained(each.ref())] or found


def is_at_rest(optimizer: Any) -> bool:
    """Whether the learning rate of a group of an optimizer is 0."""
    return any(map(_rests, getattr(optimizer, "param_groups", None) or ()))


def _rests(group: Mapping[str, Any]) -> bool:
    rate = group.get("lr")
    return (not isinstance(rate, torch.Tensor) or rate.is_cpu) and bool(rate == 0)


def _erases(optimizer: Any, group: Mapping[str, Any]) -> bool:
    """Whether a step multiplies a parameter by 1 - lr * weight_decay, and that is not above 0."""
    rate, decay = group.get("lr"), group.get("weight_decay")
    if not isinstance(rate, (int, float)) or not isinstance(decay, (int, float)):
        return False
    is_by_decay = type(optimizer).__name__ in ("SGD", "AdamW")
    return rate * decay >= 1 and (is_by_decay or group.get("decoupled_weight_decay") is True)


def _is_trained(tensor: torch.Tensor | None) -> bool:
    return tensor is not None and (tensor.requires_grad or tensor.grad is not None)


def _copies_there(groups: Sequence[Mapping[str, Any]]) -> dict[int, torch.Tensor]:
    """Copies of the parameters on accelerators, by the ``id`` of each, with few kernels."""
    parameters = (each for group in groups for each in group["params"])
    found = [each for each in parameters if not each.is_cpu and is_ordinary(each)]
    copies = torch._foreach_add([each.detach() for each in found], 0) if found else ()
    return {id(each): copy for each, copy in zip(found, copies, strict=True)}


def _copy(tensor: torch.Tensor) -> Any:
    memory = memory_of(tensor)  # bytes are compared faster than small arrays
    is_other = memory is None and tensor.is_cpu and is_ordinary(tensor)
    return tensor.detach().clone() if is_other else memory


Stepped = tuple[torch.Tensor, HeldParameter, Any]
"""A parameter that a step changed, what it was before, and a copy of its memory, or None."""


def stepped(tensor: torch.Tensor, held: HeldParameter) -> Stepped:
    """What is read of a parameter after a step has changed it."""
    return tensor, held, memory_of(tensor) if isinstance(held.values, bytes) else None


def is_same(tensor: torch.Tensor, before: Any, memory: bytes | None = None) -> bool:
    """Whether the values have not changed; NaN equals NaN. Its memory, if that was copied."""
    now: Any
    if isinstance(before, bytes):
        kind = "=f" if tensor.dtype is torch.float32 else "=d"
        if memory is None or memory == before or len(memory) != len(before):
            return memory == before
        (old,), (new,) = struct.unpack_from(kind, before), struct.unpack_from(kind, memory)
        if old != new and (old == old or new == new):  # it differs after most steps
            return False
        now, before = (as_array(each, tensor.dtype) for each in (memory, before))
    else:
        now = tensor.detach()  # it records nothing
        if now.shape != before.shape:
            return False
    differs = now != before
    return not differs.any() or not bool((differs & ((now == now) | (before == before))).any())


def differences(rows: Sequence[Stepped]) -> Callable[[], list[bool | None]]:
    """Whether parameters have other values than before a step; None where that is not known.

    Args:
        rows: the parameters, and what they were before.

    Returns:
        A function that returns it: what was compared on an accelerator is copied to the host then.
    """
    there, found = list[int](), list[bool | None]()
    for number, (tensor, held, memory) in enumerate(rows):
        before = held.values
        is_there = isinstance(before, torch.Tensor) and not tensor.is_cpu
        if is_there and before.shape == tensor.shape:
            there.append(number)
        is_known = before is not None and there[-1:] != [number]
        found.append(not is_same(tensor, before, memory) if is_known else None)
    pieces: Sequence[torch.Tensor] = ()
    if there:
        now, old = zip(*((rows[n][0].detach(), rows[n][1].values) for n in there), strict=True)
        pieces = torch._foreach_norm(torch._foreach_sub(now, old), inf)
    copies = Copies(pieces)

    def read() -> list[bool | None]:
        for number, largest in zip(there, copies.values, strict=True):
            found[number] = None if isnan(largest) else largest != 0
        return found

    return read


class StepRows(NamedTuple):
    """What is known of a step when it ends."""

    optimizer: str  # its class
    # the identities of its parameters, and what they were before
    held: Sequence[tuple[Hashable, HeldParameter]]
    changed: Sequence[Hashable]  # the identities of those that the step changed
    names: Sequence[str]  # the names of those
    is_new: bool  # whether the optimizer had no state before, and has one now
    # which part of a change is left when the next step begins, as of `UndoneSteps`
    left: Mapping[Hashable, float]


def step_details(rows: StepRows, values: Sequence[Stepped]) -> Callable[[KeyOf], StepDetails]:
    """Creates the details of a step.

    Args:
        rows: what is known of it.
        values: the parameters that it changed, and what they were before.
    """
    find_other = differences(values)

    def details(key_of: KeyOf) -> StepDetails:
        are_other = find_other()
        same = [each for each, moved in zip(rows.changed, are_other, strict=True) if moved is False]

        def keys(identities: Iterable[Hashable]) -> tuple[str, ...]:
            return tuple(filter(None, map(key_of, identities)))

        return StepDetails(
            rows.optimizer,
            keys(identity for identity, _ in rows.held),
            keys(rows.changed),
            len(rows.held),
            len(rows.changed),
            None if None in are_other else sum(map(bool, are_other)),
            tuple(rows.names),
            keys(same),
            keys(identity for identity, each in rows.held if each.at_rest),
            rows.is_new,
            keys(identity for identity, each in rows.held if each.is_erased),
            any(each.is_maximized for _, each in rows.held),
            keys(identity for identity, each in rows.held if each.is_amplified),
            keys(identity for identity, part in rows.left.items() if part <= _UNDONE),
            tuple(key_of(identity) for identity, each in rows.held if each.is_plain),
        )

    return details


def has_state(optimizer: Any) -> bool:
    """Whether an optimizer keeps something of earlier steps, such as running averages."""
    state = getattr(optimizer, "state", None)
    return isinstance(state, dict) and any(isinstance(e, dict) and e for e in state.values())


def _state(leaf: torch.Tensor) -> _State:
    gradient = leaf.grad if leaf.is_leaf else None
    return None if gradient is None else (id(gradient), version_of(gradient))


def is_transform(verdicts: UserFiles) -> bool:
    """Whether ``torch.func`` runs this pass internally."""
    inner = frames_inside(sys._getframe(1), verdicts)
    return any("_functorch" in frame.f_code.co_filename for frame in inner)
