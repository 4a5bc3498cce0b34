"""Keeps the fast paths of torch's transformer modules open while a recording is active.

In evaluation ``TransformerEncoder``, its layers and ``MultiheadAttention`` run as one operation
each, unless an argument has a ``__torch_function__`` of its own, which might want to see the
operations inside. An active ``TorchFunctionMode`` counts as one. Without the fast path padded
places have other values: a recording would change the program.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch

__all__ = ["install", "remove"]

# Private: the stack of modes, and ``_pop_mode_temporarily``; no mode can be left out in public.
_overrides: Any = torch.overrides
_originals: list[Callable[[Any], bool]] = []


def install() -> None:
    """Let modes that only look not count, until `remove`.

    It is the name in ``torch.overrides`` that the three modules ask by, and nothing else does:
    what asks in order to call a mode has a name of its own for the function.
    """
    original = _overrides.has_torch_function
    _originals.append(original)

    def has_torch_function(arguments: Any) -> bool:
        if torch.compiler.is_dynamo_compiling():  # it traces this
            return bool(original(arguments))
        stack = _overrides._get_current_function_mode_stack()
        if not all(getattr(mode, "only_looks", False) for mode in stack):
            return bool(original(arguments))
        with ExitStack() as without:
            for _ in stack:
                without.enter_context(_overrides._pop_mode_temporarily())
            return bool(original(arguments))

    _overrides.has_torch_function = has_torch_function


def remove() -> None:
    """Put torch's own function back."""
    _overrides.has_torch_function = _originals.pop()
