"""What is known about each operation: one row per forward word.

PyTorch names the node of an operation after its derivative (``MulBackward0``). `forward_word`
converts that to the forward word (``mul``), and `operation` finds the row of the word. All facts
about operations are in this file; the functions that use them are elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from gradviz.graph.text import number_text


class Blocks(Enum):
    """When the derivative of an operation is zero."""

    FLAT_AT_ZERO = "the input is 0"
    MASKED = "the mask is True"
    NOT_CHOSEN = "it selects the other input"
    NOT_REPRESENTED = "the input is outside the range of the quantized values"
    OTHER_FACTOR = "the other factor is 0"
    OUTSIDE = "its input is outside the range min to max"
    PADDING = "the index is padding_idx"
    PRODUCT = "the other matrix is 0"
    SATURATED = "it is saturated"
    SHRUNK = "its input is not farther than lambd from 0"
    SIGN = "its input is 0, where torch takes its slope to be 0"
    STEPS = "everywhere: the result is constant between steps"
    UNDER_THRESHOLD = "the input is <= threshold, which is 0 for relu"
    WHOLE = "its rounded quotient is 0"
    WRITES = "it writes other values there"


@dataclass(frozen=True)
class Operation:
    """A row of the table: the facts about an operation, or about a function of torch.

    Args:
        word: the forward word: ``"mul"``.
        kernels: other names that PyTorch uses for the same operation.
        rearranges: the result has the same values in another shape or order.
        views: the result shares the storage of the input.
        converts: the result has about the same values, with another dtype, scale or memory.
        blocks: when the derivative is zero.
        ends: the ends of the range of a saturating operation.
        not_finite_at: inputs at which the derivative is not finite.
        read: its saved tensors are read before a backward pass, to explain zeros and NaN.
        saves: the name under which it saves each input, in the order of the inputs.
        variant: the number in the class name (``PowBackward1``) that ``saves`` describes.
        optional: those of ``saves`` that are saved whenever the argument was passed.
        number: saves a Python number among its inputs as a 0-dimensional tensor.
        outputs: names of the outputs after the first: ``{"result1": "mask"}``.
        sorts: its ``indices`` say where each result was in the input.
        factors: which inputs are the two factors of a product.
        normalizes: divides by the standard deviation of its input, then multiplies by a weight.
        puts_in: writes values that were passed as arguments, so infinities may be intended.
        updates: its in-place form computes the new value from the old one, as an SGD step does.
        draws: its result is random.
        shape_only: uses only the shape of its input, or where it has elements, not its data.
        first_only: of the tensors after the first, uses only shape, dtype and device.
        from_nothing: creates or fills a tensor without data from another tensor.
        reads_value: returns Python or numpy values.
        query: returns a property of a tensor and creates no tensor.
    """

    word: str
    kernels: tuple[str, ...] = ()
    rearranges: bool = False
    views: bool = False
    converts: bool = False
    blocks: Blocks | None = None
    ends: tuple[float, ...] = ()
    not_finite_at: tuple[float, ...] = ()
    read: bool = False
    saves: tuple[str, ...] = ()
    variant: int = 0
    optional: tuple[str, ...] = ()
    number: bool = False
    outputs: Mapping[str, str] = field(default_factory=dict)
    sorts: bool = False
    factors: tuple[int, int] | None = None
    normalizes: bool = False
    puts_in: bool = False
    updates: bool = False
    draws: bool = False
    shape_only: bool = False
    first_only: bool = False
    from_nothing: bool = False
    reads_value: bool = False
    query: bool = False


@dataclass(frozen=True)
class OperationType:
    """The properties shared by all nodes of one type, found once per type."""

    grad_fn: str  # class name: ``"MulBackward0"``
    op: str  # the forward word: ``"mul"``
    opaque: str = ""  # why the inside is not recorded, or ""
    saved: tuple[str, ...] = ()  # the argument names of the tensors that it may save
    raw: tuple[str, ...] = ()  # the attributes that hold them
    read_raw: Any = None  # reads these attributes; a single one gives a bare value
    saves_tensors: bool = True  # False for a custom ``Function`` whose code saves none
    arguments: tuple[str, ...] = ()  # the name under which it saves each input, where known
    options: tuple[str, ...] = ()  # the names of its plain arguments that are shown
    read_options: Any = None  # reads them all; a single name gives a bare value


_PAIR = ("self", "other")
_LOSS = ("self", "target")
_LAYER = ("input", "weight", "bias")
_BATCHES = ("self", "batch1", "batch2")
_TENSORS = ("self", "tensor1", "tensor2")
_STATES = ("input", "weight0", "weight1", "weight2", "weight3", "hx_", "cx_")
_MASK = {"result1": "mask"}
_INDICES = {"result1": "indices"}
_MOMENTS = {"result1": "mean", "result2": "inverse deviation"}
_NORM_KERNELS = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
_CONV_KERNELS = (
    *("convolution", "convolution_overrideable", "cudnn_convolution", "mkldnn_convolution"),
)

_op = Operation
# fmt: off
_ROWS: tuple[Operation, ...] = (
    # Views and other shapes of the same numbers
    _op("alias",        rearranges=True, views=True),
    _op("as_strided",   rearranges=True, views=True),
    _op("chunk",        views=True),
    _op("contiguous",   rearranges=True),
    _op("detach",       views=True),
    _op("diagonal",     views=True),
    _op("expand",       rearranges=True, views=True),
    _op("expand_as",    rearranges=True, views=True, first_only=True),
    _op("flatten",      rearranges=True),
    _op("movedim",      views=True),
    _op("narrow",       views=True),
    _op("permute",      rearranges=True, views=True),
    _op("real",         views=True),
    _op("reshape",      rearranges=True),
    _op("reshape_as",   rearranges=True, first_only=True),
    _op("reshape_alias", rearranges=True, views=True),
    _op("select",       views=True),
    _op("slice",        views=True),
    _op("split",        views=True, kernels=("unsafe_split",)),
    _op("split_with_sizes", views=True),
    _op("squeeze",      rearranges=True, views=True),
    _op("swapaxes",     rearranges=True, views=True),
    _op("t",            rearranges=True, views=True),
    _op("transpose",    rearranges=True, views=True),
    _op("unbind",       views=True),
    _op("unflatten",    rearranges=True, views=True),
    _op("unfold",       views=True),
    _op("unsqueeze",    rearranges=True, views=True),
    _op("view",         rearranges=True, views=True, kernels=("unsafe_view",)),
    _op("view_as",      rearranges=True, views=True, first_only=True),
    _op("view_as_complex", views=True),
    _op("view_as_real", views=True),
    _op("clone",        converts=True),
    _op("to",           converts=True, kernels=("to_copy",), first_only=True),
    _op("type_as",      converts=True, first_only=True),
    # Element by element
    _op("abs",          blocks=Blocks.SIGN),
    _op("acos",         read=True, not_finite_at=(1.0, -1.0)),
    _op("acosh",        read=True, not_finite_at=(1.0,)),
    _op("add",          updates=True),
    _op("addcdiv",      saves=_TENSORS, updates=True),
    _op("addcmul",      saves=_TENSORS, blocks=Blocks.PRODUCT, factors=(1, 2), updates=True),
    _op("asin",         read=True, not_finite_at=(1.0, -1.0)),
    _op("atan2",        saves=_PAIR),
    _op("atanh",        read=True, not_finite_at=(1.0, -1.0)),
    _op("ceil",         blocks=Blocks.STEPS),
    _op("clamp",        blocks=Blocks.OUTSIDE, read=True, updates=True),
    _op("clamp_max",    blocks=Blocks.OUTSIDE, read=True),
    _op("clamp_min",    blocks=Blocks.OUTSIDE, read=True),
    _op("div",          saves=_PAIR, number=True, read=True, converts=True, updates=True),
    _op("digamma",      read=True, not_finite_at=(0.0, -1.0, -2.0)),
    _op("dropout",      outputs=_MASK, kernels=("native_dropout",)),
    _op("erfinv",       read=True, not_finite_at=(1.0, -1.0)),
    _op("exp",          read=True),
    _op("fake_quantize_per_channel_affine", blocks=Blocks.NOT_REPRESENTED, read=True,
                        kernels=("fake_quantize_per_channel_affine_cachemask",)),
    _op("fake_quantize_per_tensor_affine", blocks=Blocks.NOT_REPRESENTED, read=True, kernels=(
                        "fake_quantize_per_tensor_affine_cachemask",
                        "fake_quantize_per_tensor_affine_cachemask_tensor_qparams")),
    _op("floor",        blocks=Blocks.STEPS),
    _op("fmax",         saves=_PAIR, read=True, blocks=Blocks.NOT_CHOSEN),
    _op("fmin",         saves=_PAIR, read=True, blocks=Blocks.NOT_CHOSEN),
    _op("hardtanh",     blocks=Blocks.OUTSIDE, read=True),
    _op("lerp",         saves=("self", "end", "weight"), variant=1, updates=True),
    _op("lgamma",       read=True, not_finite_at=(0.0, -1.0, -2.0)),
    _op("log",          read=True, not_finite_at=(0.0,)),
    _op("log10",        read=True, not_finite_at=(0.0,)),
    _op("log1p",        read=True, not_finite_at=(-1.0,)),
    _op("log2",         read=True, not_finite_at=(0.0,)),
    _op("logit",        read=True, not_finite_at=(0.0, 1.0)),
    _op("maximum",      saves=_PAIR, read=True, blocks=Blocks.NOT_CHOSEN),
    _op("minimum",      saves=_PAIR, read=True, blocks=Blocks.NOT_CHOSEN),
    _op("mul",          saves=_PAIR, number=True, blocks=Blocks.OTHER_FACTOR, read=True,
                        converts=True, updates=True),
    _op("pow",          saves=("self", "exponent"), variant=1, blocks=Blocks.FLAT_AT_ZERO,
                        read=True, not_finite_at=(0.0,)),
    _op("prelu",        kernels=("prelu_kernel",)),
    _op("reciprocal",   read=True, not_finite_at=(0.0,)),
    _op("relu",         blocks=Blocks.UNDER_THRESHOLD, read=True),
    _op("round",        blocks=Blocks.STEPS),
    _op("rsqrt",        read=True, not_finite_at=(0.0,)),
    _op("sigmoid",      blocks=Blocks.SATURATED, ends=(0.0, 1.0), read=True),
    _op("sign",         blocks=Blocks.STEPS),
    _op("sqrt",         read=True, not_finite_at=(0.0,)),
    _op("sub",          updates=True),
    _op("tanh",         blocks=Blocks.SATURATED, ends=(-1.0, 1.0), read=True),
    _op("threshold",    blocks=Blocks.UNDER_THRESHOLD, read=True),
    _op("trunc",        blocks=Blocks.STEPS),
    # Products, layers, norms
    _op("addbmm",       saves=_BATCHES),
    _op("addmm",        saves=("self", "mat1", "mat2"), blocks=Blocks.PRODUCT,
                        factors=(1, 2)),
    _op("addmv",        saves=("self", "mat", "vec"), factors=(1, 2)),
    _op("addr",         saves=("self", "vec1", "vec2"), factors=(1, 2)),
    _op("baddbmm",      saves=_BATCHES, blocks=Blocks.PRODUCT, factors=(1, 2)),
    _op("batch_norm",   saves=_LAYER, optional=("weight",), outputs=_MOMENTS,
                        normalizes=True, kernels=_NORM_KERNELS),
    _op("bmm",          saves=("self", "mat2"), blocks=Blocks.PRODUCT, factors=(0, 1)),
    _op("conv",         saves=_LAYER, blocks=Blocks.PRODUCT, factors=(0, 1), kernels=_CONV_KERNELS),
    _op("dot",          saves=("self", "tensor"), factors=(0, 1)),
    _op("embedding",    blocks=Blocks.PADDING),
    _op("group_norm",   saves=_LAYER, optional=("weight",), outputs=_MOMENTS,
                        normalizes=True, kernels=("native_group_norm",)),
    _op("layer_norm",   saves=_LAYER, optional=("weight", "bias"), outputs=_MOMENTS,
                        normalizes=True, kernels=("native_layer_norm",)),
    _op("linear",       saves=_LAYER, blocks=Blocks.PRODUCT, factors=(0, 1)),
    _op("mm",           saves=("self", "mat2"), blocks=Blocks.PRODUCT, factors=(0, 1)),
    _op("mv",           saves=("self", "vec"), factors=(0, 1)),
    _op("norm",         blocks=Blocks.FLAT_AT_ZERO, kernels=("linalg_vector_norm",)),
    _op("lstm",         saves=_STATES, factors=(2, 5), kernels=("mkldnn_rnn_layer",)),
    _op("scaled_dot_product_attention", saves=("query", "key", "value")),
    _op("log_softmax",  read=True),
    _op("logsumexp",    read=True),
    _op("softmax",      read=True, kernels=("safe_softmax",)),
    # Choosing, sorting, pooling
    _op("cummax",       sorts=True),
    _op("cummin",       sorts=True),
    _op("fractional_max_pool2d", outputs=_INDICES),
    _op("index_fill",   puts_in=True, blocks=Blocks.WRITES),
    _op("kthvalue",     sorts=True),
    _op("masked_fill",  puts_in=True, blocks=Blocks.MASKED, read=True),
    _op("masked_scatter", puts_in=True, blocks=Blocks.WRITES),
    _op("max",          sorts=True),
    _op("max_pool2d",   outputs=_INDICES, kernels=("max_pool2d_with_indices",)),
    _op("max_pool3d",   outputs=_INDICES, kernels=("max_pool3d_with_indices",)),
    _op("median",       sorts=True),
    _op("min",          sorts=True),
    _op("mode",         sorts=True),
    _op("nanmedian",    sorts=True),
    _op("sort",         sorts=True),
    _op("topk",         sorts=True),
    _op("where",        puts_in=True, blocks=Blocks.NOT_CHOSEN, read=True),
    # Decompositions
    _op("linalg_svd",   read=True),
    _op("linalg_eigh",  read=True),
    # Losses
    _op("nll_loss",                         read=True, kernels=("nll_loss_nd",)),
    _op("nll_loss2d",                       read=True),
    _op("binary_cross_entropy",             saves=_LOSS),
    _op("binary_cross_entropy_with_logits", saves=_LOSS),
    _op("huber_loss",                       saves=_LOSS),
    _op("kl_div",                           saves=_LOSS),
    _op("mse_loss",                         saves=_LOSS),
    _op("smooth_l1_loss",                   saves=_LOSS),
    _op("soft_margin_loss",                 saves=_LOSS),
)
# fmt: on

# Functions about which one thing is known.
_SHAPE_ONLY = """
empty_like full_like ones_like rand_like randint_like randn_like zeros_like new_empty
new_empty_strided new_full new_ones new_tensor new_zeros indices _indices crow_indices col_indices
"""
_FROM_NOTHING = """
arange as_tensor constant_ empty eye fill_ full kaiming_uniform_ linspace manual_seed normal_ ones
ones_ rand randint randn randperm tensor uniform_ xavier_uniform_ zero_ zeros
"""
_KEEPS_ZEROS = """
abs adaptive_avg_pool2d amax amin asin asinh atan avg_pool1d avg_pool2d avg_pool3d celu chunk clone
cumsum detach diagonal div dropout elu erf expm1 flip gather gelu hardshrink hardswish hardtanh
imag index index_select leaky_relu log1p masked_select max max_pool2d max_pool3d mean min mish
movedim mul narrow neg prelu prod real reflection_pad2d relu repeat repeat_interleave roll round
select sign silu sin sinh slice softshrink split split_with_sizes sqrt square sum take tan tanh to
tril triu type_as unbind unfold upsample_bilinear2d upsample_nearest2d view_as_complex view_as_real
"""
_OF_ZEROS = "add cat maximum minimum rsub stack sub where"
_DRAWS = "_sample_dirichlet bernoulli binomial multinomial normal poisson"
_READS_VALUE = "complex float index int item numpy tolist"
_BLOCKS = {
    Blocks.SATURATED: "celu elu erf gelu hardsigmoid hardswish log_sigmoid mish silu softplus",
    Blocks.SHRUNK: "hardshrink softshrink",
    Blocks.WHOLE: "fmod remainder",
    Blocks.WRITES: "copy copy_slices fill index_copy index_put scatter setitem slice_scatter",
}
_QUERIES = """
__bool__ __contains__ __deepcopy__ __dir__ __format__ __hash__ __len__ __reduce_ex__ __repr__
_is_view _record_function_enter_new _record_function_exit._RecordFunction allclose data_ptr dim
element_size equal get_device has_names is_complex is_contiguous is_floating_point is_inference
is_nonzero is_pinned is_same_size is_shared is_signed is_storage is_tensor ndimension nelement
numel rename_ result_type retain_grad share_memory_ size storage storage_offset stride
untyped_storage
"""


REENTRANT = "reentrant checkpoint"
"""Why the inside of an operation is not recorded: backward will run it, and record it then."""

OF_A_LIBRARY = "GeneratedBackwardFor_"
"""Names of the nodes of operations that ``torch.library`` registered start with it."""

OPERATORS_OF_TORCH = {"_wrap_tensor_autograd": "wait_tensor"}
"""Internal operators of ``torch.distributed``, and their words: the wait for a collective."""

FUNCTIONS_OF_TORCH: Mapping[str, str] = {
    "_AllGather": "all_gather",
    "_AllGatherBase": "all_gather",
    "_AllReduce": "all_reduce",
    "_AlltoAll": "all_to_all",
    "_AlltoAllSingle": "all_to_all_single",
    "_Broadcast": "broadcast",
    "Broadcast": "broadcast",
    "_DDPSink": "ddp",
    "_FromTorchTensor": "from_local",
    "_Gather": "gather",
    "Gather": "gather",
    "_Reduce": "reduce",
    "_Reduce_Scatter": "reduce_scatter",
    "_ReduceScatterBase": "reduce_scatter",
    "Redistribute": "redistribute",
    "NestedRedistribute": "redistribute",
    "RegisterPostBackwardFunction": "fsdp",
    "RegisterPreBackwardFunction": "fsdp",
    "_Scatter": "scatter",
    "Scatter": "scatter",
    "_ToTorchTensor": "to_local",
}
"""The ``autograd.Function``s of ``torch.distributed`` and ``torch.nn.parallel``, and their words:
they compute with their inputs alone."""


def _all_rows() -> Iterator[Operation]:
    yield from _ROWS
    yield from (Operation(word, shape_only=True) for word in _SHAPE_ONLY.split())
    yield from (Operation(word, from_nothing=True) for word in _FROM_NOTHING.split())
    yield from (Operation(w, blocks=how) for how in _BLOCKS for w in _BLOCKS[how].split())
    yield from (Operation(word, draws=True) for word in _DRAWS.split())
    yield from (Operation(word, reads_value=True) for word in _READS_VALUE.split())
    yield from (Operation(word, query=True) for word in _QUERIES.split())


OPERATIONS: Mapping[str, Operation] = {row.word: row for row in _all_rows()}
"""All rows by their words."""

_WORD_OF_KERNEL = {kernel: row.word for row in _ROWS for kernel in row.kernels}
_UNKNOWN = Operation("")
_BACKWARD = re.compile(r"Backwards?\d*(_copy)?$")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def operation(word: str) -> Operation:
    """The row of an operation, also of its in-place form; an empty row if it is not in the table.

    Example:
        >>> operation("sqrt").not_finite_at, operation("my_function").views
        ((0.0,), False)
        >>> operation("relu_") is operation("relu")
        True
    """
    return OPERATIONS.get(word) or OPERATIONS.get(word.removesuffix("_"), _UNKNOWN)


def words(has: Callable[[Operation], object]) -> frozenset[str]:
    """The words of the operations for which ``has`` is true.

    Example:
        >>> sorted(words(lambda row: row.ends))
        ['sigmoid', 'tanh']
    """
    return frozenset(row.word for row in OPERATIONS.values() if has(row))


KEEPS_ZEROS = frozenset(_KEEPS_ZEROS.split()) | words(lambda row: row.rearranges)
"""Operations whose result is all zeros if their first input is."""
OF_ZEROS = frozenset(_OF_ZEROS.split())
"""Operations whose result is all zeros if all of their inputs are."""


@lru_cache(maxsize=1024)
def forward_word(class_name: str) -> str:
    """The forward name of an operation, from the class name of its autograd node.

    Args:
        class_name: the name in torch: ``"MulBackward0"``, ``"torch::autograd::CopySlices"``.

    Returns:
        The word in lower case; kernels of the same operation have the same word.

    Example:
        >>> [forward_word(name) for name in ("MulBackward0", "LogSoftmaxBackward0", "TBackward0")]
        ['mul', 'log_softmax', 't']
        >>> forward_word("ScaledDotProductFlashAttentionForCpuBackward0")
        'scaled_dot_product_attention'
        >>> forward_word("MaxPool2DWithIndicesBackward0"), forward_word("TanhBackwardBackward0")
        ('max_pool2d', 'tanh_backward')
    """
    stem = class_name.rpartition("::")[2]
    word = _HUMP.sub("_", _BACKWARD.sub("", stem) or stem).lower()
    if word.startswith("scaled_dot_product"):
        return "scaled_dot_product_attention"
    return _WORD_OF_KERNEL.get(word, word)


_TWINS = {
    "all_gather": "all_gather(tensor)",
    "all_gather_into_tensor": "all_gather(tensor), and torch.cat",
    "all_gather_object": "all_gather(tensor)",
    "all_gather_single": "all_gather(tensor), and torch.cat",
    "all_reduce": "all_reduce(tensor)",
    "all_to_all": "all_to_all(output_tensor_list, input_tensor_list)",
    "all_to_all_single": "all_to_all_single(output, input)",
    "broadcast": "broadcast(tensor, src)",
    "broadcast_object_list": "broadcast(tensor, src)",
    "gather": "gather(tensor, dst)",
    "gather_object": "gather(tensor, dst)",
    "reduce": "reduce(tensor, dst)",
    "reduce_scatter": "reduce_scatter(output, input_list)",
    "reduce_scatter_single": "reduce_scatter(output, input.chunk(world_size))",
    "reduce_scatter_tensor": "reduce_scatter(output, input.chunk(world_size))",
    "scatter": "scatter(tensors, src)",
}
"""The functions of ``torch.distributed.nn.functional`` whose results have a gradient."""


def twin_of(word: str) -> str:
    """The replacement of a function of ``torch.distributed``; "" if there is none.

    Example:
        >>> twin_of("all_reduce")
        'use the result of torch.distributed.nn.functional.all_reduce(tensor)'
    """
    twin = _TWINS.get(word, "")
    return f"use the result of torch.distributed.nn.functional.{twin}" if twin else ""


# Arguments, under the names of torch's native signatures (``_saved_exponent``).

_PLAIN = (int, float, complex, str)


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
    "ignore_index": _unless(-100, 2**64 - 100),
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
    "rounding_mode": _text,
    "self": _text,
    "split_size": _text,
    "start": _unless(0),
    "step": _unless(1),
    "stride": _unless(1),
    "threshold": _unless(0),
    "training": _unless(True),
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
