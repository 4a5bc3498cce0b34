"""Functions of ``torch.distributed``: data that leaves the graph, and in-place changes.

A replay of a CUDA graph is an event too; which tensors its kernels write is not known.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from functools import partial, reduce
from operator import or_

import torch

from gradviz.capture.autograd.collectives import OF_DTENSOR, OF_OBJECTS, REPLAY, Collective
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import quietly, storage_address, version_of
from gradviz.facts import RECEIVING, SENDING, Action, EventKind
from gradviz.graph import Cause
from gradviz.recording.event_log import Entry
from gradviz.recording.intercept import gradients
from gradviz.recording.intercept.in_place import keep_versions
from gradviz.recording.source_lines import user_location
from gradviz.recording.state import RecordingState
from gradviz.recording.tensor_records import CutSite, Input, Leaf, UntrackedTensor, leaves_in

_AVERAGERS = "torch.distributed.algorithms.model_averaging."


def look(state: RecordingState, call: Collective) -> Callable[[], None] | None:
    """Read the arguments of a function of ``torch.distributed`` before it is called.

    Calls that torch itself makes, for example in FSDP, are not recorded, unless they average
    parameters between steps.

    Returns:
        The function to call after it, unless it raised; None to ignore the call.
    """
    try:
        module = _module_of(call)
        if state.paused or state.stepping is not None or state.is_other_task():
            return None
        if (module.startswith("torch.") and not _is_averager(call)) or state.is_inside():
            return None
        with quietly():
            mode = state.cause_of_mode() if call.word in OF_DTENSOR else None
            location = user_location(call.caller, state.verdicts)
            site = CutSite(mode or Cause.COLLECTIVE, location, call.word)
            given = [state.input_from(each, *site) for each in call.read]
        return partial(_guarded, state, call, site, given)
    except Exception as error:
        state.failed(error)
        return None


def _module_of(call: Collective) -> str:
    return call.caller.f_globals.get("__name__", "") if call.caller is not None else ""


def _is_averager(call: Collective) -> bool:
    return _module_of(call).startswith(_AVERAGERS)


def _guarded(
    state: RecordingState, call: Collective, site: CutSite, given: Sequence[Input]
) -> None:
    try:
        with quietly():
            _log(state, call, site, given)
    except Exception as error:
        state.failed(error)


def _log(state: RecordingState, call: Collective, site: CutSite, given: Sequence[Input]) -> None:
    """Log the change of the tensors that it wrote: gradients, and all others."""
    if call.word in OF_OBJECTS:
        _log_leaves(state, [each for each in call.written if each.requires_grad], given, site)
        return
    if not call.written or _is_averager(call):
        _log_sent(state, call, site, given)
    owners = {id(each): leaf for each in call.written if (leaf := _owner(state, each)) is not None}
    if owners:
        gradients.log_reduced(state, list(owners.values()), call.word, site.location)
    else:
        state.end_gradient_change()
    read = set(map(id, call.read))
    for is_graph in (True, False):
        some = [
            each
            for each in call.written
            if id(each) not in owners and each.requires_grad is is_graph
        ]
        if some and is_graph:
            entry = state.log(Entry(EventKind.IN_PLACE, call.word, site.location))
            for tensor in some:
                _enter_graph(state, tensor, entry)
            entry.identities = [
                i for each in some for i in state.provenance.tensors.identities(each)
            ]
            entry.count = len(some)
            are_leaves = all(each.is_leaf for each in some)
            entry.action = _action(call.word) if are_leaves else Action.NOT_SEEN
        elif some:
            into = [each for each in some if id(each) not in read]
            _log_untracked(state, some, [] if len(into) < len(some) else given, site)


def _log_leaves(
    state: RecordingState, made: Sequence[torch.Tensor], given: Sequence[Input], site: CutSite
) -> None:
    """Log the leaves that were unpickled: copies of values that require grad, and of no graph."""
    leaves = [state.provenance.leaf(tensor) for tensor in made]
    for leaf in leaves:
        leaf.location = site.location
        state.provenance.write(leaf, given, site, replaces=True)
    if leaves and given:
        identities = [leaf.identity for leaf in leaves]
        entry = Entry(EventKind.CUT, site.word, site.location, identities=identities)
        state.log(entry).count = len(leaves)


def _log_sent(
    state: RecordingState, call: Collective, site: CutSite, given: Sequence[Input]
) -> None:
    """Log that the gradients or values of leaves, or what was computed from them, were sent."""
    leaves: list[Leaf] = []
    if call.word in SENDING or _is_averager(call):
        identities = leaves_in(reduce(or_, (each.lost for each in given), 0))
        if not identities:
            return
    else:
        leaves = [leaf for each in call.read if (leaf := _owner(state, each)) is not None]
        identities = [leaf.identity for leaf in leaves]
    name = f"{leaves[0].name}.grad" if leaves and leaves[0].name else ""
    action = None if call.word == REPLAY else Action.SENT
    action = Action.REDUCED if call.written else action
    operation = Entry(EventKind.OPERATION, call.word, site.location, name, identities, action)
    state.log(operation).is_hidden = False


def _action(word: str) -> Action:
    return Action.RECEIVED if word in RECEIVING else Action.REDUCED


class _Called:
    """Stands for a function in the row of an operation."""

    def __init__(self, word: str) -> None:
        self.__name__ = word


def _enter_graph(state: RecordingState, tensor: torch.Tensor, entry: Entry) -> None:
    """Torch gives a written tensor a node if the function has no derivative."""
    node = tensor.grad_fn
    if node is None or not isinstance(state.provenance.tensors.of(tensor), UntrackedTensor):
        return
    state.provenance.release(tensor)
    created = sequence_number(node)
    where = entry.location.code, entry.location.offset
    function = _Called(entry.word)
    entry.operation = created, created + 1, function, *where, (weakref.ref(tensor),)


def _log_untracked(
    state: RecordingState, written: Sequence[torch.Tensor], given: Sequence[Input], site: CutSite
) -> None:
    """Log that untracked tensors were written: with data of the graph, this is a cut."""
    matters = any(each.matters for each in given)
    is_cut = any(not isinstance(each.source, UntrackedTensor) for each in given)
    identities = []
    for tensor in written:
        untracked = state.provenance.untracked(tensor)
        mattered = untracked.matters
        if given:
            for record in (untracked, *state.provenance.sharing(tensor, untracked)):
                state.provenance.write(record, given, site, record is untracked)
        if matters:
            untracked.word, untracked.cause = site.word, site.cause
            untracked.location, untracked.changes = site.location, ()
        if matters and not mattered:
            state.provenance.show(untracked)
        identities.append(untracked.identity)
    leaves = _leaves_written(state, written, site)
    identities += [leaf.identity for leaf in leaves]
    kind = EventKind.CUT if is_cut and not leaves else EventKind.IN_PLACE
    entry = state.log(Entry(kind, site.word, site.location, identities=identities))
    is_seen = leaves or kind is EventKind.IN_PLACE
    entry.count, entry.action = len(written), _action(site.word) if is_seen else None
    if leaves:
        entry.name = leaves[0].name if len(leaves) == 1 else ""


def _leaves_written(
    state: RecordingState, written: Sequence[torch.Tensor], site: CutSite
) -> list[Leaf]:
    """The leaves whose memory was written: ``dist.broadcast(w.data, 0)``."""
    memory = {*map(storage_address, written)} - {None}
    found = []
    for leaf, tensor in state.provenance.alive_leaves() if memory else ():
        if storage_address(tensor) in memory:
            keep_versions(state, tensor, version_of(tensor), site.word, site.location)
            found.append(leaf)
    return found


def _owner(state: RecordingState, tensor: torch.Tensor) -> Leaf | None:
    """The leaf whose ``.grad`` a tensor is."""
    known = state.provenance.tensors.of(tensor)
    if isinstance(known, UntrackedTensor) and known.grad_of is not None:
        return known.grad_of
    if known is not None or tensor.requires_grad:
        return None
    for leaf, owner in state.provenance.alive_leaves():
        if owner.is_leaf and owner.grad is tensor:
            return leaf
    return None
