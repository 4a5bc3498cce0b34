"""What a graph consists of, module by module: operations, parameters, memory, gradients."""

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
    """A module and what is in it, or the total.

    Args:
        module: its path; empty for what ran in no module.
        ops: number of operations that ran in it, in all its calls.
        parameters: number of elements of the leaves that it uses first; each leaf counts once.
        saved_bytes: bytes of storage kept for backward, each storage counted once.
        freed: whether a backward pass has freed what some of the operations kept.
        leaves: number of leaves.
        without_grad: how many of these have no gradient: ``.grad`` is None.
        grad_norm: Euclidean norm of all their finite gradients together; None without any.
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
        depth: how many parts of the paths tell modules apart, after what all begin with.
        deepest: with this depth every module has a row of its own.
        inferred: whether modules were inferred from names and order, not recorded.
    """

    rows: tuple[Row, ...]
    total: Row
    depth: int
    deepest: int
    inferred: bool


def rows_of(graph: GradGraph, depth: int | None = None) -> ModuleRows:
    """Sum a graph up by modules.

    Args:
        graph: as it was traced or recorded.
        depth: as for `group_by_module`; None for the deepest that takes at most 40 rows.

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
    units = op_sequence(graph)
    paths = module_paths(units)
    root, most = root_of(paths), max(deepest(paths), 1)
    if depth is None:
        fitting = (d for d in range(most, 1, -1) if len(_cut(paths, root + d)) <= _MOST_ROWS)
        depth = next(fitting, 1)
    inside: dict[Path, list[Any]] = {path: [] for path in _cut(paths, root + depth)}
    counted: set[int] = set()
    for place, path in enumerate(paths):
        held = inside[path[: root + depth]]
        held.append(units.data[place])
        held += _leaves_first_used(units, place, counted)
    rows = [_row(".".join(path), nodes) for path, nodes in inside.items()]
    unused = [leaf for number, leaf in enumerate(units.leaves) if number not in counted]
    everything = [node for nodes in inside.values() for node in nodes] + unused
    inferred = any(path and is_inferred(data) for path, data in zip(paths, units.data, strict=True))
    return ModuleRows(tuple(rows), _row("", everything), min(depth, most), most, inferred)


def _cut(paths: Sequence[Path], length: int) -> dict[Path, None]:
    return dict.fromkeys(path[:length] for path in paths)


def _leaves_first_used(units: OpSequence, place: int, counted: set[int]) -> list[Any]:
    """The leaves that a unit uses and none before it did, which are counted from now on."""
    numbers = dict.fromkeys(-1 - source for source in units.inputs(place) if source < 0)
    new = [number for number in numbers if number not in counted]
    counted.update(new)
    return [units.leaves[number] for number in new]


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
