"""The facts that rules read: the graph at one moment with its cuts, and the recording before it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property, partial
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from gradviz.diagnosis.answers import Group
from gradviz.diagnosis.values import Values, is_all_zero
from gradviz.facts import (
    Action,
    BackwardDetails,
    CutEdge,
    EventKind,
    Flag,
    FrameKind,
    GradientDetails,
    Loss,
    LostGradient,
    PartCall,
    PlainContainer,
    StepDetails,
    ValueRead,
)
from gradviz.graph import (
    LEAVES,
    Buffers,
    Cause,
    EdgeData,
    EdgeKind,
    GradGraph,
    NodeData,
    NodeKind,
    ancestors,
    ancestors_of_each,
    descendants,
    is_data,
    word_of,
)
from gradviz.graph.operations import FUNCTIONS_OF_TORCH, operation
from gradviz.graph.text import as_code, joined
from gradviz.story import Event, Frame, hides_a_step

if TYPE_CHECKING:
    from gradviz.capture.tensors.training_sets import IneffectiveFlag, Unregistered

UNNAMED = "the tensor"  # the name of a tensor without one
_T = TypeVar("_T")
_Row = TypeVar("_Row")

RECORD = (
    "to know the cause, record the program: with gradviz.record() as run: ..., then "
    "gradviz.explain(run); or gradviz run train.py"
)
_WITH_ITS_GRAPH = (FrameKind.FORWARD, FrameKind.AFTER_BACKWARD, FrameKind.AFTER_STEP)
_FEW = 16

_NO_DERIVATIVE = "WarnNotImplemented"  # the node of an operation whose derivative is missing
MADE = (EventKind.OPERATION, EventKind.IN_PLACE)
_WITH_ALL_INPUTS = (
    *("CompiledFunctionBackward", "BackwardHookFunctionBackward"),
    "DifferentiableGraphBackward",  # of torch.jit
)


class Cuts:
    """Cut edges of a graph, by the nodes whose data reaches them.

    Args:
        graph: the graph.
        cuts: the edges.
    """

    def __init__(self, graph: GradGraph, cuts: Iterable[CutEdge]) -> None:
        self._graph = graph
        found = sorted(cuts, key=lambda cut: (int(cut.source[1:]), int(cut.target[1:])))
        self._by_source = _grouped((cut.source, cut) for cut in found)

    def of(self, key: str) -> list[CutEdge]:
        """The cuts that are reached from a node along gradient edges."""
        if len(self._by_source) > _FEW:
            path = descendants(self._graph, [key])
        else:  # for one leaf after another, the common part is searched once
            path = {source for source, before in self._before.items() if key in before}
        found = (cuts for source, cuts in self._by_source.items() if source in path)
        return [self._at_numbers(cut) for cuts in found for cut in cuts]

    def _at_numbers(self, cut: CutEdge) -> CutEdge:
        """The cut, or a later one where all of the data becomes numbers: it is cut there anyway.

        An operation without a derivative, such as argmax, stays the cause.
        """
        after, seen = [cut], {cut.target}
        if cut.edge.get("cause") is Cause.NOT_DIFFERENTIABLE:
            return cut
        while len(after) == 1 and after[0].edge.get("cause") not in (Cause.ITEM, Cause.NUMPY):
            after = self._by_source.get(after[0].target, [])
            if not after or after[0].target in seen:
                return cut
            seen.add(after[0].target)
        return after[0] if len(after) == 1 else cut

    @cached_property
    def _before(self) -> dict[str, set[str]]:
        return ancestors_of_each(self._graph, self._by_source)


class Reach(str, Enum):
    """Where a tensor is, seen from the roots of backward."""

    NO_ROOT = "a leaf, and there is no root"
    REACHABLE = "reachable from a root"
    UNREACHABLE = "a tensor that keeps its gradient, not reachable from a root"
    NON_LEAF = "a non-leaf tensor that keeps no gradient, not reachable from a root"
    UNTRACKED = "a tensor that does not require grad"


@dataclass(frozen=True, eq=False)
class Question:
    """A tensor whose gradient is explained.

    Args:
        name: its name in the answer.
        key: its node in the graph, or, if only a recording has it, in other frames; "" if in none.
        data: the attributes of the node.
        is_parameter: whether it is an ``nn.Parameter``.
        unregistered: the plain container of a module that contains it; None if there is none.
        without_effect: the attribute that was set in order to freeze it; None if there is none.
        cuts: where the data of a tensor outside the graph left it; their ends are not known.
        find_call: finds its `call`.
    """

    name: str
    key: str
    data: NodeData
    is_parameter: bool = False
    unregistered: Unregistered | PlainContainer | None = None
    without_effect: IneffectiveFlag | Flag | None = None
    cuts: tuple[EdgeData, ...] = ()
    find_call: Callable[[], PartCall | None] = lambda: None

    @cached_property
    def call(self) -> PartCall | None:
        """Whether the module of a parameter was called in the recording; None if unknown."""
        return self.find_call()

    @property
    def group(self) -> Group:
        """The verdicts that can apply."""
        return Group.NO_GRADIENT if self.data.get("grad") is None else Group.GRADIENT

    @property
    def code(self) -> str:
        """Its name as the program can write it, for a fix."""
        return as_code(self.name)

    @property
    def kind(self) -> NodeKind:
        """The kind of its node; an ``nn.Parameter`` stays one while it is frozen."""
        return NodeKind.PARAMETER if self.is_parameter else self.data["kind"]

    @property
    def has_zero_gradient(self) -> bool:
        """Whether it has a gradient, and all elements of it are 0."""
        grad = self.data.get("grad")
        return grad is not None and is_all_zero(grad)

    @property
    def is_leaf(self) -> bool:
        """Whether it is a leaf that requires grad."""
        return self.data["kind"] in LEAVES


@dataclass(frozen=True, eq=False)
class Context:
    """A graph, and the recording before it.

    Args:
        graph: the graph at that moment.
        roots: keys of the roots of backward.
        events: the events before; None if nothing was recorded.
        frames: the frames of the recording.
        before: the graph before the latest backward pass, if recorded; for an error, the graph of
            the latest frame after one.
        values: known values of its tensors.
        kept: the graph of the frame in which most bytes were saved for backward, if recorded.
        lost: by the keys of leaves, the cuts of their paths to the roots; also for leaves that are
            not in the graph. None if only frames are known.
        numbers: by the keys of leaves, where their data became numbers or arrays.
        since: by the keys of leaves whose gradient is not finite: the number of the first of the
            backward passes since which it was not finite, and the graph before that pass.
        earlier: values in passes, before the latest, that gave some leaf zeros, by their numbers.
        later: the context of the end of the recording, if that shows other results.
        of_pass: returns the context of an earlier backward pass; None if no frame shows it.
        held: keys of the parameters of the optimizers that were seen, or are alive.
        elsewhere: the number of steps of optimizers in other threads, which are not recorded.
        waiting: the optimizers that were seen and made no step, by the keys of their parameters.
        flat: by the keys of parameters that FSDP1 has merged into a flat one, the key of that one.
        copies: by the keys of leaves, those from which values were written into them.
        factors: by the keys of leaves, small parameters that their gradients are multiplied with.
        called: the names that the caller passed, by the keys of their tensors.
        is_of_roots: whether the caller passed the roots, instead of finding them among variables.
        was_cut: whether a command or Ctrl-C ended the program, perhaps before an optimizer's step.
        cache: results that rules computed for several tensors, by keys of their own.
    """

    graph: GradGraph
    roots: tuple[str, ...]
    events: tuple[Event, ...] | None = None
    frames: tuple[Frame, ...] = ()
    before: GradGraph | None = None
    values: Values | None = None
    kept: GradGraph | None = None
    lost: Mapping[str, Sequence[CutEdge]] | None = None
    numbers: Mapping[str, Sequence[ValueRead]] = field(default_factory=dict)
    since: Mapping[str, tuple[int, Values]] = field(default_factory=dict)
    earlier: Mapping[int, Values] = field(default_factory=dict)
    later: Context | None = None
    of_pass: Callable[[Event], Context | None] = lambda _: None
    held: frozenset[str] = frozenset()
    waiting: Mapping[str, str] = field(default_factory=dict)
    elsewhere: int = 0
    flat: Mapping[str, str] = field(default_factory=dict)
    copies: Mapping[str, Sequence[str]] = field(default_factory=dict)
    factors: Mapping[str, float] = field(default_factory=dict)
    called: Mapping[str, str] = field(default_factory=dict)
    is_of_roots: bool = False
    was_cut: bool = False
    cache: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def is_recorded(self) -> bool:
        """Whether the program was recorded."""
        return self.events is not None

    @cached_property
    def root_names(self) -> str:
        """The names of the roots."""
        return joined([self.name_of(key) or word_of(self._maker(key)) for key in self.roots])

    def name_of(self, root: str) -> str:
        """The name of a root; "" if it has none."""
        return self.called.get(root) or str(self.graph.nodes[root].get("name", ""))

    def _maker(self, key: str) -> NodeData:
        sources = [source for source, _ in self.graph.inputs(key)]
        data: NodeData = self.graph.nodes[sources[0] if len(sources) == 1 else key]
        return data

    def roots_of(self, graph: GradGraph) -> Sequence[str]:
        """The roots of a graph, computed once for all explained tensors."""
        return self.cached(("roots", id(graph)), lambda: graph.roots)  # it lives as long as this

    def cached(self, key: Hashable, make: Callable[[], _T]) -> _T:
        """What is computed once for all explained tensors."""
        if key not in self.cache:
            self.cache[key] = make()
        found: _T = self.cache[key]
        return found

    @cached_property
    def reachable(self) -> frozenset[str]:
        """All nodes that are reachable from the roots along gradient edges."""
        key = ("reachable", self.graph, self.roots)  # for the same graph with other facts too
        return self.cached(key, lambda: frozenset(ancestors(self.graph, self.roots)))

    @cached_property
    def freed(self) -> frozenset[str]:
        """The operations among them whose saved tensors were freed."""
        nodes = self.graph.nodes
        return frozenset(k for k in self.reachable if nodes[k].get("buffers") is Buffers.FREED)

    @cached_property
    def without_derivative(self) -> frozenset[str]:
        """The operations among them whose derivative is missing."""
        nodes = self.graph.nodes
        return frozenset(k for k in self.reachable if nodes[k].get("grad_fn") == _NO_DERIVATIVE)

    @cached_property
    def hooked(self) -> frozenset[str]:
        """The nodes among them with hooks."""
        return frozenset(k for k in self.reachable if self.graph.nodes[k].get("hooks"))

    @cached_property
    def functions(self) -> tuple[str, ...]:
        """The calls of an ``autograd.Function`` among them, including reentrant checkpoints.

        Tensors that they use without being inputs are not in the graph. The class names of torch's
        own operations end in a number (``MulBackward0``); those of a Function do not.
        """
        nodes = self.graph.nodes
        made = ((k, nodes[k].get("grad_fn", "")) for k in self.graph if k in self.reachable)
        made = ((key, name) for key, name in made if name.endswith("Backward"))
        made = ((key, name) for key, name in made if name not in _WITH_ALL_INPUTS)
        return tuple(k for k, e in made if e.removesuffix("Backward") not in FUNCTIONS_OF_TORCH)

    @cached_property
    def with_grad(self) -> frozenset[str]:
        """The nodes among them, without the roots, that have a gradient."""
        others, nodes = self.reachable.difference(self.roots), self.graph.nodes
        return frozenset(k for k in others if nodes[k].get("grad") is not None)

    @cached_property
    def cuts(self) -> Cuts:
        """The edges at which data that flows to the roots is cut."""
        ends = ancestors(self.graph, self.roots, is_data)
        edges = self.graph.in_edges(ends, data=True)
        found = (CutEdge(*each) for each in edges if each[2]["kind"] is EdgeKind.CUT)
        return Cuts(self.graph, found)

    @cached_property
    def _used_inside(self) -> Mapping[str, Sequence[str]]:
        """By the keys of leaves, the calls outside the graph of the roots that use them inside."""
        rows = (row for row in self.graph.nodes(data=True) if row[0] not in self.reachable)
        return _grouped((leaf, key) for key, e in rows for leaf in e.get("uses_inside", ()))

    def cuts_of(self, question: Question) -> list[CutEdge]:
        """The cuts between a tensor and the roots, also through a Function that uses it inside."""
        starts = [key, *self._used_inside.get(key, ())] if (key := question.key) else []
        found = [cut for start in starts for cut in self.cuts.of(start)]
        if self.lost is None or not question.is_leaf:
            return found
        # The graph shows what was written into a tensor also after it was used.
        lost = self.lost.get(key, ())
        lines = {each.edge.get("source") for each in lost}
        found = [cut for cut in found if cut.edge.get("source") in lines]
        shown = {cut.edge.get("source") for cut in found}
        return [*found, *(each for each in lost if each.edge.get("source") not in shown)]

    def is_reachable(self, key: str) -> bool:
        """Whether a node is reachable from the roots."""
        return any(start in self.reachable for start in self._starts(key))

    def reach_of(self, question: Any) -> Reach:
        """Where an explained tensor (a `Question`) is, seen from the roots."""
        if question.data["kind"] is NodeKind.UNTRACKED:
            return Reach.UNTRACKED
        if not self.roots:
            return Reach.NO_ROOT if question.is_leaf else Reach.NON_LEAF
        if self.is_reachable(question.key):
            return Reach.REACHABLE
        is_kept = question.is_leaf or "grad" in question.data
        return Reach.UNREACHABLE if is_kept else Reach.NON_LEAF

    def path(self, key: str) -> set[str]:
        """All nodes between a node and the roots, including both; empty if it is not reachable."""
        path = descendants(self.graph, self._starts(key)) & self.reachable
        return path | {key} if path else path

    def _starts(self, key: str) -> list[str]:
        """The node; or, for a result, the nodes that used it."""
        key = self.flat.get(key, key)
        is_result = key in self.graph and self.graph.nodes[key]["kind"] is NodeKind.RESULT
        if not is_result or key in self.roots:
            return [key]
        return [
            user
            for maker, made in self.graph.inputs(key)
            for _, user, edge in self.graph.out_edges(maker, data=True)
            if edge.get("output") == made.get("output") and user != key
        ]

    # Values.

    def values_of_pass(self, question: Question, is_zero: bool = False) -> Values | None:
        """The values in the pass that computed the gradient; None if the graph may be another one.

        If zeros were accumulated, each pass gave zeros, so the latest pass explains them.
        """
        if not self.is_recorded:
            return self.cached("live values", lambda: Values(self.graph, is_before=False))
        added = self.happened_to(question.key, EventKind.ACCUMULATE)
        passes = self.happened(EventKind.BACKWARD)
        is_latest = bool(passes and added) and added[-1].number > passes[-1].number
        # A loop has accumulated many times; only passes after the last clearing count.
        is_all = len(added) == 1 or question.data.get("accumulations") == 1
        if added and is_zero and not is_latest:
            numbers = reversed(self._like_the_latest(question.key))
            return next((self.earlier[n] for n in numbers if n in self.earlier), None)
        if not is_latest or not (is_all or is_zero) or self.before is None:
            return None
        return self.values or self.cached("values before", partial(Values, self.before))

    def graph_of_latest_pass(self, key: str) -> GradGraph | None:
        """The graph of a pass that added to the gradient of a node, the latest one kept, or None.

        A recording keeps the first of several passes that repeat: one of the same line is taken.
        """
        if not self.is_recorded:
            return self.graph if key in self.graph else None
        return frame.graph if (frame := self.frame_of_latest_pass(key)) else None

    def frame_of_latest_pass(self, key: str) -> Frame | None:
        """The frame with that graph, of a recording."""
        added = self._like_the_latest(key)
        # A forward pass that torch.autograd.grad took has the number of the pass before it.
        ends = pairwise(self.frames or ())
        taken = [id(f) for f, then in ends if then.kind is FrameKind.AFTER_AUTOGRAD_GRAD]
        kept = (f for f in reversed(self.frames or ()) if f.kind in _WITH_ITS_GRAPH)
        found = [f for f in kept if f.pass_number in added and id(f) not in taken]
        found.sort(key=lambda frame: (-frame.pass_number, frame.kind is FrameKind.FORWARD))
        return next((frame for frame in found if key in frame.graph), None)

    def _like_the_latest(self, key: str) -> list[int]:
        """The numbers of the passes of one line, the latest that added to a gradient."""
        details = (event.details for event in self.happened_to(key, EventKind.ACCUMULATE))
        numbers = [each.pass_number for each in details if isinstance(each, GradientDetails)]
        lines = {n: self.pass_of[n].source for n in numbers if n in self.pass_of}
        return [n for n, line in lines.items() if line == lines.get(numbers[-1])]

    def lost_in_pass(self, loss: Loss, number: int = 0) -> Mapping[tuple[str, int], LostGradient]:
        """Where a backward pass lost gradients, by the operation and the number of its input.

        Args:
            loss: how.
            number: of the pass; 0 for the latest one.
        """
        passes = self.happened(EventKind.BACKWARD)
        event = self.pass_of.get(number) if number else passes[-1] if passes else None
        details = event.details if event is not None else None
        lost = details.lost if isinstance(details, BackwardDetails) else ()
        return {(each.node, each.input): each for each in lost if each.loss is loss}

    # Events.

    @cached_property
    def files(self) -> list[str]:
        """The files of the lines of its events."""
        return sorted({event.location.file for event in self.events or () if event.location})

    def happened(self, kind: EventKind) -> Sequence[Event]:
        """The events of one kind, in order."""
        return self._by_kind.get(kind, ())

    @cached_property
    def kinds(self) -> frozenset[EventKind]:
        """The kinds of the events."""
        return frozenset(self._by_kind)

    def kinds_of(self, key: str) -> set[EventKind]:
        """The kinds of the events about a node."""
        return {kind for kind in self.kinds if (key, kind) in self._by_node}

    def happened_to(self, key: str, kind: EventKind) -> Sequence[Event]:
        """The events of one kind about a node; none without a key."""
        return self._by_node.get((key, kind), ()) if key else ()

    def gradient_changes(self, key: str) -> Sequence[Event]:
        """What happened to the ``.grad`` of a node after the latest pass that added to it."""
        added, changes = (self.happened_to(key, k) for k in (EventKind.ACCUMULATE, EventKind.GRAD))
        return [event for event in changes if added and event.number > added[-1].number]

    @cached_property
    def steps(self) -> list[tuple[Event, StepDetails]]:
        """The steps of optimizers, in order."""
        steps = ((event, event.details) for event in self.happened(EventKind.STEP))
        return [(event, details) for event, details in steps if isinstance(details, StepDetails)]

    def steps_of(self, key: str) -> list[tuple[Event, StepDetails]]:
        """The steps that changed a leaf, in order."""
        steps = ((event, event.details) for event in self.happened_to(key, EventKind.STEP))
        return [(event, details) for event, details in steps if isinstance(details, StepDetails)]

    def steps_with(self, key: str) -> list[tuple[Event, StepDetails]]:
        """The steps of optimizers that hold a leaf, in order."""
        return self._steps_by_leaf.get(key, [])

    @cached_property
    def _steps_by_leaf(self) -> dict[str, list[tuple[Event, StepDetails]]]:
        return _grouped((key, row) for row in self.steps for key in dict.fromkeys(row[1].held))

    def history_of(self, key: str) -> list[Event]:
        """What happened to the gradient of a leaf, with the steps of its optimizers, in order."""
        changes = (self.happened_to(key, e) for e in (EventKind.ACCUMULATE, EventKind.GRAD))
        steps = (step for step, _ in self.steps_with(key))
        return sorted(chain(*changes, steps), key=lambda event: event.number)

    @cached_property
    def passes(self) -> Sequence[Event]:
        """The backward passes that accumulate into ``.grad``."""
        passes = self.happened(EventKind.BACKWARD)
        return [event for event in passes if event.action is not Action.AUTOGRAD_GRAD]

    def is_trained(self, key: str) -> bool:
        """Whether a leaf got a gradient, and an optimizer holds it or it was changed after that."""
        added = self.happened_to(key, EventKind.ACCUMULATE)
        if not added or key in self.held:
            return bool(added)
        steps = (event for event, _ in self.steps_with(key))
        changes = (*self.happened_to(key, EventKind.IN_PLACE), *steps)
        return any(event.number > added[0].number for event in changes)

    def is_copy(self, key: str, shape: object) -> bool:
        """Whether a leaf has the values of one of its shape that is trained, or has a gradient."""
        sources = [e for e in self.copies.get(key, ()) if self.happened_to(e, EventKind.ACCUMULATE)]
        if self.held or self.steps:
            sources = [each for each in sources if self.is_trained(each)]
        return any((self.node_in_a_frame(e) or {}).get("shape", shape) == shape for e in sources)

    def is_made_anew(self, key: str) -> bool:
        """Whether a leaf is one of several of its name that were created from computed values."""
        made = () if self.copies.get(key, key) or key in self.held else self.copies
        names = [(self.node_in_a_frame(e) or {}).get("name") for e in (key, *made)]
        return bool(names[0]) and names.count(names[0]) > 2  # it is among them

    def is_template(self, key: str) -> bool:
        """Whether an optimizer trains a copy of a leaf, as ``TransformerEncoder`` does."""
        copies = (copy for copy, sources in self.copies.items() if key in sources)
        return any(e in self.held and self.is_trained(e) for e in copies)

    @cached_property
    def differentiates_data(self) -> bool:
        """Whether the latest gradient of a leaf that is no parameter is that of one pass alone."""
        latest = {e.nodes[0]: e.details for e in self.happened(EventKind.ACCUMULATE) if e.nodes}
        return any(
            getattr(details, "accumulations", None) == 1
            and (self.node_in_a_frame(key) or {}).get("kind") is NodeKind.LEAF
            for key, details in latest.items()
        )

    @cached_property
    def pass_of(self) -> Mapping[int, Event]:
        """The backward passes by number; the first one of a number counts."""
        rows = ((event, event.details) for event in reversed(self.passes))
        return {d.pass_number: each for each, d in rows if isinstance(d, BackwardDetails)}

    def made_at(self, line: str, key: str) -> Sequence[Event]:
        """The operations on a line and that of a node, in order, the node's own last."""

        def find() -> Sequence[Event]:
            own = [e for kind in MADE for e in self.happened_to(key, kind)]
            own = [e for e in own if str(e.location) == line] or own  # it may be changed elsewhere
            numbers = {event.number for event in own}
            rows = [each for each in self.events_on(line) if each.kind in MADE]
            others = [each for each in rows if each.number not in numbers]
            return [*others, *sorted(own, key=lambda e: e.number)]

        return self.cached(("made at", line, key), find)

    def node_in_a_frame(self, key: str) -> NodeData | None:
        """The attributes of a node in the latest frame that has it."""
        graphs = (self.graph, *(frame.graph for frame in reversed(self.frames)))
        return next((graph.nodes[key] for graph in graphs if key in graph), None)

    def events_on(self, line: str) -> Sequence[Event]:
        """The events on a line, in order."""
        file, _, number = line.rpartition(":")
        return self._by_line.get((file, number), ())

    @cached_property
    def _by_line(self) -> Mapping[tuple[str, str], Sequence[Event]]:
        lines = ((event.location, event) for event in self.events or () if event.location.line)
        return _grouped(((at.file, str(at.line)), event) for at, event in lines)

    @cached_property
    def _shown(self) -> set[str]:
        return {key for frame in self.frames or () for key in frame.graph}.union(self.graph)

    def is_hidden(self, event: Event) -> bool:
        """Whether no frame shows the result of an operation that uses data."""
        return self._shown.isdisjoint(event.nodes) and not operation(event.word).from_nothing

    @cached_property
    def hides_operations(self) -> bool:
        """Whether there may be computations or changes that no frame shows."""
        made = (event for kind in MADE for event in self.happened(kind))
        switched = self.happened(EventKind.REQUIRES_GRAD)
        return (
            any(n != e.number for n, e in enumerate(self.events or ()))  # some were omitted
            or hides_a_step(made, self.happened(EventKind.BACKWARD), self.is_hidden)
            or any(event.action is Action.REQUIRES_GRAD_ON for event in switched)
        )

    @cached_property
    def _by_kind(self) -> Mapping[EventKind, Sequence[Event]]:
        return _grouped((event.kind, event) for event in self.events or ())

    @cached_property
    def _by_node(self) -> Mapping[tuple[str, EventKind], Sequence[Event]]:
        return _grouped(((key, e.kind), e) for e in self.events or () for key in e.nodes)


def _grouped(rows: Iterable[tuple[_T, _Row]]) -> dict[_T, list[_Row]]:
    found: dict[_T, list[_Row]] = {}
    for key, row in rows:
        found.setdefault(key, []).append(row)
    return found


def call_of(context: Context) -> str:
    """``loss.backward()``, for the first root; it may have no name."""
    data = context.graph.nodes[context.roots[0]]
    call = "backward()" if data.get("shape", ()) in ((), (1,)) else "sum().backward()"
    name = data.get("name")
    return f"{name}.{call}" if name else f"{call} on the result of {context.root_names}"
