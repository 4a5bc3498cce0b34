"""Calls that read, set, zero, clip or accumulate ``.grad``, and optimizer steps."""

from __future__ import annotations

import sys
import weakref
from contextlib import nullcontext
from dataclasses import replace
from types import CodeType, FrameType
from typing import Any

import torch

from gradviz.capture.autograd.tensors import (
    is_quiet,
    quietly,
    transform_level,
    unwrapped,
    version_of,
)
from gradviz.facts import RECEIVING, Action, StepDetails
from gradviz.graph import Cause
from gradviz.recording.event_log import Entry, KeyOf
from gradviz.recording.pass_values import Copies, is_ordinary
from gradviz.recording.source_lines import CodeLocation, call_made_from, frames_inside
from gradviz.recording.state import RecordingState, TorchCall, tensors_in
from gradviz.recording.tensor_records import Ancestors, Leaf
from gradviz.story import EventKind

_UNSCALING = "_amp_foreach_non_finite_check_and_unscale_"
_SKIPPING = "_maybe_opt_step"  # the method of GradScaler that runs or skips a step
_ACTIONS = {
    "unscale_": Action.UNSCALED,
    "clip_grad_norm_": Action.CLIPPED,
    "clip_grads_with_norm_": Action.CLIPPED,
    "clip_grad_value_": Action.CLIPPED,
}
_MOST_READS = 16  # non-leaf tensors whose ``.grad`` was read
_MOST_WORDS = 4_096  # functions whose public name is kept
_ZEROING = ("zero_", "_foreach_zero_")
_ZEROS = frozenset(("zeros", "zeros_like", "new_zeros"))
_PUBLIC = {"_clip_grads_with_norm_": "clip_grads_with_norm_"}
_WRAPPERS = frozenset(("inner", "_fn", "wrapper", "decorate_context", "_no_grad_wrapper"))


def before_backward_call(state: RecordingState, call: TorchCall) -> None:
    """Before ``backward``: whether a gradient was passed. The engine reports the pass itself."""
    state.end_gradient_change()
    _log_missed(state)
    names = ("grad_tensors", "grad_outputs", "gradient")
    given = call.kwargs.get(next((name for name in names if name in call.kwargs), ""), None)
    position = 2 if call.func is torch.autograd.grad else 1
    given = next(iter(call.args[position : position + 1]), None) if given is None else given
    state.gradient_given = given is not None
    tensors = [*tensors_in((given,))] if given is not None else []
    can_read = transform_level() is None and all(map(is_ordinary, tensors))
    copies = Copies([each.detach().any() for each in tensors] if can_read else ())
    state.zeros_given = lambda: bool(copies.values) and not any(copies.values)


def after_backward_call(state: RecordingState, call: TorchCall) -> None:
    """After ``backward``; the results of ``torch.autograd.grad`` are untracked."""
    state.gradient_given = None
    if call.func is not torch.autograd.grad or state.is_inside():
        return
    inputs = call.kwargs.get("inputs", call.args[1] if call.args[1:] else ())
    inputs = [inputs] if isinstance(inputs, torch.Tensor) else inputs
    outputs = call.kwargs.get("outputs", call.args[0] if call.args else ())
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else outputs
    location = state.location()
    # A derivative depends on what the output was computed from as well, such as weights.
    outputs_data = [
        state.input_from(output, Cause.AUTOGRAD_GRAD, location)
        for output in outputs
        if isinstance(output, torch.Tensor) and output.requires_grad
    ]
    for tensor, gradient in zip(inputs, call.result, strict=False):
        if isinstance(gradient, torch.Tensor) and isinstance(tensor, torch.Tensor):
            inner = unwrapped(tensor)
            if inner is not tensor and not inner.requires_grad:  # inside torch.func.grad
                made = (unwrapped(each) for each in outputs if isinstance(each, torch.Tensor))
                values = [inner, *(each for each in made if not each.requires_grad)]
                every = [state.provenance.untracked(each).as_input() for each in values]
                state.add_untracked("grad", every, [unwrapped(gradient)], location)
                continue
        if not isinstance(gradient, torch.Tensor) or gradient.requires_grad:
            continue
        if isinstance(tensor, torch.Tensor) and tensor.requires_grad:
            data = state.input_from(tensor, Cause.AUTOGRAD_GRAD, location)
            if isinstance(data.source, Leaf):  # without what was written into it after its uses
                data = replace(data, ancestors=Ancestors(1 << data.source.number))
            every = [data, *outputs_data]
            state.add_untracked("autograd.grad", every, [gradient], location, EventKind.CUT)


def read_grad(
    state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``w.grad``: a step reads it several times for each parameter."""
    gradient = func(*args, **kwargs)
    try:  # as `RecordingState.guard`, without its calls
        if state.is_alone and not kwargs and is_quiet(args):
            _after_grad_read(state, args[0], gradient)
        else:
            with quietly():
                _after_grad_read(state, args[0], gradient)
    except Exception as error:
        state.failed(error)
    return gradient


call_made_from(read_grad.__code__, globals())


def _after_grad_read(state: RecordingState, tensor: torch.Tensor, gradient: Any) -> None:
    """``w.grad`` was read: it is recorded as the gradient of ``w``."""
    if gradient is None and tensor.requires_grad:
        if tensor.is_leaf:
            _miss(state, tensor)
        elif len(state.grad_reads) < _MOST_READS and not outermost(state):
            state.grad_reads.setdefault(id(tensor), weakref.ref(tensor))
    if gradient is None or state.provenance.tensors.of(gradient) is not None:
        return
    if gradient.requires_grad or not tensor.is_leaf:
        return
    if not tensor.requires_grad and state.provenance.known_leaf(tensor) is None:
        return
    untracked = state.provenance.add(gradient, "grad", Cause.NOT_RECORDED)
    untracked.grad_of = state.provenance.leaf(tensor)


def _miss(state: RecordingState, tensor: torch.Tensor) -> None:
    """A function that clips gradients found none in a leaf: logged unless it clips another."""
    word = outermost(state)
    if _ACTIONS.get(word) is Action.CLIPPED:
        leaf = state.provenance.leaf(tensor)
        _, missed = state.missed.setdefault(word, (state.location(), {}))
        missed[leaf.number] = leaf.identity


def _log_missed(state: RecordingState) -> None:
    """Log the calls that clipped nothing since the last pass, as each gradient was None."""
    for word, (location, missed) in state.missed.items():
        entry = Entry(EventKind.GRAD, word, location, "", list(missed.values()))
        entry.action, entry.count = Action.NOTHING_CLIPPED, len(missed)
        state.log(entry)
    state.missed.clear()


def after_number(state: RecordingState, location: CodeLocation) -> None:
    """``torch.tensor(0.0)``, which a function that clips gradients makes if it is given none."""
    word = outermost(state)
    if _ACTIONS.get(word) is Action.CLIPPED and word not in state.missed:
        entry = Entry(EventKind.GRAD, word, location, "")
        entry.action, entry.count = Action.NOTHING_CLIPPED, 0
        state.log(entry)


def set_grad(
    state: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """``w.grad = ...``, ``del w.grad``: a step does it for each parameter."""
    is_seen = not state.is_alone or bool(kwargs) or not is_quiet(args)
    before, leaf = None, None
    try:
        with quietly() if is_seen else _NOTHING:
            tensor = args[0]
            known = state.provenance.known_leaf(tensor)
            if tensor.is_leaf and (tensor.requires_grad or known is not None):
                known, before = state.provenance.leaf(tensor), tensor.grad
            leaf = known
    except Exception as error:
        state.failed(error)
    result = func(*args, **kwargs)
    try:
        with quietly() if is_seen else _NOTHING:
            gradient = None if leaf is None else args[0].grad
            if leaf is not None and gradient is not before:
                word, action = outermost(state) or "grad", Action.SET_TO_NONE
                if gradient is not None:  # zeros clear a gradient, as zero_grad does
                    record = state.provenance.tensors.of(gradient)
                    made = "" if version_of(gradient) else getattr(record, "word", "")
                    is_cleared = before is not None and made in _ZEROS
                    action = Action.ZEROED if is_cleared else Action.ASSIGNED
                    word = made if is_cleared else word
                leaf.passes = None if action is Action.ASSIGNED else 0
                _log_change(state, [leaf], action, word)
    except Exception as error:
        state.failed(error)
    return result


_NOTHING = nullcontext()
call_made_from(set_grad.__code__, globals())


def after_gradients_changed(
    state: RecordingState, call: TorchCall, leaves: list[Leaf], word: str, location: CodeLocation
) -> None:
    """Gradients were changed in place."""
    is_zeroing = word in _ZEROING or (word == "fill_" and call.args[1:] == (0,))
    if is_zeroing:
        for leaf in leaves:
            leaf.passes = 0
    word = "unscale_" if word == _UNSCALING else outermost(state) or word
    action = Action.ZEROED if is_zeroing else _ACTIONS.get(word, Action.CHANGED_IN_PLACE)
    state.missed.pop(word, None)
    _log_change(state, leaves, action, word)


def log_reduced(
    state: RecordingState, leaves: list[Leaf], word: str, location: CodeLocation
) -> None:
    """A function of ``torch.distributed`` wrote gradients of other ranks."""
    action = Action.RECEIVED if word in RECEIVING else Action.REDUCED
    _log_change(state, leaves, action, word, location)


def _log_change(
    state: RecordingState,
    leaves: list[Leaf],
    action: Action,
    word: str,
    location: CodeLocation | None = None,
) -> None:
    """Log one event for all gradients that one line changes in the same way."""
    location = state.location() if location is None else location
    entry = state.pending
    if entry is not None:
        is_same = entry.word == word and entry.action is action
        is_here = entry.location == location
        if not is_same or not (is_here or _line(state, entry.location) == _line(state, location)):
            state.end_gradient_change()
            entry = None
    if entry is None:
        entry = state.pending = state.log(Entry(EventKind.GRAD, word, location))
        entry.identities, state.pending_leaves = [], {}
    found, identities = state.pending_leaves, entry.identities
    assert isinstance(identities, list)  # a loop over all gradients appends one by one
    for leaf in leaves:
        if leaf.number not in found:
            found[leaf.number] = leaf
            identities.append(leaf.identity)
    entry.count, entry.action = len(found), action
    entry.name = _name(state, next(iter(found.values())), location) if len(found) == 1 else ""
    state.update_alert()


def _name(state: RecordingState, leaf: Leaf, location: CodeLocation) -> str:
    """The name of a gradient: from its leaf, or from the line that changes it."""
    if leaf.name:
        return f"{leaf.name}.grad"
    text = state.lines.at(location).target if location.offset >= 0 else ""
    return f"{text.removesuffix('.grad')}.grad" if text else ""


def _line(state: RecordingState, location: CodeLocation) -> tuple[str, int]:
    line = state.lines.at(location).location
    return line.file, line.line


def log_skipped_step(state: RecordingState) -> None:
    """Log a step that a ``GradScaler`` skips, after it read that a gradient is infinite."""
    for frame in frames_inside(sys._getframe(1), state.verdicts):
        if frame.f_code.co_name == _SKIPPING:
            _log_skipped(state, frame.f_locals["optimizer"])
            return


def _log_skipped(state: RecordingState, optimizer: Any) -> None:
    held = [each for group in optimizer.param_groups for each in group["params"]]
    identities = [*map(state.provenance.tensors.identity, held)]
    name = type(optimizer).__name__

    def details(key_of: KeyOf) -> StepDetails:
        keys = tuple(filter(None, map(key_of, identities)))
        return StepDetails(name, held=keys, count=len(identities))

    entry = Entry(EventKind.STEP, "step", state.location(), name, identities, Action.SKIPPED)
    entry.details, entry.count = details, len(held)
    state.log(entry)


def outermost(state: RecordingState) -> str:
    """The function of torch that the user called, if it made this call: ``zero_grad``."""
    word = ""
    frame: Any = sys._getframe(1)
    while frame is not None and not state.verdicts[frame.f_code.co_filename]:
        code = frame.f_code
        known = _words.get(id(code))
        if known is None or known[0] is not code:
            known = _words[id(code)] = code, _public_word(frame)
        word = known[1] or word
        frame = frame.f_back
    return "" if word in ("handle_torch_function", "wrapped") else word


_words: dict[int, tuple[CodeType, str]] = {}


def _public_word(frame: FrameType) -> str:
    """The name of a public function of torch that runs in a frame; "" for any other."""
    if len(_words) > _MOST_WORDS:
        _words.clear()
    name = _PUBLIC.get(frame.f_code.co_name, frame.f_code.co_name)
    is_of_torch = frame.f_globals.get("__name__", "").startswith("torch.")
    is_public = name not in _WRAPPERS and not name.startswith(("_", "<"))
    return name if is_of_torch and is_public else ""
