"""What rules read: the graph at one moment, and what was recorded before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.lines import locations_of
from gradviz.diagnosis.verdict import Group, Verdict
from gradviz.diagnosis.ways import CutEdge, Cuts, above, below, is_data, word_of
from gradviz.graph import Buffers, Cause, EdgeKind, GradGraph, NodeData, NodeKind
from gradviz.graph.operations import operation
from gradviz.story import Event, EventKind

__all__ = ["Context", "Question", "listed"]

_STRANGERS = 1_000_000  # keys from here on are no node's in any frame


_MADE = (EventKind.OPERATION, EventKind.IN_PLACE)


@dataclass(frozen=True, eq=False)
class Question:
    """A tensor whose gradient is to be explained.

    Args:
        name: what to call it.
        key: its node in the graph, or, when a recording knows it, in others; "" if in none.
        data: what is known of it.
        is_parameter: whether it is an ``nn.Parameter``.
    """

    name: str
    key: str
    data: NodeData
    is_parameter: bool = False

    @property
    def group(self) -> Group:
        """Which verdicts apply to it."""
        return Group.NO_GRADIENT if self.data.get("grad") is None else Group.GRADIENT


@dataclass(frozen=True, eq=False)
class Context:
    """A graph, and what was recorded.

    Args:
        graph: what autograd had recorded.
        roots: keys of what backward starts from.
        events: what happened before; None when nobody watched.
        before: the graph before the latest backward pass, if that was recorded; of an error, the
            graph of the last moment after one.
        kept: the graph of the moment at which most was kept for backward, if that was recorded.
        lost: by the keys of leaves, where their data lost its gradient on the way to the roots;
            also of those that the graph does not show.
        since: by the keys of leaves whose gradient is not finite, the first of the backward passes
            that have left it so since, by its number, and the graph before it.
    """

    graph: GradGraph
    roots: tuple[str, ...]
    events: tuple[Event, ...] | None = None
    before: GradGraph | None = None
    kept: GradGraph | None = None
    lost: Mapping[str, Sequence[CutEdge]] = field(default_factory=dict)
    since: Mapping[str, tuple[int, GradGraph]] = field(default_factory=dict)

    @property
    def is_recorded(self) -> bool:
        """Whether somebody watched."""
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

    @cached_property
    def below_roots(self) -> frozenset[str]:
        """Everything that a gradient from the roots comes to."""
        return frozenset(below(self.graph, self.roots))

    @cached_property
    def freed(self) -> frozenset[str]:
        """Of these, the operations whose saved tensors a backward pass has freed."""
        nodes = self.graph.nodes
        return frozenset(k for k in self.below_roots if nodes[k].get("buffers") is Buffers.FREED)

    @cached_property
    def hooked(self) -> frozenset[str]:
        """Of these, what has hooks."""
        return frozenset(k for k in self.below_roots if self.graph.nodes[k].get("hooks"))

    @cached_property
    def with_grad(self) -> frozenset[str]:
        """Of these, but for the roots, what has a gradient."""
        others = self.below_roots.difference(self.roots)
        return frozenset(k for k in others if self.graph.nodes[k].get("grad") is not None)

    @cached_property
    def cuts(self) -> Cuts:
        """Where data that goes to the roots leaves the graph."""
        ends = below(self.graph, self.roots, is_data)
        return Cuts(
            self.graph,
            (
                CutEdge(*edge)
                for edge in self.graph.in_edges(ends, data=True)
                if edge[2]["kind"] is EdgeKind.CUT
            ),
        )

    @cached_property
    def exits(self) -> Cuts:
        """Where data becomes numbers or an array, from which nothing can be followed."""
        return Cuts(
            self.graph,
            (
                CutEdge(*edge)
                for edge in self.graph.edges(data=True)
                if edge[2].get("cause") in (Cause.ITEM, Cause.NUMPY)
            ),
        )

    def has_way(self, key: str) -> bool:
        """Whether a gradient from the roots comes to a node."""
        return any(start in self.below_roots for start in self._starts(key))

    def way(self, key: str) -> set[str]:
        """Everything between a node and the roots, both included; empty if there is no way."""
        way = above(self.graph, self._starts(key)) & self.below_roots
        return way | {key} if way else way

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

    def answer(
        self,
        question: Question,
        verdict: Verdict,
        reason: str,
        fix: str = "",
        evidence: Sequence[str] = (),
        culprit: str = "",
    ) -> Explanation:
        """The explanation of a tensor, with its own node among the evidence.

        Without another culprit it is marked itself.
        """
        culprit = culprit or question.key
        nodes = tuple(dict.fromkeys(k for k in (question.key, *evidence) if k in self.graph))
        return Explanation(
            verdict,
            question.name,
            reason,
            fix,
            nodes,
            locations_of(e for e in evidence if e not in self.graph),
            self.graph,
            culprit if culprit in self.graph else "",
            self.kept,
        )

    def with_strangers(self, questions: Sequence[Question]) -> tuple[Context, list[Question]]:
        """The same, with a node for each tensor asked about that the graph does not have."""
        if all(question.key in self.graph for question in questions):
            return self, list(questions)
        graph: GradGraph = self.graph.copy()
        found = []
        for number, question in enumerate(questions):
            key = question.key or f"n{_STRANGERS + number}"
            if key not in graph:
                graph.add_node(key, **{k: v for k, v in question.data.items() if k != "root"})
            found.append(replace(question, key=key))
        return replace(self, graph=graph), found

    def happened(self, kind: EventKind) -> Sequence[Event]:
        """The events of a kind, in order."""
        return self._by_kind.get(kind, ())

    def happened_to(self, key: str, kind: EventKind) -> Sequence[Event]:
        """Those of a node; none without a key."""
        return self._by_node.get((key, kind), ()) if key else ()

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
            if event.kind in _MADE and event.source:
                found.setdefault(event.source, []).append(event)
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
                not event.node and not operation(event.word).from_nothing
                for event in made
                if event.number < last
            )
            or any(event.detail.startswith("on") for event in switched)
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
            found.setdefault((event.node, event.kind), []).append(event)
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
