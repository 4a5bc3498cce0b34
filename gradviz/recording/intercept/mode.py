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
from gradviz.recording.intercept.calls import change, pass_on
from gradviz.recording.source_lines import Helper, HelperFiles, call_made_from
from gradviz.recording.state import RecordingState

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
        elif kind in _NOTHING_TO_SAY:
            return result
        state.made(func, (args, kwargs or {}), result, before)
        return result


call_made_from(RecordingMode.__torch_function__.__code__, globals())
