"""In-place changes of tensors and of gradients: ``add_``, ``x[0] = ...``, ``out=``."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import torch

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import (
    base_of,
    is_unsure,
    storage_address,
    version_of,
    written_by,
)
from gradviz.facts import Action, VersionDetails
from gradviz.graph import Cause
from gradviz.recording.event_log import Entry, word_of
from gradviz.recording.intercept import gradients
from gradviz.recording.source_lines import CodeLocation, call_made_from, called_functions
from gradviz.recording.state import InPlaceChange, RecordingState, TorchCall, tensors_in
from gradviz.recording.tensor_records import CutSite, Input, Leaf, OperationOutput, UntrackedTensor
from gradviz.story import EventKind


def before_change(state: RecordingState, call: TorchCall) -> None:
    """Before the call: the tensors that it will change, and their versions."""
    given: Any = call.args[:1] or (call.kwargs.get("tensor"),)  # torch.nn.init passes it by name
    if call.kwargs.get("out") is not None:
        given = (call.kwargs["out"],)
    given = written_by(call.func, call.args, call.kwargs) or given
    targets = list(tensors_in(given))
    known = [state.provenance.tensors.of(target) for target in targets]
    if not any(isinstance(each, UntrackedTensor) and each.grad_of is not None for each in known):
        state.end_gradient_change()
    others = [each.as_input() if isinstance(each, UntrackedTensor) else None for each in known]
    versions = [version_of(target) for target in targets]
    call.before = targets, versions, known, others, creation_count()


def after_change(state: RecordingState, call: TorchCall) -> None:
    """After the call: the tensors that changed, and the data that was written."""
    targets, versions, known, _, count = call.before
    word, location = word_of(call.func), state.location()
    if not word.endswith("_") and written_by(call.func, (), {}) is None:
        word = f"{word}_" if call.kwargs.get("inplace") else f"{word} out="
    if state.is_inside():
        return
    caller = gradients.outermost(state) if location.offset < 0 else ""
    word = caller if caller in _CALLERS or word == _UPDATES_SCALE else word
    grads = [each.grad_of for each in known if isinstance(each, UntrackedTensor) and each.grad_of]
    if grads:
        gradients.after_gradients_changed(state, call, grads, word, location)
        return
    if creation_count() > count:
        _change_tracked(state, call, word, location)
        return
    for target, version in zip(targets, versions, strict=True):
        if version_of(target) == version and not target.is_inference():
            continue
        identities: tuple[Hashable, ...] = ()
        record = state.provenance.tensors.of(target)
        is_leaf = isinstance(record, Leaf) or (not is_unsure(target) and target.is_leaf)
        if not state.is_tracked(target):
            identities = _change_untracked(state, call, target, word, location)
        elif not is_leaf:
            _change_result(state, call, target, word, location)
        else:
            leaf = state.provenance.leaf(target)
            identities = (leaf.identity,)
            site = CutSite(Cause.VALUES_COPIED, location, word)
            for each in (leaf, *state.provenance.sharing(target, leaf)):
                _write_into(state, call, target, each, site)
        entry = state.log(Entry(EventKind.IN_PLACE, word, location))
        entry.identities = identities
        is_of_leaf = is_leaf or len(identities) > 1  # or a view of one
        entry.action = Action.IN_STEP if state.stepping is not None and is_of_leaf else None
        details = keep_versions(state, target, version, word, location)
        alias = _alias_in(state, call, target) if is_leaf else ""
        entry.details = replace(details, alias=alias) if alias else details


def _alias_in(state: RecordingState, call: TorchCall, target: torch.Tensor) -> str:
    """The line that made an alias of a tensor, if a call copies that into the tensor itself."""
    source = call.args[1] if call.func is torch.Tensor.copy_ and len(call.args) > 1 else None
    record = state.provenance.tensors.of(source) if isinstance(source, torch.Tensor) else None
    if not isinstance(record, UntrackedTensor) or source is None:
        return ""
    is_own = source.shape == target.shape and storage_address(source) == storage_address(target)
    return state.lines.at(record.location).source if is_own else ""


def log_plain_change(
    state: RecordingState,
    target: torch.Tensor,
    record: UntrackedTensor,
    word: str,
    before: int,
    location: CodeLocation,
) -> None:
    """Log a change of plain data by numbers: no data of the graph is in it.

    Args:
        state: of the recording.
        target: what was changed.
        record: of the target.
        word: the function.
        before: the version counter before.
        location: where it was called.
    """
    if version_of(target) == before and not target.is_inference():
        return
    if state.pending is not None:
        state.end_gradient_change()
    if word not in record.changes:
        record.changes = (*record.changes, word)
    details = keep_versions(state, target, before, word, location)
    identities = (record.identity,)
    state.log(Entry(EventKind.IN_PLACE, word, location, None, identities, None, details))


def lookup(state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``embedding``: with ``max_norm`` it renormalizes rows of its table in place."""
    table = args[1] if len(args) > 1 else kwargs.get("weight")
    version = version_of(table) if isinstance(table, torch.Tensor) else 0
    before = creation_count()
    result = func(*args, **kwargs)
    state.made(func, (args, kwargs), result, before)
    if isinstance(table, torch.Tensor) and version_of(table) != version:
        call = TorchCall(func, args, kwargs)
        call.before = table, version, before
        state.guard(_after_lookup, call)
    return result


call_made_from(lookup.__code__, globals())


def _after_lookup(state: RecordingState, call: TorchCall) -> None:
    table, version, count = call.before
    location = state.location()
    entry = state.log(Entry(EventKind.IN_PLACE, "embedding_renorm_", location))
    if table.is_leaf:
        entry.identities = (state.provenance.leaf(table).identity,)
    word = "embedding_renorm_"  # before the lookup itself
    entry.details = keep_versions(state, table, version, word, location, count)


_UPDATES_SCALE = "_amp_update_scale_"  # in ``GradScaler.update``
_CALLERS = ("load_state_dict", "vector_to_parameters")


def _change_tracked(
    state: RecordingState, call: TorchCall, word: str, location: CodeLocation
) -> None:
    """An in-place change that autograd recorded."""
    targets, versions, known, others, count = call.before
    end = creation_count()
    references = tuple(map(weakref.ref, targets))
    operation = (count, end, call.func, location.code, location.offset, references)
    state.add_mixed_inputs(end, call.func, (call.args, call.kwargs))
    state.in_place[end] = word
    for target, old in zip(targets, known, strict=True):
        if isinstance(old, UntrackedTensor):  # its aliases stay untracked
            site = CutSite(Cause.VALUES_COPIED, location, word)
            for record in state.provenance.sharing(target, old):
                shared = record.ref() if isinstance(record, UntrackedTensor) else None
                if shared is None or not shared.requires_grad:  # else it has become tracked, too
                    _write_into(state, call, target, record, site)
            result = state.provenance.aliased_result(target, old)
            if result is not None and result.created < count:
                _write_into_result(state, call, target, result, (location, word))
    for target, data in zip(targets, others, strict=True):
        if data is not None and target.requires_grad:  # this change made it tracked
            state.mixed[end] = [data, *state.mixed.get(end, [])]
            state.provenance.release(target)
        if end in state.mixed and (base := base_of(target)) is not target:
            node: Any = base.grad_fn  # what is written into a view is in its base
            if node is not None:
                state.mixed.setdefault(sequence_number(node) + 1, state.mixed[end])
    details = keep_versions(state, targets[0], versions[0], word, location) if targets else None
    entry = Entry(EventKind.IN_PLACE, word, location, details=details, operation=operation)
    state.event_log.entries.append(entry)


def _change_result(
    state: RecordingState, call: TorchCall, target: torch.Tensor, word: str, location: CodeLocation
) -> None:
    """A result of the graph was changed, and autograd did not record it.

    The values of a view are in its base, from which torch derives a new ``grad_fn`` of the view.
    """
    changed = base if (base := base_of(target)).requires_grad else target
    site = CutSite(state.cause_of_mode() or Cause.VALUES_COPIED, location, word)
    node: Any = changed.grad_fn
    if node is not None:
        made = OperationOutput(sequence_number(node), changed.output_nr)
        state.provenance.write_into_result(made, _written(state, call, target, site))
    elif changed.requires_grad:
        _write_into(state, call, target, state.provenance.leaf(changed), site)


def _change_untracked(
    state: RecordingState, call: TorchCall, target: torch.Tensor, word: str, location: CodeLocation
) -> tuple[Hashable, ...]:
    """An untracked tensor was changed: the arguments of the call become its inputs.

    Returns:
        Its identity, and those of leaves, data and operations whose memory it shares:
        ``w.data.sub_(...)``.
    """
    untracked = state.provenance.untracked(target)
    mattered = untracked.matters
    aliased = list(state.provenance.sharing(target, untracked))
    result = state.provenance.aliased_result(target, untracked)
    cause = state.cause_of_mode() or Cause.NOT_DIFFERENTIABLE
    _write_into(state, call, target, untracked, CutSite(cause, location, word))
    for record in aliased:
        if isinstance(record, Leaf):
            cause = Cause.VALUES_COPIED
        _write_into(state, call, target, record, CutSite(cause, location, word))
    _write_into_result(state, call, target, result, (location, word))
    if word not in untracked.changes:
        untracked.changes = (*untracked.changes, word)
    if untracked.matters and not mattered:
        untracked.cause = untracked.inputs[-1].cause
        state.provenance.show(untracked)
    made = () if result is None else (result.created,)
    return (untracked.identity, *(record.identity for record in aliased), *made)


def _write_into(
    state: RecordingState,
    call: TorchCall,
    target: torch.Tensor,
    record: Leaf | UntrackedTensor,
    site: CutSite,
) -> None:
    """Record the origin of values that a call wrote into a tensor, or into a view of it."""
    if isinstance(record, Leaf) and site.location.offset < 0:
        name = next(iter(called_functions(sys._getframe(1), state.verdicts)), "")
        site = site._replace(word=name if name.isidentifier() and name[0] != "_" else site.word)
    new = _written(state, call, target, site)
    known = record.ref()
    is_whole = known is not None and known.numel() == target.numel()
    state.provenance.write(record, new, site, is_whole and _replaces(site, call))


def _write_into_result(
    state: RecordingState,
    call: TorchCall,
    target: torch.Tensor,
    made: OperationOutput | None,
    called: tuple[CodeLocation, str],
) -> None:
    """Record values that were written into the result of an operation through an alias of it."""
    if made is not None:
        location, word = called
        site = CutSite(Cause.VALUES_COPIED, location, f".data.{word}")
        state.provenance.write_into_result(made, _written(state, call, target, site))


def _written(
    state: RecordingState, call: TorchCall, target: torch.Tensor, site: CutSite
) -> list[Input]:
    """The data that a call wrote into a tensor."""
    is_first = not call.kwargs and written_by(call.func, (), {}) is None
    named = [value for name, value in call.kwargs.items() if name != "out"]
    given = tensors_in(call.args[1:] if is_first else (*call.args, *named))
    return [state.input_from(other, *site) for other in given if other is not target]


def _replaces(site: CutSite, call: TorchCall) -> bool:
    """Whether a function overwrites all old values."""
    if call.func is torch.Tensor.__setitem__:
        return _is_everything(call.args[1])
    return word_of(call.func) in _REPLACING or call.kwargs.get("out") is not None


def _is_everything(index: Any) -> bool:
    """Whether an index is ``:``, ``...`` or several of them."""
    if isinstance(index, tuple):
        return all(map(_is_everything, index))
    is_slice = isinstance(index, slice)
    return index is ... or (is_slice and index.start is index.stop is index.step is None)


_REPLACING = frozenset(
    (
        *("copy_", "zero_", "fill_", "set_", "normal_", "uniform_", "random_", "bernoulli_"),
        "exponential_",
    )
)


def keep_versions(
    state: RecordingState,
    target: torch.Tensor,
    before: int,
    word: str,
    location: CodeLocation,
    count: int | None = None,
) -> VersionDetails:
    """Record a change, in case backward fails because of it; ``count`` nodes, or those of now.

    Returns:
        The version counter before and after.
    """
    after = version_of(target)
    storage = storage_address(target)
    if storage is not None:
        count = creation_count() if count is None else count
        record = state.provenance.tensors.of(base_of(target)) if not target.requires_grad else None
        is_alias = isinstance(record, UntrackedTensor) and record.word == "data"
        change = InPlaceChange(word, location, storage, before, after, count, is_alias)
        state.changes.append(change)
    return VersionDetails(before, after)
