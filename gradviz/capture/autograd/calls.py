"""Where the calls of modules begin and end.

Torch can put hooks on each module, or a pair of them on all modules at once. While a recording
is open it is the pair on all, for a hook on a module does not stay where it was put: a deep copy
of the module, or a saved one, has it for ever, ``torch.jit.script`` refuses it, and a
``TransformerEncoderLayer`` that has one leaves its fast path, which changes the numbers. Modules
that are made during the recording would have none.
"""

from __future__ import annotations

import threading
import warnings
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules import module as _modules

__all__ = ["CallListener", "call_depth", "listen_to_calls", "unlisten_to_calls"]


class CallListener(Protocol):
    """What wants to know of calls of modules, in any thread."""

    def enter(self, module: nn.Module) -> None: ...  # noqa: D102

    def leave(self, module: nn.Module) -> None: ...  # noqa: D102

    def stumbled(self, error: Exception) -> None: ...  # noqa: D102


_KEY = "gradviz"
_NEEDLESS = r"Using `torch\.compile\(module\)` when there are global hooks"
_table: Any = _modules
_lock = threading.Lock()
_listeners: list[CallListener] = []
_filters: list[Any] = []


def _enter(module: nn.Module, args: Any) -> None:
    if not torch.compiler.is_dynamo_compiling():  # it traces this, and must find nothing
        for listener in _listeners:
            try:
                listener.enter(module)
            except Exception as error:  # it must not reach the program
                listener.stumbled(error)


def _leave(module: nn.Module, args: Any, result: Any) -> None:
    if not torch.compiler.is_dynamo_compiling():
        for listener in reversed(_listeners):
            try:
                listener.leave(module)
            except Exception as error:
                listener.stumbled(error)


def listen_to_calls(listener: CallListener) -> None:
    """Tell a listener of the calls of modules, until `unlisten_to_calls`.

    Private: ``_global_forward_pre_hooks`` and ``_global_forward_hooks``. The public functions
    give each hook another number, by which ``torch.compile`` takes it for another hook: it would
    compile every function again for every recording. The same two functions under the same key
    cost it nothing. The hook at the end is also called when the module raises.
    """
    with _lock:
        _listeners.append(listener)
        if len(_listeners) == 1:
            # Torch warns when a compiled module is called, in case a hook cannot bear it.
            warnings.filterwarnings("ignore", message=_NEEDLESS)
            _filters.append(warnings.filters[0])
            _table._global_forward_pre_hooks[_KEY] = _enter
            _table._global_forward_hooks[_KEY] = _leave
            _table._global_forward_hooks_always_called[_KEY] = True


def unlisten_to_calls(listener: CallListener) -> None:
    """Tell a listener no more; the last one takes the hooks away.

    Private: as `listen_to_calls`.
    """
    with _lock:
        _listeners.remove(listener)
        if not _listeners:
            _table._global_forward_pre_hooks.pop(_KEY, None)
            _table._global_forward_hooks.pop(_KEY, None)
            _table._global_forward_hooks_always_called.pop(_KEY, None)
            for each in [each for each in warnings.filters if each in _filters]:
                warnings.filters.remove(each)  # type: ignore[attr-defined]
            _filters.clear()


def call_depth(frame: Any) -> int:
    """How many calls of modules a frame is in.

    Private: ``_call_impl``, the function in which every such call runs.
    """
    code, depth = _table.Module._call_impl.__code__, 0
    while frame is not None:
        depth += frame.f_code is code
        frame = frame.f_back
    return depth
