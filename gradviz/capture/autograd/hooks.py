"""The user's hooks: on tensors, on leaves after accumulation, and on modules.

While a recorded backward pass runs, a stand-in takes the place of each hook and calls it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.hooks import BackwardHook

__all__ = ["ModuleHook", "StandIn", "Table", "install", "remove", "tables_of"]

Table = dict[int, Callable[..., Any]]
"""The hooks of a tensor, by the ``id`` of their handle; torch calls them in this order."""

_METHOD = "__init__"
_original: Any = None


def tables_of(tensor: torch.Tensor) -> tuple[Table | None, Table | None]:
    """The hooks of a tensor: those on its gradient, and those after it was added to ``.grad``.

    Private: ``_backward_hooks`` and ``_post_accumulate_grad_hooks``; hooks have no public list.
    """
    before: Any = getattr(tensor, "_backward_hooks", None)
    after: Any = getattr(tensor, "_post_accumulate_grad_hooks", None)
    return before, after


class StandIn:
    """Takes the place of a hook, and is called before and after it.

    Args:
        hook: what the user registered.
        look: called with the argument of the hook, before it; what it returns is called with the
            result of the hook.
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
        """Torch names hooks in its errors: pass the attributes of the hook on."""
        return getattr(self.hook, name)


class ModuleHook:
    """A full backward hook of a module, whose result is reported.

    Args:
        hook: what the user registered.
        report: called with the hook, the module, the gradients that it was given, and its result.
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
    """Put torch's own method back."""
    setattr(BackwardHook, _METHOD, _original)
