"""Names of operations, and the arguments of them that are shown.

Torch names the node of an operation after its derivative (``MulBackward0``) and its arguments
after its native signature (``_saved_exponent``). This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gradviz.graph.operations import FUNCTIONS_OF_TORCH, REENTRANT
from gradviz.graph.text import number_text

_PLAIN = (int, float, complex, str)


@dataclass(frozen=True)
class OperationType:
    """The properties shared by all nodes of one type, found once per type.

    Args:
        grad_fn: class name: ``"MulBackward0"``.
        op: the forward word: ``"mul"``.
        opaque: why the inside is not recorded, or "".
        saved: the argument names of the tensors that it may save.
        raw: the attributes that hold them.
        read_raw: reads these attributes; a single one gives a bare value.
        saves_tensors: False for a custom ``Function`` whose code saves none.
        arguments: the name under which it saves each input, where known.
        options: the names of its plain arguments that are shown.
        read_options: reads them all; a single name gives a bare value.
    """

    grad_fn: str
    op: str
    opaque: str = ""
    saved: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()
    read_raw: Any = None
    saves_tensors: bool = True
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    read_options: Any = None


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return number_text(value) if isinstance(value, (int, float, complex)) else str(value)


def _signed(value: object) -> object:
    """Torch gives dimensions as unsigned 64-bit integers: -1 is 2**64 - 1."""
    if isinstance(value, (list, tuple)):
        return [_signed(item) for item in value]
    if type(value) is int and value >= 2**63:
        return value - 2**64
    return value


def _dims(value: object) -> str:
    return _text(_signed(value))


def _unless(*silent: object) -> Callable[[object], str]:
    """Format a value; "" for the given usual values."""

    def text(value: object) -> str:
        items = value if isinstance(value, (list, tuple)) else (value,)
        return "" if all(item in silent for item in items) else _text(_signed(value))

    return text


def _end(value: object) -> str:
    return "" if type(value) is int and value == 2**63 - 1 else _dims(value)


def _reduction(value: object) -> str:
    return {0: "none", 2: "sum"}.get(value if isinstance(value, int) else 1, "")


def _interpolation(value: object) -> str:
    return {1: "nearest", 2: "bicubic"}.get(value if isinstance(value, int) else 0, "")


OPTIONS: dict[str, Callable[[object], str]] = {
    "alpha": _unless(1),
    "approximate": _unless("none"),
    "beta": _unless(1),
    "diagonal": _unless(0),
    "dilation": _unless(1),
    "dim": _dims,
    "dim0": _dims,
    "dim1": _dims,
    "dims": _dims,
    "dropout_p": _unless(0.0),
    "end": _end,
    "exponent": _text,
    "groups": _unless(1),
    "index": _dims,
    "interpolation_mode": _interpolation,
    "is_causal": _unless(False),
    "keepdim": _unless(False),
    "kernel_size": _text,
    "lambd": _text,
    "max": _text,
    "max_val": _text,
    "min": _text,
    "min_val": _text,
    "negative_slope": _text,
    "ord": _text,
    "other": _text,
    "p": _text,
    "padding": _unless(0),
    "padding_idx": _unless(-1, 2**64 - 1),
    "reduction": _reduction,
    "self": _text,
    "split_size": _text,
    "start": _unless(0),
    "step": _unless(1),
    "stride": _unless(1),
    "threshold": _unless(0),
    "value": _unless(1),
    "weight": _text,
}
"""Formatters of the plain arguments that are shown; "" leaves the argument out."""


def option_text(name: str, value: object) -> str:
    """A plain argument as short text, or "" for a usual value.

    Example:
        >>> option_text("dim", 2**64 - 1), option_text("stride", (1, 1)), option_text("p", 0.5)
        ('-1', '', '0.5')
    """
    items = value if isinstance(value, (list, tuple)) else (value,)
    if not all(isinstance(item, _PLAIN) for item in items):
        return ""  # absent, or symbolic: comparing it would specialize a graph being compiled
    return OPTIONS[name](value)


def custom_word(module: str, name: str) -> tuple[str, str]:
    """The name of a custom ``Function``, and why its inside is not recorded, or "".

    Example:
        >>> custom_word("torch.utils.checkpoint", "CheckpointFunction")
        ('checkpoint', 'reentrant checkpoint')
        >>> custom_word("my_layers", "Clamp")
        ('Clamp', '')
    """
    if module.startswith("torch._functorch") and name.startswith("Compiled"):
        return "compiled", "torch.compile"
    if module == "torch.utils.checkpoint":
        return "checkpoint", REENTRANT
    if module.startswith(("torch.distributed.", "torch.nn.parallel.")):
        return FUNCTIONS_OF_TORCH.get(name, name), ""
    return name, ""


@lru_cache
def type_text(value: object) -> str:
    """The name of a dtype or a device: ``"float32"``, ``"cuda:0"``."""
    return str(value).removeprefix("torch.")


def plain_shape(sizes: Iterable[object]) -> tuple[int, ...]:
    """Sizes as integers; -1 for a symbolic one, because reading it would specialize it."""
    return tuple(size if type(size) is int else -1 for size in sizes)
