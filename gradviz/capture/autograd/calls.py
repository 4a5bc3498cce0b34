"""Reports the calls of modules.

Torch has hooks per module, and a pair of hooks for all modules. A recording uses the pair: a hook
on a module stays in deep copies and saved copies of it, ``torch.jit.script`` refuses it, a
``TransformerEncoderLayer`` with one leaves its fast path, which changes the numbers, and modules
created during the recording would have none.
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
    """Is notified of the calls of modules, in any thread."""

    def enter(self, module: nn.Module) -> None: ...  # noqa: D102

    def leave(self, module: nn.Module) -> None: ...  # noqa: D102

    def failed(self, error: Exception) -> None: ...  # noqa: D102


_KEY = "gradviz"
_NEEDLESS = r"Using `torch\.compile\(module\)` when there are global hooks"
_table: Any = _modules
_lock = threading.Lock()
_listeners: list[CallListener] = []
_filters: list[Any] = []


def _enter(module: nn.Module, args: Any) -> None:
    if not torch.compiler.is_dynamo_compiling():  # it traces this
        for listener in _listeners:
            try:
                listener.enter(module)
            except Exception as error:  # an error here must not reach the program
                listener.failed(error)


def _leave(module: nn.Module, args: Any, result: Any) -> None:
    if not torch.compiler.is_dynamo_compiling():
        for listener in reversed(_listeners):
            try:
                listener.leave(module)
            except Exception as error:
                listener.failed(error)


def listen_to_calls(listener: CallListener) -> None:
    """Notify a listener of the calls of modules, until `unlisten_to_calls`.

    Private: ``_global_forward_pre_hooks`` and ``_global_forward_hooks``. The public functions
    give each hook a new number, and ``torch.compile`` then compiles every function again for
    every recording; the same two functions under the same key cause no recompilation. The second
    hook is also called when the module raises.
    """
    with _lock:
        _listeners.append(listener)
        if len(_listeners) == 1:
            # Torch warns that a compiled module may skip hooks.
            warnings.filterwarnings("ignore", message=_NEEDLESS)
            _filters.append(warnings.filters[0])
            _table._global_forward_pre_hooks[_KEY] = _enter
            _table._global_forward_hooks[_KEY] = _leave
            _table._global_forward_hooks_always_called[_KEY] = True


def unlisten_to_calls(listener: CallListener) -> None:
    """Stop notifying a listener; after the last one the hooks are removed.

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
    """The number of module calls around a frame.

    Private: ``_call_impl``, the function in which every such call runs.
    """
    code, depth = _table.Module._call_impl.__code__, 0
    while frame is not None:
        depth += frame.f_code is code
        frame = frame.f_back
    return depth
