"""Which leaves lie behind a tensor, however far back, as bits of a number: nothing is kept alive.

The bit of a leaf is its number in the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from gradviz.graph import Cause
from gradviz.recording.source_lines import CodeLocation

__all__ = ["NOTHING", "Lost", "Reach", "add_lost", "leaves_in"]

Lost = Mapping[tuple[Cause, CodeLocation], int]
"""Leaves whose data went on without a gradient: why and where it was lost, and the leaves."""

_NONE: Lost = MappingProxyType({})


class Reach(NamedTuple):
    """What lies behind a tensor.

    Args:
        leaves: those that a gradient would come to.
        lost: those that it would not come to, whose data is in the tensor all the same.
    """

    leaves: int = 0
    lost: Lost = _NONE

    def add(self, other: Reach) -> Reach:
        """Both together; one of the two where that has it all."""
        if self is other:
            return self
        leaves, lost = self.leaves | other.leaves, add_lost(self.lost, other.lost)
        if leaves == self.leaves and lost is self.lost:
            return self
        if leaves == other.leaves and lost is other.lost:
            return other
        return Reach(leaves, lost)

    def cut(self, cause: Cause, place: CodeLocation) -> Lost:
        """What is lost when no gradient comes through any more."""
        return add_lost(self.lost, {(cause, place): self.leaves}) if self.leaves else self.lost


NOTHING = Reach()


def add_lost(one: Lost, other: Lost) -> Lost:
    """Both together; one of the two where that has it all, so that a loop ends up with one."""
    if one is other or not other:
        return one
    if not one:
        return other
    if len(one) < len(other):
        one, other = other, one
    new = {where: one.get(where, 0) | leaves for where, leaves in other.items()}
    return {**one, **new} if any(one.get(where) != new[where] for where in new) else one


def leaves_in(bits: int) -> Iterator[int]:
    """The numbers of the leaves.

    Example:
        >>> list(leaves_in(0b1011))
        [0, 1, 3]
    """
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest
