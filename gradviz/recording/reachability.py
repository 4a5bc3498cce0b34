"""Finds the leaves behind a node, with one visit to each node however often data leaves a graph.

It is done when a tensor is cut off, since its graph may be gone when the next frame is taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch.autograd.graph import Node

from gradviz.capture.autograd.nodes import ACCUMULATE_NR, leaf_of, sequence_number
from gradviz.capture.tracing.lifetime import hold_apart
from gradviz.capture.tracing.walk import BAND
from gradviz.recording.provenance import Provenance
from gradviz.recording.reach import NOTHING, Lost, Reach

__all__ = ["Reachability"]

_MOST = 20_000  # nodes in a generation
_MOST_BYTES = 1 << 23  # of the numbers that hold its leaves
_MOST_HELD = 1 << 25  # of those that are held within a walk


class _Known(NamedTuple):
    """What is known of a node that was walked.

    Args:
        created: the number of its creation; with its address it is the same node for sure.
        reach: what lies behind it.
        height: length of the longest way from it to a leaf.
    """

    created: int
    reach: Reach
    height: int


class _New(NamedTuple):
    """What one walk has met; it holds the nodes, so that no address becomes another's on the way.

    Args:
        inputs: of the nodes that were not known, each after its inputs.
        heights: theirs.
        known: what was known of others, at which the walk ends; None for a leaf: as a number, one
            leaf is as wide as all, so that it is not held.
    """

    inputs: dict[Node, Sequence[Node]]
    heights: dict[Node, int]
    known: dict[Node, _Known | None]

    def height(self, node: Node) -> int:
        if node in self.heights:
            return self.heights[node]
        known = self.known[node]
        return -1 if known is None else known.height


class Reachability:
    """What was found out about nodes, by their address.

    Nothing about a node changes as long as it lives. The nodes of late are kept, in two
    generations: one that is asked for again moves into the younger one.

    Args:
        ghosts: knows the leaves.
        flowed_in: what came without a gradient into the operation whose numbers end there.
    """

    def __init__(self, ghosts: Provenance, flowed_in: Callable[[int], Lost]) -> None:
        self._ghosts = ghosts
        self._flowed_in = flowed_in
        self._young: dict[int, _Known] = {}
        self._old: dict[int, _Known] = {}
        self._bytes = 0
        self._counted: set[int] = set()  # the ids of what the younger one holds

    def turn(self) -> None:
        """Forget nodes that were not asked for lately."""
        self._young, self._old = {}, self._young
        self._bytes, self._counted = 0, set()

    def reach(self, root: Node) -> Reach:
        """What lies behind a node; it is left safe to drop, although Python has looked at it."""
        if len(self._young) > _MOST:
            self.turn()
        new = _New({}, {}, {})
        stack = [root]
        while stack:
            node = stack[-1]
            if self._is_met(node, new):
                stack.pop()
                continue
            inputs = [child for child, _ in node.next_functions if child is not None]
            unknown = [child for child in inputs if not self._is_met(child, new)]
            if unknown:
                stack += unknown
            else:
                stack.pop()
                new.inputs[node] = inputs
                new.heights[node] = _height(node, inputs, new)
        if root not in new.inputs:
            return self._behind(root, new)
        return self._gather(root, new)

    def _is_met(self, node: Node, new: _New) -> bool:
        if node in new.inputs or node in new.known:
            return True
        number, address = sequence_number(node), id(node)
        if number == ACCUMULATE_NR:
            leaf = leaf_of(node)
            if leaf is None:  # some nodes have no number
                return False
            self._ghosts.leaf(leaf)  # leaves are numbered as they are met
            new.known[node] = None
            return True
        known = self._young.get(address)
        if known is None or known.created != number:
            known = self._old.get(address)
            if known is None or known.created != number:
                return False
            self._keep(address, known)
        new.known[node] = known
        return True

    def _gather(self, root: Node, new: _New) -> Reach:
        """Give each new node what lies behind it, for as long as those above it need that."""
        users = Counter(child for inputs in new.inputs.values() for child in inputs)
        done: dict[Node, Reach] = {}
        largest = 0
        for node, inputs in new.inputs.items():
            below = [done[c] if c in done else self._behind(c, new) for c in inputs]
            reach = done[node] = self._look(node, below, new.heights[node])
            if not any(reach is each for each in below):
                largest = max(largest, _size(reach))
            if len(done) * largest > _MOST_HELD:
                return self._together(root, new)
            for child in inputs:
                users[child] -= 1
                if not users[child]:
                    done.pop(child, None)
        return done[root]

    def _behind(self, node: Node, new: _New) -> Reach:
        known = new.known[node]
        if known is not None:
            return known.reach
        leaf = leaf_of(node)
        return self._ghosts.reach(leaf) if leaf is not None else NOTHING

    def _look(self, node: Node, below: Sequence[Reach], height: int) -> Reach:
        number = sequence_number(node)
        reach = NOTHING
        for each in below:
            reach = reach.add(each)
        if lost := self._flowed_in(number + 1):
            reach = reach.add(Reach(0, lost))
        if number != ACCUMULATE_NR:
            self._keep(id(node), _Known(number, reach, height))
        return reach

    def _together(self, root: Node, new: _New) -> Reach:
        """What lies behind the new nodes in all, without what lies behind each."""
        reach = NOTHING
        for node, inputs in new.inputs.items():
            for child in inputs:
                if child in new.known:
                    reach = reach.add(self._behind(child, new))
            reach = reach.add(Reach(0, self._flowed_in(sequence_number(node) + 1)))
        self._keep(id(root), _Known(sequence_number(root), reach, new.heights[root]))
        return reach

    def _keep(self, address: int, known: _Known) -> None:
        self._young[address] = known
        if id(known.reach) not in self._counted:  # many nodes share one
            self._counted.add(id(known.reach))
            self._bytes += _size(known.reach)
            if self._bytes > _MOST_BYTES:
                self.turn()


def _height(node: Node, inputs: Sequence[Node], new: _New) -> int:
    """How high a node is; its release is held apart from that of inputs in another band."""
    heights = {child: new.height(child) for child in inputs}
    height = max((each + 1 for each in heights.values()), default=0)
    for child, below in heights.items():
        if below // BAND != height // BAND and below >= 0:
            hold_apart(node, child)
    return height


def _size(reach: Reach) -> int:
    """Bytes of the numbers that hold the leaves, at most."""
    bits = sum(leaves.bit_length() for leaves in reach.lost.values())
    return (reach.leaves.bit_length() + bits) // 8
