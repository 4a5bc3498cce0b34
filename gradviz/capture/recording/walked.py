"""Finds the leaves behind a node, with one visit to each node however often data leaves a graph.

It is done when a tensor is cut off, since its graph may be gone when the next frame is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch.autograd.graph import Node

from gradviz.capture.autograd.nodes import ACCUMULATE_NR, leaf_of, sequence_number
from gradviz.capture.recording.ghosts import Ghosts
from gradviz.capture.recording.reach import NOTHING, Lost, Reach
from gradviz.capture.tracing.lifetime import hold_apart
from gradviz.capture.tracing.walk import BAND

__all__ = ["Walked"]

_MOST = 20_000  # nodes in a generation
_MOST_BYTES = 1 << 23  # of the numbers that hold its leaves


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


class Walked:
    """What was found out about nodes, by their address.

    Nothing about a node changes as long as it lives. The nodes of late are kept, in two
    generations: one that is asked for again moves into the younger one.

    Args:
        ghosts: knows the leaves.
        flowed_in: what came without a gradient into the operation whose numbers end there.
    """

    def __init__(self, ghosts: Ghosts, flowed_in: Callable[[int], Lost]) -> None:
        self._ghosts = ghosts
        self._flowed_in = flowed_in
        self._young: dict[int, _Known] = {}
        self._old: dict[int, _Known] = {}
        self._bytes = 0

    def turn(self) -> None:
        """Forget nodes that were not asked for lately."""
        self._young, self._old = {}, self._young
        self._bytes = 0

    def reach(self, root: Node) -> Reach:
        """What lies behind a node; it is left safe to drop, although Python has looked at it."""
        if len(self._young) > _MOST or self._bytes > _MOST_BYTES:
            self.turn()
        seen: dict[Node, _Known] = {}  # holds the nodes: no address becomes another's on the way
        stack = [root]
        while stack:
            node = stack[-1]
            if node in seen or self._is_known(node, seen):
                stack.pop()
                continue
            edges = node.next_functions
            unknown = [
                child
                for child, _ in edges
                if child is not None and child not in seen and not self._is_known(child, seen)
            ]
            if unknown:
                stack += unknown
            else:
                stack.pop()
                seen[node] = self._look(node, [(c, seen[c]) for c, _ in edges if c is not None])
        return seen[root].reach

    def _is_known(self, node: Node, seen: dict[Node, _Known]) -> bool:
        number, address = sequence_number(node), id(node)
        if number == ACCUMULATE_NR:
            leaf = leaf_of(node)
            if leaf is None:  # some nodes have no number
                return False
            seen[node] = _Known(number, self._ghosts.reach(leaf), -1)
            return True
        known = self._young.get(address)
        if known is None or known.created != number:
            known = self._old.get(address)
            if known is None or known.created != number:
                return False
            self._young[address] = known
        seen[node] = known
        return True

    def _look(self, node: Node, below: Sequence[tuple[Node, _Known]]) -> _Known:
        number = sequence_number(node)
        reach, height = NOTHING, 0
        for _, each in below:
            reach = reach.add(each.reach)
            height = max(height, each.height + 1)
        if lost := self._flowed_in(number + 1):
            reach = reach.add(Reach(0, lost))
        for child, each in below:
            if each.height // BAND != height // BAND and each.height >= 0:
                hold_apart(node, child)
        known = _Known(number, reach, height)
        if number != ACCUMULATE_NR:
            self._young[id(node)] = known
            self._bytes += reach.leaves.bit_length() // 8
        return known
