"""Tells when ``torch.inference_mode`` is entered and left: torch itself tells nobody."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["install", "remove"]

_mode: Any = torch.inference_mode
_NAMES = ("__enter__", "__exit__")
_originals: list[Callable[..., Any]] = []


def install(tell: Callable[[], None]) -> None:
    """Call ``tell`` after each entry and exit, as block or as decorator, until `remove`."""
    for name in _NAMES:
        original = getattr(_mode, name)
        _originals.append(original)
        setattr(_mode, name, _telling(original, tell))


def remove() -> None:
    """Put torch's own methods back."""
    for name, original in zip(_NAMES, _originals, strict=True):
        setattr(_mode, name, original)
    _originals.clear()


def _telling(original: Callable[..., Any], tell: Callable[[], None]) -> Callable[..., Any]:
    @functools.wraps(original)
    def switch(*args: Any) -> Any:
        result = original(*args)
        tell()
        return result

    return switch
