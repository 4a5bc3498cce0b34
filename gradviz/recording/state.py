"""The state of a recording while its program runs: operations, untracked tensors, cuts."""

from __future__ import annotations

import os
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import CodeType
from typing import Any, NamedTuple

import torch

from gradviz.capture.autograd.engine import creation_count, current_task, identity_of_node
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import (
    base_of,
    is_cut_view,
    is_quiet,
    is_transformed,
    is_unsure,
    quietly,
    transform_level,
    unwrapped,
)
from gradviz.facts import SCALER, Action
from gradviz.graph import Cause
from gradviz.recording.event_log import DATA_INPUTS, Entry, EventLog, Operation, word_of
from gradviz.recording.hooks import Hooks
from gradviz.recording.module_stack import FunctionCalls, ModuleStack, called_from, is_forward
from gradviz.recording.provenance import Provenance
from gradviz.recording.reachability import Reachability
from gradviz.recording.source_lines import (
    SCALER_MODULE,
    CodeLocation,
    Helper,
    HelperFiles,
    SourceLines,
    UserFiles,
    decorated_with_mode,
    outwards,
    user_location,
)
from gradviz.recording.tensor_records import (
    NO_ANCESTORS,
    Ancestors,
    CutSite,
    Input,
    Leaf,
    OperationOutput,
    OpRecord,
    UntrackedTensor,
    merge_cut_leaves,
)
from gradviz.story import EventKind

DEBUG = "GRADVIZ_DEBUG"
"""Environment variable: if set, an error of the recording itself is raised."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Handler = Callable[["RecordingState", Any, tuple[Any, ...], dict[str, Any]], Any]

_FLUSH_AFTER = 50_000  # operations without a frame
_MOST_CHANGES = 1_000
_NOT_OF_HELPERS = (
    *(EventKind.OPERATION, EventKind.CUT, EventKind.IN_PLACE, EventKind.HOOK, EventKind.MODE),
    EventKind.REQUIRES_GRAD,
)
_MOST_KNOWN = 256  # nodes whose ancestors and op records are kept, for another cut there
_APART = ("broadcast_tensors", "meshgrid")  # each result is computed from one of the inputs
_NOT_INPUTS = {"batch_norm": (1, 2), "instance_norm": (1, 2)}  # running statistics are outputs


class InPlaceChange(NamedTuple):
    """A tensor was changed in place."""

    word: str  # the function that changed it: ``"add_"``
    location: CodeLocation  # where it was called
    # address of its storage. before, after, created: the version counter, and the number of
    # nodes after it.
    storage: object
    before: int
    after: int
    created: int
    is_alias: bool = False  # whether through ``x.data``, whose version counter is its own


@dataclass(slots=True, eq=False)
class TorchCall:
    """A call of a function of torch that is more than an operation."""

    func: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    before: Any = None  # what the handler read before the call
    result: Any = None  # what the call returned


@dataclass(slots=True, eq=False)
class _KnownNode:
    """The node of a tensor whose data left the graph; further data may leave it there."""

    created: int  # the sequence number of the node
    ancestors: Ancestors  # the leaves before it
    op_records: list[OpRecord]  # the nearest operations before it
    last: Input | None = None  # the data that left the graph last


def tensors_in(values: Any, depth: int = 3) -> Iterator[torch.Tensor]:
    """The tensors among values, and in tuples, lists and slices among them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif depth and isinstance(value, (tuple, list)):
            yield from tensors_in(value, depth - 1)
        elif isinstance(value, slice):
            yield from tensors_in((value.start, value.stop, value.step), 0)


def is_wrapped(result: Any) -> bool:
    """Whether a transform of ``torch.func`` runs, as a result shows."""
    while isinstance(result, (tuple, list)) and result:
        result = result[0]
    return isinstance(result, torch.Tensor) and is_transformed(result)


def inner_values(values: Any) -> Any:
    """The same values without what transforms of ``torch.func`` wrap tensors in."""
    if isinstance(values, torch.Tensor):
        return unwrapped(values)
    if isinstance(values, dict):
        return {name: inner_values(value) for name, value in values.items()}
    return tuple(map(inner_values, values)) if isinstance(values, (tuple, list)) else values


class RecordingState:
    """The state of one recording while its program runs.

    Args:
        event_log: receives the events.
        lines: converts code locations to lines.
        handlers: the handler for a function of torch; None for a plain operation.

    Attributes:
        module_stack: in which module call each node was created.
        is_alone: whether no other mode sees what is read.
        alert: whether `attend` must be asked before the next call.
        paused: whether a backward pass runs, whose calls are not recorded.
        hides_inputs: whether a tensor that requires grad may be outside of the graph.
        limit: the count of nodes at which to flush the event log.
        mixed: for operations of the graph, by the end of their sequence numbers: their untracked
            input tensors, in order.
        stepping, step_file: code that runs the step of an optimizer, and the file of its class if
            that is torch's; None and "" outside of a step.
        in_place: the names of operations that changed their input in place.
        changes: the latest in-place changes.
        changes_since: the sequence number from which all of them were recorded.
        notes: errors of the recording itself.
        reachability: finds the leaves that a node was computed from.
        function_calls: operations inside the ``forward`` of custom Functions.
        called: functions that created untracked results, by code and offset of the call.
        repeated: the latest call of those that a loop may repeat, see `intercept.calls`.
        on_gradient_change: called with the event after a sequence of changes to ``.grad``.
        before_cut: called before the program cuts a tensor, or disables gradients; None if
            nothing needs to know.
    """

    def __init__(
        self, event_log: EventLog, lines: SourceLines, handlers: dict[Any, Handler | None]
    ) -> None:
        self.event_log = event_log
        self.lines = lines
        self.handlers = handlers
        self.module_stack = ModuleStack({})
        self.verdicts = UserFiles()
        self._helpers = HelperFiles()
        self.provenance = Provenance()
        self.hooks = Hooks(self.verdicts, self.failed)
        self.alert = False
        self.is_alone = False
        self.paused = self.in_transform = self.hides_inputs = False
        self.stepping: CodeType | None = None
        self.step_file = ""
        self.task: Callable[[], object] | None = None
        self._known_nodes: dict[int, _KnownNode] = {}
        self.repeated: Any = None
        self.called: dict[tuple[int, int], tuple[Any, CodeLocation]] = {}
        self.pending: Entry | None = None
        self.pending_leaves: dict[int, Leaf] = {}
        self.grad_reads: dict[int, weakref.ref[torch.Tensor]] = {}  # of non-leaf tensors: None
        self.missed: dict[str, tuple[CodeLocation, dict[int, tuple[str, int]]]] = {}
        self.started_at = creation_count()
        self.limit = self.started_at + _FLUSH_AFTER
        self.mixed: dict[int, list[Input]] = {}
        self.in_place: dict[int, str] = {}
        self.changes: deque[InPlaceChange] = deque(maxlen=_MOST_CHANGES)
        self.changes_since = self.started_at
        self.notes: list[str] = []
        self.grad_expected = torch.is_grad_enabled()
        self.inference = torch.is_inference_mode_enabled()
        self.gradient_given: bool | None = None
        self.zeros_given: Callable[[], bool] = bool
        self.on_gradient_change: Callable[[Entry], None] = lambda entry: None
        self.before_cut: Callable[[], None] | None = None
        self.reachability = Reachability(self.provenance, self._flowed_in)
        known = (self.provenance, self.reachability, self.event_log, self.verdicts)
        self.function_calls = FunctionCalls(*known, self.input_from, self.mixed)

    def location(self) -> CodeLocation:
        """The location of the current call in the user's code."""
        return user_location(sys._getframe(1), self.verdicts)

    def failed(self, error: Exception) -> None:
        """Note an error of the recording, and let the program continue."""
        if os.environ.get(DEBUG):
            raise error
        entry = f"the recording missed something: {type(error).__name__}: {error}"
        if entry not in self.notes and len(self.notes) < 10:
            self.notes.append(entry)

    def flush(self) -> None:
        """Number the new events."""
        self.limit = creation_count() + _FLUSH_AFTER
        self.event_log.flush()

    def turn(self) -> None:
        """A backward pass has ended: forget old operations."""
        self.event_log.turn()
        self.reachability.turn()
        self._known_nodes.clear()
        start = self.event_log.first_start
        self.module_stack.forget(start)
        for known in (self.mixed, self.in_place, self.function_calls.reads):
            for end in list(takewhile(lambda end: end <= start, known)):
                del known[end]
        written = self.provenance.written
        for created in [created for created in written if created < start]:
            del written[created]

    def resume(self) -> None:
        """Calls are recorded again after some that were not: forget what may have changed."""
        tensors = self.provenance.tensors
        tensors.settle()
        for key, record in list(tensors.items()):
            tensor = record.ref()
            if isinstance(record, Leaf):
                has_gradient = tensor is not None and tensor.is_leaf and tensor.grad is not None
                record.passes = None if has_gradient else 0
            elif record.leaf is None:
                del tensors[key]
        self._known_nodes.clear()
        self.changes.clear()
        self.changes_since = creation_count()
        self.grad_expected = torch.is_grad_enabled()
        self.inference = torch.is_inference_mode_enabled()
        self.limit = creation_count() + _FLUSH_AFTER

    def update_alert(self) -> None:
        """Set ``alert``: whether `attend` must be asked before the next call."""
        waits = self.stepping is not None or self.pending is not None
        self.alert = self.paused or waits or self.task is not None or self.in_transform

    def is_other_task(self) -> bool:
        """Whether the running asyncio task is not the recorded one."""
        return self.task is not None and current_task() is not self.task()

    def attend(self, handler: Handler | None) -> bool:
        """Whether to record the next call."""
        if self.paused or (self.task is not None and self.is_other_task()):
            return False
        if self.stepping is not None and not torch.is_grad_enabled():
            caller = sys._getframe(2).f_code.co_filename
            if caller == self.step_file or self._is_in_step():
                return False
        if self.pending is not None and handler is None:
            self.end_gradient_change()
        self.in_transform = self.in_transform and transform_level() is not None
        self.update_alert()
        return True

    def _is_in_step(self) -> bool:
        """Whether an optimizer makes the call, and not the closure passed to it."""
        stepping: Any = self.stepping
        is_closure = False
        for frame in outwards(sys._getframe(3)):
            if frame.f_code is stepping:
                return self.verdicts[stepping.co_filename] or not is_closure
            is_closure = is_closure or self.verdicts[frame.f_code.co_filename]
        self.stepping = None  # the step ended with an error
        return False

    def end_gradient_change(self) -> None:
        """End a sequence of changes to ``.grad``."""
        if self.pending is not None:
            entry, self.pending = self.pending, None
            self.pending_leaves = {}
            self.update_alert()
            try:
                self.on_gradient_change(entry)
            except Exception as error:
                self.failed(error)

    def is_inside(self) -> bool:
        """Whether torch itself has disabled gradients: in the forward of a ``Function``."""
        if not self.grad_expected or torch.is_grad_enabled():
            return False
        return not torch.is_inference_mode_enabled()

    def guard(self, before: Callable[[RecordingState, TorchCall], None], call: TorchCall) -> None:
        """Run a handler; its errors must not reach the program."""
        try:
            if self.is_alone and not call.kwargs and is_quiet(call.args):
                before(self, call)
                return
            with quietly():
                before(self, call)
        except Exception as error:
            self.failed(error)

    def made(self, func: Any, arguments: Arguments, result: Any, before: int) -> None:
        """Record a call that is not a plain operation of the graph."""
        try:
            if is_wrapped(result):
                result, arguments = inner_values(result), inner_values(arguments)
            args, kwargs = arguments
            if self.is_alone and type(result) is torch.Tensor and not kwargs and is_quiet(args):
                location = user_location(sys._getframe(2), self.verdicts)
                if result.requires_grad or self.is_inside():
                    self._sort(func, arguments, [result], before, location)
                elif all(result is not each for each in args):
                    given = [each for each in args if isinstance(each, torch.Tensor)]
                    self.outside(word_of(func), given, [result], location)
                    if location.offset >= 0:
                        self.called[id(location.code), location.offset] = func, location
                return
            with quietly():
                outputs = list(tensors_in((result,)))
                if outputs:
                    location = user_location(sys._getframe(2), self.verdicts)
                    self._sort(func, arguments, outputs, before, location)
        except Exception as error:
            self.failed(error)

    def _sort(
        self,
        func: Any,
        arguments: Arguments,
        outputs: list[torch.Tensor],
        before: int,
        location: CodeLocation,
    ) -> None:
        tracked = [output for output in outputs if output.requires_grad]
        given = list(tensors_in((*arguments[0], *arguments[1].values())))
        own = {id(tensor) for tensor in given}
        new = [output for output in outputs if id(output) not in own]
        after = creation_count()
        if tracked and after > before:
            reference = tuple(map(weakref.ref, tracked))
            made = before, after, func, location.code, location.offset, reference
            self.event_log.entries.append(self.as_row(made) if location.offset < 0 else made)
            self.add_mixed_inputs(after, func, arguments)
            lost = [output for output in new if not output.requires_grad]
            if word_of(func) in _APART:
                pairs = zip(given, outputs, strict=False)
                given = [each for each, made in pairs if not made.requires_grad]
            if lost:
                self.outside(word_of(func), given, lost, location)
        elif tracked and new:
            self._new_leaves(func, given, new, location)
        elif new:
            self.outside(word_of(func), given, new, location)

    def _helper(self) -> Helper:
        """The role of the file that contains the calling code."""
        frame = self._helpers.caller(sys._getframe(1))
        return Helper.NO if frame is None else self._helpers[frame.f_code.co_filename]

    def as_row(self, operation: Operation) -> Operation | Entry:
        """An operation of the graph; no event if a helper of torch runs it on its own behalf."""
        if self._helper() is not Helper.ALL:
            return operation
        location = CodeLocation(operation[3], operation[4])
        return Entry(EventKind.OPERATION, "", location, operation=operation, is_hidden=True)

    def add_mixed_inputs(self, end: int, func: Any, arguments: Arguments) -> None:
        """Store the untracked inputs of an operation of the graph.

        Args:
            end: the end of the sequence numbers of its nodes.
            func: the function.
            arguments: its arguments.
        """
        skip = _NOT_INPUTS.get(getattr(func, "__name__", ""), ())
        positional = [each for index, each in enumerate(arguments[0]) if index not in skip]
        found = []
        for tensor in tensors_in((*positional, *arguments[1].values())):
            if not self.is_tracked(tensor):
                untracked = self.provenance.untracked(tensor)
                untracked.read_facts(tensor)
                if untracked.word in ("", "full") and not tensor.dim() and self._is_of_scaler():
                    untracked.word = SCALER
                found.append(untracked.as_input())
        if found:
            self.mixed[end] = found

    def _is_of_scaler(self) -> bool:
        frame = self._helpers.caller(sys._getframe(1))
        return frame is not None and frame.f_globals.get("__name__") == SCALER_MODULE

    def _new_leaves(
        self, func: Any, given: list[torch.Tensor], new: list[torch.Tensor], location: CodeLocation
    ) -> None:
        """Record new leaves, for example of ``torch.ones(3, requires_grad=True)``."""
        views = [each for each in new if is_cut_view(each)]
        if views:
            self.hides_inputs = self.hides_inputs or not self.is_inside()
            self.outside(word_of(func), given, views, location)
        elif self.is_inside():
            self.function_calls.add(given, new)
        leaves = [each for each in new if each.requires_grad and each.is_leaf and not views]
        for leaf in map(self.provenance.leaf, leaves):
            leaf.location = location
            self.log(Entry(EventKind.OPERATION, word_of(func), location, None, (leaf.identity,)))

    def is_tracked(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor is in the graph, or a leaf: a view made in no_grad mode is not."""
        if not tensor.requires_grad or not self.hides_inputs:
            return tensor.requires_grad
        known = self.provenance.tensors.of(tensor)
        return not isinstance(known, UntrackedTensor) or not (is_unsure(tensor) or tensor.is_leaf)

    def input_from(
        self, tensor: torch.Tensor, cause: Cause, location: CodeLocation, word: str = ""
    ) -> Input:
        """Convert a tensor to an input of an untracked tensor.

        It reads ``grad_fn``, so it is only used for the few tensors whose data leaves the graph.

        Args:
            tensor: the input.
            cause: why the gradient is cut here, if the tensor requires grad.
            location: where it was called.
            word: the function that cuts it.
        """
        if not self.is_tracked(tensor):
            return self.provenance.untracked(tensor).as_input()
        node = tensor.grad_fn
        if node is None:
            ancestors = self.provenance.ancestors(tensor)
            leaf, ref = self.provenance.leaf(tensor), weakref.ref(tensor)
            return Input(leaf, cause, location, ref, ancestors=ancestors, word=word)
        made = OperationOutput(sequence_number(node), tensor.output_nr)
        known = self._known_nodes.get(identity := identity_of_node(node))
        if known is None or known.created != made.created:  # an identity can be reused
            if len(self._known_nodes) > _MOST_KNOWN:
                self._known_nodes.clear()
            ancestors = self.reachability.ancestors(node)
            known = _KnownNode(made.created, ancestors, self.reachability.op_records(node))
            self._known_nodes[identity] = known
        into, written = self.reachability.written_into, self.provenance.written
        if written and (cut_leaves := into(node, made.output, sys.maxsize)):
            ancestors = known.ancestors.merge(Ancestors(0, cut_leaves))
            ref = weakref.ref(tensor)
            return Input(made, cause, location, ref, known.op_records, ancestors, word=word)
        last = known.last
        if (
            last is None
            or last.location != location
            or last.cause is not cause
            or last.word != word
            or last.ref() is not tensor
        ):
            ref = weakref.ref(tensor)
            last = Input(made, cause, location, ref, known.op_records, known.ancestors, word=word)
            if (base := base_of(tensor)) is not tensor:
                last.base = weakref.ref(base)
            known.last = last
        return last

    def _flowed_in(self, end: int) -> Ancestors:
        """The leaves of untracked inputs, and those that the forward of a Function reads."""
        reads, lost = self.function_calls.reads.get(end, 0), NO_ANCESTORS.cut_leaves
        for data in self.mixed.get(end, ()):
            lost = merge_cut_leaves(lost, data.cut_leaves)
        return Ancestors(reads, lost) if reads or lost else NO_ANCESTORS

    def outside(
        self,
        word: str,
        given: Sequence[torch.Tensor],
        new: Sequence[torch.Tensor],
        location: CodeLocation,
    ) -> None:
        """Record untracked tensors that were computed from others."""
        if self.is_inside():
            self.function_calls.add(given, new)
            return
        if word in _APART and len(given) == len(new) > 1:
            for each, made in zip(given, new, strict=True):
                self.outside(word, [each], [made], location)
            return
        mode = self.cause_of_mode()
        if mode is not None and location.code is not None and is_forward(location.code):
            location = called_from(self.verdicts) or location
        cause = mode or Cause.NOT_DIFFERENTIABLE
        given = given[: DATA_INPUTS.get(word)]
        own = self.function_calls.inputs_of_torch() if location.offset < 0 else ()
        inputs = [self.input_from(each, cause, location, word) for each in (*given, *own)]
        self.add_untracked(word, inputs, new, location)

    def add_untracked(
        self,
        word: str,
        inputs: Sequence[Input],
        new: Sequence[torch.Tensor],
        location: CodeLocation,
        kind: EventKind = EventKind.OPERATION,
    ) -> None:
        """Add untracked tensors, and the event of their creation.

        Args:
            word: the function that created them.
            inputs: where their data came from.
            new: the tensors.
            location: where it was called.
            kind: of the event.
        """
        for identity in self.provenance.add_results(new, word, location, inputs):
            self.log(Entry(kind, word, location, identities=(identity,)))

    def add_copy(self, data: torch.Tensor, copy: torch.Tensor, word: str = "") -> None:
        """Record that a tensor was created from the values of another one.

        Args:
            data: the tensor with the values.
            copy: the new tensor: a parameter, a ``Variable``, or a deep copy.
            word: the function that created it; "" for ``nn.Parameter`` and ``Variable``.
        """
        word = word or ("Parameter" if isinstance(copy, torch.nn.Parameter) else "Variable")
        known = self.provenance.tensors.of(data)
        if not data.requires_grad and not (isinstance(known, UntrackedTensor) and known.matters):
            return  # plain data
        site = CutSite(Cause.VALUES_COPIED, self.location(), word)
        new = [self.input_from(data, *site)]
        if copy.requires_grad:
            leaf = self.provenance.leaf(copy)
            leaf.location = site.location
            self.provenance.write(leaf, new, site, replaces=True)
        else:
            self.provenance.add(copy, site.word, site.cause, site.location, new, matters=True)

    def cause_of_mode(self) -> Cause | None:
        """Why autograd records nothing at the moment; None if it records."""
        if torch.is_inference_mode_enabled():
            return Cause.INFERENCE_MODE
        return None if torch.is_grad_enabled() else Cause.NO_GRAD

    def inference_changed(self) -> None:
        """Log that ``inference_mode`` was entered or left, if the mode changed."""
        inference = torch.is_inference_mode_enabled()
        if inference is not self.inference and not self.paused:
            if inference and self.before_cut is not None:
                self.before_cut()
            self.inference = inference
            end = Action.INFERENCE_OFF if torch.is_grad_enabled() else Action.GRADIENTS_OFF
            location = decorated_with_mode(self.verdicts) or self.location()
            action = Action.INFERENCE_ON if inference else end
            self.log(Entry(EventKind.MODE, "inference_mode", location, action=action))

    def log(self, entry: Entry) -> Entry:
        """Add an event to the log; it is hidden if a helper of torch caused it."""
        if entry.location.offset < 0 and entry.kind in _NOT_OF_HELPERS:
            is_helper = self._helper() in (Helper.OUTSIDE_THE_GRAPH, Helper.ALL)
            entry.is_hidden = is_helper and entry.word != "update"
        self.event_log.entries.append(entry)
        if len(self.event_log.entries) > _FLUSH_AFTER:
            self.flush()
        return entry
