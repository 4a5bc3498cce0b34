"""Changes in place: ``add_``, ``x[0] = ...``, ``out=``; of tensors, and of gradients."""

from __future__ import annotations

import weakref
from typing import Any

import torch

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.tensors import place_of, version_of
from gradviz.facts import VersionDetails
from gradviz.graph import Cause
from gradviz.recording.event_log import Entry
from gradviz.recording.function_names import word_of
from gradviz.recording.intercept import gradients
from gradviz.recording.provenance import Leaf, UntrackedTensor
from gradviz.recording.source_lines import CodeLocation
from gradviz.recording.state import InPlaceChange, RecordingState, TorchCall, tensors_in
from gradviz.story import EventKind

__all__ = ["look_at_targets", "tell_changes"]


def look_at_targets(watch: RecordingState, call: TorchCall) -> None:
    """Before the call: what it is going to change, and the versions that they have."""
    targets = list(
        tensors_in(
            (call.kwargs.get("out"),) if call.kwargs.get("out") is not None else call.args[:1]
        )
    )
    known = [watch.provenance.tensors.of(target) for target in targets]
    if not any(isinstance(each, UntrackedTensor) and each.grad_of is not None for each in known):
        watch.flush()
    others = [each.as_input() for each in known if isinstance(each, UntrackedTensor)]
    versions = [version_of(target) for target in targets]
    call.before = targets, versions, known, others, creation_count()


def tell_changes(watch: RecordingState, call: TorchCall) -> None:
    """After the call: what has changed, and what flowed into it."""
    targets, versions, known, _, count = call.before
    word, place = word_of(call.func), watch.place()
    if not word.endswith("_"):
        word = f"{word}_" if call.kwargs.get("inplace") else f"{word} out="
    if watch.is_inside():
        return
    grads = [each.grad_of for each in known if isinstance(each, UntrackedTensor) and each.grad_of]
    if grads:
        gradients.tell_grads_changed(watch, call, grads, word, place)
        return
    if creation_count() > count:
        _tell_tracked(watch, call, word, place)
        return
    for target, version in zip(targets, versions, strict=True):
        if version_of(target) == version and not target.is_inference():
            continue
        identity = None
        record = watch.provenance.tensors.of(target)
        if not target.requires_grad:
            identity = _tell_untracked(watch, call, target, word, place).identity
        elif isinstance(record, Leaf):
            identity = record.identity
        entry = watch.log(Entry(EventKind.IN_PLACE, word, place))
        entry.identities = () if identity is None else (identity,)
        entry.details = _versions(watch, target, version, word, place)


def _tell_tracked(watch: RecordingState, call: TorchCall, word: str, place: CodeLocation) -> None:
    """A change that autograd recorded."""
    targets, versions, _, others, count = call.before
    end = creation_count()
    operation = (count, end, call.func, *place, tuple(map(weakref.ref, targets)))
    watch.note_inputs(end, call.func, (call.args, call.kwargs))
    watch.in_place[end] = word
    for target, data in zip(targets, others, strict=False):
        if target.requires_grad:  # it entered the graph by this
            watch.mixed[end] = [data, *watch.mixed.get(end, [])]
            watch.provenance.release(target)
    details = _versions(watch, targets[0], versions[0], word, place) if targets else None
    entry = Entry(EventKind.IN_PLACE, word, place, details=details, operation=operation)
    watch.journal.entries.append(entry)


def _tell_untracked(
    watch: RecordingState, call: TorchCall, target: torch.Tensor, word: str, place: CodeLocation
) -> UntrackedTensor:
    """A tensor outside the graph was changed: what it was changed with flowed into it."""
    untracked = watch.provenance.untracked(target)
    mattered = untracked.matters
    cause = watch.cause_of_mode() or Cause.NOT_DIFFERENTIABLE
    for other in tensors_in((*call.args, *_without_out(call.kwargs))):
        if other is not target:
            untracked.add_input(watch.input_from(other, cause, place))
    if word not in untracked.changes:
        untracked.changes.append(word)
    if untracked.matters and not mattered:
        untracked.cause = untracked.inputs[-1].cause
        watch.provenance.show(untracked)
    return untracked


def _without_out(kwargs: dict[str, Any]) -> list[Any]:
    return [value for name, value in kwargs.items() if name != "out"]


def _versions(
    watch: RecordingState, target: torch.Tensor, before: int, word: str, place: CodeLocation
) -> VersionDetails:
    """Remember a change, in case backward fails on it.

    Returns:
        The version counter before and after.
    """
    after = version_of(target)
    where = place_of(target)
    if where is not None:
        watch.changes.append(InPlaceChange(word, place, where[0], before, after, creation_count()))
    return VersionDetails(before, after)
