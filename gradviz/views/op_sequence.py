"""The operations of a graph as arrays, in order of creation.

Modules run one after another, and so do the steps of a loop: in order of creation each is an
uninterrupted range. Folding such ranges creates no cycle, because all edges still run forward.
Therefore the views that fold look for ranges.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, compress, islice, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradviz.graph import TENSORS, GradGraph, NodeData, NodeKind
from gradviz.graph.operations import operation
from gradviz.graph.text import Path

Ints = NDArray[np.int64]

_FOLDABLE = (NodeKind.OPERATION, NodeKind.GROUP, NodeKind.UNTRACKED)
_PRODUCTS = ("addmm", "mm")
_MOST_WORDS = 4
_AFTER_OPERATIONS = -0.5  # without a number, -1, and before those with one
_BEFORE = 0.25  # the first operation of a call
_AT_EACH_STEP = ("weight_hh_l", "bias_hh_l")  # of ``nn.RNN`` and ``nn.GRU``


@dataclass(frozen=True)
class OpSequence:
    """The operations of a graph in order; leaves, ``AccumulateGrad`` and results are not in it."""

    keys: list[str]  # of the operations, every one after its inputs
    data: list[NodeData]  # their attributes, the same dictionaries as in the graph
    starts: Ints  # where the inputs of each operation begin in ``sources``; one more at the end
    sources: Ints  # the inputs in order: the position of an operation, or ``-1 - n`` for leaf ``n``
    leaves: list[NodeData]  # attributes of the leaves, by number
    aside: dict[str, int]  # leaves and ``AccumulateGrad`` nodes, each with the number of its leaf
    # the class of each module, by its path, if known
    modules: Mapping[str, str] = field(default_factory=dict)
    # the names of parameters that are not in the graph as they do not require grad
    frozen: Iterable[str] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def inputs(self, place: int) -> list[int]:
        """The inputs of an operation, as in ``sources``."""
        return list(map(int, self.sources[self.starts[place] : self.starts[place + 1]]))

    def parameters(self, place: int) -> list[int]:
        """The parameters that an operation uses, each as in ``sources``."""
        return [
            source
            for source in self.inputs(place)
            if source < 0 and self.leaves[-1 - source]["kind"] is NodeKind.PARAMETER
        ]

    def parameters_in(self, places: Iterable[int]) -> set[int]:
        """Leaves that are parameters and that some operations use directly."""
        return {leaf for place in places for leaf in self.parameters(place)}

    def parameters_of_a_call(self, places: Iterable[int]) -> set[int]:
        """Those that a call of a module uses once: a recurrent one uses others at each step."""
        names = {
            leaf: str(self.leaves[-1 - leaf].get("name", "")).rpartition(".")[2]
            for leaf in self.parameters_in(places)
        }
        return {leaf for leaf, name in names.items() if not name.startswith(_AT_EACH_STEP)}

    def lacks_frozen(self, paths: Sequence[Path], places: range, path: Path) -> bool:
        """Whether frozen layers of a module may have run what is beside some of its operations.

        Args:
            paths: the module of each operation.
            places: of the operations.
            path: of the module.
        """
        inside = f"{'.'.join(path)}."
        layers = {name.rpartition(".")[0] for name in self.frozen if name.startswith(inside)}
        layers -= {".".join(paths[place]) for place in places}
        if all(self.modules.get(layer) == "Embedding" for layer in layers):
            return False  # its input does not require grad: it has no operation

        def is_between(place: int) -> bool:
            return paths[place] != path and paths[place] == path[: len(paths[place])]

        before = takewhile(is_between, reversed(range(places.start)))
        after = takewhile(is_between, range(places.stop, len(self)))
        rows = (operation(str(self.data[place].get("op", ""))) for place in chain(before, after))
        return any(row.factors or row.normalizes for row in rows)

    @cached_property
    def last_use(self) -> Ints:
        """For each operation the position of the last one that uses it; its own for none."""
        found: Ints = np.arange(len(self))
        users = np.repeat(found, np.diff(self.starts))
        inside = self.sources >= 0
        np.maximum.at(found, self.sources[inside], users[inside])
        return found

    def foldable(self, place: int) -> bool:
        """Whether a view may fold the operation: it is neither a root nor the node of a problem."""
        data = self.data[place]
        return data["kind"] in _FOLDABLE and data.keys().isdisjoint(("root", "problem", "verdict"))


def op_sequence(graph: GradGraph) -> OpSequence:
    """The operations of a graph in order.

    Args:
        graph: acyclic; its edges run from input to output.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.OPERATION, op="sum", sequence_nr=1)
        >>> graph.add_node("n1", kind=NodeKind.OPERATION, op="mul", sequence_nr=0)
        >>> graph.add_node("n2", kind=NodeKind.LEAF)
        >>> _ = graph.add_edge("n1", "n0", 0), graph.add_edge("n2", "n1", 0)
        >>> sequence = op_sequence(graph)
        >>> sequence.keys, sequence.inputs(0), sequence.inputs(1)
        (['n1', 'n0'], [-1], [0])
    """
    nodes, edges = list(graph._node.items()), graph.edge_columns()
    arrows = _Arrows(np.asarray(edges.sources), np.asarray(edges.targets), np.asarray(edges.inputs))
    inputs = np.bincount(arrows.targets, minlength=len(nodes)).tolist()
    used = np.bincount(arrows.sources, minlength=len(nodes)).tolist()
    leaves: list[int] = []
    accumulates: list[int] = []
    places = array("q")  # lists would take five times the memory
    numbers = array("q")
    operation = NodeKind.OPERATION  # a lookup per node would take longer than everything else
    for place, (_, data) in enumerate(nodes):  # one pass; each takes a second for a large graph
        kind = data["kind"]
        if kind is operation:
            places.append(place)
            numbers.append(data.get("sequence_nr", -1))
        elif kind is NodeKind.ACCUMULATE and inputs[place] == 1:
            accumulates.append(place)
        elif kind in TENSORS and not inputs[place]:
            leaves.append(place)
        elif kind is not NodeKind.RESULT or used[place]:
            places.append(place)
            numbers.append(data.get("sequence_nr", -1))
    aside = {place: number for number, place in enumerate(leaves)}
    only_input = np.zeros(len(nodes), np.int64)
    only_input[arrows.targets] = arrows.sources
    for place in accumulates:
        leaf = int(only_input[place])
        if leaf in aside:
            aside[place] = aside[leaf]
        else:
            places.append(place)
            numbers.append(-1)
    row, starts, sources = _in_a_row(graph, arrows, _Inside(places, numbers, aside))
    sequence = [nodes[place] for place in row.tolist()]
    keys, data_of = [key for key, _ in sequence], [data for _, data in sequence]
    by_key = {nodes[place][0]: number for place, number in aside.items()}
    data_of_leaves = [nodes[place][1] for place in leaves]
    modules, frozen = (graph.graph.get(fact, {}) for fact in ("modules", "frozen"))
    return OpSequence(keys, data_of, starts, sources, data_of_leaves, by_key, modules, frozen)


@dataclass(frozen=True)
class _Arrows:
    """The edges: positions of source and target in the graph, and input numbers."""

    sources: Ints
    targets: Ints
    slots: NDArray[Any]


@dataclass(frozen=True)
class _Inside:
    """Positions in the graph: of the operations, with their sequence numbers, and of the rest."""

    places: array[int]
    numbers: array[int]
    aside: dict[int, int]


def _in_a_row(graph: GradGraph, arrows: _Arrows, inside: _Inside) -> tuple[Ints, Ints, Ints]:
    """The positions of the operations in order, and the inputs of each."""
    places, numbers = np.array(inside.places), np.array(inside.numbers)
    known = int((numbers >= 0).sum())
    rows = None
    if known == len(places):
        places = places[np.argsort(numbers, kind="stable")]
        rows = _inputs(len(graph), arrows, places, inside.aside)
    if rows is None:
        place_of = {key: place for place, key in enumerate(graph)}
        names = list(place_of)
        keys = [names[place] for place in places.tolist()]
        keys = _by_numbers(graph, keys) if 2 * known >= len(keys) else _by_height(graph, keys)
        places = np.array([place_of[key] for key in keys], np.int64)
        rows = _inputs(len(graph), arrows, places, inside.aside)
    if rows is None or len(places) < len(inside.places):
        raise ValueError("the graph has a cycle: it cannot be put in a row")
    return places, *rows


def _inputs(
    count: int, arrows: _Arrows, places: Ints, aside: dict[int, int]
) -> tuple[Ints, Ints] | None:
    """The inputs of each operation; None if one comes after the operation that uses it."""
    number = np.full(count, count, np.int64)
    number[places] = np.arange(len(places))
    number[list(aside)] = [-1 - leaf for leaf in aside.values()]
    users, sources, slots = number[arrows.targets], number[arrows.sources], arrows.slots
    sequence = (users >= 0) & (users < len(places))
    users, sources, slots = users[sequence], sources[sequence], slots[sequence]
    order = np.lexsort((sources, slots, users))
    users, sources = users[order], sources[order]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=len(places)))])
    return (bounds, sources) if (sources < users).all() else None


def _by_numbers(graph: GradGraph, keys: Sequence[str]) -> list[str]:
    """In order of creation as far as the inputs allow.

    A node without a number follows its inputs; an untracked tensor that no operation precedes is
    right before its first user, or the call of a module that uses it, so that it is not between the
    operations of another module. Nodes in or after a cycle are left out.
    """
    numbers: dict[str, float] = {key: graph._node[key].get("sequence_nr", -1) for key in keys}
    order = _by_these_numbers(graph, numbers)
    is_open = [numbers[key] < 0 and graph._node[key]["kind"] is NodeKind.UNTRACKED for key in order]
    if not any(is_open):
        return order
    free: set[str] = set()
    for key in compress(order, is_open):
        numbers[key] = _AFTER_OPERATIONS
        if all(source in free for source in graph._pred[key] if source in numbers):
            free.add(key)
    begins: dict[Any, float] = {}  # the call of each module, by its first operation
    for key in order:
        if numbers[key] >= 0 and (calls := graph._node[key].get("calls")):
            begins.setdefault(calls, numbers[key] - _BEFORE)
    for key in reversed(order):
        if key in free:
            users = [user for user in graph._succ[key] if numbers.get(user, -1) > _AFTER_OPERATIONS]
            starts = (begins.get(graph._node[user].get("calls"), numbers[user]) for user in users)
            numbers[key] = min(starts, default=-1)
    return _by_these_numbers(graph, numbers)


def _by_these_numbers(graph: GradGraph, numbers: Mapping[str, float]) -> list[str]:
    waiting = {key: sum(source in numbers for source in graph._pred[key]) for key in numbers}
    number = dict(numbers)
    first = {key: place for place, key in enumerate(numbers)}
    heap = [(number[key], first[key], key) for key in numbers if not waiting[key]]
    heapq.heapify(heap)
    order = []
    while heap:
        created, _, key = heapq.heappop(heap)
        order.append(key)
        for user in graph._succ[key]:
            if user in waiting:
                number[user] = max(number[user], created)
                waiting[user] -= 1
                if not waiting[user]:
                    heapq.heappush(heap, (number[user], first[user], user))
    return order


def _by_height(graph: GradGraph, keys: Sequence[str]) -> list[str]:
    """Each operation right after its inputs, the one with the longest path before it first."""
    row = _by_numbers(graph, keys)
    if len(row) < len(keys):
        return row
    inside = {key: place for place, key in enumerate(keys)}
    inputs = {
        # Sorted by node, because the order in which edges were added can vary.
        key: sorted(
            (source for source in graph._pred[key] if source in inside), key=inside.__getitem__
        )
        for key in keys
    }
    height: dict[str, int] = {}
    for key in row:
        height[key] = 1 + max((height[source] for source in inputs[key]), default=0)
    order: dict[str, None] = {}
    ends = [key for key in keys if not any(user in inside for user in graph._succ[key])]
    stack = [(key, False) for key in reversed(ends)]
    while stack:
        key, ready = stack.pop()
        if key in order:
            continue
        if ready or not inputs[key]:
            order[key] = None
            continue
        stack.append((key, True))
        # The last one pushed is visited first.
        stack += [(source, False) for source in sorted(inputs[key], key=height.__getitem__)]
    return list(order)


def words_of(nodes: Sequence[Any]) -> str:
    """The first few operations of a list, without those that only rearrange, unless all do.

    Example:
        >>> words_of([{"op": "exp"}, {"op": "t"}, {"op": "addmm"}, {"op": "sum"}])
        'exp → linear → sum'
    """
    words = list(islice(_words(nodes), _MOST_WORDS + 1))
    words = words or [str(node["op"]) for node in nodes[: _MOST_WORDS + 1]]
    return " → ".join(words[:_MOST_WORDS]) + (" …" if len(words) > _MOST_WORDS else "")


def _words(nodes: Sequence[Any]) -> Iterator[str]:
    """The word of each operation that computes; a product with a transposed weight is linear."""
    before = ""
    for node in nodes:
        op = str(node.get("op", ""))
        if node.get("called") == "linear" or (op in _PRODUCTS and before == "t"):
            yield "linear"
        elif not operation(op).rearranges:
            yield op or str(node.get("name", "?"))
        before = op


def chunk_ends(sequence: OpSequence, size: int) -> list[int]:
    """The ends of the chunks, after ``size`` operations or up to a quarter fewer."""
    crossing = _crossing(sequence)
    cuts = [0]
    while cuts[-1] < len(sequence):
        last = cuts[-1] + size
        first = last - size // 4
        window = crossing[first : last + 1][::-1]  # of equal counts the last one
        cuts.append(len(sequence) if last >= len(sequence) else last - int(np.argmin(window)))
    return cuts


def _crossing(sequence: OpSequence) -> Ints:
    """For each operation, the number of earlier results that it or a later one uses."""
    change = np.zeros(len(sequence) + 2, np.int64)
    change[1 : len(sequence) + 1] += 1
    np.add.at(change, sequence.last_use + 1, -1)
    return np.cumsum(change)
