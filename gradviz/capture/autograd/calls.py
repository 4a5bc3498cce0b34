"""Reports the calls of modules; a stand-in runs the user's hooks during a recorded backward.

Torch has hooks per module, and a pair of hooks for all modules. A recording uses the pair: a hook
on a module stays in deep copies and saved copies of it, ``torch.jit.script`` refuses it, a
``TransformerEncoderLayer`` with one leaves its fast path, which changes the numbers, and modules
created during the recording would have none.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules import module as _modules
from torch.utils.hooks import BackwardHook

__all__ = [
    "CallListener",
    "ModuleHook",
    "StandIn",
    "Table",
    "call_depth",
    "install",
    "listen_to_calls",
    "remove",
    "tables_of",
    "unlisten_to_calls",
]


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


Table = dict[int, Callable[..., Any]]
"""The hooks of a tensor, by the ``id`` of their handle; torch calls them in this order."""

_METHOD = "__init__"
_original: Any = None


def tables_of(tensor: torch.Tensor) -> tuple[Table | None, Table | None]:
    """The hooks of a tensor: those on its gradient, and its post-accumulate-grad hooks.

    Private: ``_backward_hooks`` and ``_post_accumulate_grad_hooks``; hooks have no public list.
    """
    before: Any = getattr(tensor, "_backward_hooks", None)
    after: Any = getattr(tensor, "_post_accumulate_grad_hooks", None)
    return before, after


class StandIn:
    """Replaces a hook, and is notified before and after it runs.

    Args:
        hook: the user's hook.
        look: called with the argument of the hook before it runs; returns a function that is called
            with the result of the hook.
    """

    def __init__(
        self, hook: Callable[..., Any], look: Callable[[Any], Callable[[Any], None]]
    ) -> None:
        self.hook = hook
        self._look = look

    def __call__(self, given: Any) -> Any:
        """Call the hook."""
        after = self._look(given)
        result = self.hook(given)
        after(result)
        return result

    def __getattr__(self, name: str) -> Any:
        """Attributes of the hook, because torch prints the name of a hook in its errors."""
        return getattr(self.hook, name)


class ModuleHook:
    """A full backward hook of a module, whose result is reported.

    Args:
        hook: the user's hook.
        report: called with the hook, the module, the gradients that it received, and its result.
    """

    def __init__(self, hook: Callable[..., Any], report: Callable[..., None]) -> None:
        self.hook = hook
        self._report = report

    def __call__(self, module: Any, gradients: Any, *others: Any) -> Any:
        """Call the hook."""
        result = self.hook(module, gradients, *others)
        self._report(self.hook, module, gradients, result)
        return result


def install(report: Callable[..., None]) -> None:
    """Report the results of the full backward hooks of modules, until `remove`.

    Private: ``torch.utils.hooks.BackwardHook``, of which each call of a module with hooks creates
    one; the hooks on its nodes cannot be listed.
    """
    global _original
    _original = original = BackwardHook.__init__

    @functools.wraps(original)
    def begin(self: Any, module: Any, hooks: Any, before: Any) -> None:
        if torch.compiler.is_dynamo_compiling():
            original(self, module, hooks, before)
            return
        reported = ([ModuleHook(hook, report) for hook in each] for each in (hooks, before))
        original(self, module, *reported)

    setattr(BackwardHook, _METHOD, begin)


def remove() -> None:
    """Restore torch's own method."""
    setattr(BackwardHook, _METHOD, _original)
