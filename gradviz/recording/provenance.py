"""Tensors outside the graph: where their data came from, and where the gradient was lost.

Only facts are kept, and a weak reference: a tensor dies when it would have died anyway.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import torch

if TYPE_CHECKING:
    from gradviz.recording.op_records import OpRecord

from gradviz.capture.autograd.nodes import plain_shape, sequence_number
from gradviz.capture.autograd.operations import type_text
from gradviz.graph import Cause, TensorSummary
from gradviz.recording.reach import NOTHING, Lost, Reach, add_lost
from gradviz.recording.source_lines import NOWHERE, CodeLocation

__all__ = ["UntrackedTensor", "Provenance", "Input", "Leaf", "Made", "WeakTensors"]

_MOST = 256  # ghosts that are offered to the frames
_DEEPEST = 48  # steps from one ghost to the next, before the far end is let go


class Made(NamedTuple):
    """An output of a node of the graph, by the number of its creation."""

    created: int
    output: int


@dataclass(slots=True, eq=False)
class Leaf:
    """A leaf that requires grad.

    Args:
        number: 0, 1, ... in the order in which the recording met them.
        name: what the user calls it.
        place: where it was made, if that was recorded.
        passes: gradients added since ``.grad`` was zeroed; None when that began unseen.
        ghost: what the tensor was before it was made to require grad.
    """

    number: int
    name: str = ""
    place: CodeLocation = NOWHERE
    passes: int | None = None
    ghost: UntrackedTensor | None = None
    ref: Callable[[], torch.Tensor | None] = lambda: None

    @property
    def identity(self) -> tuple[str, int]:
        """What its node in every frame has in common."""
        return "leaf", self.number


class Input(NamedTuple):
    """Data that flowed into a ghost, or from a ghost into the graph.

    Args:
        source: where it came from.
        cause: why no gradient comes back along this way.
        place: where the gradient was lost; `NOWHERE` when it was lost before.
        ref: the tensor of the graph that it came from, as long as that lives.
        stubs: the nearest operations behind it, for when that lives no more.
        reach: the leaves behind it, as they were when it flowed.
        is_late: whether it flowed in by a change in place: maybe from what the ghost went into.
    """

    source: Made | Leaf | UntrackedTensor
    cause: Cause
    place: CodeLocation = NOWHERE
    ref: Callable[[], torch.Tensor | None] = lambda: None
    stubs: Sequence[OpRecord] = ()
    reach: Reach = NOTHING
    is_late: bool = False

    @property
    def lost(self) -> Lost:
        """The leaves that get no gradient back along this way, and where it was lost."""
        return self.reach.cut(self.cause, self.place)


@dataclass(slots=True, eq=False)
class UntrackedTensor:
    """A tensor outside the graph, or a Python number or array that was made from one.

    Args:
        number: 0, 1, ... in the order in which the recording met them.
        word: what made it; "" when that was not recorded.
        cause: what it tells those who use it: why they get no gradient through it.
        place: where it was made.
        inputs: where its data came from.
        matters: whether something on the way to it required grad.
        lost: the leaves among that, however far back, and where the gradient was lost.
        value: of a number or array, what it was.
        shape, dtype, device: of a tensor.
        changes: the operations that changed it in place, in order, each once.
        depth: ghosts in a row up to this one.
        is_end: whether it is a number or array, from which nothing can be followed.
        was: the leaf that it was before ``requires_grad`` was switched off.
        grad_of: the leaf whose ``.grad`` it is.
    """

    number: int
    word: str
    cause: Cause
    place: CodeLocation = NOWHERE
    inputs: Sequence[Input] = ()
    matters: bool = False
    lost: Lost = field(default_factory=lambda: NOTHING.lost)
    value: TensorSummary | None = None
    shape: tuple[int, ...] | None = None
    dtype: str = ""
    device: str = ""
    name: str = ""
    changes: list[str] = field(default_factory=list)
    depth: int = 0
    is_end: bool = False
    was: Leaf | None = None
    grad_of: Leaf | None = None
    ref: Callable[[], torch.Tensor | None] = lambda: None

    @property
    def identity(self) -> tuple[str, int]:
        """What its node in every frame has in common."""
        return ("ghost", self.number) if self.was is None else self.was.identity

    def flow(self) -> Input:
        """Its data, as it flows on at this moment."""
        return Input(self, self.cause, reach=Reach(0, self.lost))

    def read_facts(self, tensor: torch.Tensor) -> None:
        """Take down shape, dtype and device of its tensor, once."""
        if self.shape is None:
            try:
                self.shape = plain_shape(tensor.shape)
                self.dtype = type_text(tensor.dtype)
                self.device = str(tensor.device)
            except RuntimeError:  # a nested tensor has no shape
                pass

    def add_input(self, new: Input) -> None:
        """More data flowed in, by an in-place operation."""
        self.lost = add_lost(self.lost, new.lost)
        if all(each.source != new.source for each in self.inputs):
            self.inputs = (*self.inputs[-15:], new._replace(is_late=True))
            if not isinstance(new.source, UntrackedTensor) or new.source.matters:
                self.matters = True


class _Reference(weakref.ref[torch.Tensor]):
    __slots__ = ("key",)
    key: int


class WeakTensors(dict[int, "UntrackedTensor | Leaf"]):
    """What is known of tensors that are alive, by their ``id``.

    A tensor's wrapper in Python lives until the tensor itself is gone, and so does a weak
    reference to it; then the entry goes too, before the ``id`` can be another's.
    """

    def enter(self, tensor: torch.Tensor, record: UntrackedTensor | Leaf) -> None:
        """Keep a record of a tensor, in place of any other."""
        reference = _Reference(tensor, self._remove)
        reference.key = id(tensor)
        record.ref = reference
        self[id(tensor)] = record

    def _remove(self, reference: weakref.ref[torch.Tensor]) -> None:
        key: int = reference.key  # type: ignore[attr-defined]
        record = self.get(key)
        if record is not None and record.ref is reference:
            del self[key]

    def of(self, tensor: torch.Tensor) -> UntrackedTensor | Leaf | None:
        """The record of a tensor."""
        return self.get(id(tensor))


class Provenance:
    """The ghosts of a recording.

    Attributes:
        tensors: ghosts and leaves by the tensor that they stand for.
        left_out: number of ghosts that were too many to be drawn.
    """

    def __init__(self) -> None:
        self.tensors = WeakTensors()
        self.left_out = 0
        self._count = 0
        self._leaves = 0
        self._drawn: list[UntrackedTensor] = []

    def leaf(self, tensor: torch.Tensor) -> Leaf:
        """The record of a leaf, new if there is none.

        A graph keeps its leaves, also those that were frozen since: their tensors stay ghosts.
        """
        found = self.tensors.of(tensor)
        if isinstance(found, Leaf):
            return found
        if tensor.requires_grad:
            leaf = self._new_leaf(tensor, found)
            self.release(tensor)
            self.tensors.enter(tensor, leaf)
            return leaf
        ghost = self.ghost(tensor)
        if ghost.was is None:
            ghost.was = self._new_leaf(tensor, None)
            ghost.was.ref = weakref.ref(tensor)
        return ghost.was

    def reach(self, tensor: torch.Tensor) -> Reach:
        """What lies behind a leaf: itself, and what it was made from."""
        leaf = self.leaf(tensor)
        return Reach(1 << leaf.number, leaf.ghost.lost if leaf.ghost is not None else NOTHING.lost)

    def identities(self, tensor: torch.Tensor) -> Iterator[Hashable]:
        """What the nodes that can stand for a tensor have in common, the nearest first."""
        record = self.tensors.of(tensor)
        node = tensor.grad_fn
        if record is not None:
            yield record.identity
        elif node is not None:
            created = sequence_number(node)
            yield "result", created, tensor.output_nr
            yield created

    def _new_leaf(self, tensor: torch.Tensor, ghost: UntrackedTensor | None) -> Leaf:
        leaf = Leaf(self._leaves, ghost=ghost)
        # A frozen leaf can be none any more: torch warns when its gradient is asked for.
        leaf.passes = None if tensor.is_leaf and tensor.grad is not None else 0
        self._leaves += 1
        return leaf

    def ghost(self, tensor: torch.Tensor) -> UntrackedTensor:
        """The ghost of a tensor that requires no grad; one that was never seen is said so.

        A frozen parameter matters also when it was frozen unseen: it could be trained.
        """
        found = self.tensors.of(tensor)
        if isinstance(found, UntrackedTensor):
            return found
        ghost = self.add(tensor, "", Cause.NOT_RECORDED)
        ghost.matters = isinstance(tensor, torch.nn.Parameter)
        ghost.read_facts(tensor)
        return ghost

    def add(
        self,
        tensor: torch.Tensor | None,
        word: str,
        cause: Cause,
        place: CodeLocation = NOWHERE,
        inputs: Sequence[Input] = (),
        matters: bool = False,
    ) -> UntrackedTensor:
        """Add the ghost of a tensor that was just made; None for a number or array."""
        ghost = UntrackedTensor(
            self._count, word, cause, place, inputs, matters, is_end=tensor is None
        )
        self._count += 1
        for each in inputs:
            source = each.source
            ghost.lost = add_lost(ghost.lost, each.lost)
            if isinstance(source, UntrackedTensor):
                ghost.depth = max(ghost.depth, source.depth + 1)
        if ghost.depth > _DEEPEST:
            _let_go(ghost)
        if tensor is not None:
            self.tensors.enter(tensor, ghost)
        if matters:
            if tensor is not None:
                ghost.read_facts(tensor)
            self.draw(ghost)
        return ghost

    def release(self, tensor: torch.Tensor) -> None:
        """A tensor has entered the graph: its ghost stays as what it was before."""
        found = self.tensors.pop(id(tensor), None)
        if isinstance(found, UntrackedTensor):
            found.ref = _gone

    def end(self, word: str, data: Input, place: CodeLocation) -> UntrackedTensor:
        """Add the ghost of a number or array, in place of the last one from the same line."""
        for old in self._drawn[-8:]:
            if old.is_end and old.word == word and old.place == place:
                old.inputs = (data,)
                return old
        return self.add(None, word, data.cause, place, (data,), matters=True)

    def draw(self, ghost: UntrackedTensor) -> None:
        """Offer a ghost to the frames."""
        self._drawn.append(ghost)
        if len(self._drawn) > 2 * _MOST:
            dead = [each for each in self._drawn[:_MOST] if each.ref() is None]
            gone = set(map(id, dead or self._drawn[:_MOST]))
            self.left_out += len(gone)
            self._drawn = [each for each in self._drawn if id(each) not in gone]

    @property
    def drawn(self) -> Sequence[UntrackedTensor]:
        """The ghosts that something requiring grad led to, in order, the latest when many."""
        return self._drawn[-_MOST:]


def _gone() -> None:
    """The reference of a ghost whose tensor is not what it was."""


def _let_go(ghost: UntrackedTensor) -> None:
    """Forget where the data came from long ago: a running mean would otherwise never end."""
    level, keep = [ghost], _DEEPEST // 2
    seen = {id(ghost)}
    for step in range(keep):
        following = []
        for each in level:
            for data in each.inputs:
                source = data.source
                if isinstance(source, UntrackedTensor) and id(source) not in seen:
                    seen.add(id(source))
                    following.append(source)
        level = following
        if step == keep - 1:
            for each in level:
                each.inputs = [
                    data for data in each.inputs if not isinstance(data.source, UntrackedTensor)
                ]
    ghost.depth = keep
