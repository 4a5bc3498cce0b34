"""The leaves that a tensor was computed from, and where the gradient to each was cut.

Sets of leaves are bits of an integer; the bit of a leaf is its number in the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from gradviz.graph import Cause
from gradviz.recording.source_lines import CodeLocation


class CutSite(NamedTuple):
    """Where a gradient is cut.

    Args:
        cause: the reason.
        location: where it was called.
        word: the function that was called: ``"argmin"``; "" if unknown.
    """

    cause: Cause
    location: CodeLocation
    word: str = ""


@dataclass(slots=True, eq=False)
class OpRecord:
    """An operation at the time of a cut; its node may be gone by the next frame.

    Args:
        created: the sequence number of its node.
        data: its attributes.
        inputs: leaves, or the numbers of other operations, with the input and output numbers.
        holes: the positions of inputs that get no gradient.
    """

    created: int
    data: dict[str, Any]
    inputs: list[tuple[Any, int, int]] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)


CutLeaves = Mapping[CutSite, int]
"""Leaves whose data is used without a gradient, by the site of the cut."""

NO_CUTS: CutLeaves = MappingProxyType({})


class Ancestors(NamedTuple):
    """The leaves that a tensor was computed from.

    Args:
        leaves: those that a gradient would reach.
        cut_leaves: those that it would not reach.
    """

    leaves: int = 0
    cut_leaves: CutLeaves = NO_CUTS

    def merge(self, other: Ancestors) -> Ancestors:
        """The ancestors of both; returns one of the two objects if it contains them all."""
        if self is other or other is NO_ANCESTORS:
            return self
        leaves = self.leaves | other.leaves
        cut_leaves = merge_cut_leaves(self.cut_leaves, other.cut_leaves)
        if leaves == self.leaves and cut_leaves is self.cut_leaves:
            return self
        if leaves == other.leaves and cut_leaves is other.cut_leaves:
            return other
        return Ancestors(leaves, cut_leaves)

    def cut(self, site: CutSite) -> CutLeaves:
        """The cut leaves if the gradient is cut here as well."""
        if not self.leaves:
            return self.cut_leaves
        return merge_cut_leaves(self.cut_leaves, {site: self.leaves})


NO_ANCESTORS = Ancestors()


def merge_cut_leaves(one: CutLeaves, other: CutLeaves) -> CutLeaves:
    """The union; returns one of the two objects if possible, so that a loop stores only one."""
    if one is other or not other:
        return one
    if not one:
        return other
    if len(one) < len(other):
        one, other = other, one
    new = {where: one.get(where, 0) | leaves for where, leaves in other.items()}
    return {**one, **new} if any(one.get(where) != new[where] for where in new) else one


def leaves_in(bits: int) -> Iterator[int]:
    """The numbers of the leaves in a set.

    Example:
        >>> list(leaves_in(0b1011))
        [0, 1, 3]
    """
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
