"""A rule of `explain`: when it holds, what it found, and the sentences made from that.

Rules stand in one ordered list (`gradviz.diagnosis.registry`) and are tried in that order until
one answers. The list is the documentation: ``print(gradviz.diagnosis.describe())`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from gradviz.diagnosis.answers import Explanation, Group, Verdict
from gradviz.diagnosis.context import Context
from gradviz.facts import EventKind, SourceLocation

__all__ = ["Evidence", "Needs", "Rule", "RuleSubject", "explanation_of", "first_answer"]


class RuleSubject(Protocol):
    """What is to be explained: a tensor (`Question`) or an error."""

    @property
    def name(self) -> str:
        """What to call it: ``"fc.weight"``, ``"RuntimeError"``."""

    @property
    def key(self) -> str:
        """Its node in the graph; "" for none."""

    @property
    def group(self) -> Group:
        """Which verdicts apply: to a missing gradient, to a gradient, or to an error."""


class Needs(str, Enum):
    """What a rule reads; without it the rule is not tried."""

    GRAPH = "the graph"
    """The graph alone: it also answers when nothing was recorded."""
    RECORDING = "a recording"
    """The events of a recording."""
    ERROR = "an error"
    """The text of an exception, and what is known of the moment when it was raised."""


@dataclass(frozen=True)
class Evidence:
    """What a rule found. A rule that needs other facts for its sentences makes a subclass.

    Args:
        words: values that the sentences of the rule name, by the name in ``{}``.
        nodes: keys of the nodes that show it.
        locations: lines of the program that show it.
        culprit: key of the node to mark; "" for that of the subject.
    """

    words: Mapping[str, object] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()
    locations: tuple[SourceLocation, ...] = ()
    culprit: str = ""


S = TypeVar("S", bound=RuleSubject)
E = TypeVar("E", bound=Evidence)
Sentence = str | Callable[[E], str]


@dataclass(frozen=True)
class Rule(Generic[S, E]):
    """One verdict, and when it is given.

    Args:
        name: what holds when it answers, in a few words: ``"zero_grad took the gradient away"``.
        verdict: the code of the answer. Its group says to which subjects the rule applies.
        match: the evidence; None when the rule does not hold.
        reason: one sentence; a text is filled in from ``evidence.words`` (`str.format`).
        fix: what to do, likewise; "" for nothing.
        needs: what it reads.
        events: kinds of events of which at least one must have been recorded; () for no condition.
        docs: a sentence for the reference: what the rule looks at, and when it stays silent.
    """

    name: str
    verdict: Verdict
    match: Callable[[Context, S], E | None]
    reason: Sentence[E]
    fix: Sentence[E] = ""
    needs: Needs = Needs.GRAPH
    events: tuple[EventKind, ...] = ()
    docs: str = ""

    def is_applicable(self, context: Context, subject: RuleSubject) -> bool:
        """Whether the rule is to be tried: all that it needs is there."""
        if self.needs is Needs.RECORDING and context.events is None:
            return False
        return not self.events or not context.kinds.isdisjoint(self.events)


def first_answer(
    rules: Iterable[Rule[Any, Any]], context: Context, subject: RuleSubject
) -> Explanation | None:
    """Try rules in order until one answers; None if none does."""
    for rule in rules:
        if rule.is_applicable(context, subject):
            evidence = rule.match(context, subject)
            if evidence is not None:
                return explanation_of(rule, evidence, context, subject)
    return None


def explanation_of(
    rule: Rule[Any, Any], evidence: Evidence, context: Context, subject: RuleSubject
) -> Explanation:
    """Put what a rule found into words."""
    nodes = [key for key in (subject.key, *evidence.nodes) if key in context.graph]
    culprit = evidence.culprit or subject.key
    return Explanation(
        rule.verdict,
        subject.name,
        _said(rule.reason, evidence),
        fix=_said(rule.fix, evidence),
        nodes=tuple(dict.fromkeys(nodes)),
        locations=tuple(dict.fromkeys(filter(None, evidence.locations))),
        graph=context.graph,
        culprit=culprit if culprit in context.graph else "",
        kept=context.kept,
        rule=rule.name,
    )


def _said(sentence: str | Callable[[Any], str], evidence: Evidence) -> str:
    return sentence.format(**evidence.words) if isinstance(sentence, str) else sentence(evidence)
