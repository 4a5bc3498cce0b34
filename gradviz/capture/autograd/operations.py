"""Names of operations, and which of their arguments are shown.

Torch names the node of an operation after its derivative (``MulBackward0``) and its arguments
after its native signature (``_saved_exponent``). Nothing here needs torch itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

__all__ = [
    "ADD_FAMILY",
    "ARGUMENTS",
    "NUMBER_OPERAND",
    "OPTIONAL",
    "OPTIONS",
    "OperationType",
    "custom_word",
    "forward_word",
    "number_text",
    "option_text",
    "plain_shape",
    "type_text",
]

_BACKWARD = re.compile(r"Backwards?\d*\w*$")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_PLAIN_WORDS = {
    "convolution": "conv",
    "unsafe_split": "split",
    "convolution_overrideable": "conv",
    "cudnn_batch_norm": "batch_norm",
    "cudnn_convolution": "conv",
    "linalg_vector_norm": "norm",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
    "miopen_batch_norm": "batch_norm",
    "mkldnn_convolution": "conv",
    "mkldnn_rnn_layer": "rnn",
    "native_batch_norm": "batch_norm",
    "native_dropout": "dropout",
    "native_group_norm": "group_norm",
    "native_layer_norm": "layer_norm",
    "prelu_kernel": "prelu",
    "to_copy": "to",
    "unsafe_view": "view",
}

ADD_FAMILY = frozenset(
    f"{word}Backward0"
    for word in ("Addmm", "Addmv", "Addr", "Baddbmm", "Addbmm", "Addcmul", "Addcdiv")
)
"""Operations that save nothing when only their first input, the one added, requires grad."""

_PLAIN = (int, float, complex, str)
_SELF_OTHER = ("self", "other")
_SELF_TARGET = ("self", "target")
_NORM = ("input", "weight", "bias")
_ATTENTION = ("query", "key", "value")

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "AddbmmBackward0": ("self", "batch1", "batch2"),
    "AddcdivBackward0": ("self", "tensor1", "tensor2"),
    "AddcmulBackward0": ("self", "tensor1", "tensor2"),
    "AddmmBackward0": ("self", "mat1", "mat2"),
    "AddmvBackward0": ("self", "mat", "vec"),
    "AddrBackward0": ("self", "vec1", "vec2"),
    "Atan2Backward0": _SELF_OTHER,
    "BaddbmmBackward0": ("self", "batch1", "batch2"),
    "BinaryCrossEntropyBackward0": _SELF_TARGET,
    "BinaryCrossEntropyWithLogitsBackward0": _SELF_TARGET,
    "BmmBackward0": ("self", "mat2"),
    "ConvolutionBackward0": ("input", "weight", "bias"),
    "CudnnBatchNormBackward0": _NORM,
    "DivBackward0": _SELF_OTHER,
    "DotBackward0": ("self", "tensor"),
    "HuberLossBackward0": _SELF_TARGET,
    "KlDivBackward0": _SELF_TARGET,
    "LerpBackward1": ("self", "end", "weight"),
    "LinearBackward0": ("input", "weight", "bias"),
    "MaximumBackward0": _SELF_OTHER,
    "MinimumBackward0": _SELF_OTHER,
    "MmBackward0": ("self", "mat2"),
    "MseLossBackward0": _SELF_TARGET,
    "MulBackward0": _SELF_OTHER,
    "MvBackward0": ("self", "vec"),
    "NativeBatchNormBackward0": _NORM,
    "NativeGroupNormBackward0": _NORM,
    "NativeLayerNormBackward0": _NORM,
    "PowBackward1": ("self", "exponent"),
    "ScaledDotProductCudnnAttentionBackward0": _ATTENTION,
    "ScaledDotProductEfficientAttentionBackward0": _ATTENTION,
    "ScaledDotProductFlashAttentionBackward0": _ATTENTION,
    "ScaledDotProductFlashAttentionForCpuBackward0": _ATTENTION,
    "SmoothL1LossBackward0": _SELF_TARGET,
    "SoftMarginLossBackward0": _SELF_TARGET,
}
"""Name under which an operation saves each of its inputs, where their order is known."""

OPTIONAL: dict[str, frozenset[str]] = {
    "CudnnBatchNormBackward0": frozenset({"weight"}),
    "NativeBatchNormBackward0": frozenset({"weight"}),
    "NativeGroupNormBackward0": frozenset({"weight"}),
    "NativeLayerNormBackward0": frozenset({"weight", "bias"}),
}
"""Arguments that an operation always saves if they are there: not saved means absent."""

NUMBER_OPERAND = frozenset({"MulBackward0", "DivBackward0"})
"""Operations that save a plain number among their operands as a tensor without dimensions."""


@dataclass(frozen=True)
class OperationType:
    """What all nodes of one type have in common, looked up once per type.

    Args:
        grad_fn: class name: ``"MulBackward0"``.
        op: the forward word: ``"mul"``.
        opaque: why the inside is not recorded, or "".
        saved: the argument names of the tensors that it may save.
        raw: the attributes that hold them.
        read_raw: reads what they hold; a single one gives a bare value.
        arguments: under which of those names it saves each input, where known.
        options: the names of its plain arguments that are shown.
        read_options: reads them all; a single name gives a bare value.
    """

    grad_fn: str
    op: str
    opaque: str = ""
    saved: tuple[str, ...] = ()
    raw: tuple[str, ...] = ()
    read_raw: Any = None
    arguments: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    read_options: Any = None


def number_text(value: object) -> str:
    """A number in a few characters.

    Example:
        >>> number_text(3), number_text(0.1), number_text(1 / 3)
        ('3', '0.1', '0.333333')
    """
    return f"{value:g}" if isinstance(value, (float, complex)) else str(value)


def _text(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return number_text(value)


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
    """Text of a value, "" for the usual ones."""

    def text(value: object) -> str:
        items = value if isinstance(value, (list, tuple)) else (value,)
        return "" if all(item in silent for item in items) else _text(_signed(value))

    return text


def _end(value: object) -> str:
    return "" if type(value) is int and value == 2**63 - 1 else _dims(value)


def _reduction(value: object) -> str:
    return {0: "none", 2: "sum"}.get(value if isinstance(value, int) else 1, "")


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
"""Plain arguments that are shown, and how each is written; "" leaves it out."""


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


@lru_cache(maxsize=1024)
def forward_word(class_name: str) -> str:
    """The forward name of an operation, from the name of its autograd node.

    Args:
        class_name: as torch gives it: ``"MulBackward0"``, ``"torch::autograd::CopySlices"``.

    Returns:
        The word in lower case, of the plain operation where torch has several kernels of it.

    Example:
        >>> [forward_word(name) for name in ("MulBackward0", "LogSoftmaxBackward0", "TBackward0")]
        ['mul', 'log_softmax', 't']
        >>> forward_word("ScaledDotProductFlashAttentionForCpuBackward0")
        'scaled_dot_product_attention'
        >>> forward_word("MaxPool2DWithIndicesBackward0"), forward_word("FftR2CBackward0")
        ('max_pool2d', 'fft_r2c')
    """
    stem = class_name.rpartition("::")[2]
    word = _HUMP.sub("_", _BACKWARD.sub("", stem) or stem).lower()
    if word.startswith("scaled_dot_product"):
        return "scaled_dot_product_attention"
    return _PLAIN_WORDS.get(word, word)


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
        return "checkpoint", "reentrant checkpoint"
    return name, ""


@lru_cache
def type_text(value: object) -> str:
    """The name of a dtype or a device: ``"float32"``, ``"cuda:0"``."""
    return str(value).removeprefix("torch.")


def plain_shape(sizes: Iterable[object]) -> tuple[int, ...]:
    """Sizes as integers; a symbolic one is -1, since reading it would specialize it."""
    return tuple(size if type(size) is int else -1 for size in sizes)
