"""Changes in place: ``add_``, ``x[0] = ...``, ``out=``; of tensors, and of gradients."""

from __future__ import annotations

import sys
import weakref
from typing import Any

import torch

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.tensors import is_unsure, place_of, version_of
from gradviz.facts import VersionDetails
from gradviz.graph import Cause
from gradviz.recording.event_log import Entry, word_of
from gradviz.recording.intercept import gradients
from gradviz.recording.intercept.user_warnings import call_made_from
from gradviz.recording.provenance import CutSite, Leaf, UntrackedTensor
from gradviz.recording.source_lines import CodeLocation, called_function
from gradviz.recording.state import InPlaceChange, RecordingState, TorchCall, tensors_in
from gradviz.story import EventKind

__all__ = ["after_change", "before_change", "lookup"]


def before_change(state: RecordingState, call: TorchCall) -> None:
    """Before the call: what it is going to change, and the versions that they have."""
    given = call.args[:1] or (call.kwargs.get("tensor"),)  # torch.nn.init passes it by name
    targets = list(
        tensors_in((call.kwargs["out"],) if call.kwargs.get("out") is not None else given)
    )
    known = [state.provenance.tensors.of(target) for target in targets]
    if not any(isinstance(each, UntrackedTensor) and each.grad_of is not None for each in known):
        state.end_gradient_change()
    others = [each.as_input() for each in known if isinstance(each, UntrackedTensor)]
    versions = [version_of(target) for target in targets]
    call.before = targets, versions, known, others, creation_count()


def after_change(state: RecordingState, call: TorchCall) -> None:
    """After the call: what has changed, and what flowed into it."""
    targets, versions, known, _, count = call.before
    word, place = word_of(call.func), state.place()
    if not word.endswith("_"):
        word = f"{word}_" if call.kwargs.get("inplace") else f"{word} out="
    if state.is_inside():
        return
    caller = gradients.outermost(state)
    word = caller if caller in _CALLERS else word
    grads = [each.grad_of for each in known if isinstance(each, UntrackedTensor) and each.grad_of]
    if grads:
        gradients.after_gradients_changed(state, call, grads, word, place)
        return
    if creation_count() > count:
        _change_tracked(state, call, word, place)
        return
    for target, version in zip(targets, versions, strict=True):
        if version_of(target) == version and not target.is_inference():
            continue
        identity = None
        record = state.provenance.tensors.of(target)
        if not target.requires_grad:
            identity = _change_untracked(state, call, target, word, place).identity
        elif isinstance(record, Leaf) or (not is_unsure(target) and target.is_leaf):
            leaf = state.provenance.leaf(target)
            identity = leaf.identity
            site = CutSite(Cause.VALUES_COPIED, place, word)
            for each in (leaf, *state.provenance.sharing(target, leaf)):
                _write_into(state, call, target, each, site)
        entry = state.log(Entry(EventKind.IN_PLACE, word, place))
        entry.identities = () if identity is None else (identity,)
        entry.details = _versions(state, target, version, word, place)


def lookup(state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``embedding``: given ``max_norm``, it renormalises rows of its table in place."""
    table = args[1] if len(args) > 1 else kwargs.get("weight")
    version = version_of(table) if isinstance(table, torch.Tensor) else 0
    before = creation_count()
    result = func(*args, **kwargs)
    state.made(func, (args, kwargs), result, before)
    if isinstance(table, torch.Tensor) and version_of(table) != version:
        call = TorchCall(func, args, kwargs)
        call.before = table, version
        state.guard(_after_lookup, call)
    return result


call_made_from(lookup.__code__, globals())


def _after_lookup(state: RecordingState, call: TorchCall) -> None:
    table, version = call.before
    place = state.place()
    entry = state.log(Entry(EventKind.IN_PLACE, "embedding_renorm_", place))
    if table.is_leaf:
        entry.identities = (state.provenance.leaf(table).identity,)
    entry.details = _versions(state, table, version, "embedding_renorm_", place)


_CALLERS = ("load_state_dict", "vector_to_parameters")


def _change_tracked(state: RecordingState, call: TorchCall, word: str, place: CodeLocation) -> None:
    """A change that autograd recorded."""
    targets, versions, known, others, count = call.before
    end = creation_count()
    operation = (count, end, call.func, *place, tuple(map(weakref.ref, targets)))
    state.add_mixed_inputs(end, call.func, (call.args, call.kwargs))
    state.in_place[end] = word
    for target, old in zip(targets, known, strict=True):
        if isinstance(old, UntrackedTensor):  # its aliases do not enter the graph
            for record in state.provenance.sharing(target, old):
                site = CutSite(Cause.VALUES_COPIED, place, word)
                _write_into(state, call, target, record, site)
    for target, data in zip(targets, others, strict=False):
        if target.requires_grad:  # it entered the graph by this
            state.mixed[end] = [data, *state.mixed.get(end, [])]
            state.provenance.release(target)
    details = _versions(state, targets[0], versions[0], word, place) if targets else None
    entry = Entry(EventKind.IN_PLACE, word, place, details=details, operation=operation)
    state.event_log.entries.append(entry)


def _change_untracked(
    state: RecordingState, call: TorchCall, target: torch.Tensor, word: str, place: CodeLocation
) -> UntrackedTensor:
    """A tensor outside the graph was changed: what it was changed with flowed into it."""
    untracked = state.provenance.untracked(target)
    mattered = untracked.matters
    aliased = list(state.provenance.sharing(target, untracked))
    cause = state.cause_of_mode() or Cause.NOT_DIFFERENTIABLE
    _write_into(state, call, target, untracked, CutSite(cause, place, word))
    for record in aliased:
        if isinstance(record, Leaf):
            cause = Cause.VALUES_COPIED
        _write_into(state, call, target, record, CutSite(cause, place, word))
    if word not in untracked.changes:
        untracked.changes.append(word)
    if untracked.matters and not mattered:
        untracked.cause = untracked.inputs[-1].cause
        state.provenance.show(untracked)
    return untracked


def _write_into(
    state: RecordingState,
    call: TorchCall,
    target: torch.Tensor,
    record: Leaf | UntrackedTensor,
    site: CutSite,
) -> None:
    """Record where the values came from that a call wrote into a tensor, or into a view of it."""
    if isinstance(record, Leaf) and site.place.offset < 0:
        name = called_function(sys._getframe(1), state.verdicts)
        site = site._replace(word=name if name.isidentifier() and name[0] != "_" else site.word)
    given = tensors_in((*call.args, *_without_out(call.kwargs)))
    new = [state.input_from(other, *site) for other in given if other is not target]
    known = record.ref()
    is_whole = known is not None and known.numel() == target.numel()
    state.provenance.write(record, new, site, is_whole and _replaces(site, call))


def _replaces(site: CutSite, call: TorchCall) -> bool:
    """Whether a function leaves nothing of the old values."""
    name = word_of(call.func)
    return name in _REPLACING or call.kwargs.get("out") is not None


_REPLACING = frozenset(
    (
        "copy_",
        "zero_",
        "fill_",
        "set_",
        "normal_",
        "uniform_",
        "random_",
        "bernoulli_",
        "exponential_",
    )
)


def _without_out(kwargs: dict[str, Any]) -> list[Any]:
    return [value for name, value in kwargs.items() if name != "out"]


def _versions(
    state: RecordingState, target: torch.Tensor, before: int, word: str, place: CodeLocation
) -> VersionDetails:
    """Remember a change, in case backward fails on it.

    Returns:
        The version counter before and after.
    """
    after = version_of(target)
    where = place_of(target)
    if where is not None:
        state.changes.append(InPlaceChange(word, place, where[0], before, after, creation_count()))
    return VersionDetails(before, after)
