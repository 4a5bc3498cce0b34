"""The data of provenance: the leaves that a tensor was computed from, and the records of tensors.

Sets of leaves are bits of an integer; the bit of a leaf is its number in the recording. A record
keeps no tensor alive.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import torch

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


class OperationOutput(NamedTuple):
    """An output of an operation of the graph, by the sequence number of its node."""

    created: int
    output: int


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


def at_integers(cut_leaves: CutLeaves, location: CodeLocation, word: str) -> CutLeaves:
    """The cut leaves if integers are computed from them here, which have no gradient anyway."""
    site, found = CutSite(Cause.NOT_DIFFERENTIABLE, location, word), dict(cut_leaves)
    others = [each for each in found if each.cause is not Cause.NOT_DIFFERENTIABLE]
    for bits in map(found.pop, others):
        found[site] = found.get(site, 0) | bits
    return found


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


R = TypeVar("R", bound=Any)  # a record of a tensor, with a reference to it in ``ref``


class _Reference(weakref.ref[torch.Tensor]):
    __slots__ = ("key",)
    key: int


class WeakTensors(dict[int, R]):
    """The records of tensors that are alive, by the ``id`` of the tensor.

    An entry is removed when its tensor is deleted, before the ``id`` can be reused.

    Attributes:
        latest: a record that is entered when a record is next read: its tensor may be gone by then.
    """

    latest: Any = None

    def enter(self, tensor: torch.Tensor, record: R) -> None:
        """Store the record of a tensor, replacing any other."""
        self.settle()
        reference = _Reference(tensor, self._remove)
        reference.key = id(tensor)
        record.ref = reference
        self[id(tensor)] = record

    def _remove(self, reference: weakref.ref[torch.Tensor]) -> None:
        key: int = reference.key  # type: ignore[attr-defined]
        record = self.get(key)
        if record is not None and record.ref is reference:
            del self[key]

    def settle(self) -> None:
        """Enter the latest record, if its tensor is alive."""
        record, self.latest = self.latest, None
        tensor = record.ref() if record is not None else None
        if record is not None and tensor is not None:
            self.enter(tensor, record)

    def of(self, tensor: torch.Tensor) -> R | None:
        """The record of a tensor."""
        if self.latest is not None:
            self.settle()
        return self.get(id(tensor))


_MOST_NUMBERS = 4_096  # numbers that are recognized when a tensor is created from them


class ValuesRead(Generic[R]):
    """The records of numbers and arrays that were read from tensors, for when they come back.

    Attributes:
        arrays: weak references to arrays that share memory with tensors, by the address of it.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, tuple[float, R]] = {}
        self.arrays: dict[int, tuple[weakref.ref[Any], R]] = {}
        self._room = _MOST_NUMBERS

    def remember_numbers(self, values: object, record: R) -> None:
        """Remember float objects read from a tensor; they are held, so that no ``id`` is reused."""
        for number in _floats_in(values):
            self._numbers[id(number)] = number, record
        if len(self._numbers) > 2 * _MOST_NUMBERS:
            self._numbers = dict([*self._numbers.items()][-_MOST_NUMBERS:])

    def remember_array(self, array: Any, record: R) -> None:
        """Remember an array that shares the memory of a tensor, as long as it lives."""
        self.arrays[address_of(array)] = weakref.ref(array), record
        if len(self.arrays) > self._room:  # twice as many as were alive: no scan for each array
            self.arrays = {key: row for key, row in self.arrays.items() if row[0]() is not None}
            self._room = max(_MOST_NUMBERS, 2 * len(self.arrays))

    def array_at(self, address: int) -> R | None:
        """The record of the array whose memory starts here, if one was read from a tensor."""
        array, record = self.arrays.get(address, (None, None))
        return record if array is not None and array() is not None else None

    def numbers_in(self, values: object) -> list[R]:
        """The records of the numbers among values that were read from tensors, each once."""
        if not self._numbers:
            return []
        known = (self._numbers.get(id(number)) for number in _floats_in(values))
        return list({id(found[1]): found[1] for found in known if found is not None}.values())


def address_of(array: Any) -> int:
    """Where the memory of an array starts; ``ctypes.data`` is slower."""
    return int(array.__array_interface__["data"][0])


def _floats_in(values: object, depth: int = 4) -> Iterator[float]:
    """The Python floats among values, and in lists and tuples among them, up to a number."""
    if type(values) is float:
        yield values
    elif depth and isinstance(values, (list, tuple)):
        for each in values[:_MOST_NUMBERS]:
            yield from _floats_in(each, depth - 1)
