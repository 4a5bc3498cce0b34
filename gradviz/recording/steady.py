"""Steady training: a pass that repeats earlier ones gets its frames when they are read.

A training loop repeats one step thousands of times, and a recording keeps a dozen frames; which
ones is known at its end. A pass repeats an earlier one if the same lines called the same functions
before it, its graph has the same operations, shapes, arguments and leaves, and if it gives each
leaf a gradient that is finite and not zero. Then only the values and gradients of the leaves, and
the loss, are read. If a frame is needed, it is a copy of the earlier frame with these values.
Values of other tensors are left out of it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Generic, NamedTuple, TypeVar, cast

import numpy as np
import torch

from gradviz.capture.autograd.nodes import outline
from gradviz.capture.autograd.tensors import version_of
from gradviz.capture.tensors.summary import Kept, keep
from gradviz.capture.tracer import copy_graph
from gradviz.facts import Action, FrameKind
from gradviz.graph import LEAVES, GradGraph, TensorSummary
from gradviz.recording.event_log import KeyOf
from gradviz.recording.snapshots import SnapshotSeries
from gradviz.recording.stable_trace import Snapshot
from gradviz.recording.state import RecordingState
from gradviz.recording.tensor_records import Leaf

_ENOUGH = 2  # equal passes before the next equal one is not traced
_MOST_NODES = 512
_KINDS_OF_STEPS = 8  # different passes that alternate, as in a GAN
_PASSES = 4  # larger numbers of accumulated passes count as equal
_OF_A_STEP = (
    FrameKind.FORWARD,
    FrameKind.AFTER_BACKWARD,
    FrameKind.AFTER_GRADIENT_CHANGE,
    FrameKind.AFTER_STEP,
)
_LOSS = -1, False  # stands for the root among the numbers of leaves
_UNUSUAL = frozenset(("hooks", "retains_grad", "problem", "opaque", "runs_with"))


T = TypeVar("T")


class StepMoment(NamedTuple):
    """When a frame is taken: what two equal steps have in common.

    Args:
        kind: the kind of frame.
        word, action, tensors: of the event that it is taken for; ``tensors`` is their number.
        digest: of the calls since the pass before, as in `EventLog`.
    """

    kind: FrameKind
    word: str
    action: Action | None
    tensors: int
    digest: int


class LeafReading(NamedTuple):
    """What frames show of a leaf, at one moment."""

    value: Kept | None
    grad: Kept | None
    version: int
    passes: int | None


@dataclass(eq=False)
class _Course:
    """A pass, and the moments from it to the next pass."""

    signature: Hashable  # equal for equal passes
    since: int  # the sequence number at which its forward pass began
    snapshot: Snapshot = field(default_factory=Snapshot)  # of its forward pass
    after: Snapshot = field(default_factory=Snapshot)  # the snapshot after the pass
    # with their graphs; None where the frame showed nothing new
    moments: list[tuple[StepMoment, GradGraph | None]] = field(default_factory=list)
    is_regular: bool = True  # whether a later pass can repeat it
    repeats: int = 0  # how often it was repeated
    lasting: frozenset[str] = frozenset()  # keys of nodes that an earlier pass has too

    @property
    def graph(self) -> GradGraph:
        """The graph of the forward pass."""
        graph = self.moments[0][1]
        assert graph is not None
        return graph

    @cached_property
    def leaves(self) -> list[tuple[int, Leaf, bool]]:
        """The number of each leaf, the leaf, and whether frames show its values."""
        nodes, leaves = self.snapshot.graph._node, self.snapshot.leaves
        return [(number, leaf, "value" in nodes[key]) for number, (key, leaf) in leaves.items()]


class Once(Generic[T]):
    """Calls a function when its result is first needed; faster to create than `functools.cache`."""

    __slots__ = ("_build", "_made")

    def __init__(self, build: Callable[[], T]) -> None:
        self._build: Callable[[], T] | None = build
        self._made: T | None = None

    def __call__(self) -> T:
        """The result."""
        if self._build is not None:
            self._made, self._build = self._build(), None
        return cast(T, self._made)


class Steady:
    """Decides which passes repeat earlier ones, and builds their frames.

    Args:
        state: of the recording.
        snapshots: takes the frames of other passes.

    Attributes:
        is_on: whether the latest pass repeats an earlier one.
    """

    def __init__(self, state: RecordingState, snapshots: SnapshotSeries) -> None:
        self.is_on = False
        self._state = state
        self._snapshots = snapshots
        self._known: dict[Hashable, _Course] = {}
        self._course: _Course | None = None
        self._at = self._shift = self._since = 0
        self._loss: Kept | None = None
        self._is_first = True
        self._readings: dict[int, LeafReading] = {}

    def begin(self, roots: Sequence[Any], since: int, is_plain: bool, may_repeat: bool) -> bool:
        """A backward pass begins.

        Args:
            roots: of the pass.
            since: the sequence number at which its forward pass began.
            is_plain: whether it is an ordinary pass, without options and hooks.
            may_repeat: whether its frames may be built later.

        Returns:
            Whether it repeats an earlier one; then `add` expects the same moments.
        """
        self.pause()
        self._state.event_log.flush()
        digest, self._state.event_log.digest = self._state.event_log.digest, 0
        is_first, self._is_first = self._is_first, False  # of one pass nothing is compared
        is_plain = is_plain and len(roots) == 1 and not is_first
        node = getattr(roots[0], "grad_fn", None) if is_plain else None
        found: Hashable = None
        with suppress(Exception):  # a nested tensor has no shape
            found = None if node is None else outline(node, since, _MOST_NODES)
        if found is None:
            return False
        provenance = self._state.provenance
        leaves = (leaf for leaf, _ in provenance.alive_leaves())
        passes = tuple((each.number, min(each.passes or 0, _PASSES)) for each in leaves)
        shown = provenance.shown
        cuts = sum(each.is_plain_value or each.ref() is not None for each in shown)
        signature = digest, found, passes, cuts
        known = self._known.get(signature)
        if known is None or known.repeats < _ENOUGH or not may_repeat:
            self._course = _Course(signature, since)
            return False
        self.is_on, self._course, self._at = True, known, 0
        self._since, self._shift = since, since - known.since
        return True

    def pause(self) -> None:
        """Some steps are not recorded: the next recorded one may repeat one before them."""
        self._end_course()
        self.is_on, self._course = False, None

    def _end_course(self) -> None:
        course = self._course
        if course is None:
            return
        if self.is_on:
            if self._at < len(course.moments):
                self._known.pop(course.signature, None)
            return
        old = self._known.pop(course.signature, None)
        if course.is_regular and course.moments:
            moments = [moment for moment, _ in course.moments]
            if old is not None and moments == [moment for moment, _ in old.moments]:
                course.repeats = old.repeats + 1
                course.lasting = frozenset(old.graph._node.keys() & course.graph._node.keys())
            while len(self._known) >= _KINDS_OF_STEPS:
                del self._known[next(iter(self._known))]
            self._known[course.signature] = course

    def note(self, moment: StepMoment, graph: GradGraph | None) -> None:
        """A frame was taken; ``graph`` is None if it showed nothing new."""
        course = self._course
        if course is None or self.is_on:
            return
        if not course.moments:
            course.snapshot = self._snapshots.snapshot
            identities = course.snapshot.identities.values()
            are_usual = all(isinstance(each, int) or _is_named(each) for each in identities)
            if graph is None or moment.kind is not FrameKind.FORWARD or not are_usual:
                course.is_regular = False
        if graph is not None:
            nodes = graph._node
            course.is_regular &= not any(_UNUSUAL & data.keys() for data in nodes.values())
            if moment.kind is FrameKind.AFTER_BACKWARD:
                course.after = self._snapshots.snapshot
                leaves = [nodes[key] for key, _ in course.snapshot.leaves.values() if key in nodes]
                course.is_regular &= all(_is_healthy(data.get("grad")) for data in leaves)
        course.is_regular &= moment.kind in _OF_A_STEP and not course.snapshot.untracked_roots
        course.moments.append((moment, graph))

    def irregular(self) -> None:
        """The running pass did something that a frame built later would not show."""
        if self._course is not None:
            self._course.is_regular = False

    def expects(self, moment: StepMoment, is_new: bool) -> GradGraph | None:
        """The graph of the earlier pass at this moment.

        Args:
            moment: this moment.
            is_new: whether leaves have changed since the moment before.

        Returns:
            The graph; an empty one if no frame is needed; None if the passes differ here.
        """
        course = self._course
        if course is None or self._at >= len(course.moments):
            return None
        expected, graph = course.moments[self._at]
        self._at += 1
        if expected != moment:
            return None
        return graph if is_new else GradGraph()

    def leave(self) -> None:
        """The pass differs from the earlier one: its frames are taken from now on."""
        course, self._course = self._course, None
        was_on, self.is_on = self.is_on, False
        if course is None or not was_on:
            return
        self._known.pop(course.signature, None)
        has_run, shift = self._at > 1, self._shift
        old = course.after if has_run else course.snapshot
        keys = self._keys(old.graph, course, shift)
        graph = self.built(old.graph, course, shift, self._loss, self._readings)
        new = replace(
            old,
            graph=graph,
            operations={created + shift: keys[key] for created, key in old.operations.items()},
            holes={
                end + shift: [(keys[key], positions) for key, positions in rows]
                for end, rows in old.holes.items()
            },
            identities={keys[key]: _moved(each, shift) for key, each in old.identities.items()},
        )
        self._snapshots.resume(new)

    def read(
        self, has_only_run: bool = False, root: torch.Tensor | None = None
    ) -> dict[int, LeafReading]:
        """Read the leaves of the pass, by number, all at once.

        Args:
            root: the root of a pass that begins, which is read, too.
            has_only_run: whether only the pass itself ran since the latest reading: a value whose
                version is the same has not changed.
        """
        assert self._course is not None
        before = self._readings if has_only_run else {}
        rows: list[tuple[int, int, int | None, LeafReading | None]] = []
        wanted: dict[tuple[int, bool], Any] = {_LOSS: root} if root is not None else {}
        for number, leaf, is_shown in self._course.leaves:
            if (tensor := leaf.ref()) is None:
                continue
            version, old = version_of(tensor), before.get(number)
            old = old if old is not None and old.version == version else None
            rows.append((number, version, leaf.passes, old))
            if is_shown and old is None:
                wanted[number, False] = tensor
            if (grad := tensor.grad) is not None:
                wanted[number, True] = grad
        kept = dict(zip(wanted, keep([*wanted.values()]), strict=True))
        self._loss = kept.get(_LOSS, self._loss)
        readings = {}
        for number, version, passes, old in rows:
            value = kept.get((number, False)) if old is None else old.value
            readings[number] = LeafReading(value, kept.get((number, True)), version, passes)
        self._readings = readings
        return readings

    @staticmethod
    def are_as_before(readings: Mapping[int, LeafReading], changed: Sequence[Leaf]) -> bool:
        """Whether a pass gave all leaves, and no others, a finite gradient that is not zero."""
        are_same = {leaf.number for leaf in changed} == readings.keys()
        with np.errstate(all="ignore"):
            grads = [each.grad for each in readings.values()] if are_same else []
            return are_same and all(each is not None and each.is_healthy for each in grads)

    def roots(self) -> Callable[[KeyOf], tuple[str, ...]]:
        """Finds the keys of the roots of the pass, if a frame shows them."""
        assert self._course is not None
        identities, shift = self._course.snapshot.identities, self._shift
        moved = [_moved(identities[key], shift) for key in self._course.graph.roots]
        return lambda key_of: tuple(filter(None, map(key_of, moved)))

    @property
    def root_name(self) -> str:
        """The name of the root of the pass."""
        graph = self._course.graph if self._course is not None else GradGraph()
        return next((str(graph.nodes[key].get("name", "")) for key in graph.roots), "")

    def build(self, graph: GradGraph, readings: dict[int, LeafReading]) -> Callable[[], GradGraph]:
        """Build the graph of a moment from that of the earlier pass, once, when it is needed."""
        assert self._course is not None
        moment = graph, self._course, self._shift, self._loss, readings
        return Once(partial(self.built, *moment))

    def built(
        self,
        graph: GradGraph,
        course: _Course,
        shift: int,
        loss: Kept | None,
        readings: Mapping[int, LeafReading],
    ) -> GradGraph:
        """A copy of a graph, with the loss of a later pass, and its leaves at a moment."""
        keys = self._keys(graph, course, shift)
        new = _shifted(copy_graph(graph, keys), shift)
        for number, (key, _) in course.snapshot.leaves.items():
            if number in readings and key in new:
                _update_leaf(new._node[key], readings[number])
        for key in graph.roots:
            if "value" in graph._node[key]:
                new._node[keys[key]]["value"] = loss and loss.summary
        self._snapshots.copied(graph, new, keys)
        return new

    def _keys(self, graph: GradGraph, course: _Course, shift: int) -> dict[str, str]:
        """The keys of the nodes of a copy: those that the passes share stay as they are."""
        found = {}
        for key in graph._node:
            identity = course.snapshot.identities.get(key)
            moved = (key, "later", shift) if identity is None else _moved(identity, shift)
            is_lasting = moved == identity or (identity is None and key in course.lasting)
            found[key] = key if is_lasting else self._snapshots.keys.of(moved)
        return found


def _is_healthy(gradient: TensorSummary | None) -> bool:
    """Whether a gradient is there, finite and not all zeros."""
    return gradient is not None and gradient.is_finite and bool(gradient.norm)


def _is_named(identity: Hashable) -> bool:
    return isinstance(identity, tuple) and isinstance(identity[0], str)


def _moved(identity: Hashable, shift: int) -> Hashable:
    """The identity of the node of a later pass that corresponds to one of an earlier pass."""
    if isinstance(identity, int):
        return identity + shift
    if isinstance(identity, tuple) and identity[0] in ("result", "saved"):
        return (identity[0], identity[1] + shift, *identity[2:]) if identity[1] else identity
    return identity


def _shifted(graph: GradGraph, shift: int) -> GradGraph:
    """Count the operations of a copy further, and remove the values of all but leaves."""
    for data in graph._node.values():
        if "sequence_nr" in data:
            data["sequence_nr"] += shift
        if data["kind"] not in LEAVES:
            data.pop("value", None)
            data.pop("version", None)
    return graph


def _update_leaf(data: dict[str, Any], reading: LeafReading) -> None:
    data["grad"] = None if reading.grad is None else reading.grad.summary
    changed = {
        "value": None if reading.value is None else reading.value.summary,
        "version": reading.version,
        "accumulations": reading.passes,
    }
    for name, value in changed.items():
        if value:
            data[name] = value
        else:
            data.pop(name, None)
