"""Where a saved tensor came from: the output of an operation, a leaf, an input, a mask."""

from __future__ import annotations

from typing import NamedTuple

from gradviz.graph import GradGraph, NodeData, NodeKind, SavedTensor
from gradviz.views.bookkeeping import RESHAPING

__all__ = ["Origin", "origin_of", "owner_of"]

# Their results lie in the storage of their input.
_VIEWS = (RESHAPING - {"contiguous", "flatten", "reshape"}) | frozenset(
    (
        *("chunk", "detach", "diagonal", "movedim", "narrow", "real", "select", "slice", "split"),
        *("split_with_sizes", "unbind", "unfold", "view_as_complex", "view_as_real"),
    )
)
_OPERANDS = frozenset(
    (
        *("self", "other", "input", "mat", "mat1", "mat2", "vec", "vec1", "vec2", "tensor"),
        *("tensor1", "tensor2", "batch1", "batch2", "end", "query", "key", "value"),
    )
)
_MOMENTS = {"result1": "mean", "result2": "inverse deviation"}
_OF_OUTPUTS = {
    "native_dropout": {"result1": "mask"},
    "dropout": {"result1": "mask"},
    "max_pool2d": {"result1": "indices"},
    "max_pool3d": {"result1": "indices"},
    "fractional_max_pool2d": {"result1": "indices"},
    **dict.fromkeys(("layer_norm", "batch_norm", "group_norm"), _MOMENTS),
}
# What an operation made beside its result, as torch's table of derivatives calls it.
_SIDE_OUTPUTS = frozenset(
    (
        *(
            "L",
            "P",
            "Q",
            "R",
            "S",
            "U",
            "Vh",
            "eigenvalues",
            "eigenvectors",
            "inverse",
            "is_target",
        ),
        *("log_sumexp", "logsumexp", "philox_offset", "philox_seed", "residuals", "rng_state"),
        *("sign", "softmax_logsumexp", "solution", "total_weight", "unused"),
    )
)
_SORTING = frozenset(
    ("cummax", "cummin", "kthvalue", "max", "median", "min", "mode", "nanmedian", "sort", "topk")
)
_MAIN = ("result", "result0", "output")


class Origin(NamedTuple):
    """Where a saved tensor came from.

    Args:
        key: the node that made its storage, or stands for it; "" if that is not known.
        words: ``"output of gelu"``.
        is_made: whether the operation ``key`` made it, as its own result.
    """

    key: str
    words: str
    is_made: bool = False


def origin_of(graph: GradGraph, key: str, tensor: SavedTensor) -> Origin:
    """Say what a saved tensor is.

    Args:
        graph: where.
        key: of the operation that keeps it.
        tensor: as that has it.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.OPERATION, op="exp")
        >>> origin_of(graph, "n0", SavedTensor("result")).words
        'output of exp'
        >>> origin_of(graph, "n0", SavedTensor("result3")).words
        'result3 of exp'
    """
    op = graph.nodes[key].get("op", "")
    if tensor.argument in _MAIN:
        return Origin(key, f"output of {op}", True)
    is_indices = tensor.argument == "indices" and op in _SORTING
    if is_indices or tensor.argument in _SIDE_OUTPUTS or tensor.argument.startswith("result"):
        word = _OF_OUTPUTS.get(op, {}).get(
            tensor.argument, tensor.argument.replace("_", " ").strip()
        )
        return Origin(key, f"{word} of {op}", True)
    if source := _source(graph, key, tensor):
        owner = owner_of(graph, source)
        data: NodeData = graph.nodes[owner]
        if data["kind"] is NodeKind.OPERATION:
            return Origin(owner, f"output of {data.get('op')}", True)
        return Origin(owner, f"input of {op}")
    if tensor.argument.startswith("tensors["):
        return Origin("", f"saved by {op}")
    word = "input" if tensor.argument in _OPERANDS else tensor.argument.replace("_", " ").strip()
    return Origin("", f"{word} of {op}")


def _source(graph: GradGraph, key: str, tensor: SavedTensor) -> str:
    """The node that an operation got a saved tensor from; "" if that cannot be told."""
    at = tensor.input
    found = [source for source, edge in graph.inputs(key) if edge.get("input") == at]
    return found[0] if at >= 0 and len(found) == 1 else ""


def owner_of(graph: GradGraph, key: str) -> str:
    """The node that made the storage of a result: the one behind views of it."""
    seen = {key}
    while (data := graph.nodes[key])["kind"] in (NodeKind.OPERATION, NodeKind.ACCUMULATE):
        if data["kind"] is NodeKind.OPERATION and data.get("op") not in _VIEWS:
            break
        sources = [source for source, edge in graph.inputs(key) if edge.get("input", 0) == 0]
        if len(sources) != 1 or sources[0] in seen:
            break
        key = sources[0]
        seen.add(key)
    return key
