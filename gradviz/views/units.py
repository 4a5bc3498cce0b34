"""The inside of a graph in a row: its operations in order of creation, as arrays.

Modules run one after another, and so do the steps of a loop: in the order of creation each is
an unbroken stretch. And a graph whose stretches are each drawn as one node has no cycle, for
its arrows still run along the row. So the views that fold look for stretches.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradviz.graph import GradGraph, NodeData, NodeKind

__all__ = ["Ints", "Units", "units_of"]

Ints = NDArray[np.int64]

_FOLDABLE = (NodeKind.OPERATION, NodeKind.GROUP, NodeKind.UNTRACKED)
_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED, NodeKind.SAVED)


@dataclass(frozen=True)
class Units:
    """The operations of a graph in a row; leaves, ``AccumulateGrad`` and results stand aside.

    Args:
        keys: of the nodes, every one after its inputs.
        data: their attributes, the graph's own.
        starts: where the inputs of each unit begin in ``sources``; one more at the end.
        sources: the inputs in their order: the place of a unit, or ``-1 - n`` for the leaf
            numbered ``n``.
        leaves: attributes of the leaves, by number.
        aside: leaves and ``AccumulateGrad`` nodes, each with the number of its leaf.
    """

    keys: list[str]
    data: list[NodeData]
    starts: Ints
    sources: Ints
    leaves: list[NodeData]
    aside: dict[str, int]

    def __len__(self) -> int:
        return len(self.keys)

    def inputs(self, place: int) -> list[int]:
        """The inputs of a unit, as in ``sources``."""
        return list(map(int, self.sources[self.starts[place] : self.starts[place + 1]]))

    def parameters(self, place: int) -> list[int]:
        """The parameters that a unit uses, each as in ``sources``."""
        return [
            source
            for source in self.inputs(place)
            if source < 0 and self.leaves[-1 - source]["kind"] is NodeKind.PARAMETER
        ]

    def foldable(self, place: int) -> bool:
        """Whether a view may fold the unit: not what was asked for, nor where it went wrong."""
        data = self.data[place]
        return data["kind"] in _FOLDABLE and "root" not in data and "problem" not in data


def units_of(graph: GradGraph) -> Units:
    """Put the operations of a graph in a row.

    Args:
        graph: acyclic, its edges running from input to output.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.OPERATION, op="sum", sequence_nr=1)
        >>> graph.add_node("n1", kind=NodeKind.OPERATION, op="mul", sequence_nr=0)
        >>> graph.add_node("n2", kind=NodeKind.LEAF)
        >>> _ = graph.add_edge("n1", "n0", 0), graph.add_edge("n2", "n1", 0)
        >>> units = units_of(graph)
        >>> units.keys, units.inputs(0), units.inputs(1)
        (['n1', 'n0'], [-1], [0])
    """
    nodes, inputs, successors = graph._node, graph._pred, graph._succ
    leaves: list[str] = []
    accumulates: list[str] = []
    keys: list[str] = []
    numbers = array("q")
    operation = NodeKind.OPERATION  # to look a member up in its enum takes longer than the rest
    for key, data in nodes.items():  # one pass: of a large graph each costs a second
        kind = data["kind"]
        if kind is operation:
            keys.append(key)
            numbers.append(data.get("sequence_nr", -1))
        elif kind is NodeKind.ACCUMULATE and len(inputs[key]) == 1:
            accumulates.append(key)
        elif kind in _LEAVES and not inputs[key]:
            leaves.append(key)
        elif kind is not NodeKind.RESULT or successors[key]:
            keys.append(key)
            numbers.append(data.get("sequence_nr", -1))
    aside = {key: number for number, key in enumerate(leaves)}
    for key in accumulates:
        (leaf,) = inputs[key]
        if leaf in aside:
            aside[key] = aside[leaf]
        else:
            keys.append(key)
            numbers.append(-1)
    keys, rows = _in_a_row(graph, keys, np.array(numbers, np.int64), aside)
    data_of = [nodes[key] for key in keys]
    return Units(keys, data_of, *rows, [nodes[key] for key in leaves], aside)


def _in_a_row(
    graph: GradGraph, keys: list[str], numbers: Ints, aside: dict[str, int]
) -> tuple[list[str], tuple[Ints, Ints]]:
    """Order the keys; with them come the inputs of each."""
    known = int((numbers >= 0).sum())
    rows = None
    if known == len(keys):
        keys = [keys[place] for place in np.argsort(numbers, kind="stable").tolist()]
        rows = _inputs(graph, keys, aside)
    if rows is None:
        keys = _by_numbers(graph, keys) if 2 * known >= len(keys) else _by_height(graph, keys)
        rows = _inputs(graph, keys, aside)
    if rows is None:
        raise ValueError("the graph has a cycle: it cannot be put in a row")
    return keys, rows


def _inputs(
    graph: GradGraph, keys: Sequence[str], aside: dict[str, int]
) -> tuple[Ints, Ints] | None:
    """The inputs of each unit; None if one comes after the unit that uses it."""
    inputs = graph._pred
    place = {key: number for number, key in enumerate(keys)}
    place.update((key, -1 - number) for key, number in aside.items())
    # Arrays of numbers: as lists they would take five times the memory, and set the peak.
    starts, sources = array("q", [0]), array("q")
    for key in keys:
        row = inputs[key]
        if len(row) == 1:
            ((source, edges),) = row.items()
            if len(edges) == 1:
                sources.append(place[source])
            else:
                sources.extend([place[source]] * len(edges))
        else:
            pairs = sorted((slot, place[source]) for source, edges in row.items() for slot in edges)
            sources.extend([source for _, source in pairs])
        starts.append(len(sources))
    bounds, found = np.array(starts, np.int64), np.array(sources, np.int64)
    users = np.repeat(np.arange(len(keys)), np.diff(bounds))
    return (bounds, found) if (found < users).all() else None


def _by_numbers(graph: GradGraph, keys: Sequence[str]) -> list[str]:
    """In order of creation as far as the inputs allow; what has no number follows its inputs."""
    inside = set(keys)
    waiting = {key: sum(source in inside for source in graph._pred[key]) for key in keys}
    number = {key: graph._node[key].get("sequence_nr", -1) for key in keys}
    first = {key: place for place, key in enumerate(keys)}
    heap = [(number[key], first[key], key) for key in keys if not waiting[key]]
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
    """Each unit right after its inputs, the one with the longest way behind it first."""
    inside = set(keys)
    inputs = {key: [source for source in graph._pred[key] if source in inside] for key in keys}
    height: dict[str, int] = {}
    for key in _by_numbers(graph, keys):
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
