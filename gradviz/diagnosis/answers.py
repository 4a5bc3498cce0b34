"""The answers: one explanation, or one for each parameter; as data, as text and to be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

from gradviz.diagnosis.focus import part_about
from gradviz.diagnosis.verdict import Verdict
from gradviz.facts import SourceLocation
from gradviz.graph import GradGraph
from gradviz.reports.memory import SavedTable, saved
from gradviz.shown import Shown
from gradviz.story import Frame, Story

__all__ = ["Explanation", "Explanations"]

_TOGETHER = 3  # from this number on, rows with the same reason become one
_IN_CAPTION = 2  # reasons that the caption of a picture has room for


@dataclass(frozen=True, eq=False)
class Explanation(Shown):
    """Why a gradient is what it is, or what an error means.

    Args:
        verdict: the answer in a word.
        name: the tensor, or the kind of error.
        reason: one sentence.
        fix: what to do, one sentence, with a line of code where there is one; "" for nothing.
        nodes: where to look in the graph: keys of nodes.
        locations: where to look in the program: lines.
        graph: what was recorded at that moment.
        culprit: key of the node to mark in it; "" for none.
        kept: the graph at the moment when it kept most for backward; None for ``graph``.
        rule: name of the rule that answered.

    Example:
        >>> print(Explanation(Verdict.NOT_CONNECTED, "w", "not used by loss", fix="use it"))
        w: no gradient (not connected)
          not used by loss
          fix: use it
    """

    verdict: Verdict
    name: str
    reason: str
    fix: str = ""
    nodes: tuple[str, ...] = ()
    locations: tuple[SourceLocation, ...] = ()
    graph: GradGraph = field(default_factory=GradGraph, repr=False)
    culprit: str = field(default="", repr=False)
    kept: GradGraph | None = field(default=None, repr=False)
    rule: str = field(default="", repr=False)

    @property
    def lines(self) -> tuple[str, ...]:
        """The locations as text: ``train.py:31``."""
        return tuple(map(str, self.locations))

    @property
    def evidence(self) -> tuple[str, ...]:
        """Where to look: keys of nodes, and lines as text."""
        return (*self.nodes, *self.lines)

    @cached_property
    def saved(self) -> SavedTable:
        """What the graph keeps in memory for backward; of a recording, when it kept most.

        Example:
            >>> print(Explanation(Verdict.FINE, "w", "a gradient").saved)
            nothing is kept for backward
        """
        return saved(self.graph if self.kept is None else self.kept)

    def __str__(self) -> str:
        word, state = self.verdict.value, self.verdict.state
        named = state if state == word else f"{state} ({word})"
        said = [f"{self.name}: {named}", f"  {self.reason}"]
        return "\n".join([*said, f"  fix: {self.fix}"] if self.fix else said)

    @cached_property
    def story(self) -> Story:
        """One frame: the path in question, with the subject and the culprit marked."""
        return _story([self], [self], self.graph, f"{self.name}: {self.reason}")


@dataclass(frozen=True, eq=False)
class Explanations(Sequence[Explanation], Shown):
    """Several explanations, those of errors first, those of what is fine last.

    Args:
        all: the explanations.

    Example:
        >>> one = Explanation(Verdict.FROZEN, "w", "requires_grad is False")
        >>> two = Explanation(Verdict.FINE, "b", "a gradient, norm 2")
        >>> print(Explanations((one, two)))
        w            no gradient  requires_grad is False
        1 parameter  fine
    """

    all: tuple[Explanation, ...]

    def __post_init__(self) -> None:
        ranks = {Verdict.FINE: 1}
        ordered = sorted(self.all, key=lambda each: ranks.get(each.verdict, 0))
        ordered.sort(key=lambda each: not each.verdict.is_error)
        object.__setattr__(self, "all", tuple(ordered))

    @overload
    def __getitem__(self, index: int) -> Explanation: ...
    @overload
    def __getitem__(self, index: slice) -> Explanations: ...
    def __getitem__(self, index: int | slice) -> Explanation | Explanations:
        return Explanations(self.all[index]) if isinstance(index, slice) else self.all[index]

    def __len__(self) -> int:
        return len(self.all)

    def of(self, name: str) -> Explanation:
        """The explanation of the tensor called ``name``.

        Raises:
            KeyError: if there is none.
        """
        for each in self.all:
            if each.name == name:
                return each
        raise KeyError(f"nothing is called {name!r}; there are {', '.join(e.name for e in self)}")

    @property
    def wrong(self) -> tuple[Explanation, ...]:
        """Those that are not fine."""
        return tuple(each for each in self.all if each.verdict is not Verdict.FINE)

    @property
    def saved(self) -> SavedTable:
        """What the graph keeps in memory for backward; of a recording, when it kept most."""
        return self.all[0].saved if self.all else saved(GradGraph())

    def __str__(self) -> str:
        """A table: name, state, reason; errors come first, and in full."""
        errors = [str(each) for each in self.all if each.verdict.is_error]
        rows = [
            (_names(group), group[0].verdict.state, group[0].reason)
            for group in _groups([each for each in self.wrong if not each.verdict.is_error])
        ]
        fine = len(self.all) - len(self.wrong)
        if fine:
            other = "other " if rows else ""
            other = "" if fine == 1 and len(rows) == 1 else other
            rows.append((f"{fine:,} {other}parameter{'s' * (fine != 1)}", "fine", ""))
        widths = [max((len(row[at]) for row in rows), default=0) for at in (0, 1)]
        table = [f"{a:{widths[0]}}  {b:{widths[1]}}  {c}".rstrip() for a, b, c in rows]
        return "\n".join([*errors, *table]) or "nothing to explain: no tensor here requires grad"

    @cached_property
    def story(self) -> Story:
        """One frame: the paths in question, with subjects and culprits marked."""
        if not self.all:
            return Story(())
        graph = self.all[0].graph
        here = [each for each in self.wrong if each.graph is graph]
        # Of many that say the same, one is drawn for all.
        drawn = [group[0] for group in _groups(here)]
        named = [each for each in self.all if each.graph is graph]
        return _story(drawn, named, graph, self._caption)

    @property
    def _caption(self) -> str:
        if not self.wrong:
            return ""
        groups = _groups(self.wrong)
        if len(groups) <= _IN_CAPTION:
            return " ".join(f"{_names(group)}: {group[0].reason}." for group in groups)
        counts: dict[str, int] = {}
        for each in self.wrong:
            counts[each.verdict.value] = counts.get(each.verdict.value, 0) + 1
        said = ", ".join(f"{count:,} {word}" for word, count in counts.items())
        return f"{len(self.wrong):,} of {len(self.all):,}: {said}"


def _groups(explanations: Sequence[Explanation]) -> list[list[Explanation]]:
    """Rows that say the same, together, when they are many."""
    found: dict[tuple[Verdict, str], list[Explanation]] = {}
    for each in explanations:
        found.setdefault((each.verdict, each.reason), []).append(each)
    groups = []
    for group in found.values():
        groups += [group] if len(group) >= _TOGETHER else [[each] for each in group]
    return groups


def _names(group: Sequence[Explanation]) -> str:
    first, *others = (each.name for each in group)
    return f"{first} and {len(others):,} more" if others else first


def _story(
    explanations: Sequence[Explanation],
    named: Sequence[Explanation],
    graph: GradGraph,
    caption: str,
) -> Story:
    """The graph with the tensors that were asked about, and the culprits, marked.

    Args:
        explanations: those whose paths are drawn.
        named: all that were asked for, which are called in the picture as in the answer.
        graph: that of all of them.
        caption: under the picture.
    """
    if not graph:
        return Story(())
    keys = [key for each in explanations for key in each.nodes if key in graph]
    marks = [each.culprit for each in explanations if each.culprit in graph]
    marked = part_about(graph, keys, marks) if keys or marks else graph.copy()
    for each in reversed(named):  # where several mark one node, the first counts
        subject = next(iter(each.nodes), "")
        if subject in marked and "name" in marked.nodes[subject]:
            marked.nodes[subject]["name"] = each.name
        if each.verdict is Verdict.FINE:
            continue
        if subject in marked:
            marked.nodes[subject]["verdict"] = each.verdict.state
        if each.culprit in marked:
            marked.nodes[each.culprit]["verdict"] = each.verdict.value
    return Story((Frame("", marked, caption),))
