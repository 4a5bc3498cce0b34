"""What rules read: the graph at one moment, and what was recorded before it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from gradviz.diagnosis.answers import Group
from gradviz.diagnosis.paths import CutEdge, Cuts, ValueRead, word_of
from gradviz.diagnosis.values import Values
from gradviz.facts import Action, BackwardDetails, EventKind, Loss, LostGradient
from gradviz.graph import Buffers, EdgeKind, GradGraph, NodeData, NodeKind
from gradviz.graph.algorithms import ancestors, descendants, is_data
from gradviz.story import Event, Frame

__all__ = [
    "LEAVES",
    "Context",
    "Flag",
    "PlainContainer",
    "Question",
    "listed",
]

LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)

_UNREACHABLE = 1_000_000  # keys from here on are no node's in any frame

_MADE = (EventKind.OPERATION, EventKind.IN_PLACE)
_FROM_NOTHING = frozenset(
    (
        *("empty", "zeros", "ones", "full", "tensor", "as_tensor", "arange", "linspace", "eye"),
        *("rand", "randn", "randint", "randperm", "normal_", "uniform_", "fill_", "zero_", "ones_"),
        *("kaiming_uniform_", "xavier_uniform_", "manual_seed", "constant_"),
    )
)


_WITH_ALL_INPUTS = ("CompiledFunctionBackward", "BackwardHookFunctionBackward")


class PlainContainer(NamedTuple):
    """Where a model keeps a parameter that ``parameters()`` does not list.

    Args:
        container: its path in the model: ``"layers"``.
        kind: ``"list"``, ``"tuple"`` or ``"dict"``.
        owner: the class of the model: ``"Net"``.
        of_modules: whether it holds modules; else parameters.
    """

    container: str
    kind: str
    owner: str
    of_modules: bool


class Flag(NamedTuple):
    """An attribute that was set to freeze a parameter, without effect.

    Args:
        attribute: ``"require_grad"``.
        owner: the class of the module that has it; "" when the parameter itself has it.
        parameter: path of the parameter within that module.
    """

    attribute: str
    owner: str
    parameter: str


@dataclass(frozen=True, eq=False)
class Question:
    """A tensor whose gradient is to be explained.

    Args:
        name: what to call it.
        key: its node in the graph, or, when a recording knows it, in others; "" if in none.
        data: what is known of it.
        is_parameter: whether it is an ``nn.Parameter``.
        unregistered: where a module keeps it that does not list it; None for nowhere.
        without_effect: what was set to freeze it, without effect; None for nothing.
    """

    name: str
    key: str
    data: NodeData
    is_parameter: bool = False
    unregistered: PlainContainer | None = None
    without_effect: Flag | None = None

    @property
    def group(self) -> Group:
        """Which verdicts apply to it."""
        return Group.NO_GRADIENT if self.data.get("grad") is None else Group.GRADIENT

    @property
    def is_leaf(self) -> bool:
        """Whether it is a leaf that requires grad."""
        return self.data["kind"] in LEAVES


@dataclass(frozen=True, eq=False)
class Context:
    """A graph, and what was recorded.

    Args:
        graph: what autograd had recorded.
        roots: keys of what backward starts from.
        events: what happened before; None when nothing was recorded.
        frames: the moments of the recording.
        before: the graph before the latest backward pass, if that was recorded; of an error, the
            graph of the latest moment after one.
        values: what is known of the values of its tensors.
        kept: the graph of the moment at which most was kept for backward, if that was recorded.
        lost: by the keys of leaves, where their data lost its gradient on the way to the roots;
            also of those that the graph does not show.
        numbers: by the keys of leaves, where their data became numbers or arrays.
        since: by the keys of leaves whose gradient is not finite, the first of the backward passes
            that have left it so since, by its number, and the values before it.
        later: the same at the end of the recording, when that shows other results.
        held: keys of what the optimizers hold that were alive when it was asked.
        is_of_roots: whether it was asked what the roots do for single tensors.
        cache: what rules have worked out for several tensors, by keys of their own.
    """

    graph: GradGraph
    roots: tuple[str, ...]
    events: tuple[Event, ...] | None = None
    frames: tuple[Frame, ...] = ()
    before: GradGraph | None = None
    values: Values | None = None
    kept: GradGraph | None = None
    lost: Mapping[str, Sequence[CutEdge]] = field(default_factory=dict)
    numbers: Mapping[str, Sequence[ValueRead]] = field(default_factory=dict)
    since: Mapping[str, tuple[int, Values]] = field(default_factory=dict)
    later: Context | None = None
    held: frozenset[str] = frozenset()
    is_of_roots: bool = False
    cache: dict[Hashable, Any] = field(default_factory=dict)

    @property
    def is_recorded(self) -> bool:
        """Whether the program was recorded."""
        return self.events is not None

    @cached_property
    def root_names(self) -> str:
        """What the roots are called."""
        names = [
            self.graph.nodes[key].get("name") or word_of(self._maker(key)) for key in self.roots
        ]
        return listed(names)

    def _maker(self, key: str) -> NodeData:
        sources = [source for source, _ in self.graph.inputs(key)]
        data: NodeData = self.graph.nodes[sources[0] if len(sources) == 1 else key]
        return data

    def roots_of(self, graph: GradGraph) -> Sequence[str]:
        """The roots of a graph, looked up once for all tensors that are asked about."""
        key = ("roots", id(graph))  # the graph lives as long as the context
        if key not in self.cache:
            self.cache[key] = graph.roots
        found: Sequence[str] = self.cache[key]
        return found

    @cached_property
    def behind_roots(self) -> frozenset[str]:
        """Everything that a gradient from the roots reaches."""
        return frozenset(ancestors(self.graph, self.roots))

    @cached_property
    def freed(self) -> frozenset[str]:
        """Of these, the operations whose saved tensors a backward pass has freed."""
        nodes = self.graph.nodes
        return frozenset(k for k in self.behind_roots if nodes[k].get("buffers") is Buffers.FREED)

    @cached_property
    def hooked(self) -> frozenset[str]:
        """Of these, those with hooks."""
        return frozenset(k for k in self.behind_roots if self.graph.nodes[k].get("hooks"))

    @cached_property
    def functions(self) -> tuple[str, ...]:
        """Of these, the calls of an ``autograd.Function``, a reentrant checkpoint included.

        What they use besides their inputs is not in the graph. Torch gives numbers to the classes
        of its own operations (``MulBackward0``), and none to those made from a Function.
        """
        nodes = self.graph.nodes
        return tuple(
            key
            for key in self.graph
            if key in self.behind_roots
            and nodes[key].get("grad_fn", "").endswith("Backward")
            and nodes[key]["grad_fn"] not in _WITH_ALL_INPUTS
        )

    @cached_property
    def with_grad(self) -> frozenset[str]:
        """Of these, but for the roots, those with a gradient."""
        others = self.behind_roots.difference(self.roots)
        return frozenset(k for k in others if self.graph.nodes[k].get("grad") is not None)

    @cached_property
    def cuts(self) -> Cuts:
        """Where data that goes to the roots leaves the graph."""
        ends = ancestors(self.graph, self.roots, is_data)
        return Cuts(
            self.graph,
            (
                CutEdge(*edge)
                for edge in self.graph.in_edges(ends, data=True)
                if edge[2]["kind"] is EdgeKind.CUT
            ),
        )

    def is_reachable(self, key: str) -> bool:
        """Whether a gradient from the roots reaches a node."""
        return any(start in self.behind_roots for start in self._starts(key))

    def path(self, key: str) -> set[str]:
        """Everything between a node and the roots, both included; empty if it is not reachable."""
        path = descendants(self.graph, self._starts(key)) & self.behind_roots
        return path | {key} if path else path

    def _starts(self, key: str) -> list[str]:
        """A node, or, for a result, that which used it."""
        if key not in self.graph or self.graph.nodes[key]["kind"] is not NodeKind.RESULT:
            return [key]
        if key in self.roots:
            return [key]
        return [
            user
            for maker, made in self.graph.inputs(key)
            for _, user, edge in self.graph.out_edges(maker, data=True)
            if edge.get("output") == made.get("output") and user != key
        ]

    # Values.

    @cached_property
    def _live_values(self) -> Values:
        return Values(self.graph, is_before=False)

    def values_of_pass(self, question: Question, is_zero: bool = False) -> Values | None:
        """The values that the gradient came through; None when it may have been another graph.

        Zeros that were added up were zeros each, so that the latest pass explains itself.
        """
        if not self.is_recorded:
            return self._live_values
        added = self.happened_to(question.key, EventKind.ACCUMULATE)
        passes = self.happened(EventKind.BACKWARD)
        is_latest = bool(passes and added) and added[-1].number > passes[-1].number
        # A loop has added to it many times; what counts is since it was cleared.
        is_all = len(added) == 1 or question.data.get("accumulations") == 1
        if not is_latest or not (is_all or is_zero) or self.before is None:
            return None
        return self.values if self.values is not None else self._values_before

    @cached_property
    def _values_before(self) -> Values:
        assert self.before is not None
        return Values(self.before)

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

    def with_unreachable(self, questions: Sequence[Question]) -> tuple[Context, list[Question]]:
        """The same, with a node for each tensor asked about that the graph does not have."""
        if all(question.key in self.graph for question in questions):
            return self, list(questions)
        graph: GradGraph = self.graph.copy()
        found = []
        for number, question in enumerate(questions):
            key = question.key or f"n{_UNREACHABLE + number}"
            if key not in graph:
                graph.add_node(key, **{k: v for k, v in question.data.items() if k != "root"})
            found.append(replace(question, key=key))
        return replace(self, graph=graph), found

    # Events.

    def happened(self, kind: EventKind) -> Sequence[Event]:
        """The events of a kind, in order."""
        return self._by_kind.get(kind, ())

    @cached_property
    def kinds(self) -> frozenset[EventKind]:
        """The kinds of the events."""
        return frozenset(self._by_kind)

    def happened_to(self, key: str, kind: EventKind) -> Sequence[Event]:
        """Those about a node; none without a key."""
        return self._by_node.get((key, kind), ()) if key else ()

    @cached_property
    def passes(self) -> Sequence[Event]:
        """The backward passes that add to ``.grad``."""
        passes = self.happened(EventKind.BACKWARD)
        return [event for event in passes if event.action is not Action.AUTOGRAD_GRAD]

    @cached_property
    def pass_of(self) -> Mapping[int, Event]:
        """The same by their numbers; the first one counts."""
        found: dict[int, Event] = {}
        for event in self.passes:
            if isinstance(event.details, BackwardDetails):
                found.setdefault(event.details.pass_number, event)
        return found

    def made_at(self, line: str, key: str) -> Sequence[Event]:
        """The operations on a line and that of a node, in order, the node's own last."""
        known = self._made_at.get((line, key))
        if known is None:
            own = [e for kind in _MADE for e in self.happened_to(key, kind)]
            numbers = {event.number for event in own}
            others = [e for e in self._by_line.get(line, ()) if e.number not in numbers]
            known = self._made_at[line, key] = [*others, *sorted(own, key=lambda e: e.number)]
        return known

    @cached_property
    def _made_at(self) -> dict[tuple[str, str], Sequence[Event]]:
        return {}

    @cached_property
    def _by_line(self) -> Mapping[str, Sequence[Event]]:
        found: dict[str, list[Event]] = {}
        for event in self.events or ():
            if event.kind in _MADE and event.location:
                found.setdefault(str(event.location), []).append(event)
        return found

    @cached_property
    def hides_operations(self) -> bool:
        """Whether something was computed, or changed, that no frame shows."""
        passes = self.happened(EventKind.BACKWARD)
        last = passes[-1].number if passes else 0
        made = (event for kind in _MADE for event in self.happened(kind))
        switched = self.happened(EventKind.REQUIRES_GRAD)
        numbers = [event.number for event in self.events or ()]
        return (
            numbers != list(range(len(numbers)))  # some were too many to keep
            or any(
                not event.nodes and event.word not in _FROM_NOTHING
                for event in made
                if event.number < last
            )
            or any(event.action is Action.REQUIRES_GRAD_ON for event in switched)
        )

    @cached_property
    def _by_kind(self) -> Mapping[EventKind, Sequence[Event]]:
        found: dict[EventKind, list[Event]] = {}
        for event in self.events or ():
            found.setdefault(event.kind, []).append(event)
        return found

    @cached_property
    def _by_node(self) -> Mapping[tuple[str, EventKind], Sequence[Event]]:
        found: dict[tuple[str, EventKind], list[Event]] = {}
        for event in self.events or ():
            for key in event.nodes:
                found.setdefault((key, event.kind), []).append(event)
        return found


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a"])
        ('a, b and c', 'a')
    """
    if len(names) > 4:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
