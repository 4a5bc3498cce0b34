"""When a recording takes a frame, and of what: before and after backward, zeroing, steps."""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn

from gradviz.capture.autograd.engine import BackwardCall, creation_count
from gradviz.capture.autograd.tensors import place_of, quietly, version_of
from gradviz.graph import GradGraph
from gradviz.graph.collector import collector_paused
from gradviz.recording.accumulation import Before, leaves_of
from gradviz.recording.differences import added
from gradviz.recording.event_log import Entry
from gradviz.recording.failures import Freed, History, explain
from gradviz.recording.frame_store import FrameStore
from gradviz.recording.provenance import Leaf
from gradviz.recording.snapshots import Snapshots
from gradviz.recording.source_lines import CodeLocation, UserFiles
from gradviz.recording.state import InPlaceChange, RecordingState
from gradviz.story import EventKind, Frame

__all__ = ["Observer"]

_TITLE = 40  # characters of what was added that a title has room for
_REMEMBERED = 8  # backward passes that freed something


@dataclass(eq=False)
class _Pass:
    """A backward pass on its way.

    Args:
        number: 1, 2, ... of those that add to ``.grad``.
        place: where it was called.
        count: how many nodes there were before.
        before: the gradients of the leaves before.
        given: whether a gradient was passed to it.
        root: the name of what it starts from.
        graph: the frame before it.
        steps: what optimizers did in hooks while it ran.
    """

    number: int
    place: CodeLocation
    count: int
    before: Before
    given: bool
    root: str
    graph: GradGraph
    steps: list[Entry] = field(default_factory=list)


class Observer:
    """Takes the frames of one recording.

    Args:
        watch: what the recording knows.
        modules: give names to their parameters, by what to call them; "" for the only one.
        max_frames: how many frames to keep.

    Attributes:
        moments: the frames.
        camera: takes their graphs.
    """

    def __init__(
        self, watch: RecordingState, modules: Mapping[str, nn.Module], max_frames: int
    ) -> None:
        self.moments = FrameStore(max_frames)
        self._watch = watch
        self.snapshots = Snapshots(watch, modules)
        self._rows = 0
        self._thread = 0
        self._pass: _Pass | None = None
        self._passes = 0
        self._versions: list[tuple[weakref.ref[torch.Tensor], int]] = []
        self._freed: deque[Freed] = deque(maxlen=_REMEMBERED)
        self._seen_error = 0
        watch.journal.key_of = self.snapshots.keys.known
        watch.on_settled_grad = self._after_grad

    def begin(self, code: CodeType) -> None:
        """The recording begins, in some code of the user's."""
        self._thread = threading.get_ident()
        with quietly():
            self.snapshots.begin(code)

    # Backward passes.

    def before_backward(self, call: BackwardCall) -> None:
        """A backward pass is about to run: the forward pass is over."""
        watch = self._watch
        try:
            watch.flush()
            if not _is_transform(watch.verdicts):
                with quietly(), collector_paused():
                    self._begin_pass(call)
        except Exception as error:
            watch.stumbled(error)
        watch.paused = watch.alert = True

    def _begin_pass(self, call: BackwardCall) -> None:
        place, count = self._watch.place(), creation_count()
        if call.accumulates:
            self._passes += 1
        graph = self.snapshots.before_backward([each for each in call.roots if each is not None])
        self._add(Frame("forward", graph))
        root = next((graph.nodes[key].get("name", "") for key in graph.roots), "")
        before = Before(self._watch, graph, self.snapshots.snapshot)
        given = bool(self._watch.gradient_given)
        self._pass = _Pass(self._passes, place, count, before, given, root, graph)
        self._watch.hooks.begin(leaves_of(self._watch), self.snapshots.hooked)

    def after_backward(self, call: BackwardCall, outcome: object) -> None:
        """A backward pass has run, or failed."""
        watch = self._watch
        watch.hooks.end()
        watch.paused = False
        watch.update_alert()
        done, self._pass = self._pass, None
        if done is None:
            return
        try:
            with quietly(), collector_paused():
                self._end_pass(call, done, outcome)
        except Exception as error:
            watch.stumbled(error)

    def _end_pass(self, call: BackwardCall, done: _Pass, outcome: object) -> None:
        watch = self._watch
        word = "backward" if call.accumulates else "grad"
        note = watch.log(EventKind.BACKWARD, word, done.place, done.root, _options(call, done))
        after = creation_count()
        if call.create_graph and after > done.count:
            made = outcome if isinstance(outcome, tuple) else ()
            refs = tuple(weakref.ref(each) for each in made if isinstance(each, torch.Tensor))
            note.operation = (done.count, after, torch.autograd.grad, *done.place, refs)
        on_gradients, on_leaves = watch.hooks.told()
        watch.journal.entries += on_gradients
        if isinstance(outcome, BaseException):
            self._seen_error = id(outcome)
            self._fail(outcome, done)
            return
        changed = done.before.count_passes(watch)
        graph = self.snapshots.after_backward(has_grown=call.create_graph)
        texts = []
        for leaf in changed:
            text = added(done.before.summary(leaf), self._grad_of(leaf, graph))
            detail = f"{text}, pass {leaf.passes}" if leaf.passes else text
            name = f"{leaf.name}.grad" if leaf.name else ".grad"
            watch.log(
                EventKind.ACCUMULATE, "accumulate_grad", done.place, name, detail, leaf.identity
            )
            texts.append(f"{name} {text}")
        watch.journal.entries += [*on_leaves, *done.steps]
        title = f"after backward {done.number}" if call.accumulates else "after autograd.grad"
        summary = ", ".join(texts)
        if summary and len(summary) <= _TITLE:
            title += f" ({summary})"
        self._add(Frame(title, graph))
        if not call.retain_graph:
            line = watch.lines.line(*done.place).source
            self._freed.append((line, self.snapshots.snapshot.operations))
        watch.turn()

    def module_hook(self, hook: Any, module: Any, given: Any, result: Any) -> None:
        """A full backward hook of a module was called."""
        if self._pass is not None:
            name = functools.partial(self.snapshots.module_name, module)
            self._watch.hooks.of_module(hook, name, given, result)

    def mode_changed(self) -> None:
        """``inference_mode`` was entered or left."""
        try:
            self._watch.note_inference()
        except Exception as error:
            self._watch.stumbled(error)

    def _grad_of(self, leaf: Leaf, graph: GradGraph) -> Any:
        key = self.snapshots.keys.known(leaf.identity)
        return graph.nodes[key].get("grad") if key in graph else None

    def _fail(self, error: BaseException, done: _Pass) -> None:
        """Backward raised: show the moment, and what is wrong in it."""
        roots = self.snapshots.roots
        graph = self.snapshots.trace(roots)
        operations = self.snapshots.snapshot.operations
        history = History(done.graph, self._watch, self._freed)
        detail = explain(error, graph, roots, operations, history)
        kind = type(error).__name__
        self._watch.log(EventKind.ERROR, kind, done.place, detail=detail)
        self._add(Frame(f"{kind} in backward", graph), always=True)

    # Gradients and steps.

    def _after_grad(self, note: Entry) -> None:
        what = note.word
        if what == "grad":  # assigned: ``w.grad = None``
            what = note.detail if note.count > 1 else f".grad {note.detail}"
        with quietly(), collector_paused():
            self._add(Frame(f"after {what}", self.snapshots.now()))

    def before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """An optimizer begins a step."""
        if threading.get_ident() != self._thread:
            return
        self._watch.flush()
        try:
            with quietly():
                self._versions = [
                    (weakref.ref(tensor), version_of(tensor))
                    for group in optimizer.param_groups
                    for tensor in group["params"]
                ]
        except Exception as error:
            self._watch.stumbled(error)
        self._watch.stepping = sys._getframe(1).f_code
        self._watch.update_alert()

    def after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """An optimizer has ended a step: one event, whatever it did."""
        if threading.get_ident() != self._thread:
            return
        watch = self._watch
        watch.stepping = None
        watch.update_alert()
        try:
            with quietly(), collector_paused():
                self._tell_step(type(optimizer).__name__)
        except Exception as error:
            watch.stumbled(error)

    def _tell_step(self, optimizer: str) -> None:
        watch = self._watch
        changed = [
            (tensor, version)
            for ref, version in self._versions
            if (tensor := ref()) is not None and version_of(tensor) != version
        ]
        leaves = [watch.provenance.leaf(tensor) for tensor, _ in changed if tensor.requires_grad]
        names = [leaf.name for leaf in leaves if leaf.name]
        what = f"{len(changed)} of {len(self._versions)} parameters"
        if 0 < len(names) == len(changed) <= 4:
            what = ", ".join(names)
        place = watch.place()
        for tensor, before in changed:
            storage = (place_of(tensor) or (None,))[0]
            after = version_of(tensor)
            watch.changes.append(
                InPlaceChange("step", place, storage, before, after, creation_count())
            )
        self._versions = []
        note = Entry(EventKind.STEP, "step", place, optimizer, f"changed {what}")
        if self._pass is not None:  # in a hook: the frame after the pass shows it
            self._pass.steps.append(note)
            return
        watch.journal.entries.append(note)
        self._add(Frame("after step", self.snapshots.now()))

    # Marks and the end.

    def mark(self, name: str) -> None:
        """Take a frame by hand."""
        self._add(Frame(f"mark: {name}", self.snapshots.now(with_outputs=True)), always=True)

    def end(self, error: BaseException | None) -> None:
        """The recording ends; an error that ends it is told, unless backward has told it."""
        watch = self._watch
        try:
            with quietly():
                watch.paused, watch.stepping = False, None
                watch.flush()
                watch.update_alert()
                quiet_exit = isinstance(error, (SystemExit, GeneratorExit))
                if error is not None and id(error) != self._seen_error and not quiet_exit:
                    kind = type(error).__name__
                    text = str(error).partition("\n")[0][:200]
                    watch.log(EventKind.ERROR, kind, self._place_of(error), detail=text)
                    self._add(Frame(kind, self.snapshots.now(with_outputs=True)), always=True)
                elif watch.journal.count + len(watch.journal.entries) > self._rows:
                    self._add(Frame("end", self.snapshots.now(with_outputs=True)))
                elif not self.moments.count:
                    self._add(Frame("end", GradGraph()))
        except Exception as mistake:
            watch.stumbled(mistake)

    def _place_of(self, error: BaseException) -> CodeLocation:
        place, trace = CodeLocation(None, 0), error.__traceback__
        while trace is not None:
            if self._watch.verdicts[trace.tb_frame.f_code.co_filename]:
                place = CodeLocation(trace.tb_frame.f_code, trace.tb_lasti)
            trace = trace.tb_next
        return place

    def _add(self, frame: Frame, always: bool = False) -> None:
        journal = self._watch.journal
        self.moments.add(frame, always)
        self.snapshots.keys.turn()
        self._rows = journal.count + len(journal.entries)


def _options(call: BackwardCall, done: _Pass) -> str:
    words = [
        "gradient given" if done.given else "",
        "retain_graph" if call.retain_graph and not call.create_graph else "",
        "create_graph" if call.create_graph else "",
        f"inputs: {len(call.inputs)}" if call.inputs and call.accumulates else "",
    ]
    return ", ".join(filter(None, words))


def _is_transform(verdicts: UserFiles) -> bool:
    """Whether ``torch.func`` runs this pass for purposes of its own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not verdicts[frame.f_code.co_filename]:
        if "_functorch" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False
