"""Finds the leaves that a node was computed from, visiting each node once per recording.

It runs when a tensor is cut from the graph, because its graph may be gone by the next frame.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from torch.autograd.graph import Node

from gradviz.capture.autograd.engine import identity_of_node
from gradviz.capture.autograd.nodes import (
    ACCUMULATE_NR,
    Edges,
    few_attributes,
    leaf_of,
    operation_type,
    operations_before,
    sequence_number,
)
from gradviz.capture.walk import BAND, guard_release
from gradviz.graph.operations import operation
from gradviz.recording.provenance import Provenance
from gradviz.recording.tensor_records import (
    NO_ANCESTORS,
    NO_CUTS,
    Ancestors,
    CutLeaves,
    OperationOutput,
    OpRecord,
    merge_cut_leaves,
)

_MOST_OP_RECORDS = 4_096
_OP_RECORDS = 8  # operations recorded before a cut
_MOST = 20_000  # nodes in a generation
_MOST_BYTES = 1 << 23  # of the integers that contain their leaves
_MOST_HELD = 1 << 25  # of the integers stored during one walk


class _Known(NamedTuple):
    """The stored result for a visited node."""

    created: int  # its sequence number; together with its identity it identifies the node
    ancestors: Ancestors  # the leaves before it
    height: int  # length of the longest path from a leaf to it


class _New(NamedTuple):
    """The nodes that one walk has visited; it keeps them alive, so that no identity is reused."""

    inputs: dict[Node, Sequence[Node]]  # of the nodes that were unknown, each after its inputs
    heights: dict[Node, int]  # of the same nodes
    # the results for the nodes at which the walk ended. None for a leaf: as an integer, one
    # leaf takes as much memory as all, so it is not stored.
    known: dict[Node, _Known | None]

    def height(self, node: Node) -> int:
        if node in self.heights:
            return self.heights[node]
        known = self.known[node]
        return -1 if known is None else known.height


class Reachability:
    """The ancestors of nodes, by `identity_of_node`.

    The ancestors of a node do not change. Recent nodes are kept in two generations; a node that
    is requested again moves into the younger one.

    Args:
        provenance: has the records of the leaves.
        flowed_in: returns the leaves that reach the operation whose sequence numbers end there
            without being an input of its node: by untracked inputs, or inside a Function.
    """

    def __init__(self, provenance: Provenance, flowed_in: Callable[[int], Ancestors]) -> None:
        self._provenance = provenance
        self._flowed_in = flowed_in
        self._young: dict[int, _Known] = {}
        self._old: dict[int, _Known] = {}
        self._bytes = 0
        self._counted: set[int] = set()  # ids of the objects in the younger generation
        self._op_records: dict[int, OpRecord] = {}  # by `identity_of_node`

    def turn(self) -> None:
        """Begin a new generation: nodes that are not requested during it are dropped."""
        self._young, self._old = {}, self._young
        self._bytes, self._counted = 0, set()

    def op_records(self, node: Node) -> list[OpRecord]:
        """Record an operation and the nearest ones before it; each is read once."""
        found: list[OpRecord] = []
        if len(self._op_records) > _MOST_OP_RECORDS:
            self._op_records.clear()
        for each, created, edges in operations_before(node, _OP_RECORDS):
            identity = identity_of_node(each)
            record = self._op_records.get(identity)
            if record is None or record.created != created:  # an identity can be reused
                record = self._op_records[identity] = self._op_record(each, created, edges)
            found.append(record)
        return found

    def _op_record(self, node: Node, created: int, edges: Edges) -> OpRecord:
        record = OpRecord(created, few_attributes(node))
        for position, (child, output) in enumerate(edges):
            if child is None:
                record.holes.append(position)
                continue
            number = sequence_number(child)
            leaf = leaf_of(child) if number == ACCUMULATE_NR else None
            source = self._provenance.leaf(leaf) if leaf is not None else number
            record.inputs.append((source, position, output))
        return record

    def ancestors(self, root: Node) -> Ancestors:
        """The leaves before a node; the graph stays safe to drop although Python visited it."""
        if len(self._young) > _MOST:
            self.turn()
        new = _New({}, {}, {})
        stack = [root]
        while stack:
            node = stack[-1]
            if self._is_visited(node, new):
                stack.pop()
                continue
            inputs = [child for child, _ in node.next_functions if child is not None]
            unknown = [child for child in inputs if not self._is_visited(child, new)]
            if unknown:
                stack += unknown
            else:
                stack.pop()
                new.inputs[node] = inputs
                new.heights[node] = _height(node, inputs, new)
        if root not in new.inputs:
            return self._known_ancestors(root, new)
        return self._of_each(root, new)

    def _is_visited(self, node: Node, new: _New) -> bool:
        if node in new.inputs or node in new.known:
            return True
        number, identity = sequence_number(node), identity_of_node(node)
        if number == ACCUMULATE_NR:
            leaf = leaf_of(node)
            if leaf is None:  # some nodes have no sequence number
                return False
            self._provenance.leaf(leaf)  # leaves are numbered in the order of the walk
            new.known[node] = None
            return True
        known = self._young.get(identity)
        if known is None or known.created != number:
            known = self._old.get(identity)
            if known is None or known.created != number:
                return False
            self._keep(identity, known)
        new.known[node] = known
        return True

    def _of_each(self, root: Node, new: _New) -> Ancestors:
        """Compute the ancestors of each new node, and store them until all its users have them."""
        users = Counter(child for inputs in new.inputs.values() for child in inputs)
        done: dict[Node, Ancestors] = {}
        largest = 0
        for node, inputs in new.inputs.items():
            number = sequence_number(node)
            parts = [
                done[c] if c in done else self._known_ancestors(c, new, number) for c in inputs
            ]
            parts += self._written_into_inputs(node, number)
            ancestors = done[node] = self._of_one(node, parts, new.heights[node])
            if not any(ancestors is each for each in parts):
                largest = max(largest, _size(ancestors))
            if len(done) * largest > _MOST_HELD:
                return self._of_all(root, new)
            for child in inputs:
                users[child] -= 1
                if not users[child]:
                    done.pop(child, None)
        return done[root]

    def _written_into_inputs(self, node: Node, number: int) -> list[Ancestors]:
        """What was written into the inputs of a node before it used them, without a gradient."""
        found = []
        for child, output in node.next_functions if self._provenance.written else ():
            if child is not None and (cut_leaves := self.written_into(child, output, number)):
                found.append(Ancestors(0, cut_leaves))
        return found

    def written_into(self, node: Node, output: int, number: int) -> CutLeaves:
        """The leaves written into a result, or into what it views, before a sequence number."""
        found, provenance = NO_CUTS, self._provenance
        for made in _viewed_outputs(node, output) if provenance.written else ():
            new = provenance.cut_leaves_of_result(OperationOutput(*made), number)
            found = merge_cut_leaves(found, new)
        return found

    def _known_ancestors(self, node: Node, new: _New, user: int | None = None) -> Ancestors:
        """The ancestors of a visited node, as the operation with a sequence number used it."""
        known = new.known[node]
        if known is not None:
            return known.ancestors
        leaf = leaf_of(node)
        return self._provenance.ancestors(leaf, user) if leaf is not None else NO_ANCESTORS

    def _of_one(self, node: Node, parts: Sequence[Ancestors], height: int) -> Ancestors:
        number = sequence_number(node)
        ancestors = NO_ANCESTORS
        for each in (*parts, self._flowed_in(number + 1)):
            ancestors = ancestors.merge(each)
        if number != ACCUMULATE_NR:
            self._keep(identity_of_node(node), _Known(number, ancestors, height))
        return ancestors

    def _of_all(self, root: Node, new: _New) -> Ancestors:
        """The ancestors of the root alone, without those of each new node."""
        ancestors = NO_ANCESTORS
        for node, inputs in new.inputs.items():
            for child in inputs:
                if child in new.known:
                    number = sequence_number(node)
                    ancestors = ancestors.merge(self._known_ancestors(child, new, number))
            for each in self._written_into_inputs(node, sequence_number(node)):
                ancestors = ancestors.merge(each)
            ancestors = ancestors.merge(self._flowed_in(sequence_number(node) + 1))
        self._keep(
            identity_of_node(root), _Known(sequence_number(root), ancestors, new.heights[root])
        )
        return ancestors

    def _keep(self, identity: int, known: _Known) -> None:
        self._young[identity] = known
        if id(known.ancestors) not in self._counted:  # many nodes share one object
            self._counted.add(id(known.ancestors))
            self._bytes += _size(known.ancestors)
            if self._bytes > _MOST_BYTES:
                self.turn()


def _height(node: Node, inputs: Sequence[Node], new: _New) -> int:
    """The height of a node; guards its release from that of inputs in another band."""
    heights = {child: new.height(child) for child in inputs}
    height = max((each + 1 for each in heights.values()), default=0)
    for child, lower in heights.items():
        if lower // BAND != height // BAND and lower >= 0:
            guard_release(node, child)
    return height


def _size(ancestors: Ancestors) -> int:
    """An upper bound of the bytes of the integers that contain the leaves."""
    bits = sum(leaves.bit_length() for leaves in ancestors.cut_leaves.values())
    return (ancestors.leaves.bit_length() + bits) // 8


def _viewed_outputs(node: Node, output: int) -> Iterator[tuple[int, int]]:
    """An output of an operation, and those of which it is a view: the same memory.

    Yields:
        The sequence number of each operation, and the number of its output.
    """
    while True:
        yield sequence_number(node), output
        edges = node.next_functions if operation(operation_type(node).op).views else ()
        if len(edges) != 1 or (before := edges[0][0]) is None:
            return
        node, output = before, edges[0][1]
