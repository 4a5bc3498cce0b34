"""The modules of a graph: what each contains, and how many bytes checkpointing it would free."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from gradviz.graph import (
    LEAVES,
    Buffers,
    EdgeData,
    EdgeKind,
    GradGraph,
    NodeData,
    NodeKind,
    SavedTensor,
    ancestors,
)
from gradviz.graph.operations import operation
from gradviz.graph.text import Path, element_count, shape_text
from gradviz.views.groups import sums_of
from gradviz.views.module_classes import UNDRAWN
from gradviz.views.modules import check_depth, deepest, is_inferred, module_paths, root_of
from gradviz.views.op_sequence import OpSequence, op_sequence


def blocks_of(paths: Mapping[str, Path]) -> dict[str, str]:
    """The module to checkpoint for each operation, by its key.

    That is the first element of a module list on its path, ``blocks.0`` of ``blocks.0.mlp.fc``, or
    else the first module that not all paths have in common.

    Example:
        >>> blocks_of({"a": ("net", "blocks", "0", "fc"), "b": ("net", "head")})
        {'a': 'net.blocks.0', 'b': 'net.head'}
    """
    root = root_of(list(paths.values()))
    found = {}
    for key, path in paths.items():
        count = next((n for n, part in enumerate(path, 1) if part.isdecimal()), root + 1)
        if len(path) >= count:
            found[key] = ".".join(path[:count])
    return found


def freed_by_checkpointing(
    graph: GradGraph,
    blocks: Mapping[str, str],
    kept: Sequence[tuple[Origin, list[str], int]],
    owner: Callable[[str], str],
) -> dict[str, int]:
    """The least number of bytes that checkpointing each module alone would free, largest first.

    Counted are tensors that were created in the module and saved only there, minus the inputs of
    the module that are not saved yet, because checkpointing saves them. A saved tensor that does
    not require grad may have been created outside: it is not counted. A module that uses a tensor
    of unknown size is left out, as is one that would free almost nothing.

    Args:
        graph: as it was recorded.
        blocks: the module of each operation, by its key.
        kept: of each storage, its origin, the operations that saved it, and its size.
        owner: returns the key of the node that created the storage of a result.
    """
    found: dict[str, int] = {}
    for origin, savers, size in kept:
        inside = {blocks.get(key) for key in savers}
        if origin.is_made and inside == {blocks.get(origin.key)} != {None}:
            block = blocks[origin.key]
            found[block] = found.get(block, 0) + size
    known = {origin.key for origin, *_ in kept}
    inputs: dict[str, set[str]] = {}
    for source, target, edge in graph.edges(data=True):
        block = blocks.get(target, "")
        if edge["kind"] in _DATA and block in found and blocks.get(source) != block:
            inputs.setdefault(block, set()).add(owner(source))
    for block, owners in inputs.items():
        new = [graph.nodes[key] for key in owners - known if blocks.get(key) != block]
        found[block] -= sum(_size(data) for data in new)
    total = sum(size for *_, size in kept)
    members: dict[str, list[str]] = {}
    for key, block in blocks.items():
        members.setdefault(block, []).append(key)
    for block in found:
        perhaps = _perhaps(graph, members[block])
        found[block] -= sum(_unseen(graph.nodes[key], total) for key in perhaps)
    freed = {block: size for block, size in found.items() if size > total * _LEAST}
    return dict(sorted(freed.items(), key=lambda item: -item[1]))


def _perhaps(graph: GradGraph, inside: Sequence[str]) -> set[str]:
    """Operations of a module, and those before it that may belong to it.

    Where modules are inferred, only the use of a parameter proves that another module ended.
    """

    def is_open(source: str, _: str, edge: EdgeData) -> bool:
        data: NodeData = graph.nodes[source]
        is_inside = data["kind"] is NodeKind.OPERATION and is_inferred(data)
        return is_inside and not _uses_leaf(graph, source)

    return ancestors(graph, inside, is_open)


def _uses_leaf(graph: GradGraph, key: str) -> bool:
    """Whether an operation uses a leaf, itself or transposed."""
    sources = [source for source, _ in graph.inputs(key)]
    behind = [s for each in sources for s, _ in graph.inputs(each) if graph.in_degree(each) == 1]
    return any(graph.nodes[each]["kind"] is NodeKind.ACCUMULATE for each in (*sources, *behind))


_DATA = (EdgeKind.GRADIENT, EdgeKind.CUT)
_LEAST = 0.01  # of all saved bytes
_LARGEST_ITEM = 16  # bytes of an element of complex128


def _size(data: NodeData) -> int:
    """Bytes of an input of a module; 0 for leaves and the module's own tensors."""
    if data["kind"] not in (NodeKind.OPERATION, NodeKind.UNTRACKED) or is_of_module(data):
        return 0
    bits = re.search(r"\d+", data.get("dtype", ""))
    each = int(bits[0]) // 8 if bits else 1
    return element_count(data.get("shape", ())) * each


def _unseen(data: NodeData, total: int) -> int:
    """An upper bound of the bytes of inputs that are not in the graph; ``total`` if unknown.

    An addition does not show its numbers and untracked tensors; they are not larger than the sum.
    """
    count = data.get("untracked_inputs", 0)
    if count and (data.get("op") not in ("add", "sub", "rsub") or "shape" not in data):
        return total
    return count * element_count(data.get("shape", ())) * _LARGEST_ITEM


def is_of_module(data: NodeData) -> bool:
    """Whether an untracked tensor is a frozen parameter or a buffer: its name is a path."""
    name = data.get("name", "").removesuffix(".t()")
    return data["kind"] is NodeKind.UNTRACKED and "." in name


_OPERANDS = frozenset(
    (
        *("self", "other", "input", "mat", "mat1", "mat2", "vec", "vec1", "vec2", "tensor"),
        *("tensor1", "tensor2", "batch1", "batch2", "end", "query", "key", "value"),
    )
)
# Further outputs of an operation that it saves, by their name in torch's derivatives.yaml.
_SIDE_OUTPUTS = frozenset(
    (
        *("L", "P", "Q", "R", "S", "U", "Vh", "eigenvalues", "eigenvectors", "inverse"),
        "is_target",
        *("log_sumexp", "logsumexp", "philox_offset", "philox_seed", "residuals", "rng_state"),
        *("sign", "softmax_logsumexp", "solution", "total_weight", "unused"),
    )
)
_MAIN = ("result", "result0", "output")


class Origin(NamedTuple):
    """Where a saved tensor came from."""

    key: str  # the node that created its storage, or stands for it; "" if unknown
    words: str  # ``"output of gelu"``
    is_made: bool = False  # whether it is the result of the operation ``key``


class Origins:
    """Finds where the saved tensors of a graph came from.

    Args:
        graph: must not change, because results are cached.

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
        """Where a saved tensor came from.

        Args:
            key: of the operation that saved it.
            tensor: its entry in that operation.
        """
        op = self._graph.nodes[key].get("op", "")
        if tensor.argument in _MAIN:
            return Origin(key, f"output of {op}", True)
        word = tensor.argument.replace("_", " ").strip()
        is_indices = tensor.argument == "indices" and operation(op).sorts
        if is_indices or tensor.argument in _SIDE_OUTPUTS or tensor.argument.startswith("result"):
            word = operation(op).outputs.get(tensor.argument, word)
            return Origin(key, f"{word} of {op}", True)
        if source := self._source(key, tensor):
            owner = self.owner(source)
            data: NodeData = self._graph.nodes[owner]
            if data["kind"] is NodeKind.OPERATION:
                return Origin(owner, f"output of {data.get('op')}", True)
            return Origin(owner, f"input of {op}")
        if tensor.argument.startswith("tensors["):
            return Origin("", f"saved by {op}")
        return Origin("", f"{'input' if tensor.argument in _OPERANDS else word} of {op}")

    def _source(self, key: str, tensor: SavedTensor) -> str:
        """The node from which an operation got a saved tensor; "" if unknown."""
        if tensor.input < 0:
            return ""
        inputs = list(self._graph.inputs(key))
        found = [source for source, edge in inputs if edge.get("input") == tensor.input]
        if found and not all(self._may_be(source, tensor) for source in found):
            # Untracked inputs may be counted in the order of the call, which differs for linear.
            cut = [source for source, edge in inputs if edge["kind"] is EdgeKind.CUT]
            found = [source for source in cut if self._may_be(source, tensor)]
        return found[0] if len(found) == 1 else ""

    def _may_be(self, source: str, tensor: SavedTensor) -> bool:
        """Whether a saved tensor can be the untracked input ``source``, itself or transposed."""
        data: NodeData = self._graph.nodes[source]
        if data["kind"] is not NodeKind.UNTRACKED or "shape" not in data:
            return True
        return sorted(data["shape"]) == sorted(tensor.shape)

    def owner(self, key: str) -> str:
        """The node that created the storage of a result: the base, if it is a view."""
        way = []
        while key not in self._owners:
            way.append(key)
            self._owners[key] = key  # if it is not a view
            key = self._viewed(key)
        owner = self._owners[key]
        self._owners.update(dict.fromkeys(way, owner))
        return owner

    def _viewed(self, key: str) -> str:
        """The base of a view; the key itself if it is not a view."""
        data: NodeData = self._graph.nodes[key]
        if data["kind"] is NodeKind.OPERATION:
            is_view = operation(data.get("op", "")).views
        else:
            is_view = data["kind"] is NodeKind.ACCUMULATE
        if not is_view:
            return key
        sources = [s for s, edge in self._graph.inputs(key) if edge.get("input", 0) == 0]
        return sources[0] if len(sources) == 1 else key


_MOST_ROWS = 40


@dataclass(frozen=True)
class Row:
    """A module and its contents, or the total."""

    module: str  # its path; "" for operations that ran in no module
    ops: int = 0  # number of operations that ran in it, in all its calls
    # number of elements of the leaves that it uses first; each leaf counts once
    parameters: int = 0
    saved_bytes: int = 0  # bytes saved for backward, each storage counted once
    freed: bool = False  # whether saved tensors of some operations were freed by a backward pass
    leaves: int = 0  # number of leaves
    without_grad: int = 0  # number of leaves whose ``.grad`` is None
    # Euclidean norm of all their finite gradients together; None if there are none, or if
    # some were not read
    grad_norm: float | None = None
    nan: int = 0  # number of NaN elements in the gradients
    inf: int = 0  # number of infinite elements in the gradients
    module_class: str = ""  # the class of the module; "" if not known
    output: str = ""  # dtype and shape of its output, ``f32[2,8]``; "" if it has several
    frozen: int = 0  # number of elements of its parameters that do not require grad, where known
    # number of elements of its other parameters that are not in the graph, where known
    unreached: int = 0

    @property
    def known_parameters(self) -> int:
        """The number of elements of all its leaves and parameters, in the graph or not."""
        return self.parameters + self.frozen + self.unreached


@dataclass(frozen=True)
class ModuleRows:
    """The modules of a graph, in the order in which they first ran.

    A module that autograd did not record is right before the first operation that used its result.
    """

    rows: tuple[Row, ...]  # one per module
    total: Row  # of the whole graph
    depth: int  # number of path parts that distinguish modules, after their common prefix
    deepest: int  # the depth at which every module has its own row
    inferred: bool  # whether modules were inferred from names and order, not recorded
    # the modules and those that contain them, as a tree in lines: the tree's characters and
    # the name in the outer module, and the sums over everything inside
    nested: tuple[tuple[str, Row], ...] = ()

    @property
    def outermost(self) -> tuple[Row, ...]:
        """The rows that are in no other, with that of no module."""
        outside = [row for row in self.rows if not row.module]
        return (*(row for name, row in self.nested if name[0] not in "├└│ "), *outside)


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
    table = _Table(sequence, paths, used, graph)
    ran = [paths[place] for place in table.places_as_run()]
    own = sorted(_cut(ran, root + depth), key=lambda path: not path)  # no module: last
    rows = [table.row(path, root + depth) for path in own]
    unused = [leaf for number, leaf in enumerate(sequence.leaves) if number not in counted]
    everything = [*sequence.data, *(leaf for leaves in used for leaf in leaves), *unused]
    pairs = zip(paths, sequence.data, strict=True)
    inferred = any(path and is_inferred(data) for path, data in pairs)
    nested = [*_nested(table, [path for path in own if path], root)]
    total = replace(_row("", everything), **table.undrawn(_tops(own, root) if root else [()]))
    return ModuleRows(tuple(rows), total, min(depth, most), most, inferred, tuple(nested))


def with_saved_bytes(graph: GradGraph, earlier: Sequence[GradGraph]) -> GradGraph:
    """A copy of a graph with what its operations saved before these tensors were freed.

    Args:
        graph: the graph; it is returned itself if there is nothing to add.
        earlier: graphs in which the same nodes have the same keys, the latest last.
    """
    found: dict[str, dict[str, Any]] = {}
    for key, data in graph.nodes(data=True):
        if data.get("buffers") is Buffers.FREED:
            before = (each._node.get(key, {}) for each in reversed(earlier))
            held = (each for each in before if each.get("buffers") is Buffers.HELD)
            node: dict[str, Any] = next(held, {})
            if node.get("op") == data.get("op"):
                found[key] = {k: node[k] for k in ("buffers", "saved_bytes") if k in node}
    if not found:
        return graph
    copied: GradGraph = graph.copy()
    for key, saved in found.items():
        copied._node[key].update(saved)
    return copied


class _Table:
    """The operations of a graph by module.

    Args:
        sequence: the op sequence.
        paths: the module of each operation.
        used: the leaves that each operation uses first.
        graph: the graph, which knows the parameters that it does not contain.
    """

    def __init__(
        self,
        sequence: OpSequence,
        paths: Sequence[Path],
        used: Sequence[Sequence[Any]],
        graph: GradGraph,
    ) -> None:
        self._sequence, self._paths, self._used = sequence, paths, used
        self._undrawn = [
            (fact, tuple(name.split(".")), count)
            for fact in UNDRAWN
            for name, count in graph.graph.get(fact, {}).items()
        ]
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
        output, undrawn = self._output(path, places), self.undrawn([path])
        return replace(row, module_class=word, output=output, **undrawn)

    def places_as_run(self) -> list[int]:
        """The operations in order; a transposed parameter is where it is first used."""
        run = list(range(len(self._paths)))
        for place in reversed(run):
            inputs, op = self._sequence.inputs(place), self._sequence.data[place].get("op", "")
            is_of_leaves = operation(op).rearranges and all(source < 0 for source in inputs)
            if is_of_leaves and self._users[place]:
                run[place] = min(run[user] for user in self._users[place])
        return sorted(range(len(run)), key=lambda place: (run[place], place))

    def undrawn(self, paths: Sequence[Path]) -> dict[str, Any]:
        """The elements of the parameters under any of these paths that are not in the graph."""
        counts = Counter[str]()
        for fact, name, count in self._undrawn:
            if any(name[: len(path)] == path for path in paths):
                counts[fact] += count
        return dict(counts)

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
        ends = [("└─ ", "   ") if each is inner[-1] else ("├─ ", "│  ") for each in inner]
        rows = zip(inner, ends, strict=True)
        waiting[:0] = [(path, each, rest + one, rest + more) for each, (one, more) in rows]


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
    leaves = [n for n in kept if n["kind"] in LEAVES]
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
