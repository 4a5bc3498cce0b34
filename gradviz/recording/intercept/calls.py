"""Intercepts every call to torch: the hot path, and the handlers of functions that do more.

A handler reads the arguments before the call and records the result after it. The call itself is
made once and outside of any guard, because its exceptions are the program's.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from functools import partial
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch.compiler import is_dynamo_compiling
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from gradviz.capture.autograd.engine import creation_count, jit_trace
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import (
    is_quiet,
    is_transformed,
    memory_of,
    quietly,
    storage_address,
    version_of,
    written_by,
)
from gradviz.capture.tensors.summary import summarize
from gradviz.facts import Action
from gradviz.graph import Cause, TensorSummary
from gradviz.graph.operations import type_text
from gradviz.recording.event_log import QUERIES, Entry, word_of
from gradviz.recording.intercept import gradients
from gradviz.recording.intercept.in_place import (
    after_change,
    before_change,
    keep_versions,
    log_plain_change,
    lookup,
)
from gradviz.recording.intercept.repeated import (
    Repeated,
    log_change,
    may_repeat,
    repeats_call,
    repeats_change,
)
from gradviz.recording.source_lines import (
    SCALER_MODULE,
    Helper,
    HelperFiles,
    call_made_from,
    called_functions,
    decorated_code,
    decorated_with_mode,
    frames_inside,
    user_location,
)
from gradviz.recording.state import Handler, RecordingState, TorchCall, tensors_in
from gradviz.recording.tensor_records import CutSite, Leaf, UntrackedTensor, address_of
from gradviz.story import EventKind

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


def _repeatable(after: _Look, is_cut: bool = False) -> Handler:
    """A handler of a call that often repeats the latest one.

    Args:
        after: called after any other call.
        is_cut: whether `RecordingState.before_cut` is called before any other call.
    """

    def handle(
        state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        known: Repeated | None = state.repeated
        frame = sys._getframe(2)
        is_same = known is not None and known.offset == frame.f_lasti  # tested before a call
        if known is not None and is_same and known.is_repeated(state, func, args, frame):
            result = func(*args, **kwargs) if kwargs else func(*args)
            if type(result) is float:
                if result == known.number:
                    known.entry.repeats += 1
                    if result:  # the same object, whose record is known; but -0.0 equals 0.0
                        return known.number
                    state.provenance.read.remember_numbers(result, known.record)
                    return result
            elif type(result) is _Tensor and known.record.ref() is None:
                known.record.ref = weakref.ref(result)
                state.provenance.tensors.latest = known.record
                known.entry.repeats += 1
                return result
        else:
            if is_cut and state.before_cut is not None:
                try:
                    state.before_cut()
                except Exception as error:
                    state.failed(error)
            result = func(*args, **kwargs) if kwargs else func(*args)
        call = TorchCall(func, args, kwargs, None, result)
        try:  # as `RecordingState.guard`, without a call
            if state.is_alone and not kwargs and is_quiet(args):
                after(state, call)
            else:
                with quietly():
                    after(state, call)
        except Exception as error:
            state.failed(error)
        return result

    call_made_from(handle.__code__, globals())
    return handle


def pass_on(state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call that is not recorded."""
    return func(*args, **kwargs)


def _before_cut(state: RecordingState) -> None:
    if state.before_cut is not None:
        state.before_cut()


def _after_cut(cause: Cause) -> _Look:
    """``x.detach()``, ``x.data``: the result is untracked."""

    def after(state: RecordingState, call: TorchCall) -> None:
        if not isinstance(call.result, torch.Tensor):
            return
        tensor = (*call.args, *call.kwargs.values())[0]  # ``torch.detach(input=x)``
        if state.is_inside():
            state.function_calls.add([tensor], [call.result])
            return
        location = user_location(sys._getframe(0), state.verdicts)
        cut, word = cause, word_of(call.func)
        if location.offset < 0:
            names = called_functions(sys._getframe(1), state.verdicts)
            for name in _COPYING.intersection(names):  # also where a library copies a module
                cut, word = Cause.VALUES_COPIED, name
        data = state.input_from(tensor, cut, location, word)
        kind = EventKind.OPERATION if isinstance(data.source, UntrackedTensor) else EventKind.CUT
        state.add_untracked(word_of(call.func), [data], [call.result], location, kind)
        record = state.provenance.tensors.get(id(call.result))  # it was just entered
        if isinstance(record, UntrackedTensor):
            may_repeat(state, call, location, record)

    return after


_COPYING = frozenset({"deepcopy", "vector_to_parameters"})


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
        _before_cut(state)
        call.before = state.input_from(tensor, Cause.DETACH, state.location(), "detach_")


def _after_detach_(state: RecordingState, call: TorchCall) -> None:
    """``x.detach_()``: the tensor itself becomes untracked."""
    if call.before is not None:
        state.provenance.release(call.args[0])
        location = call.before.location
        state.add_untracked("detach_", [call.before], [call.args[0]], location, EventKind.CUT)


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
                if is_flag and sys._getframe(3).f_globals.get("__name__") == SCALER_MODULE:
                    gradients.log_skipped_step(state)
                return  # plain data
        if cause is Cause.NUMPY:
            state.provenance.arrays.add(storage_address(tensor))
        location = state.location()
        word = word_of(call.func)
        data = state.input_from(tensor, cause, location, word)
        if data.cut_leaves and not tensor.requires_grad and tensor.is_floating_point():
            # Without the earlier cut it stays cut; an index has no gradient either way.
            data = data.cut_again(cause, location, word)
        untracked = state.provenance.add_plain_value(word, data, location)
        untracked.value = _value_read(tensor, call.result)
        state.provenance.read.remember_numbers(call.result, untracked)
        if isinstance(call.result, np.ndarray):
            state.provenance.read.remember_array(call.result, untracked)
        was_cut = tensor.requires_grad or bool(untracked.cut_leaves)
        kind = EventKind.CUT if was_cut else EventKind.OPERATION  # of a frozen tensor
        state.log(Entry(kind, untracked.word, location, identities=(untracked.identity,)))
        may_repeat(state, call, location, untracked)

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
    if call.func is torch.tensor and [type(each) for each in call.args] == [float]:
        gradients.after_number(state, location)
    inputs = [state.input_from(each, Cause.COPY, location) for each in given]
    inputs += [each.as_input() for each in state.provenance.read.numbers_in(call.args)]
    arrays = (each for each in call.args if isinstance(each, np.ndarray))
    read = [state.provenance.read.array_at(address_of(each)) for each in arrays]
    inputs += [each.as_input() for each in read if each is not None]
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
        _before_cut(state)
        state.provenance.leaf(tensor)  # one that is frozen stays the leaf that it was


def _after_flag(state: RecordingState, call: TorchCall) -> None:
    """``x.requires_grad_(...)``, ``x.requires_grad = ...``."""
    tensor = call.args[0]
    if tensor.requires_grad == call.before:
        return
    if is_transformed(tensor):  # an argument of torch.func.grad
        state.in_transform = state.hides_inputs = True
        state.update_alert()
    location, provenance = state.location(), state.provenance
    old = provenance.tensors.of(tensor)
    if tensor.requires_grad:
        leaf = provenance.leaf(tensor)
        leaf.location = old.location if old is not None else leaf.location
        action, identity = Action.REQUIRES_GRAD_ON, leaf.identity
    else:
        untracked = provenance.add(tensor, "", Cause.REQUIRES_GRAD, location, (), matters=True)
        if isinstance(old, Leaf):
            untracked.become(old)
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
    if call.before[0]:
        _before_cut(state)


def _after_mode(state: RecordingState, call: TorchCall) -> None:
    """Gradient mode was switched: ``no_grad``, ``enable_grad``, ``set_grad_enabled``."""
    before, was_inside = call.before
    now = torch.is_grad_enabled()
    if was_inside or torch.is_inference_mode_enabled():  # whose end restores the mode
        return
    state.grad_expected = now
    word = _mode_word(state) if now != before else ""
    if word:
        action = Action.GRADIENTS_ON if now else Action.GRADIENTS_OFF
        location = decorated_with_mode(state.verdicts) or state.location()
        state.log(Entry(EventKind.MODE, word, location, action=action))


_MODE_FILES = ("grad_mode.py", "_contextlib.py", "contextlib.py")


def _mode_word(state: RecordingState) -> str:
    """The user's call that switched gradient mode; "" if torch itself did."""
    word = "set_grad_enabled"
    for frame in frames_inside(sys._getframe(1), state.verdicts):
        if frame.f_code.co_filename.endswith(_MODE_FILES):
            owner = frame.f_locals.get("self")
            word = type(owner).__name__ if owner is not None else word
            # Whoever calls it, as torch calls forward(); torch wraps closures in enable_grad.
            if word != "enable_grad" and decorated_code(frame, state.verdicts) is not None:
                return word
        elif frame.f_globals.get("__name__", "").partition(".")[0] != "gradviz":
            return ""
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


def _before_data_set(state: RecordingState, call: TorchCall) -> None:
    call.before = memory_of(call.args[0])


def _after_data_set(state: RecordingState, call: TorchCall) -> None:
    """``x.data = ...``: other values, which autograd does not record."""
    tensor, data = call.args[:2]
    if call.before is not None and memory_of(tensor) == call.before:
        return  # the same memory: ``module.to()`` sets it where nothing is to be moved
    record, location = state.provenance.tensors.of(tensor), state.location()
    if record is None and tensor.requires_grad and tensor.is_leaf:
        record = state.provenance.leaf(tensor)
    if record is not None and isinstance(data, torch.Tensor):
        site = CutSite(Cause.VALUES_COPIED, location, "data")
        state.provenance.write(record, [state.input_from(data, *site)], site, replaces=True)
    if isinstance(record, Leaf):
        keep_versions(state, tensor, version_of(tensor), "data", location)
    identities = () if record is None else (record.identity,)
    kind, action = EventKind.IN_PLACE, Action.DATA_REPLACED
    state.log(Entry(kind, "data", location, identities=identities, action=action))


call_made_from(pass_on.__code__, globals())
_change = _handler(after_change, before_change)
_NUMBERS = frozenset({int, float, bool})


def change(state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A change in place; of plain data by plain numbers, without what others need."""
    if repeats_change(state, func, args, kwargs):
        before = version_of(args[0])
        result = func(*args)
        log_change(state, before, version_of(args[0]))
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
        may_repeat(state, TorchCall(func, args, kwargs), location, record)
    except Exception as error:
        state.failed(error)
    return result


call_made_from(change.__code__, globals())
_NAMED: dict[str, Handler] = {
    "_set_grad_enabled": _handler(_after_mode, _before_mode),
    "backward": _handler(gradients.after_backward_call, gradients.before_backward_call),
    "detach": _repeatable(_after_cut(Cause.DETACH), is_cut=True),
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
    ("__get__", "data"): _repeatable(_after_cut(Cause.DATA), is_cut=True),
    ("__set__", "data"): _handler(_after_data_set, _before_data_set),
    ("__get__", "grad"): gradients.read_grad,
    **dict.fromkeys((("__set__", "grad"), ("__delete__", "grad")), gradients.set_grad),
    ("__set__", "requires_grad"): _handler(_after_flag, _before_flag),
    **dict.fromkeys((("__get__", word) for word in ["H", "T", "mH", "mT", "real", "imag"]), None),
}
_COPIES = (torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor)
_LOOKUPS = (torch.nn.functional.embedding, torch.nn.functional.embedding_bag)
_copy = _handler(_after_copy, _before_copy)


def _handler_of(func: Any) -> Handler | None:
    name, word = str(getattr(func, "__name__", "")), word_of(func)
    if name.startswith("_record_function_"):  # of the profiler
        return pass_on
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
    if (word.endswith("_") and not word.endswith("__")) or written_by(func, (), {}):
        return change
    return None


_NOTHING_TO_SAY = frozenset(
    {type(None), bool, int, float, str, torch.Size, torch.dtype, torch.device, torch.layout}
)
_Tensor = torch.Tensor
_BETWEEN, _ALL = Helper.BETWEEN, Helper.ALL
helpers = HelperFiles()


class RecordingMode(TorchFunctionMode):
    """Passes the program's calls to a `RecordingState`.

    This is the hot path: its cost is paid for every operation of the user's program. A plain
    operation of the graph is logged as one tuple without reading ``grad_fn``: a node that Python
    has read keeps its wrapper, and a deep graph of such nodes overflows the stack when it is
    dropped.

    Args:
        state: records the calls.

    Attributes:
        is_alone: whether there is no other mode below this one, which would intercept the reads of
            tensors here.
        only_looks: that this mode changes nothing; `engine` reads it.
    """

    only_looks = True

    def __init__(self, state: RecordingState) -> None:
        super().__init__()
        self._state = state
        self._handlers = state.handlers
        self._verdicts = state.verdicts
        self._append = state.event_log.entries.append
        self.is_alone = True

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call ``func``, and record the call."""
        if is_dynamo_compiling():  # it traces this method, which must do nothing
            return func(*args, **(kwargs or {}))
        if jit_trace() is not None:  # it names values after the variables of visible frames
            return func(*args, **(kwargs or {}))
        state = self._state
        handler = self._handlers[func]
        if handler is pass_on:
            return func(*args, **kwargs) if kwargs else func(*args)
        if state.alert and not state.attend(handler):
            return func(*args, **(kwargs or {}))
        if handler is not None:
            return handler(state, func, args, kwargs or {})
        if kwargs and (kwargs.get("out") is not None or kwargs.get("inplace")):
            return change(state, func, args, kwargs)
        before = creation_count()
        result = func(*args, **kwargs) if kwargs else func(*args)
        kind = type(result)
        if state.hides_inputs:
            pass
        elif kind is _Tensor and self.is_alone and result.requires_grad:
            for argument in (*args, *kwargs.values()) if kwargs else args:
                kind = type(argument)
                if kind is _Tensor or kind is Parameter:
                    if not argument.requires_grad:
                        break
                elif kind is tuple or kind is list:
                    if argument and type(argument[0]) is not int:
                        break
                elif issubclass(kind, _Tensor):
                    break
            else:
                after = creation_count()
                if after != before:
                    frame = sys._getframe(1)
                    code, offset = frame.f_code, frame.f_lasti
                    verdicts = self._verdicts
                    helper = verdicts[code.co_filename] or helpers[code.co_filename]
                    while not verdicts[code.co_filename]:
                        if frame.f_back is None:
                            code, offset = None, 0  # type: ignore[assignment]
                            break
                        frame = frame.f_back
                        code, offset = frame.f_code, ~frame.f_lasti
                    made = before, after, func, code, offset, weakref.ref(result)
                    if helper is _BETWEEN or helper is _ALL:
                        made = state.as_row(made)  # type: ignore[assignment]
                    self._append(made)
                    if after > state.limit:
                        state.flush()
                    return result
        elif kind in _NOTHING_TO_SAY or (
            kind is _Tensor and not kwargs and repeats_call(state, func, args, result)
        ):
            return result
        state.made(func, (args, kwargs or {}), result, before)
        return result


call_made_from(RecordingMode.__torch_function__.__code__, globals())
