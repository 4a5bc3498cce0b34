"""The modules of a graph: operations, parameters, memory and gradients of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradviz.graph import Buffers, GradGraph, NodeKind
from gradviz.graph.text import Path, shape_text
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
        module_class: the class of the module; "" if not known.
        output: dtype and shape of its output, ``f32[2,8]``; "" if it has several.
        frozen: number of elements of its parameters that do not require grad, where known.
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
    module_class: str = ""
    output: str = ""
    frozen: int = 0


@dataclass(frozen=True)
class ModuleRows:
    """The modules of a graph, in the order in which they first ran.

    Args:
        rows: one per module.
        total: of the whole graph.
        depth: number of path parts that distinguish modules, after their common prefix.
        deepest: the depth at which every module has its own row.
        inferred: whether modules were inferred from names and order, not recorded.
        nested: the modules and those that contain them, as a tree in lines: the tree's characters
            and the name in the outer module, and the sums over everything inside.
    """

    rows: tuple[Row, ...]
    total: Row
    depth: int
    deepest: int
    inferred: bool
    nested: tuple[tuple[str, Row], ...] = ()


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
    counted: set[int] = set()
    used = [_leaves_first_used(sequence, place, counted) for place in range(len(sequence))]
    frozen = graph.graph.get("frozen", {})
    table = _Table(sequence, paths, used, frozen)
    own = sorted(_cut(paths, root + depth), key=lambda path: not path)  # no module: last
    rows = [table.row(path, root + depth) for path in own]
    unused = [leaf for number, leaf in enumerate(sequence.leaves) if number not in counted]
    everything = [*sequence.data, *(leaf for leaves in used for leaf in leaves), *unused]
    inferred = any(
        path and is_inferred(data) for path, data in zip(paths, sequence.data, strict=True)
    )
    nested = [*_nested(table, [path for path in own if path], root)]
    total = replace(_row("", everything), frozen=table.frozen(_tops(own, root) if root else [()]))
    return ModuleRows(tuple(rows), total, min(depth, most), most, inferred, tuple(nested))


class _Table:
    """The operations of a graph by module.

    Args:
        sequence: the op sequence.
        paths: the module of each operation.
        used: the leaves that each operation uses first.
        frozen: numbers of elements of the parameters that do not require grad, by name.
    """

    def __init__(
        self,
        sequence: OpSequence,
        paths: Sequence[Path],
        used: Sequence[Sequence[Any]],
        frozen: Mapping[str, int],
    ) -> None:
        self._sequence, self._paths, self._used = sequence, paths, used
        self._frozen = [(tuple(name.split(".")), count) for name, count in frozen.items()]
        self._users: list[list[int]] = [[] for _ in paths]
        for place in range(len(paths)):
            for source in sequence.inputs(place):
                if source >= 0:
                    self._users[source].append(place)
        self._places: dict[int, dict[Path, list[int]]] = {}

    def row(self, path: Path, length: int) -> Row:
        """The row of the operations whose paths begin with a path, when cut to a length."""
        if length not in self._places:
            by_path = self._places[length] = {}
            for place, each in enumerate(self._paths):
                by_path.setdefault(each[:length], []).append(place)
        places = self._places[length].get(path, [])
        nodes: list[Any] = [self._sequence.data[place] for place in places]
        leaves = [leaf for place in places for leaf in self._used[place]]
        name = ".".join(path)
        row = _row(name, [*nodes, *leaves])
        if not path:
            return row
        word = self._sequence.modules.get(name, "")
        frozen = self.frozen([path])
        return replace(row, module_class=word, output=self._output(path, places), frozen=frozen)

    def frozen(self, paths: Sequence[Path]) -> int:
        """The elements of the frozen parameters under any of these paths."""
        inside = (
            count
            for name, count in self._frozen
            if any(name[: len(path)] == path for path in paths)
        )
        return sum(inside)

    def _output(self, path: Path, places: Sequence[int]) -> str:
        found: dict[str, None] = {}
        for place in places:
            users = self._users[place]
            data = self._sequence.data[place]
            if not users or any(self._paths[user][: len(path)] != path for user in users):
                shape = shape_text(data["shape"], data.get("dtype", "")) if "shape" in data else ""
                found[shape] = None
        return next(iter(found)) if len(found) == 1 else ""


def _nested(table: _Table, paths: Sequence[Path], root: int) -> Iterator[tuple[str, Row]]:
    """Rows as a tree; a module with a single one in it shares a line with it."""
    children: dict[Path, dict[Path, None]] = {}
    for path in paths:
        for length in range(root, len(path)):
            children.setdefault(path[:length], {})[path[: length + 1]] = None
    own = set(paths)
    waiting: list[tuple[Path, Path, str, str]] = [((), path, "", "") for path in _tops(paths, root)]
    while waiting:
        outer, path, first, rest = waiting.pop(0)
        inner = list(children.get(path, ()))
        while len(inner) == 1 and path not in own:
            path = inner[0]
            inner = list(children.get(path, ()))
        yield first + ".".join(path[len(outer) :]), table.row(path, len(path))
        waiting[:0] = [
            (
                path,
                each,
                rest + ("└─ " if each is inner[-1] else "├─ "),
                rest + ("   " if each is inner[-1] else "│  "),
            )
            for each in inner
        ]


def _tops(paths: Sequence[Path], root: int) -> list[Path]:
    """The outermost modules."""
    return list(dict.fromkeys(path[: max(root, 1)] for path in paths))


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
