"""The observer: takes the frames before and after backward passes, gradient changes and steps."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, cast

import torch
from torch import nn

from gradviz.capture.autograd.engine import (
    BackwardCall,
    Listener,
    creation_count,
    is_foreign_thread,
)
from gradviz.capture.autograd.nodes import leaf_of, sequence_number
from gradviz.capture.autograd.sharded import Averaging, data_parallel_modules, is_flat
from gradviz.capture.autograd.tensors import quietly, storage_address, version_of
from gradviz.capture.tensors.summary import Kept, summarize
from gradviz.facts import (
    FROM_OTHERS,
    Action,
    BackwardDetails,
    ErrorDetails,
    FrameKind,
    GradientDetails,
    LeafGradient,
    LostGradient,
)
from gradviz.graph import GradGraph, TensorSummary
from gradviz.graph.columns import collector_paused
from gradviz.recording.event_log import Entry, KeyOf
from gradviz.recording.frame_store import FrameStore, LostResults, Sampling
from gradviz.recording.hooks import Microbatches, UndoneSteps, is_recorded
from gradviz.recording.pass_values import GradientFlow
from gradviz.recording.passes import (
    AddedGradient,
    Before,
    HeldParameter,
    StepRows,
    has_state,
    held_by,
    is_transform,
    step_details,
    stepped,
)
from gradviz.recording.problems import Freed, History, error_details, is_from_backward, location_of
from gradviz.recording.snapshots import SnapshotSeries
from gradviz.recording.source_lines import CodeLocation
from gradviz.recording.state import InPlaceChange, RecordingState
from gradviz.recording.steady import LeafReading, Once, Steady, StepMoment
from gradviz.recording.tensor_records import Leaf
from gradviz.story import EventKind, Frame
from gradviz.wording import frame_title, with_gradients, with_step

_FAILURES = (FrameKind.FAILED_BACKWARD, FrameKind.REFUSED_BACKWARD, FrameKind.ERROR)
_ONLY_LEAVES = (FrameKind.AFTER_GRADIENT_CHANGE, FrameKind.AFTER_STEP)
_ALWAYS = (*_FAILURES, FrameKind.MARK)
_WATCHED_PASSES = 32  # whose gradients are watched; later ones only after one with NaN
_REMEMBERED = 8  # backward passes that freed saved tensors


@dataclass(eq=False)
class _Pass:
    """A running backward pass."""

    number: int  # 1, 2, ... of the passes that accumulate into ``.grad``.
    location: CodeLocation  # where it was called
    count: int  # the number of nodes before
    before: Before  # the gradients of the leaves before
    given: bool  # whether a gradient was passed to it
    root: str  # the name of the tensor on which it was called
    roots: Callable[[KeyOf], tuple[str, ...]]  # finds the keys of its roots
    graph: Callable[[], GradGraph]  # returns the graph before it
    flow: GradientFlow  # watches where it loses gradients
    averaging: Averaging  # which gradients it averages over ranks
    # the steps of optimizers in hooks during the pass
    steps: list[Entry] = field(default_factory=list)


class Observer(Listener):
    """Takes the frames of one recording.

    Args:
        state: the state of the recording.
        modules: name their parameters, by name; "" for a single one.
        max_frames: the number of frames to keep.

    Attributes:
        is_listening: whether the steps of optimizers are recorded.
        sampling: which steps are recorded; None for all.
        frame_store: the frames.
        snapshots: takes the snapshots.
    """

    def __init__(
        self, state: RecordingState, modules: Mapping[str, nn.Module], max_frames: int
    ) -> None:
        self.frame_store = FrameStore(max_frames)
        self._state = state
        self.snapshots = SnapshotSeries(state, modules)
        self._rows = self._thread = self._passes = self.seen_error = 0
        self._pass: _Pass | None = None
        self._held, self._is_new, self._undone = list[HeldParameter](), False, UndoneSteps()
        self._freed: deque[Freed] = deque(maxlen=_REMEMBERED)
        self._is_resumed = False  # after steps that were not recorded, until a backward pass
        self._was_wrong = False  # whether the latest pass left gradients that are not finite
        self._data_parallel: list[weakref.ref[Any]] | None = None
        self._microbatches, self._readings = Microbatches(), dict[int, LeafReading]()
        self._steady = Steady(state, self.snapshots)
        self._lost_results = LostResults(state, self.snapshots)
        self.is_listening = False
        self.sampling: Sampling | None = None
        state.event_log.key_of = self.snapshots.keys.__getitem__
        state.on_gradient_change = self._after_grad

    def resume(self) -> None:
        """Steps are recorded again after some that were not."""
        self._steady.pause()
        self.snapshots.resume_at(creation_count())
        self._is_resumed = True

    def begin(self, code: CodeType) -> None:
        """The recording begins in some code of the user's."""
        self._thread = threading.get_ident()
        self._shown_until = creation_count()  # when a frame showed the live outputs
        with quietly():
            self.snapshots.begin(code)

    # Backward passes.

    def before_backward(self, call: BackwardCall) -> None:
        """A backward pass is about to run: the forward pass is over."""
        state = self._state
        if state.is_other_task():
            return
        self._lost_results.end()
        try:
            state.end_gradient_change()
            self._is_resumed = False
            if not is_transform(state.verdicts):
                with quietly():
                    self._begin_pass(call)
        except Exception as error:
            state.failed(error)
        state.paused = state.alert = True

    def _begin_pass(self, call: BackwardCall) -> None:
        location, count = self._state.location(), creation_count()
        if call.accumulates:
            self._passes += 1
        if self._data_parallel is None:
            found = (each for it in [self.snapshots] for each in it.parameters())  # read if needed
            self._data_parallel = data_parallel_modules(each.tensor for each in found)
        averaging = Averaging(self._data_parallel if call.accumulates else ())
        is_repeated = self._repeats(call, bool(averaging.possible))
        begin = self._begin_repeated if is_repeated else self._begin_traced
        before, root, roots, graph = begin(call)
        given = bool(self._state.gradient_given)
        is_watched = self._passes <= _WATCHED_PASSES or self._was_wrong
        watched = call.roots if is_watched and not self._steady.is_on else ()
        flow = GradientFlow(watched, self._state.failed)
        facts = (before, given, root, roots, graph, flow, averaging)
        self._pass = _Pass(self._passes, location, count, *facts)
        leaves = self._state.provenance.alive_leaves()
        before.add_summaries(averaging.possible, leaves)
        self._state.hooks.begin(leaves, self.snapshots.hooked)

    def _repeats(self, call: BackwardCall, may_average: bool) -> bool:
        """Whether a pass repeats an earlier one: its frames are built when they are read."""
        state, has_options = self._state, call.create_graph or call.retain_graph or call.inputs
        is_hooked = state.hooks.are_registered or self.snapshots.hooked
        is_special = has_options or may_average or state.gradient_given or is_hooked
        is_plain = bool(call.accumulates and not is_special)
        _, since = self.snapshots.span
        return self._steady.begin(call.roots, since, is_plain, self.frame_store.is_full)

    def _begin_traced(self, call: BackwardCall) -> _Start:
        with collector_paused():
            graph = self.snapshots.before_backward(call.roots)
            self._add(FrameKind.FORWARD, graph)
        leaves, nodes = self.snapshots.snapshot.leaves.values(), graph._node
        grads = {leaf.number: nodes[key].get("grad") for key, leaf in leaves if key in nodes}
        roots = tuple(graph.roots)
        root = next((nodes[key].get("name", "") for key in roots), "")
        return Before(self._state, grads), root, lambda key_of: roots, lambda: graph

    def _begin_repeated(self, call: BackwardCall) -> _Start:
        steady = self._steady
        self.snapshots.skip(call.roots)
        readings = steady.read(root=call.roots[0])
        graph = self._add_later(FrameKind.FORWARD, readings) or GradGraph
        before = Before(self._state, {number: each.grad for number, each in readings.items()})
        return before, steady.root_name, steady.roots(), graph

    def after_backward(self, call: BackwardCall, outcome: object) -> None:
        """A backward pass ended, normally or with an error."""
        state = self._state
        if state.is_other_task():
            return
        state.hooks.end()
        state.paused = False
        state.update_alert()
        done, self._pass = self._pass, None
        if done is None:
            return
        done.flow.end()
        try:
            with quietly():
                self._end_pass(call, done, outcome)
        except Exception as error:
            state.failed(error)

    def _end_pass(self, call: BackwardCall, done: _Pass, outcome: object) -> None:
        state, word = self._state, "backward" if call.accumulates else "grad"
        done.averaging.end()
        entry = Entry(EventKind.BACKWARD, word, done.location, done.root)
        entry.action = Action.BACKWARD if call.accumulates else Action.AUTOGRAD_GRAD
        entry.details = self._backward_details(call, done, outcome)
        state.log(entry)
        if call.create_graph and (after := creation_count()) > done.count:
            made = outcome if isinstance(outcome, tuple) else ()
            refs = tuple(weakref.ref(each) for each in made if isinstance(each, torch.Tensor))
            where = done.location.code, done.location.offset
            entry.operation = (done.count, after, torch.autograd.grad, *where, refs)
        on_gradients, on_leaves = state.hooks.take()
        state.event_log.entries += on_gradients
        is_same_step = self._microbatches.is_same_step(call.accumulates)
        changed = done.before.count_passes(state, is_same_step)  # some, if the pass has failed
        if isinstance(outcome, BaseException):
            self.seen_error = id(outcome)
            self._fail(outcome, done, changed)
            return
        if on_gradients or on_leaves or done.steps or done.flow.losses.has_lost:
            self._steady.irregular()
        if not self._end_repeated(done, changed):
            with collector_paused():
                graph = self.snapshots.after_backward(has_grown=call.create_graph)
            grads = [self._grad_of(leaf, graph) for leaf in changed]
            added = self._log_accumulations(changed, grads, done)
            self._was_wrong = any(grad is not None and not grad.is_finite for grad in grads)
            if self._was_wrong:
                self.snapshots.keep_wrong(done.number, done.graph())
            self._log_averages(changed, done)
            state.event_log.entries += [*on_leaves, *done.steps]
            kind = FrameKind.AFTER_BACKWARD if call.accumulates else FrameKind.AFTER_AUTOGRAD_GRAD
            self._add(kind, graph, added=added)
        if not call.retain_graph:
            location = state.lines.at(done.location).location
            passed = range(*self.snapshots.span) if self._steady.is_on else range(0)
            self._freed.append((location, passed or self.snapshots.snapshot.operations))
        state.turn()

    def _end_repeated(self, done: _Pass, changed: Sequence[Leaf]) -> bool:
        """Whether a pass that repeats an earlier one gave the leaves such gradients, too."""
        if not self._steady.is_on:
            return False
        readings = self._steady.read(has_only_run=True)
        if not self._steady.are_as_before(readings, changed):
            self._steady.leave()
            return False
        found = [readings[leaf.number].grad for leaf in changed]
        added = self._log_accumulations(changed, found, done)
        self._add_later(FrameKind.AFTER_BACKWARD, readings, added=added)
        return True

    def _backward_details(
        self, call: BackwardCall, done: _Pass, outcome: object
    ) -> Callable[[KeyOf], BackwardDetails]:
        got = outcome if isinstance(outcome, tuple) and not call.accumulates else call.inputs
        asked = (each for each, own in zip(call.inputs, got, strict=True) if own is not None)
        inputs = list(map(self._identity_of, asked)) if call.inputs else None
        flags = call.retain_graph, call.create_graph, isinstance(outcome, BaseException)
        losses, accumulates = done.flow.losses, call.accumulates
        number, find_roots, given = done.number, done.roots, done.given  # no call: it has tensors
        zeros = self._state.zeros_given if given else bool

        def details(key_of: KeyOf) -> BackwardDetails:
            limited = None if inputs is None else tuple(map(key_of, inputs))
            lost, shares = losses.found()
            rows = tuple(LostGradient(key_of(node), at, loss) for node, at, loss in lost)
            shares = shares if accumulates else []
            added = tuple(LeafGradient(key_of(node), at, norm) for node, at, norm in shares)
            ends = find_roots(key_of), limited, given, *flags
            return BackwardDetails(number, *ends, rows, added, zeros())

        return details

    def _identity_of(self, tensor: Any) -> Hashable:
        """The identity of a tensor in ``inputs=`` of a backward pass."""
        if isinstance(tensor, torch.Tensor):
            return self._state.provenance.tensors.identity(tensor)
        leaf = leaf_of(tensor.node)
        return sequence_number(tensor.node) if leaf is None else self._identity_of(leaf)

    def _log_accumulations(
        self, leaves: Sequence[Leaf], grads: Sequence[TensorSummary | Kept | None], done: _Pass
    ) -> Callable[[], list[tuple[str, GradientDetails]]]:
        """Log the gradients that a pass accumulated; returns what it added, by name."""
        added = []
        is_new = not self._steady.is_on and any(not leaf.name for leaf in leaves)
        names = self.snapshots.names_now() if is_new else {}  # of those that no graph contains
        for leaf, after in zip(leaves, grads, strict=True):
            leaf.name = leaf.name or names.get(id(leaf.ref()), "")
            what, name = (EventKind.ACCUMULATE, "accumulate_grad"), f"{leaf.name}.grad"
            entry = Entry(*what, done.location, name, (leaf.identity,))
            ranks = done.averaging.ranks_of(leaf.ref())
            entry.is_hidden = not leaf.name and is_flat(leaf.ref())  # its parts have events
            entry.details = details = AddedGradient(done.before, leaf, after, done.number, *ranks)
            self._state.log(entry)
            added.append((name if leaf.name else "a leaf's .grad", details))
        return lambda: [(name, details()) for name, details in added]

    def _log_averages(self, changed: Sequence[Leaf], done: _Pass) -> None:
        """``DistributedDataParallel`` averages ``.grad`` at the end of a pass: an event."""
        leaves = [leaf for leaf in changed if done.averaging.has_written(leaf.ref())]
        if leaves:
            entry = Entry(EventKind.GRAD, "DistributedDataParallel", done.location, "")
            entry.identities = [leaf.identity for leaf in leaves]
            entry.action, entry.count = done.averaging.action, len(leaves)
            self._state.log(entry)

    def module_hook(self, hook: Any, module: Any, given: Any, result: Any) -> None:
        """A full backward hook of a module was called."""
        if self._pass is not None:
            name = functools.partial(self.snapshots.module_name, module)
            self._state.hooks.of_module(hook, name, given, result)

    def parameter_created(self, data: object, parameter: torch.Tensor) -> None:
        """``nn.Parameter(data)`` was called: its values are a copy without a gradient."""
        state = self._state
        if state.paused or state.is_inside() or not isinstance(data, torch.Tensor):
            return
        try:
            with quietly():
                state.add_copy(data, parameter)
        except Exception as error:
            state.failed(error)

    def mode_changed(self) -> None:
        """``inference_mode`` was entered or left."""
        try:
            self._state.inference_changed()
        except Exception as error:
            self._state.failed(error)

    def _grad_of(self, leaf: Leaf, graph: GradGraph) -> TensorSummary | None:
        """The gradient of a leaf now; the frame may not show it, as in a reentrant checkpoint."""
        key = self.snapshots.keys.of(leaf.identity)
        if key in graph:
            return cast(TensorSummary | None, graph.nodes[key].get("grad"))
        gradient = None if (tensor := leaf.ref()) is None else tensor.grad
        return summarize([gradient])[0] if gradient is not None else None

    def _fail(self, error: BaseException, done: _Pass, changed: Sequence[Leaf]) -> None:
        """Backward raised: add the frame of the failure."""
        before, roots = done.graph(), self.snapshots.roots
        self._steady.leave()
        graph = self.snapshots.trace(roots)
        operations = self.snapshots.snapshot.operations
        self._log_accumulations(changed, [self._grad_of(leaf, graph) for leaf in changed], done)
        history = History(before, self._state, self._freed)
        entry = Entry(EventKind.ERROR, type(error).__name__, done.location)
        details = error_details(error, graph, roots, operations, history)
        entry.details = details
        if details.problem is not None:
            created = [n for n, key in operations.items() if key == details.problem.node]
            entry.identities = created[:1]
        self._add(FrameKind.FAILED_BACKWARD, graph, self._state.log(entry))

    # Gradients and steps.

    def _after_grad(self, entry: Entry) -> None:
        if self._is_resumed:
            return  # steps before this one were not recorded: no frame shows what changed
        if entry.action in (Action.ASSIGNED, *FROM_OTHERS):  # maybe of a leaf that nothing uses
            deque(map(self.snapshots.keys.of, entry.identities), 0)
        with quietly():
            self._add_now(FrameKind.AFTER_GRADIENT_CHANGE, entry.location, entry)

    def _hears(self) -> bool:
        """Whether the step of an optimizer is recorded."""
        return self.is_listening and self._is_here() and not self._state.is_other_task()

    def _is_here(self) -> bool:
        """Whether this thread is recorded; on accelerators, one of torch's runs hooks of a pass."""
        is_in_pass = self._pass is not None and is_foreign_thread()
        return is_in_pass or threading.get_ident() == self._thread

    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """An optimizer begins a step."""
        if not self._is_here():
            self.snapshots.sets.elsewhere += not is_recorded(threading.get_ident())
            return
        if self.sampling is not None:
            self.sampling.before(optimizer)
        self.snapshots.sets.begin_step(optimizer)
        if not self._hears():
            return
        self._state.end_gradient_change()
        try:
            with quietly():
                self._held, self._is_new = held_by(optimizer), not has_state(optimizer)
                self._undone.look((each.ref(), each.values) for each in self._held)
        except Exception as error:
            self._state.failed(error)
        name = type(optimizer).__module__
        module = sys.modules.get(name) if name.startswith("torch.optim.") else None
        self._state.step_file = str(getattr(module, "__file__", ""))
        self._state.stepping = sys._getframe(2).f_code  # 1 calls every hook
        self._state.update_alert()

    def after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """An optimizer ended a step: log one event."""
        if self._hears():
            self._is_new = self._is_new and has_state(optimizer)
            self._end_step(type(optimizer).__name__)
        if self.sampling is not None and self._is_here():
            self.sampling.after(optimizer)

    def _end_step(self, optimizer: str) -> None:
        state = self._state
        state.stepping, state.step_file = None, ""
        state.grad_expected = torch.is_grad_enabled()  # what a step switches back is not recorded
        state.update_alert()
        try:
            with quietly():
                if self._held:  # otherwise the step of an optimizer inside it was logged
                    self._log_step(optimizer)
        except Exception as error:
            state.failed(error)

    def _log_step(self, optimizer: str) -> None:
        state, location = self._state, self._state.location()
        held, changed, names, values = [], [], [], []
        count = creation_count() if self._pass is None else self._pass.count
        for each in self._held:
            if (tensor := each.ref()) is None:
                continue
            record = state.provenance.leaf(tensor) if tensor.requires_grad else None
            known = state.provenance.tensors
            identity = known.identity(tensor) if record is None else record.identity
            held.append((identity, each))
            if (after := version_of(tensor)) != each.version:
                changed.append(identity)
                names.append(record.name if record is not None else "")
                values.append(stepped(tensor, each))
                facts = location, storage_address(tensor), each.version, after, count
                state.changes.append(InPlaceChange("step", *facts))
        left = self._undone.note(zip(changed, values, strict=True))
        rows = StepRows(optimizer, held, changed, names, self._is_new, left)
        details = step_details(rows, values)
        self._held = []
        self._microbatches.end_step()
        entry = Entry(EventKind.STEP, "step", location, optimizer, changed, details=details)
        entry.count = len(changed)
        if self._pass is not None:  # in a hook: the frame after the pass shows the step
            self._pass.steps.append(entry)
            return
        state.event_log.entries.append(entry)
        self._add_now(FrameKind.AFTER_STEP, location)

    def mark(self, entry: Entry) -> None:
        """Take a frame that the program requested."""
        self._steady.leave()
        self._add(FrameKind.MARK, self.snapshots.now(with_outputs=True), entry)

    def end(self, error: BaseException | None) -> None:
        """End the recording; an error that ends it is logged, unless backward raised it."""
        state = self._state
        try:
            with quietly():
                state.paused, state.stepping = False, None
                state.end_gradient_change()
                state.update_alert()
                self._undone.end()
                self._steady.leave()
                is_unseen = self.sampling is None and creation_count() > self._shown_until
                quiet_exit = isinstance(error, (SystemExit, GeneratorExit))
                if error is not None and id(error) != self.seen_error and not quiet_exit:
                    location = location_of(error, state.verdicts)
                    entry = Entry(EventKind.ERROR, type(error).__name__, location)
                    entry.details = ErrorDetails(entry.word, str(error))
                    graph = self.snapshots.now(with_outputs=True)
                    kinds = FrameKind.ERROR, FrameKind.REFUSED_BACKWARD
                    self._add(kinds[is_from_backward(error)], graph, state.log(entry))
                elif self._count_rows() > self._rows or is_unseen:
                    graph = self.snapshots.now(with_outputs=True)
                    has_more = self._lost_results.add_to(self.frame_store, graph)
                    if graph or not has_more:
                        self._add(FrameKind.END, graph)
                elif not self.frame_store.count:
                    self._add(FrameKind.END, GradGraph())
        except Exception as mistake:
            state.failed(mistake)

    def _count_rows(self) -> int:
        self._state.event_log.flush()
        return self._state.event_log.count

    def _add(
        self,
        kind: FrameKind,
        graph: GradGraph,
        entry: Entry | None = None,
        added: Callable[[], list[tuple[str, GradientDetails]]] = list,
    ) -> None:
        """Add a frame."""
        moment = self._moment(kind, entry)
        frame = self._frame(moment, self._facts, lambda: graph, added)
        is_new = self.frame_store.add(frame, moment.word, always=kind in _ALWAYS)
        self._steady.note(moment, graph if is_new else None)
        self.snapshots.keys.turn()

    def _moment(self, kind: FrameKind, entry: Entry | None) -> StepMoment:
        """What is known about this moment without its graph."""
        self._rows = self._count_rows()
        if kind not in (*_ONLY_LEAVES, FrameKind.AFTER_AUTOGRAD_GRAD):
            self._shown_until = creation_count()
        digest = self._state.event_log.digest
        if entry is None:
            return StepMoment(kind, "", None, 1, digest)
        word = entry.word if entry.name is None or kind is not FrameKind.MARK else entry.name
        return StepMoment(kind, word, entry.action, entry.count, digest)

    @property
    def _facts(self) -> tuple[int, int, int]:
        """The numbers of this moment: of the step or 0, of backward passes, and of the last row."""
        step = 0 if self.sampling is None else self.sampling.step
        return step, self._passes, self._rows - 1

    @staticmethod
    def _frame(
        moment: StepMoment,
        facts: tuple[int, int, int],
        graph: Callable[[], GradGraph],
        added: Callable[[], list[tuple[str, GradientDetails]]],
    ) -> Frame:
        step, passes, row = facts
        title = with_step(frame_title(moment.kind, passes, *moment[1:4]), step)
        return Frame(with_gradients(title, added()), graph(), "", moment.kind, passes, row)

    def _add_now(self, kind: FrameKind, location: CodeLocation, entry: Entry | None = None) -> None:
        """Add a frame of this moment, in which only leaves have changed since the latest one."""
        if self.frame_store.leaves_out(self._passes, kind, location):
            return
        if self._steady.is_on and self._add_later(kind, self._steady.read(), entry) is not None:
            return
        with collector_paused():
            self._add(kind, self.snapshots.now(), entry)

    def _add_later(
        self,
        kind: FrameKind,
        readings: dict[int, LeafReading],
        entry: Entry | None = None,
        added: Callable[[], list[tuple[str, GradientDetails]]] = list,
    ) -> Callable[[], GradGraph] | None:
        """Add a frame that is built when it is read, in steady training.

        Returns:
            Builds the graph; None if the earlier pass had no such moment: the frame must be taken.
        """
        moment, before = self._moment(kind, entry), self._readings
        is_new = kind not in _ONLY_LEAVES or readings != before
        found, self._readings = self._steady.expects(moment, is_new), readings
        if found is None:
            self._steady.leave()
            return None
        if not found:
            return GradGraph  # the frame would show the same as the latest one
        graph = self._steady.build(found, readings)
        build = functools.partial(self._frame, moment, self._facts, graph, added)
        self.frame_store.add(Once(build), moment.word)
        return graph


_Start = tuple[Before, str, Callable[[KeyOf], tuple[str, ...]], Callable[[], GradGraph]]
"""The gradients before a pass, the name of its root, the keys of its roots, and its graph."""
