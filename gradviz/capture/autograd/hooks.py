"""The hooks of the user's: on tensors, on leaves after a gradient was added, and on modules.

While a backward pass of a recording runs, a stand-in calls each hook in its place; afterwards
the hook is back where it was.
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

_TOLD_BY = "__init__"
_original: Any = None


def tables_of(tensor: torch.Tensor) -> tuple[Table | None, Table | None]:
    """The hooks of a tensor: those on its gradient, and those after it was added to ``.grad``.

    Private: ``_backward_hooks`` and ``_post_accumulate_grad_hooks``; hooks have no public list.
    """
    before: Any = getattr(tensor, "_backward_hooks", None)
    after: Any = getattr(tensor, "_post_accumulate_grad_hooks", None)
    return before, after


class StandIn:
    """Called in the place of a hook, with a look before and one after.

    Args:
        hook: what the user registered.
        look: called with what the hook is given, before it; what it returns is called with what
            the hook returned.
    """

    def __init__(
        self, hook: Callable[..., Any], look: Callable[[Any], Callable[[Any], None]]
    ) -> None:
        self.hook = hook
        self._look = look

    def __call__(self, given: Any) -> Any:
        """Call the hook."""
        tell = self._look(given)
        result = self.hook(given)
        tell(result)
        return result

    def __getattr__(self, name: str) -> Any:
        """Torch names a hook in its errors: by the name that it has."""
        return getattr(self.hook, name)


class ModuleHook:
    """A full backward hook of a module, whose result is told.

    Args:
        hook: what the user registered.
        tell: called with the hook, the module, the gradients that it was given, and its result.
    """

    def __init__(self, hook: Callable[..., Any], tell: Callable[..., None]) -> None:
        self.hook = hook
        self._tell = tell

    def __call__(self, module: Any, gradients: Any, *others: Any) -> Any:
        """Call the hook."""
        result = self.hook(module, gradients, *others)
        self._tell(self.hook, module, gradients, result)
        return result


def install(tell: Callable[..., None]) -> None:
    """Have the results of the full backward hooks of modules told, until `remove`.

    Private: ``torch.utils.hooks.BackwardHook``, which each call of a module with hooks makes for
    itself; the hooks on the nodes behind it cannot be found.
    """
    global _original
    _original = original = BackwardHook.__init__

    @functools.wraps(original)
    def begin(self: Any, module: Any, hooks: Any, before: Any) -> None:
        if torch.compiler.is_dynamo_compiling():
            original(self, module, hooks, before)
            return
        told = ([ModuleHook(hook, tell) for hook in each] for each in (hooks, before))
        original(self, module, *told)

    setattr(BackwardHook, _TOLD_BY, begin)


def remove() -> None:
    """Put torch's own method back."""
    setattr(BackwardHook, _TOLD_BY, _original)
