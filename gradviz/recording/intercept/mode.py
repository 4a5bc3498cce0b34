"""The hot path of a recording: intercepts every call to torch, and logs it.

Its cost is paid for every operation of the user's program. A plain operation of the graph is
logged as one tuple without reading ``grad_fn``: a node that Python has read keeps its wrapper,
and a deep graph of such nodes overflows the stack when it is dropped.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

import torch
from torch.nn import Parameter
from torch.overrides import TorchFunctionMode

from gradviz.capture.autograd.engine import creation_count, jit_trace
from gradviz.capture.autograd.tensors import is_quiet
from gradviz.graph import Cause
from gradviz.recording.event_log import SHAPE_ONLY, Entry, word_of
from gradviz.recording.function_calls import is_forward
from gradviz.recording.intercept.calls import change, pass_on
from gradviz.recording.provenance import Leaf, cause_of
from gradviz.recording.source_lines import CodeLocation, Helper, HelperFiles, call_made_from
from gradviz.recording.state import RecordingState
from gradviz.story import EventKind

__all__ = ["RecordingMode"]

_NOTHING_TO_SAY = frozenset(
    {type(None), bool, int, float, str, torch.Size, torch.dtype, torch.device, torch.layout}
)
_Tensor = torch.Tensor
_BETWEEN, _ALL = Helper.BETWEEN, Helper.ALL
helpers = HelperFiles()


class RecordingMode(TorchFunctionMode):
    """Passes the program's calls to a `RecordingState`.

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
        if torch.compiler.is_dynamo_compiling():  # it traces this method, which must do nothing
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
        if kind is _Tensor and self.is_alone and result.requires_grad:
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
            kind is _Tensor and not kwargs and _repeats_call(state, func, args, result)
        ):
            return result
        state.made(func, (args, kwargs or {}), result, before)
        return result


def _repeats_call(
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
            return _add_untracked(state, func, args, result, known[1])
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
    mode = None if torch.is_grad_enabled() else state.cause_of_mode()
    is_inside = mode is Cause.NO_GRAD and state.grad_expected
    if is_inside or (mode is not None and location.code and is_forward(location.code)):
        return False
    word, provenance = word_of(func), state.provenance
    cause = mode or Cause.NOT_DIFFERENTIABLE
    inputs, matters = [], False
    for each in () if word in SHAPE_ONLY else args:
        if type(each) is _Tensor or type(each) is Parameter:
            if each.requires_grad:
                data = state.input_from(each, cause, location, word)
            else:
                data = provenance.untracked(each).as_input()
            matters = matters or data.matters
            inputs.append(data)
    if any(result is each for each in args) or isinstance(provenance.tensors.of(result), Leaf):
        return False
    made = provenance.add(result, word, cause_of(inputs), location, inputs, matters)
    state.log(Entry(EventKind.OPERATION, word, location, None, (made.identity,)))
    return True


call_made_from(RecordingMode.__torch_function__.__code__, globals())
