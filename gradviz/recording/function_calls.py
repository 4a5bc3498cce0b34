"""Operations inside the ``forward`` of a ``torch.autograd.Function``, where torch records nothing.

Gradients flow only to the inputs of the Function. If one of them requires grad, the Function is
one node of the graph, and the leaves that its ``forward`` also reads are recorded here. If none
does, there is no node, and the results of ``forward`` are untracked tensors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from types import CodeType, FrameType
from typing import Any

import torch

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.operations import custom_word
from gradviz.capture.autograd.tensors import is_unsure
from gradviz.facts import EventKind
from gradviz.graph import Cause
from gradviz.recording.event_log import Entry, EventLog
from gradviz.recording.provenance import Input, Leaf, Provenance, UntrackedTensor, cause_of
from gradviz.recording.reachability import Reachability
from gradviz.recording.source_lines import CodeLocation, UserFiles, user_location

_APPLY: Any = torch.autograd.Function.apply
_INPUTS = 16


class FunctionCalls:
    """The calls of custom Functions in one recording.

    Args:
        provenance: the records of tensors.
        reachability: finds the leaves before a node.
        event_log: receives the event of each call.
        verdicts: which code is the user's.
        input_from: creates an `Input` from a tensor, see `RecordingState.input_from`.
        mixed: receives the untracked inputs of each node, see `RecordingState.mixed`.

    Attributes:
        reads: the leaves that ``forward`` has read without being inputs, as a bit set, by the
            end of the sequence numbers of the node.
    """

    def __init__(
        self,
        provenance: Provenance,
        reachability: Reachability,
        event_log: EventLog,
        verdicts: UserFiles,
        input_from: Callable[..., Input],
        mixed: dict[int, list[Input]],
    ) -> None:
        self.reads: dict[int, int] = {}
        self._provenance = provenance
        self._reachability = reachability
        self._event_log = event_log
        self._verdicts = verdicts
        self._input_from = input_from
        self._mixed = mixed

    def add(self, given: Sequence[torch.Tensor], new: Sequence[torch.Tensor]) -> None:
        """Record an operation that ran inside a ``forward``.

        Args:
            given: its inputs.
            new: its results.
        """
        frame = _apply_frame()
        if frame is None:
            return
        location = user_location(frame.f_back, self._verdicts)
        inputs = [each for each in frame.f_locals.get("args", ()) if isinstance(each, torch.Tensor)]
        if any(each.requires_grad for each in inputs):
            self._add_reads(given, inputs, location, _is_of_torch(frame.f_locals.get("cls")))
        else:
            function: Any = frame.f_locals.get("cls")
            word, _ = custom_word(function.__module__, function.__name__)
            self._add_untracked(word, given, new, location)

    def _add_reads(
        self,
        given: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
        location: CodeLocation,
        is_hidden: bool,
    ) -> None:
        """Record the read leaves of a Function that has a node, the last one created."""
        end = creation_count()
        entries = self._event_log.entries
        last = entries[-1] if entries else None
        made = last.operation if isinstance(last, Entry) else last
        known = made[1] if made is not None else self._event_log.last_end
        if known < end:
            call = end - 1, end, _APPLY, location.code, location.offset, ()
            entry = Entry(EventKind.OPERATION, "apply", location, operation=call, is_hidden=True)
            entries.append(entry if is_hidden else call)
            untracked = [self._provenance.untracked(t) for t in inputs if not t.requires_grad]
            if untracked:
                self._mixed[end] = [each.as_input() for each in untracked]
        for tensor in given:
            if tensor.requires_grad and not any(tensor is each for each in inputs):
                self.reads[end] = self.reads.get(end, 0) | self._leaves(tensor)

    def _leaves(self, tensor: torch.Tensor) -> int:
        if is_unsure(tensor):
            return 0
        node = tensor.grad_fn
        if node is None:
            return self._provenance.ancestors(tensor).leaves
        return self._reachability.ancestors(node).leaves

    def _add_untracked(
        self,
        word: str,
        given: Sequence[torch.Tensor],
        new: Sequence[torch.Tensor],
        location: CodeLocation,
    ) -> None:
        """Record results of a Function without a node; their inputs are those of the whole call."""
        inputs: dict[int, Input] = {}
        for tensor in given:
            data = self._input_from(tensor, Cause.CUSTOM_FUNCTION, location, word)
            source = data.source
            is_own = isinstance(source, UntrackedTensor) and (source.word, source.location) == (
                word,
                location,
            )
            for each in source.inputs if is_own else (data,):  # type: ignore[union-attr]
                inputs.setdefault(id(each.source), each)
        found = list(inputs.values())[:_INPUTS]
        matters = any(each.matters for each in found)
        for tensor in new:
            if isinstance(self._provenance.tensors.of(tensor), Leaf):
                continue
            cause = cause_of(found)
            untracked = self._provenance.add(tensor, word, cause, location, found, matters)
            self._log(location, untracked)

    def _log(self, location: CodeLocation, untracked: UntrackedTensor) -> None:
        """Log one event per call, about the latest result, which is the one it returns."""
        entries = self._event_log.entries
        last = entries[-1] if entries else None
        if not isinstance(last, Entry) or last.word != "apply" or last.location != location:
            last = Entry(EventKind.OPERATION, "apply", location)
            entries.append(last)
        last.identities = (untracked.identity,)


def is_forward(code: CodeType) -> bool:
    """Whether code is that of a ``forward`` of a Function, by its name and arguments."""
    return code.co_name == "forward" and code.co_varnames[:1] not in ((), ("self",))


def called_from(verdicts: UserFiles) -> CodeLocation | None:
    """Where the running Function was applied; None if none runs."""
    frame = _apply_frame()
    return None if frame is None else user_location(frame.f_back, verdicts)


def _is_of_torch(function: Any) -> bool:
    """Whether a Function belongs to the distributed or parallel code of torch."""
    module: str = getattr(function, "__module__", "")
    return module.startswith(("torch.distributed.", "torch.nn.parallel."))


def _apply_frame() -> FrameType | None:
    """The frame of the outermost running ``Function.apply``."""
    found, frame = None, sys._getframe(2)
    code = _APPLY.__func__.__code__
    while frame is not None:
        if frame.f_code is code:
            found = frame
        frame = frame.f_back  # type: ignore[assignment]
    return found
