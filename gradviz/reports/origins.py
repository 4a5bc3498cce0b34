"""Where a saved tensor came from: the output of an operation, a leaf, an input, a mask."""

from __future__ import annotations

from typing import NamedTuple

from gradviz.graph import EdgeKind, GradGraph, NodeData, NodeKind, SavedTensor
from gradviz.graph.operations import operation

__all__ = ["Origin", "Origins"]

_OPERANDS = frozenset(
    (
        *("self", "other", "input", "mat", "mat1", "mat2", "vec", "vec1", "vec2", "tensor"),
        *("tensor1", "tensor2", "batch1", "batch2", "end", "query", "key", "value"),
    )
)
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


class Origins:
    """Tells where the saved tensors of a graph came from.

    Args:
        graph: which must stay as it is: what was found out once is kept.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.OPERATION, op="exp")
        >>> Origins(graph).of("n0", SavedTensor("result")).words
        'output of exp'
        >>> Origins(graph).of("n0", SavedTensor("result3")).words
        'result3 of exp'
    """

    def __init__(self, graph: GradGraph) -> None:
        self._graph = graph
        self._owners: dict[str, str] = {}

    def of(self, key: str, tensor: SavedTensor) -> Origin:
        """Say what a saved tensor is.

        Args:
            key: of the operation that keeps it.
            tensor: as that has it.
        """
        op = self._graph.nodes[key].get("op", "")
        if tensor.argument in _MAIN:
            return Origin(key, f"output of {op}", True)
        is_indices = tensor.argument == "indices" and operation(op).sorts
        if is_indices or tensor.argument in _SIDE_OUTPUTS or tensor.argument.startswith("result"):
            word = operation(op).outputs.get(
                tensor.argument, tensor.argument.replace("_", " ").strip()
            )
            return Origin(key, f"{word} of {op}", True)
        if source := self._source(key, tensor):
            owner = self.owner(source)
            data: NodeData = self._graph.nodes[owner]
            if data["kind"] is NodeKind.OPERATION:
                return Origin(owner, f"output of {data.get('op')}", True)
            return Origin(owner, f"input of {op}")
        if tensor.argument.startswith("tensors["):
            return Origin("", f"saved by {op}")
        word = (
            "input" if tensor.argument in _OPERANDS else tensor.argument.replace("_", " ").strip()
        )
        return Origin("", f"{word} of {op}")

    def _source(self, key: str, tensor: SavedTensor) -> str:
        """The node that an operation got a saved tensor from; "" if that cannot be told."""
        if tensor.input < 0:
            return ""
        inputs = list(self._graph.inputs(key))
        found = [source for source, edge in inputs if edge.get("input") == tensor.input]
        if found and not all(self._may_be(source, tensor) for source in found):
            # Arguments without a gradient may be counted as the call has them: linear's are others.
            found = [
                source
                for source, edge in inputs
                if edge["kind"] is EdgeKind.CUT and self._may_be(source, tensor)
            ]
        return found[0] if len(found) == 1 else ""

    def _may_be(self, source: str, tensor: SavedTensor) -> bool:
        """Whether a saved tensor fits what went in without a gradient, itself or transposed."""
        data: NodeData = self._graph.nodes[source]
        if data["kind"] is not NodeKind.UNTRACKED or "shape" not in data:
            return True
        return sorted(data["shape"]) == sorted(tensor.shape)

    def owner(self, key: str) -> str:
        """The node that made the storage of a result: the one behind views of it."""
        way = []
        while key not in self._owners:
            way.append(key)
            self._owners[key] = key  # if it is no view
            key = self._viewed(key)
        owner = self._owners[key]
        self._owners.update(dict.fromkeys(way, owner))
        return owner

    def _viewed(self, key: str) -> str:
        """What a view is a view of; anything else is its own."""
        data: NodeData = self._graph.nodes[key]
        if data["kind"] is NodeKind.OPERATION:
            is_view = operation(data.get("op", "")).views
        else:
            is_view = data["kind"] is NodeKind.ACCUMULATE
        if not is_view:
            return key
        sources = [s for s, edge in self._graph.inputs(key) if edge.get("input", 0) == 0]
        return sources[0] if len(sources) == 1 else key
