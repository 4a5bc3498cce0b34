"""Calls that a loop repeats: what does not differ from the call before is not recorded again.

The cost of a recording is mostly that of creating records and events. A call with the same tensor
on the same line shares both with the call before, if nothing was recorded between the two.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch
from torch.nn import Parameter

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.tensors import is_quiet, storage_address
from gradviz.facts import VersionDetails
from gradviz.graph import Cause
from gradviz.recording.event_log import DATA_INPUTS, Entry, word_of
from gradviz.recording.module_stack import is_forward
from gradviz.recording.source_lines import CodeLocation, caller_of, user_location
from gradviz.recording.state import InPlaceChange, RecordingState, TorchCall
from gradviz.recording.tensor_records import Leaf, UntrackedTensor
from gradviz.story import EventKind

_MOST_ENTRIES = 50_000  # events without a number
_NUMBERS = frozenset({int, float, bool})
_is_tracking = torch.is_grad_enabled


@dataclass(slots=True, eq=False)
class Repeated:
    """The latest recorded call of ``detach``, ``data``, ``item`` or ``add_``; a loop may repeat it.

    Args:
        func, code, offset: the function and where it was called.
        is_of_library: whether that is code of a library, which other lines can call.
        is_tracking: whether autograd was recording.
        ref: the tensor it was called on.
        record: of its result.
        entry: its event. While it is the last one, nothing else was recorded since.
        number: the number that it returned, or None.
        storage: address of the storage that it changed in place, or None.
    """

    func: Any
    code: CodeType
    offset: int
    is_of_library: bool
    is_tracking: bool
    ref: Callable[[], torch.Tensor | None]
    record: UntrackedTensor
    entry: Entry
    number: float | None = None
    storage: int | None = None

    def is_repeated(
        self, state: RecordingState, func: Any, args: tuple[Any, ...], frame: FrameType
    ) -> bool:
        """Whether a call from a frame repeats it, up to its result."""
        entries = state.event_log.entries
        return (
            frame.f_lasti == self.offset
            and frame.f_code is self.code
            and func is self.func
            and bool(args)
            and args[0] is self.ref()
            and _is_tracking() is self.is_tracking
            and bool(entries)
            and entries[-1] is self.entry
            and len(entries) + self.entry.repeats < _MOST_ENTRIES
            and (
                not self.is_of_library
                or caller_of(frame, state.verdicts) == self.entry.location.caller
            )
        )


def may_repeat(
    state: RecordingState, call: TorchCall, location: CodeLocation, record: UntrackedTensor
) -> None:
    """Remember a call that was just logged."""
    entries = state.event_log.entries
    if not entries or not call.args:
        return
    entry, ref = entries[-1], weakref.ref(call.args[0])
    code = location.code if location.offset >= 0 else None
    own = (("untracked", record.number),) if record.leaf is None else ()
    if code is not None and isinstance(entry, Entry) and entry.identities == own:
        number = call.result if type(call.result) is float else None
        where = code, location.offset, location.caller is not None
        mode, is_change = torch.is_grad_enabled(), entry.kind is EventKind.IN_PLACE
        has_version = is_change and not call.args[0].is_inference()
        storage = storage_address(call.args[0]) if has_version else None
        state.repeated = Repeated(call.func, *where, mode, ref, record, entry, number, storage)


def repeats_change(
    state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> bool:
    """Whether a change in place repeats the latest one: of plain data, by plain numbers."""
    known: Repeated | None = state.repeated
    return (
        known is not None
        and known.storage is not None
        and not kwargs
        and state.pending is None
        and _NUMBERS.issuperset(map(type, args[1:]))
        and known.is_repeated(state, func, args, sys._getframe(3))
    )


def log_change(state: RecordingState, before: int, after: int) -> None:
    """Log a repeated change in place, with the version counter before and after."""
    known: Repeated = state.repeated
    if after != before and known.storage is not None:
        old, details = known.entry, VersionDetails(before, after)
        where, word = old.location, old.word
        known.entry = Entry(old.kind, word, where, None, old.identities, None, details)
        state.event_log.entries.append(known.entry)
        done = word, where, known.storage, before, after, creation_count()
        state.changes.append(InPlaceChange(*done))


def repeats_call(
    state: RecordingState, func: Any, args: tuple[Any, ...], result: torch.Tensor
) -> bool:
    """Record an untracked result of a call that was made on the same line before.

    Returns:
        Whether it did; any other call is recorded by `RecordingState.made`.
    """
    frame = sys._getframe(2)
    code, offset = frame.f_code, frame.f_lasti
    known = state.called.get((id(code), offset))
    if known is None or known[0] is not func or known[1].code is not code:
        return False
    try:
        if state.is_alone and not result.requires_grad and is_quiet(args):
            location = known[1]
            if location.caller is not None:  # other lines can call the library
                location = user_location(frame, state.verdicts)
            return _add_untracked(state, func, args, result, location)
    except Exception as error:
        state.failed(error)
    return False


def _add_untracked(
    state: RecordingState,
    func: Any,
    args: tuple[Any, ...],
    result: torch.Tensor,
    location: CodeLocation,
) -> bool:
    # As `RecordingState.outside`, for one result: calling that takes a fifth longer.
    mode = None if torch.is_grad_enabled() else state.cause_of_mode()
    is_inside = mode is Cause.NO_GRAD and state.grad_expected
    if is_inside or (mode is not None and location.code and is_forward(location.code)):
        return False
    word, provenance = word_of(func), state.provenance
    cause = mode or Cause.NOT_DIFFERENTIABLE
    inputs, used = [], DATA_INPUTS.get(word, len(args))
    for number, each in enumerate(args):
        if result is each:
            return False
        if number < used and (type(each) is torch.Tensor or type(each) is Parameter):
            if each.requires_grad:
                data = state.input_from(each, cause, location, word)
            else:
                data = provenance.untracked(each).as_input()
            inputs.append(data)
    if isinstance(provenance.tensors.of(result), Leaf):
        return False
    made = provenance.add_result(result, word, location, inputs)
    state.log(Entry(EventKind.OPERATION, word, location, None, (made.identity,)))
    return True
