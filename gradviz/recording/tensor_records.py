"""The records of leaves and untracked tensors, and the leaves that each was computed from.

Sets of leaves are bits of an integer; the bit of a leaf is its number in the recording. A record
keeps no tensor alive.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import torch

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.graph import Cause, TensorSummary
from gradviz.graph.operations import plain_shape, type_text
from gradviz.recording.source_lines import NOWHERE, CodeLocation

DEEPEST = 48  # consecutive untracked tensors, before the oldest are dropped
MOST_INPUTS = 16  # of one untracked tensor


class CutSite(NamedTuple):
    """Where a gradient is cut."""

    cause: Cause  # the reason
    location: CodeLocation  # where it was called
    word: str = ""  # the function that was called: ``"argmin"``; "" if unknown


class OperationOutput(NamedTuple):
    """An output of an operation of the graph, by the sequence number of its node."""

    created: int
    output: int


@dataclass(slots=True, eq=False)
class OpRecord:
    """An operation at the time of a cut; its node may be gone by the next frame."""

    created: int  # the sequence number of its node
    data: dict[str, Any]  # its attributes
    # leaves, or the numbers of other operations, with the input and output numbers
    inputs: list[tuple[Any, int, int]] = field(default_factory=list)
    holes: list[int] = field(default_factory=list)  # the positions of inputs that get no gradient


CutLeaves = Mapping[CutSite, int]
"""Leaves whose data is used without a gradient, by the site of the cut."""

NO_CUTS: CutLeaves = MappingProxyType({})


class Ancestors(NamedTuple):
    """The leaves that a tensor was computed from."""

    leaves: int = 0  # those that a gradient would reach
    cut_leaves: CutLeaves = NO_CUTS  # those that it would not reach

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


def leaves_in(bits: int) -> list[tuple[str, int]]:
    """The identities of the leaves in a set.

    Example:
        >>> leaves_in(0b1011)
        [('leaf', 0), ('leaf', 1), ('leaf', 3)]
    """
    found = []
    while bits:
        lowest = bits & -bits
        found.append(("leaf", lowest.bit_length() - 1))
        bits ^= lowest
    return found


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
        if self.latest is not None:
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

    def identities(self, tensor: torch.Tensor) -> tuple[Hashable, ...]:
        """The identities of the nodes that can represent a tensor, the most exact first."""
        if (record := self.of(tensor)) is not None:
            return (record.identity,)
        if (node := tensor.grad_fn) is None:
            return ()
        created = sequence_number(node)
        return ("result", created, tensor.output_nr), created

    def identity(self, tensor: torch.Tensor) -> Hashable:
        """The most exact one; None if no node can represent it."""
        return next(iter(self.identities(tensor)), None)


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


def cause_of(inputs: Sequence[Input]) -> Cause:
    """Why a tensor computed from a new untracked tensor gets no gradient through it."""
    indirect, otherwise = None, _CONSTANT
    for data in inputs:
        source, cause = data.source, data.cause
        if not isinstance(source, UntrackedTensor):
            return cause
        if indirect is None and source.matters:
            indirect = cause
        if cause is _NOT_RECORDED:
            otherwise = cause
    return indirect or otherwise


_CONSTANT, _NOT_RECORDED = Cause.CONSTANT, Cause.NOT_RECORDED


@dataclass(slots=True, eq=False)
class Leaf:
    """A leaf that requires grad."""

    number: int  # 0, 1, ... in the order in which they were recorded.
    name: str = ""  # the user's name for it
    location: CodeLocation = NOWHERE  # where it was created, if recorded
    # backward passes accumulated in ``.grad`` since it was zeroed; None if unknown
    passes: int | None = None
    # its record from before ``requires_grad`` was switched on
    untracked: UntrackedTensor | None = None
    ref: Callable[[], torch.Tensor | None] = lambda: None  # weak reference to the tensor

    @property
    def identity(self) -> tuple[str, int]:
        """The identity of its node in every frame."""
        return "leaf", self.number

    @property
    def was_untracked(self) -> bool:
        """Whether it was computed from something that requires grad before it became a leaf."""
        return self.untracked is not None and self.untracked.matters


@dataclass(slots=True, eq=False)
class Input:
    """Data that flowed into an untracked tensor, or from one into an operation.

    Args:
        source: where the data came from.
        cause: why no gradient flows back along this edge.
        location: where the gradient was cut; `NOWHERE` if it was cut earlier.
        ref: weak reference to the tensor of the graph that is the source.
        base: weak reference to the tensor of which that one is a view.
        op_records: the nearest operations before it, for when that tensor is gone.
        ancestors: the leaves before it at that time.
        is_in_place: whether the data was written into an existing tensor: its source may have
            been computed from that tensor.
        word: the function that cut the gradient; "" if it was cut earlier.
        written_at: the number of nodes when it was written into an existing tensor.
        cut_leaves: the leaves that get no gradient along this edge, with the cause and location.
    """

    source: OperationOutput | Leaf | UntrackedTensor
    cause: Cause
    location: CodeLocation = NOWHERE
    ref: Callable[[], torch.Tensor | None] = lambda: None
    op_records: Sequence[OpRecord] = ()
    ancestors: Ancestors = NO_ANCESTORS
    is_in_place: bool = False
    word: str = ""
    written_at: int = 0
    base: Callable[[], torch.Tensor | None] = lambda: None
    cut_leaves: CutLeaves = field(init=False)

    def __post_init__(self) -> None:
        if not self.ancestors.leaves:
            self.cut_leaves = self.ancestors.cut_leaves
        else:
            site = CutSite(self.cause, self.location, self.word)
            self.cut_leaves = self.ancestors.cut(site)

    def without(self, leaves: int) -> Input:
        """The same data, if that of some leaves does not count."""
        cut = {site: bits & ~leaves for site, bits in self.cut_leaves.items() if bits & ~leaves}
        return self if cut == self.cut_leaves else replace(self, ancestors=Ancestors(0, cut))

    def beside(self, others: Sequence[Input]) -> Input:
        """The same data with the leaves of others, which are not kept."""
        cut = reduce(merge_cut_leaves, (each.cut_leaves for each in others), self.cut_leaves)
        return self if cut is self.cut_leaves else replace(self, ancestors=Ancestors(0, cut))

    def cut_again(self, cause: Cause, location: CodeLocation, word: str) -> Input:
        """Data that was cut before, if it is cut here in any case."""
        return Input(self.source, cause, location, ancestors=Ancestors(self.lost), word=word)

    @property
    def lost(self) -> int:
        """The leaves that get no gradient along this edge, as bits."""
        return reduce(or_, self.cut_leaves.values(), 0)

    @property
    def matters(self) -> bool:
        """Whether the data was computed from something that requires grad."""
        return self.source.matters if isinstance(self.source, UntrackedTensor) else True


class Written(NamedTuple):
    """Data that was written into a result of the graph without being recorded by autograd."""

    output: int  # which output of its operation the result is
    data: Input  # the data; ``data.written_at`` is the time


class UntrackedTensor:
    """A tensor outside the graph, or a Python number or array computed from a tensor.

    Args:
        number: 0, 1, ... in the order in which they were recorded.
        word: the function that created it; "" if not recorded.
        cause: why a tensor computed from it gets no gradient through it.
        location: where it was created.
        inputs: the data it was computed from.
        matters: whether it was computed from something that requires grad.
        cut_leaves: the leaves among its ancestors, and where the gradient was cut.
        value: the value of a number or array, or a function that returns it.
        changes: the operations that changed it in place, in order, each once.
        depth: length of the longest path of untracked tensors that ends here.
        is_plain_value: whether it is a number or array, whose further use is not recorded.
        read_at: of a number or array, the number of nodes when it was read.
        leaf: its record as a leaf, if it required grad before, or requires grad since.
        replaced: the data that was overwritten, and the number of nodes when it was.
        alias: the data that it had before any was written into it: the two may share memory.
        grad_of: the leaf whose ``.grad`` it is.
        version: how often it had been changed in place when it was last seen.
        ran_in: the call of a module that computed it: the path of the module, and the numbers of
            the calls as in `ModuleCall`; empty for none, and if unknown.
        ref: weak reference to the tensor.
        identity: of its node in every frame.
    """

    cut_leaves: CutLeaves = NO_CUTS
    value: TensorSummary | Callable[[], TensorSummary] | None = None
    name: str = ""
    changes: tuple[str, ...] = ()
    depth: int = 0
    is_plain_value: bool = False
    read_at: int = 0
    leaf: Leaf | None = None
    grad_of: Leaf | None = None
    version: int = 0
    ran_in: tuple[str, tuple[int, ...]] = ("", ())
    replaced: tuple[tuple[int, Input], ...] = ()
    alias: Input | None = None
    _facts: tuple[Any, Any, Any] | None = None  # shape, dtype and device as torch gives them

    def __init__(
        self,
        number: int,
        word: str,
        cause: Cause,
        location: CodeLocation = NOWHERE,
        inputs: Sequence[Input] = (),
        matters: bool = False,
    ) -> None:
        self.number = number
        self.word = word
        self.cause = cause
        self.location = location
        self.inputs = inputs
        self.matters = matters
        self.ref: Callable[[], torch.Tensor | None] = no_tensor
        self.identity: tuple[str, int] = ("untracked", number)
        for each in inputs:
            if self.cut_leaves is NO_CUTS:
                self.cut_leaves = each.cut_leaves
            elif each.cut_leaves is not NO_CUTS:
                self.cut_leaves = merge_cut_leaves(self.cut_leaves, each.cut_leaves)
            source = each.source
            if type(source) is UntrackedTensor and source.depth >= self.depth:
                self.depth = source.depth + 1
        if self.depth > DEEPEST:
            self.drop_distant_inputs()

    @classmethod
    def computed(
        cls, number: int, word: str, location: CodeLocation, inputs: Sequence[Input]
    ) -> UntrackedTensor:
        """The record of a tensor computed from data, which says whether it matters."""
        for each in inputs:
            source = each.source
            if type(source) is not UntrackedTensor or source.matters:
                return cls(number, word, cause_of(inputs), location, inputs, True)
        return cls(number, word, cause_of(inputs), location, inputs)

    @property
    def facts(self) -> dict[str, Any]:
        """Shape, dtype and device of its tensor, as attributes of a node; empty if not read."""
        if self._facts is None:
            return {}
        shape, dtype, device = self._facts
        return {"shape": plain_shape(shape), "dtype": type_text(dtype), "device": type_text(device)}

    def become(self, leaf: Leaf) -> None:
        """It is the same tensor as a leaf, and has the same node in every frame."""
        self.leaf, self.identity = leaf, leaf.identity

    def cut_at_integers(self) -> None:
        """Its cut leaves are cut here: integers have no gradient, wherever they were cut before."""
        found = dict(self.cut_leaves)
        others = [each for each in found if each.cause is not Cause.NOT_DIFFERENTIABLE]
        site = CutSite(Cause.NOT_DIFFERENTIABLE, self.location, self.word)
        for bits in map(found.pop, others):
            found[site] = found.get(site, 0) | bits
        if others:  # else the table is shared
            self.cut_leaves = found

    @property
    def is_of_a_derivative(self) -> bool:
        """Whether it was computed from what ``torch.autograd.grad`` returned without a graph."""
        return any(site.cause is Cause.AUTOGRAD_GRAD for site in self.cut_leaves)

    @property
    def origin(self) -> Input | None:
        """The data of which it can be an alias or a view; None if it was made of several."""
        return self.alias or (self.inputs[0] if len(self.inputs) == 1 else None)

    def inputs_at(self, *numbers: int) -> Sequence[Input]:
        """The data in it when one of the operations with these sequence numbers used it."""
        rows = (*self.replaced, *((sys.maxsize + 1, each) for each in self.inputs))
        return [each for end, each in rows if any(each.written_at <= n < end for n in numbers)]

    def cut_leaves_at(self, *numbers: int) -> CutLeaves:
        """The cut leaves among its ancestors when one of the operations used it."""
        inputs = self.inputs_at(*numbers)
        if inputs == [*self.inputs]:
            return self.cut_leaves
        found = NO_CUTS
        for each in inputs:
            found = merge_cut_leaves(found, each.cut_leaves)
        return found

    def as_input(self) -> Input:
        """Its data as an input of another tensor, at this time."""
        ancestors = Ancestors(0, self.cut_leaves) if self.cut_leaves else NO_ANCESTORS
        return Input(self, self.cause, NOWHERE, no_tensor, (), ancestors)

    def read_facts(self, tensor: torch.Tensor) -> None:
        """Read shape, dtype and device of its tensor, once."""
        if self._facts is None:
            try:  # noqa: SIM105, this is called for every untracked result
                self._facts = tensor.shape, tensor.dtype, tensor.device
            except RuntimeError:  # a nested tensor has no shape
                pass

    def add_input(self, new: Input) -> None:
        """Add data that an in-place operation wrote into it."""
        self.cut_leaves = merge_cut_leaves(self.cut_leaves, new.cut_leaves)
        if all(each.source != new.source for each in self.inputs):
            at = new.written_at or creation_count()
            written = replace(new, is_in_place=True, written_at=at)
            dropped, kept = self.inputs[: 1 - MOST_INPUTS], self.inputs[1 - MOST_INPUTS :]
            kept = (kept[0].beside(dropped), *kept[1:]) if dropped else kept
            self.inputs = (*kept, written)
            self.matters = self.matters or new.matters

    def drop_distant_inputs(self) -> None:
        """Drop the oldest ancestors; those of a running mean would grow without limit."""
        level, keep = [self], DEEPEST // 2
        seen = {id(self)}
        for _ in range(keep):
            before = []
            for each in level:
                for data in each.inputs:
                    source = data.source
                    if isinstance(source, UntrackedTensor) and id(source) not in seen:
                        seen.add(id(source))
                        before.append(source)
            level = before
        for each in level:
            each.inputs = [
                data for data in each.inputs if not isinstance(data.source, UntrackedTensor)
            ]
        self.depth = keep


def no_tensor() -> None:
    """The reference of a record whose tensor has changed its role."""


def copied_leaf(written: Sequence[Input]) -> int:
    """The bit of the only leaf of which values were written, not results of the graph; else 0."""
    leaves = reduce(or_, (each.lost for each in written), 0)
    found = [each.source for each in written]
    for source in found:  # which grows
        if isinstance(source, UntrackedTensor) and len(found) < MOST_INPUTS:
            found.extend(e.source for e in source.inputs if e.source not in found)
    is_computed = any(isinstance(source, OperationOutput) for source in found)
    return 0 if is_computed or leaves & (leaves - 1) else leaves


def names_apart(found: Sequence[UntrackedTensor], targets: Sequence[str]) -> list[str]:
    """The name of each tensor whose line assigns to a variable, or to several: ``rows, slot``.

    Args:
        found: in the order of their creation.
        targets: what the line of each assigns to.

    Returns:
        Of several variables that of the tensor; "" where it is not known which is its own.
    """
    calls: list[list[int]] = []
    for at, each in enumerate(found):
        last = found[at - 1] if at else None
        is_next = last and (last.number + 1, last.location) == (each.number, each.location)
        if not is_next:
            calls.append([])
        calls[-1].append(at)
    names: list[str] = []
    for call in calls:
        parts = targets[call[0]].split(", ")
        parts = parts if all(map(str.isidentifier, parts)) else [targets[call[0]]]
        names += (
            parts * (len(call) // len(parts)) if not len(call) % len(parts) else [""] * len(call)
        )
    return names
