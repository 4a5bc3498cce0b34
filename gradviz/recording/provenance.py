"""Provenance of untracked tensors: where their data came from, and where the gradient was cut.

An untracked tensor does not require grad and is not in the graph. Only plain values and a weak
reference are stored: a recording keeps no tensor alive.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.sharded import shard_of
from gradviz.capture.autograd.tensors import (
    base_of,
    memory_is_gone,
    storage_address,
    transform_level,
    unwrapped,
)
from gradviz.graph import Cause
from gradviz.recording.source_lines import NOWHERE, CodeLocation
from gradviz.recording.tensor_records import (
    DEEPEST,
    MOST_INPUTS,
    NO_CUTS,
    Ancestors,
    CutLeaves,
    CutSite,
    Input,
    Leaf,
    OperationOutput,
    UntrackedTensor,
    ValuesRead,
    WeakTensors,
    Written,
    cause_of,
    copied_leaf,
    merge_cut_leaves,
    no_tensor,
)

_MOST_WRITTEN = 256  # rows of data in one result
_MOST_SHOWN = 256  # untracked tensors that frames can show
_MOST_INSIDE = 256  # storages of data that transforms of torch.func computed
_ALIASES = 8  # aliases of aliases
_SAME_LINE = 8  # plain values among which one from the same line is searched


_Record = Leaf | UntrackedTensor


class Provenance:
    """The leaves and untracked tensors of a recording.

    Attributes:
        tensors: the records of tensors that are alive.
        left_out: number of untracked tensors that exceeded the limit of the frames.
        same_node: pairs of an old and a new identity of the same tensor.
        written: what was written into results of the graph, by the sequence number of the
            operation that made them.
        read: the numbers and arrays that were read from tensors.
        arrays: the addresses of storages that NumPy can write, which no recording sees.
        copied: by the numbers of leaves, those whose values were written into them, as they are
            or averaged.
        running: the call of a module that each thread is running, see `ModuleStack.running`.
    """

    def __init__(self) -> None:
        self.running: Mapping[int, tuple[str, tuple[int, ...]]] = {}
        self.arrays: set[object] = set()
        self.copied: dict[int, int] = {}
        self.written: dict[int, list[Written]] = {}
        self.tensors: WeakTensors[UntrackedTensor | Leaf] = WeakTensors()
        self.left_out = 0
        self._count = 0
        self._leaves = 0
        self.same_node: list[tuple[Hashable, Hashable]] = []
        self._shown: list[UntrackedTensor] = []
        self.read = ValuesRead[UntrackedTensor]()
        self._inside: dict[int, tuple[Callable[[], bool], UntrackedTensor]] = {}

    def leaf(self, tensor: torch.Tensor) -> Leaf:
        """The record of a leaf; creates it if there is none.

        A graph contains its leaves even if they were frozen since: those stay untracked tensors.
        """
        found = self.tensors.of(tensor)
        if isinstance(found, Leaf):
            return found
        if tensor.requires_grad:
            leaf = found.leaf if found is not None else None
            if leaf is None:
                leaf = self._new_leaf(tensor, found)
            elif tensor.grad is None:
                leaf.passes = 0
            self.release(tensor)
            self.tensors.enter(tensor, leaf)
            return leaf
        untracked = self.untracked(tensor)
        if untracked.leaf is None:
            old, leaf = untracked.identity, self._new_leaf(tensor, None)
            untracked.become(leaf)
            leaf.ref = weakref.ref(tensor)
            self.same_node.append((old, leaf.identity))
            return leaf
        return untracked.leaf

    def known_leaf(self, tensor: torch.Tensor) -> Leaf | None:
        """The record of a leaf, also of one that was frozen since; None if it has none."""
        found = self.tensors.of(tensor)
        return found.leaf if isinstance(found, UntrackedTensor) else found

    def alive_leaves(self) -> list[tuple[Leaf, torch.Tensor]]:
        """The leaves that are alive, with their records."""
        leaves = [each for each in list(self.tensors.values()) if isinstance(each, Leaf)]
        return [(leaf, tensor) for leaf in leaves if (tensor := leaf.ref()) is not None]

    def ancestors(self, tensor: torch.Tensor, number: int | None = None) -> Ancestors:
        """The ancestors of a leaf: itself, and the tensors it was computed from.

        Args:
            tensor: the leaf.
            number: the sequence number of the operation that used it; None for now.
        """
        leaf = self.leaf(tensor)
        if (untracked := leaf.untracked) is None:
            return Ancestors(1 << leaf.number)
        cut = untracked.cut_leaves if number is None else untracked.cut_leaves_at(number)
        return Ancestors(1 << leaf.number, cut)

    def _new_leaf(self, tensor: torch.Tensor, untracked: UntrackedTensor | None) -> Leaf:
        leaf = Leaf(self._leaves, untracked=untracked)
        if untracked is not None:  # one node for the tensor before and after
            self.same_node.append((untracked.identity, leaf.identity))
            untracked.become(leaf)
        # A frozen tensor may no longer be a leaf: torch warns when its gradient is read.
        leaf.passes = None if tensor.is_leaf and tensor.grad is not None else 0
        self._leaves += 1
        return leaf

    def untracked(self, tensor: torch.Tensor) -> UntrackedTensor:
        """The record of a tensor that does not require grad; creates it if there is none."""
        if isinstance(found := self.tensors.of(tensor), UntrackedTensor):
            return found
        inner = unwrapped(tensor) if (shard := shard_of(tensor)) is None else shard.local
        if inner is not tensor and (shard is None or self.tensors.of(inner) is not None):
            return self.untracked(inner)
        made = self._made_inside(tensor) if self._inside else None
        if (made := made or self._of_array(tensor)) is not None:
            return self.add(tensor, "", made.cause, made.location, [made.as_input()], True)
        untracked = self.add(tensor, "", Cause.NOT_RECORDED)
        untracked.matters = isinstance(tensor, torch.nn.Parameter)  # frozen before the recording
        untracked.read_facts(tensor)
        return untracked

    def add(
        self,
        tensor: torch.Tensor | None,
        word: str,
        cause: Cause,
        location: CodeLocation = NOWHERE,
        inputs: Sequence[Input] = (),
        matters: bool = False,
    ) -> UntrackedTensor:
        """Add the record of an untracked tensor that was just created; None for a plain value."""
        record = UntrackedTensor(self._count, word, cause, location, inputs, matters)
        return self._enter(tensor, record)

    def add_result(
        self, tensor: torch.Tensor, word: str, location: CodeLocation, inputs: Sequence[Input]
    ) -> UntrackedTensor:
        """Add the record of an untracked result of a call."""
        record = UntrackedTensor.computed(self._count, word, location, inputs)
        record.ran_in = self.running.get(threading.get_ident(), ("", ()))
        return self._enter(tensor, record)

    def _enter(self, tensor: torch.Tensor | None, untracked: UntrackedTensor) -> UntrackedTensor:
        self._count += 1
        matters = untracked.matters
        if tensor is None:
            untracked.is_plain_value = True
        else:
            if untracked.cut_leaves and not (tensor.is_floating_point() or tensor.is_complex()):
                untracked.cut_at_integers()
            if is_inside := transform_level() is not None:
                tensor = unwrapped(tensor)
            self.tensors.enter(tensor, untracked)
            shard = shard_of(tensor) if matters and type(tensor) is not torch.Tensor else None
            if shard is not None:  # ``to_local`` may return it
                self.tensors.enter(shard.local, untracked)
            if matters:
                untracked.read_facts(tensor)
            if matters and is_inside:
                self._keep_memory(tensor, untracked)
        if matters:
            self.show(untracked)
        return untracked

    def _keep_memory(self, tensor: torch.Tensor, untracked: UntrackedTensor) -> None:
        """Remember the memory of data, which a transform returns as a tensor that no call shows."""
        if at := storage_address(tensor):  # not used again while it is kept
            self._inside[at] = memory_is_gone(tensor), untracked
            while len(self._inside) > _MOST_INSIDE:
                del self._inside[next(iter(self._inside))]

    def _made_inside(self, tensor: torch.Tensor) -> UntrackedTensor | None:
        """The data with the memory of a tensor, if a transform of ``torch.func`` computed it."""
        row = self._inside.get(storage_address(tensor) or 0)
        return None if row is None or row[0]() else row[1]

    def add_results(
        self,
        tensors: Sequence[torch.Tensor],
        word: str,
        location: CodeLocation,
        inputs: Sequence[Input],
    ) -> list[Hashable]:
        """Add the records of the untracked results of one call; returns their identities."""
        return [
            self.add_result(tensor, word, location, inputs).identity
            for tensor in tensors
            if not isinstance(self.tensors.get(id(tensor)), Leaf)
        ]

    def write(
        self, record: Leaf | UntrackedTensor, new: Sequence[Input], site: CutSite, replaces: bool
    ) -> None:
        """Record that values were written into a tensor in place.

        Args:
            record: of the tensor.
            new: the written data; data from the leaf itself is left out.
            site: the location and the function.
            replaces: whether all old values are overwritten.
        """
        if isinstance(record, UntrackedTensor):
            self._write_untracked(record, new, replaces)
            return
        new = [data for each in new if (data := each.without(1 << record.number)).cut_leaves]
        old = record.untracked
        if not new and (old is None or not replaces):
            return
        before = 0 if replaces else self.copied.get(record.number, 0)
        self.copied[record.number] = before | copied_leaf(new)
        inputs, replaced = (old.inputs, old.replaced) if old is not None else ((), ())
        if replaces:  # operations that used the old data are still there
            replaced = (*replaced, *((creation_count(), each) for each in inputs))[-MOST_INPUTS:]
            inputs = ()
        written = UntrackedTensor(self._count, site.word, site.cause, site.location)
        written.become(record)
        written.replaced, written.matters = replaced, bool(replaced)
        written.alias = old.origin if old is not None else None
        self._count += 1
        for each in (*inputs, *new):
            written.add_input(each)
            if isinstance(each.source, UntrackedTensor):
                written.depth = max(written.depth, each.source.depth + 1)
        if written.depth > DEEPEST:
            written.drop_distant_inputs()
        record.untracked = written

    @staticmethod
    def _write_untracked(record: UntrackedTensor, new: Sequence[Input], replaces: bool) -> None:
        record.alias = record.origin
        frozen = {}
        if (leaf := record.leaf) is not None:  # ``model.to(device)`` leaves it frozen
            cuts = record.cut_leaves.items()
            frozen = {cut: bits for cut, bits in cuts if cut.cause is Cause.REQUIRES_GRAD}
            own = 1 << leaf.number
            new = [data for each in new if (data := each.without(own)).cut_leaves or not frozen]
        if replaces:
            record.inputs, record.cut_leaves = (), frozen or NO_CUTS
            record.matters = record.matters and leaf is not None
        for each in new:
            record.add_input(each)
        if replaces and record.inputs and not frozen:
            record.cause = cause_of(record.inputs)

    def write_into_result(self, made: OperationOutput, new: Sequence[Input]) -> None:
        """Record that values were written into a result of the graph, without a gradient."""
        rows = self.written.setdefault(made.created, [])
        for each in new:
            if each.cut_leaves and len(rows) < _MOST_WRITTEN:
                data = replace(each, is_in_place=True, written_at=creation_count())
                rows.append(Written(made.output, data))
            elif each.cut_leaves and rows[-1].output == made.output:
                rows[-1] = Written(made.output, rows[-1].data.beside([each]))

    def cut_leaves_of_result(self, made: OperationOutput, number: int) -> CutLeaves:
        """The leaves written into a result before the operation with a sequence number used it."""
        found = NO_CUTS
        for output, data in self.written.get(made.created, ()):
            if output == made.output and data.written_at <= number:
                found = merge_cut_leaves(found, data.cut_leaves)
        return found

    def sharing(self, tensor: torch.Tensor, record: _Record | None) -> Iterator[_Record]:
        """The records of the tensors of which an untracked tensor is an alias or a view."""
        for source, other in self._aliased(tensor, record):
            if not isinstance(source, OperationOutput):
                yield source
            elif (base := base_of(other)).grad_fn is None and base.requires_grad:
                yield self.leaf(base)  # of which a view was cut off

    def aliased_result(self, tensor: torch.Tensor, old: UntrackedTensor) -> OperationOutput | None:
        """The result of the graph of which an untracked tensor is an alias; None if of none."""
        found = [base_of(other) for _, other in self._aliased(tensor, old)]
        if not found or (node := found[-1].grad_fn) is None:
            return None
        return OperationOutput(sequence_number(node), found[-1].output_nr)

    def _aliased(
        self, tensor: torch.Tensor, record: _Record | None
    ) -> Iterator[tuple[_Record | OperationOutput, torch.Tensor]]:
        address = storage_address(tensor)
        for _ in range(_ALIASES):
            record = record.untracked if isinstance(record, Leaf) else record
            data = record.origin if record is not None else None
            if record is None or data is None or address is None:
                return
            source = data.source
            other = data.ref() if isinstance(source, OperationOutput) else source.ref()
            other = data.base() if other is None else other
            if other is None and isinstance(source, UntrackedTensor):
                record = source  # a view of a view, of which the first is gone
                continue
            if other is None or storage_address(other) != address:
                return
            yield source, other
            if isinstance(source, OperationOutput):
                return
            record = source

    def add_plain_value(self, word: str, data: Input, location: CodeLocation) -> UntrackedTensor:
        """Add the record of a number or array, replacing the last one from the same line."""
        new = self.add(None, word, data.cause, location, (data,), matters=True)
        new.read_at = creation_count()
        for old in self._shown[-1 - _SAME_LINE : -1]:
            if old.is_plain_value and old.word == word and old.location == location:
                new.cut_leaves = merge_cut_leaves(old.cut_leaves, new.cut_leaves)
                self.same_node.append((old.identity, new.identity))
                del self._shown[self._shown.index(old, -1 - _SAME_LINE)]
                break
        return new

    def _of_array(self, tensor: torch.Tensor) -> UntrackedTensor | None:
        """The array that a tensor was made from without a recorded call: `torch.from_numpy`."""
        is_plain = bool(self.read.arrays) and type(tensor) is torch.Tensor and tensor.is_cpu
        if not is_plain or tensor.layout is not torch.strided:
            return None
        return self.read.array_at(tensor.data_ptr())

    def release(self, tensor: torch.Tensor) -> None:
        """A tensor has become tracked: its old record stays as it was."""
        self.tensors.settle()
        found = self.tensors.pop(id(tensor), None)
        if isinstance(found, UntrackedTensor):
            found.ref = no_tensor

    def show(self, untracked: UntrackedTensor) -> None:
        """Include an untracked tensor in the frames."""
        self._shown.append(untracked)
        if len(self._shown) > 2 * _MOST_SHOWN:
            oldest = self._shown[:_MOST_SHOWN]
            dead = [each for each in oldest if each.ref() is None]
            dropped = set(map(id, dead or oldest))
            self.left_out += len(dropped)
            self._shown = [each for each in self._shown if id(each) not in dropped]

    @property
    def shown(self) -> Sequence[UntrackedTensor]:
        """The untracked tensors that matter, in order; of many, the latest."""
        return self._shown[-_MOST_SHOWN:]
