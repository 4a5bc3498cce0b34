"""The modules of a graph: operations, parameters, memory and gradients of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gradviz.graph import Buffers, GradGraph, NodeKind
from gradviz.graph.text import Path
from gradviz.views.groups import sums_of
from gradviz.views.modules import check_depth, deepest, is_inferred, module_paths, root_of
from gradviz.views.op_sequence import OpSequence, op_sequence

__all__ = ["Row", "ModuleRows", "rows_of"]

_MOST_ROWS = 40


@dataclass(frozen=True)
class Row:
    """A module and its contents, or the total.

    Args:
        module: its path; "" for operations that ran in no module.
        ops: number of operations that ran in it, in all its calls.
        parameters: number of elements of the leaves that it uses first; each leaf counts once.
        saved_bytes: bytes saved for backward, each storage counted once.
        freed: whether saved tensors of some operations were freed by a backward pass.
        leaves: number of leaves.
        without_grad: number of leaves whose ``.grad`` is None.
        grad_norm: Euclidean norm of all their finite gradients together; None if there are none,
            or if some were not read.
        nan: number of NaN elements in the gradients.
        inf: number of infinite elements in the gradients.
    """

    module: str
    ops: int = 0
    parameters: int = 0
    saved_bytes: int = 0
    freed: bool = False
    leaves: int = 0
    without_grad: int = 0
    grad_norm: float | None = None
    nan: int = 0
    inf: int = 0


@dataclass(frozen=True)
class ModuleRows:
    """The modules of a graph, in the order in which they first ran.

    Args:
        rows: one per module.
        total: of the whole graph.
        depth: number of path parts that distinguish modules, after their common prefix.
        deepest: the depth at which every module has its own row.
        inferred: whether modules were inferred from names and order, not recorded.
    """

    rows: tuple[Row, ...]
    total: Row
    depth: int
    deepest: int
    inferred: bool


def rows_of(graph: GradGraph, depth: int | None = None) -> ModuleRows:
    """Sum up a graph by modules.

    Args:
        graph: as it was traced or recorded.
        depth: as for `group_by_module`; None for the deepest that needs at most 40 rows.

    Raises:
        UsageError: if ``depth`` is less than 1.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("w", kind=NodeKind.PARAMETER, name="net.fc.weight", shape=(3, 2),
        ...                grad=None)
        >>> graph.add_node("n", kind=NodeKind.OPERATION, op="linear", saved_bytes=8)
        >>> _ = graph.add_edge("w", "n", 0)
        >>> [(row.module, row.ops, row.parameters) for row in rows_of(graph).rows]
        [('net.fc', 1, 6)]
    """
    check_depth(depth)
    sequence = op_sequence(graph)
    paths = module_paths(sequence)
    root, most = root_of(paths), max(deepest(paths), 1)
    if depth is None:
        fitting = (d for d in range(most, 1, -1) if len(_cut(paths, root + d)) <= _MOST_ROWS)
        depth = next(fitting, 1)
    inside: dict[Path, list[Any]] = {path: [] for path in _cut(paths, root + depth)}
    counted: set[int] = set()
    for place, path in enumerate(paths):
        held = inside[path[: root + depth]]
        held.append(sequence.data[place])
        held += _leaves_first_used(sequence, place, counted)
    rows = [_row(".".join(path), nodes) for path, nodes in inside.items()]
    unused = [leaf for number, leaf in enumerate(sequence.leaves) if number not in counted]
    everything = [node for nodes in inside.values() for node in nodes] + unused
    inferred = any(
        path and is_inferred(data) for path, data in zip(paths, sequence.data, strict=True)
    )
    return ModuleRows(tuple(rows), _row("", everything), min(depth, most), most, inferred)


def _cut(paths: Sequence[Path], length: int) -> dict[Path, None]:
    return dict.fromkeys(path[:length] for path in paths)


def _leaves_first_used(sequence: OpSequence, place: int, counted: set[int]) -> list[Any]:
    """The leaves used by an operation that were not counted before; counts them."""
    numbers = dict.fromkeys(-1 - source for source in sequence.inputs(place) if source < 0)
    new = [number for number in numbers if number not in counted]
    counted.update(new)
    return [sequence.leaves[number] for number in new]


def _row(module: str, nodes: Sequence[dict[str, Any]]) -> Row:
    kept = [node for node in nodes if "clone_of" not in node]
    sums = sums_of(kept, {})
    grad = sums.get("grad")
    leaves = [n for n in kept if n["kind"] in (NodeKind.PARAMETER, NodeKind.LEAF)]
    return Row(
        module=module,
        ops=sums["members"],
        parameters=sums.get("parameters", 0),
        saved_bytes=sums.get("saved_bytes", 0),
        freed=sums.get("buffers") is Buffers.FREED,
        leaves=len(leaves),
        without_grad=sum(leaf.get("grad") is None for leaf in leaves),
        grad_norm=grad.norm if grad else None,
        nan=grad.nan if grad else 0,
        inf=grad.inf if grad else 0,
    )
