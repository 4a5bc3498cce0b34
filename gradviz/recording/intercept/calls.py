"""Handlers for functions of torch that are more than an operation.

A handler reads the arguments before the call and records the result after it. The call itself is
made once and outside of any guard, because its exceptions are the program's.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite
from types import CodeType
from typing import Any, cast

import torch

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.operations import type_text
from gradviz.capture.autograd.tensors import storage_address, version_of
from gradviz.capture.tensors.summary import summarize
from gradviz.facts import Action, VersionDetails
from gradviz.graph import Cause, TensorSummary
from gradviz.recording.cut_leaves import CutSite
from gradviz.recording.event_log import QUERIES, Entry, word_of
from gradviz.recording.intercept import gradients
from gradviz.recording.intercept.in_place import (
    after_change,
    before_change,
    log_plain_change,
    lookup,
)
from gradviz.recording.provenance import Leaf, UntrackedTensor
from gradviz.recording.source_lines import (
    CodeLocation,
    call_made_from,
    called_function,
    user_location,
)
from gradviz.recording.state import (
    Handler,
    InPlaceChange,
    RecordingState,
    TorchCall,
    tensors_in,
)
from gradviz.story import EventKind

__all__ = ["Handlers", "change", "pass_on"]

_MOST_ENTRIES = 50_000  # events without a number
_Look = Callable[[RecordingState, TorchCall], None]


class Handlers(dict[Any, "Handler | None"]):
    """The handler of each function of torch, found on its first call."""

    def __missing__(self, func: Any) -> Handler | None:
        self[func] = handler = _handler_of(func)
        return handler


def _handler(after: _Look, before: _Look | None = None) -> Handler:
    def handle(
        state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = TorchCall(func, args, kwargs)
        if before is not None:
            state.guard(before, call)
        call.result = func(*args, **kwargs)
        state.guard(after, call)
        return call.result

    call_made_from(handle.__code__, globals())
    return handle


@dataclass(slots=True, eq=False)
class _Repeated:
    """The latest recorded call of ``detach``, ``data``, ``item`` or ``add_``; a loop may repeat it.

    Args:
        func, code, offset: the function and where it was called.
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
    is_tracking: bool
    ref: Callable[[], torch.Tensor | None]
    record: UntrackedTensor
    entry: Entry
    number: float | None = None
    storage: int | None = None


def _repeatable(after: _Look) -> Handler:
    """A handler of a call that often repeats the latest one.

    A call with the same tensor on the same line differs in nothing if nothing was recorded between
    and the result of the call before is gone: both then share one record and one event object.
    """

    def handle(
        state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = func(*args, **kwargs) if kwargs else func(*args)
        known: _Repeated | None = state.repeated
        entries = state.event_log.entries
        if known is not None and entries and entries[-1] is known.entry:
            frame = sys._getframe(2)
            if (
                frame.f_lasti == known.offset
                and frame.f_code is known.code
                and func is known.func
                and args
                and args[0] is known.ref()
                and torch.is_grad_enabled() is known.is_tracking
                and len(entries) < _MOST_ENTRIES
            ):
                if type(result) is float:
                    if result == known.number:
                        state.provenance.repeat_number(result, known.record)
                        entries.append(known.entry)
                        return result
                elif type(result) is torch.Tensor and known.record.ref() is None:
                    known.record.ref = weakref.ref(result)
                    state.provenance.tensors.latest = known.record
                    entries.append(known.entry)
                    return result
        call = TorchCall(func, args, kwargs)
        call.result = result
        state.guard(after, call)
        return result

    call_made_from(handle.__code__, globals())
    return handle


def _may_repeat(
    state: RecordingState, call: TorchCall, location: CodeLocation, record: UntrackedTensor
) -> None:
    """Remember a call that was just logged."""
    entries = state.event_log.entries
    entry, ref = entries[-1] if entries else None, weakref.ref(call.args[0])
    is_direct = location.offset >= 0 and location.caller is None and location.code is not None
    if is_direct and isinstance(entry, Entry) and entry.identities == (record.identity,):
        number = call.result if type(call.result) is float else None
        where = cast("CodeType", location.code), location.offset
        mode, is_change = torch.is_grad_enabled(), entry.kind is EventKind.IN_PLACE
        has_version = is_change and not call.args[0].is_inference()
        storage = storage_address(call.args[0]) if has_version else None
        state.repeated = _Repeated(call.func, *where, mode, ref, record, entry, number, storage)


def pass_on(state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call that is not recorded."""
    return func(*args, **kwargs)


def _after_cut(cause: Cause) -> _Look:
    """``x.detach()``, ``x.data``: the result is untracked."""

    def after(state: RecordingState, call: TorchCall) -> None:
        if not isinstance(call.result, torch.Tensor):
            return
        if state.is_inside():
            state.function_calls.add(call.args[:1], [call.result])
            return
        location = user_location(sys._getframe(0), state.verdicts)
        cut, word = cause, word_of(call.func)
        if location.offset < 0:
            name = called_function(sys._getframe(1), state.verdicts)
            cut, word = (Cause.VALUES_COPIED, name) if name in _COPYING else (cut, word)
        data = state.input_from(call.args[0], cut, location, word)
        kind = EventKind.OPERATION if isinstance(data.source, UntrackedTensor) else EventKind.CUT
        state.add_untracked(word_of(call.func), [data], [call.result], location, kind)
        record = state.provenance.tensors.of(call.result)
        if isinstance(record, UntrackedTensor):
            _may_repeat(state, call, location, record)

    return after


_COPYING = ("deepcopy", "vector_to_parameters")


def _after_deepcopy(state: RecordingState, call: TorchCall) -> None:
    """``copy.deepcopy(x)``: the copy has the values of the tensor."""
    tensor, copied = call.args[0], call.result
    if not isinstance(copied, torch.Tensor) or copied is tensor or state.is_inside():
        return
    if state.provenance.tensors.of(copied) is None:
        state.add_copy(tensor, copied, "deepcopy")


def _before_detach_(state: RecordingState, call: TorchCall) -> None:
    tensor = call.args[0]
    if tensor.requires_grad and not state.is_inside():
        call.before = state.input_from(tensor, Cause.DETACH, state.location(), "detach_")


def _after_detach_(state: RecordingState, call: TorchCall) -> None:
    """``x.detach_()``: the tensor itself becomes untracked."""
    if call.before is not None:
        state.provenance.release(call.args[0])
        location = call.before.location
        state.add_untracked("detach_", [call.before], [call.args[0]], location, EventKind.CUT)


_SCALER = "torch.amp.grad_scaler"


def _after_value_read(cause: Cause) -> _Look:
    """A tensor was converted to a number or an array, whose further use is not recorded."""

    def after(state: RecordingState, call: TorchCall) -> None:
        tensor = call.args[0]
        if not isinstance(tensor, torch.Tensor) or state.is_inside():
            return
        if not tensor.requires_grad:
            known = state.provenance.tensors.of(tensor)
            if not isinstance(known, UntrackedTensor) or not known.matters:
                is_flag = type(call.result) is float and call.result  # maybe ``found_inf.item()``
                if is_flag and sys._getframe(4).f_globals.get("__name__") == _SCALER:
                    gradients.log_skipped_step(state)
                return  # plain data
        location = state.location()
        untracked = state.provenance.add_plain_value(
            word_of(call.func),
            state.input_from(tensor, cause, location, word_of(call.func)),
            location,
        )
        untracked.value = _value_read(tensor, call.result)
        state.provenance.remember_numbers(call.result, untracked)
        was_cut = tensor.requires_grad or bool(untracked.cut_leaves)
        kind = EventKind.CUT if was_cut else EventKind.OPERATION  # of a frozen tensor
        state.log(Entry(kind, untracked.word, location, identities=(untracked.identity,)))
        _may_repeat(state, call, location, untracked)

    return after


def _value_read(tensor: torch.Tensor, result: Any) -> TensorSummary | Callable[[], TensorSummary]:
    """The value that was read from a tensor; a number is not read again."""
    if (
        type(result) is float
        and isfinite(result)
        and tensor.dtype in (torch.float32, torch.float64)
    ):
        return partial(_of_number, result, tensor.shape, tensor.dtype, tensor.device)
    return summarize([tensor], values_only_if_small=True)[0]


def _of_number(
    number: float, shape: torch.Size, dtype: torch.dtype, device: torch.device
) -> TensorSummary:
    return TensorSummary(tuple(shape), type_text(dtype), str(device), (number,), abs(number))


def _before_copy(state: RecordingState, call: TorchCall) -> None:
    call.before = creation_count()


def _after_copy(state: RecordingState, call: TorchCall) -> None:
    """``torch.tensor(x)``, ``torch.as_tensor(x)``."""
    given = list(tensors_in((*call.args, *call.kwargs.values())))
    if any(call.result is each for each in given) or state.is_inside():
        return
    if creation_count() > call.before:  # as_tensor converted it, which autograd recorded
        state.made(call.func, (call.args, call.kwargs), call.result, call.before)
        return
    location = state.location()
    inputs = [state.input_from(each, Cause.COPY, location) for each in given]
    inputs += [each.as_input() for each in state.provenance.numbers_in(call.args)]
    was_cut = any(not isinstance(each.source, UntrackedTensor) for each in inputs)
    kind = EventKind.CUT if was_cut else EventKind.OPERATION
    state.add_untracked(word_of(call.func), inputs, [call.result], location, kind)
    if call.result.requires_grad:
        leaf = state.provenance.leaf(call.result)
        leaf.location = location
        made = state.event_log.entries[-1]
        if isinstance(made, Entry):
            made.identities = (leaf.identity,)


def _before_flag(state: RecordingState, call: TorchCall) -> None:
    tensor = call.args[0]
    call.before = tensor.requires_grad
    if call.before and tensor.is_leaf:
        state.provenance.leaf(tensor)  # one that is frozen stays the leaf that it was


def _after_flag(state: RecordingState, call: TorchCall) -> None:
    """``x.requires_grad_(...)``, ``x.requires_grad = ...``."""
    tensor = call.args[0]
    if tensor.requires_grad == call.before:
        return
    location, provenance = state.location(), state.provenance
    old = provenance.tensors.of(tensor)
    if tensor.requires_grad:
        leaf = provenance.leaf(tensor)
        leaf.location = old.location if old is not None else leaf.location
        action, identity = Action.REQUIRES_GRAD_ON, leaf.identity
    else:
        untracked = provenance.add(tensor, "", Cause.REQUIRES_GRAD, location, (), matters=True)
        if isinstance(old, Leaf):
            untracked.leaf = old
            site = CutSite(Cause.REQUIRES_GRAD, location, "requires_grad_")
            untracked.cut_leaves = {site: 1 << old.number}
        action, identity = Action.REQUIRES_GRAD_OFF, untracked.identity
    entries = state.event_log.entries
    last = entries[-1] if entries else None
    if isinstance(last, Entry) and last.location == location and last.action is action:
        last.count += 1
        last.identities = (*last.identities, identity)
    else:
        kind = EventKind.REQUIRES_GRAD
        state.log(Entry(kind, "requires_grad_", location, identities=(identity,), action=action))


def _before_mode(state: RecordingState, call: TorchCall) -> None:
    call.before = torch.is_grad_enabled(), state.is_inside()


def _after_mode(state: RecordingState, call: TorchCall) -> None:
    """Gradient mode was switched: ``no_grad``, ``enable_grad``, ``set_grad_enabled``."""
    before, was_inside = call.before
    now = torch.is_grad_enabled()
    if was_inside:
        return
    state.grad_expected = now
    word = _mode_word(state) if now != before else ""
    if word:
        action = Action.GRADIENTS_ON if now else Action.GRADIENTS_OFF
        state.log(Entry(EventKind.MODE, word, state.location(), action=action))


_MODE_FILES = ("grad_mode.py", "_contextlib.py", "contextlib.py")


def _mode_word(state: RecordingState) -> str:
    """The user's call that switched gradient mode; "" if torch itself did."""
    word = "set_grad_enabled"
    frame: Any = sys._getframe(1)
    while frame is not None and not state.verdicts[frame.f_code.co_filename]:
        name = frame.f_code.co_filename
        if name.endswith(_MODE_FILES):
            owner = frame.f_locals.get("self")
            word = type(owner).__name__ if owner is not None else word
        elif frame.f_globals.get("__name__", "").partition(".")[0] != "gradviz":
            return ""
        frame = frame.f_back
    return word


def _after_hook(state: RecordingState, call: TorchCall) -> None:
    """``x.register_hook(...)`` was called. What the hook does is recorded during backward."""
    tensor, location = call.args[0], state.location()
    node = tensor.grad_fn  # torch has read it too, to register the hook
    leaf = state.provenance.leaf(tensor) if node is None else None
    identity = leaf.identity if leaf is not None else sequence_number(node)
    name = (leaf.name or state.lines.at(leaf.location).target or None) if leaf else None
    word, action = word_of(call.func), Action.REGISTERED
    state.log(Entry(EventKind.HOOK, word, location, name, (identity,), action))
    state.hooks.registered(call.result, location, identity, leaf)


def _after_data_set(state: RecordingState, call: TorchCall) -> None:
    """``x.data = ...``: other values, which autograd does not record."""
    tensor, data = call.args[:2]
    record, location = state.provenance.tensors.of(tensor), state.location()
    if record is None and tensor.requires_grad and tensor.is_leaf:
        record = state.provenance.leaf(tensor)
    if record is not None and isinstance(data, torch.Tensor):
        site = CutSite(Cause.VALUES_COPIED, location, "data")
        state.provenance.write(record, [state.input_from(data, *site)], site, replaces=True)
    identities = () if record is None else (record.identity,)
    kind, action = EventKind.IN_PLACE, Action.DATA_REPLACED
    state.log(Entry(kind, "data", location, identities=identities, action=action))


call_made_from(pass_on.__code__, globals())
_change = _handler(after_change, before_change)
_NUMBERS = frozenset({int, float, bool})


def change(state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A change in place; of plain data by plain numbers, without what others need."""
    known: _Repeated | None = state.repeated
    entries = state.event_log.entries
    if known is not None and entries and entries[-1] is known.entry and known.storage is not None:
        frame = sys._getframe(2)
        if (
            frame.f_lasti == known.offset
            and frame.f_code is known.code
            and func is known.func
            and args
            and args[0] is known.ref()
            and not kwargs
            and _NUMBERS.issuperset(map(type, args[1:]))
            and torch.is_grad_enabled() is known.is_tracking
            and state.pending is None
            and len(entries) < _MOST_ENTRIES
        ):
            target: Any = args[0]
            before = version_of(target)
            result = func(*args)
            after = version_of(target)
            if after != before:
                old = known.entry
                where, word = old.location, old.word
                details = VersionDetails(before, after)
                same = old.kind, word, where, None, old.identities, None, details
                known.entry = entry = Entry(*same)
                entries.append(entry)
                done = word, where, known.storage, before, after, creation_count()
                state.changes.append(InPlaceChange(*done))
            return result
    record = state.provenance.tensors.of(args[0]) if args else None
    if (
        not isinstance(record, UntrackedTensor)
        or kwargs
        or record.inputs
        or record.matters
        or record.grad_of is not None
        or not state.is_alone
        or not _NUMBERS.issuperset(map(type, args[1:]))
        or type(args[0]) is not torch.Tensor
        or args[0].requires_grad
        or state.is_inside()
    ):
        return _change(state, func, args, kwargs)
    target = args[0]
    before = version_of(target)
    result = func(*args)
    try:
        location = user_location(sys._getframe(2), state.verdicts)
        log_plain_change(state, target, record, word_of(func), before, location)
        _may_repeat(state, TorchCall(func, args, kwargs), location, record)
    except Exception as error:
        state.failed(error)
    return result


call_made_from(change.__code__, globals())
_NAMED: dict[str, Handler] = {
    "_set_grad_enabled": _handler(_after_mode, _before_mode),
    "backward": _handler(gradients.after_backward_call, gradients.before_backward_call),
    "detach": _repeatable(_after_cut(Cause.DETACH)),
    "detach_": _handler(_after_detach_, _before_detach_),
    **dict.fromkeys(("register_hook", "register_post_accumulate_grad_hook"), _handler(_after_hook)),
    "requires_grad_": _handler(_after_flag, _before_flag),
    "set_grad_enabled": _handler(_after_mode, _before_mode),
    **dict.fromkeys(("numpy", "__array__"), _handler(_after_value_read(Cause.NUMPY))),
    **dict.fromkeys(
        ("item", "tolist", "__float__", "__int__", "__index__", "__complex__"),
        _repeatable(_after_value_read(Cause.ITEM)),
    ),
    **dict.fromkeys(QUERIES, pass_on),
    "__deepcopy__": _handler(_after_deepcopy),
}
_PROPERTIES: dict[tuple[str, str], Handler | None] = {
    ("__get__", "data"): _repeatable(_after_cut(Cause.DATA)),
    ("__set__", "data"): _handler(_after_data_set),
    ("__get__", "grad"): _handler(gradients.after_grad_read),
    ("__set__", "grad"): _handler(gradients.after_grad_set, gradients.before_grad_set),
    ("__delete__", "grad"): _handler(gradients.after_grad_set, gradients.before_grad_set),
    ("__set__", "requires_grad"): _handler(_after_flag, _before_flag),
    **dict.fromkeys((("__get__", word) for word in ["H", "T", "mH", "mT", "real", "imag"]), None),
}
_COPIES = (torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor)
_LOOKUPS = (torch.nn.functional.embedding, torch.nn.functional.embedding_bag)
_copy = _handler(_after_copy, _before_copy)


def _handler_of(func: Any) -> Handler | None:
    name, word = str(getattr(func, "__name__", "")), word_of(func)
    if name in ("__get__", "__set__", "__delete__"):
        return _PROPERTIES.get((name, word), pass_on)
    if func is torch.autograd.grad:
        return _NAMED["backward"]
    if name in _NAMED:
        return _NAMED[name]
    if any(func is each for each in _COPIES):
        return _copy
    if func in _LOOKUPS:
        return lookup
    if word.endswith("_") and not word.endswith("__"):
        return change
    return None
