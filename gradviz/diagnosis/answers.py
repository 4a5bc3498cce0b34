"""The verdicts, and the answers: one explanation, or one for each parameter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from typing import overload

from gradviz.diagnosis.paths import part_about
from gradviz.facts import SourceLocation
from gradviz.graph import GradGraph
from gradviz.reports.memory import SavedTable, saved
from gradviz.shown import Shown
from gradviz.story import Frame, Story

__all__ = ["Explanation", "Explanations", "Group", "Verdict"]

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
            (_names(group), group[0].verdict.state, group[0].reason, group[0].fix)
            for group in _groups([each for each in self.wrong if not each.verdict.is_error])
        ]
        fine = len(self.all) - len(self.wrong)
        if fine:
            other = "other " if rows else ""
            other = "" if fine == 1 and len(rows) == 1 else other
            rows.append((f"{fine:,} {other}parameter{'s' * (fine != 1)}", "fine", "", ""))
        widths = [max((len(row[at]) for row in rows), default=0) for at in (0, 1)]
        table = []
        for at, (name, state, reason, fix) in enumerate(rows):
            table.append(f"{name:{widths[0]}}  {state:{widths[1]}}  {reason}".rstrip())
            if fix and fix not in (row[3] for row in rows[at + 1 : at + 2]):  # once for both
                table.append(f"  fix: {fix}")
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
            if subject in marked and len(named) == 1:
                marked.nodes[subject]["asked"] = True
            continue
        if subject in marked:
            marked.nodes[subject]["verdict"] = each.verdict.state
        if each.culprit in marked:
            marked.nodes[each.culprit]["verdict"] = each.verdict.value
    return Story((Frame("", marked, caption),))


class Group(str, Enum):
    """What a verdict is about."""

    NO_GRADIENT = "no gradient"
    """The ``.grad`` is None."""
    GRADIENT = "gradient"
    """The ``.grad`` is a tensor."""
    TRAINING = "training"
    """How a tensor is trained, whether or not it has a gradient."""
    ERROR = "error"
    """An exception."""


class Verdict(str, Enum):
    """Why a gradient is what it is, or what an error means.

    Example:
        >>> Verdict("cut") is Verdict.CUT, Verdict.CUT.group.value
        (True, 'no gradient')
    """

    group: Group
    """What it is about."""

    def __new__(cls, value: str, group: Group) -> Verdict:
        """Make a member whose value is the text alone."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.group = group
        return member

    NOT_RUN = "backward not run", Group.NO_GRADIENT
    """Connected, and no backward pass has added anything."""
    NOT_CONNECTED = "not connected", Group.NO_GRADIENT
    """No way for a gradient leads to it from the root."""
    CUT = "cut", Group.NO_GRADIENT
    """Data flowed from it to the root, but every way back is cut."""
    FROZEN = "frozen", Group.NO_GRADIENT
    """A parameter, or a leaf whose ``requires_grad`` was switched off."""
    UNTRACKED = "does not require grad", Group.NO_GRADIENT
    """A tensor that autograd does not follow, for a reason that was not recorded."""
    INTEGER = "integer dtype", Group.NO_GRADIENT
    """Integers and booleans have no gradient."""
    INFERENCE = "inference tensor", Group.NO_GRADIENT
    """Made under ``inference_mode``."""
    NON_LEAF = "not a leaf", Group.NO_GRADIENT
    """The result of an operation, on which ``retain_grad()`` was not called."""
    CLEARED = "cleared", Group.NO_GRADIENT
    """There was a gradient, and ``zero_grad`` or the like has taken it away."""
    LEFT_OUT = "left out", Group.NO_GRADIENT
    """``backward(inputs=...)`` did not list it, or ``torch.autograd.grad`` ran instead."""
    NOT_KNOWN = "cause not recorded", Group.NO_GRADIENT
    """No gradient, and what is left of the program does not tell why."""
    ZERO = "zero", Group.GRADIENT
    """The gradient is all zeros."""
    ACCUMULATED = "accumulated", Group.GRADIENT
    """Several backward passes have been added up."""
    NAN = "NaN", Group.GRADIENT
    """The gradient has NaN elements."""
    INFINITE = "infinite", Group.GRADIENT
    """The gradient has infinite elements, and no NaN."""
    RESULT_NOT_FINITE = "loss not finite", Group.GRADIENT
    """The gradient is finite, and the result that backward started from is NaN or infinite."""
    EXPLODING = "exploding", Group.GRADIENT
    """Over a thousand times larger than at the parameter next to the root."""
    VANISHING = "vanishing", Group.GRADIENT
    """Over a thousand times smaller than at the parameter next to the root."""
    HOOK = "hook returned another", Group.GRADIENT
    """A hook put another gradient in place of the one that came to it."""
    STALE = "stale", Group.GRADIENT
    """The gradient is older than the values of the tensor, and will not be used for them."""
    SPARSE = "sparse", Group.GRADIENT
    """The gradient is a sparse tensor."""
    OF_ANOTHER = "from another result", Group.GRADIENT
    """The result that was asked about does not depend on it: another one gave the gradient."""
    FINE = "fine", Group.GRADIENT
    """A gradient as it should be."""

    NOT_TRAINED = "left out of the optimizer", Group.TRAINING
    """It has a gradient, and no optimizer that stepped holds it."""
    NOT_REGISTERED = "not registered", Group.TRAINING
    """A parameter that the model uses, and does not list among its parameters."""
    MOVED = "frozen but updated", Group.TRAINING
    """``requires_grad`` is False, and an optimizer still changes it."""
    WITHOUT_EFFECT = "attribute without effect", Group.TRAINING
    """An attribute like ``requires_grad`` was set that nothing reads."""
    NOT_IN_A_GRAPH = "in no graph", Group.TRAINING
    """An optimizer holds parameters that no recorded result depends on."""
    CLIPPED_SCALED = "clipped while scaled", Group.TRAINING
    """Its gradient was clipped before ``GradScaler`` unscaled it."""

    NO_GRAPH = "nothing to differentiate", Group.ERROR
    """An error: a gradient was asked for from, or of, a tensor that does not require grad."""
    USED_UP = "backward a second time", Group.ERROR
    """An error: the saved tensors were freed by an earlier backward pass."""
    CHANGED_IN_PLACE = "changed in place", Group.ERROR
    """An error: a saved tensor has been changed since."""
    NOT_SCALAR = "not a scalar", Group.ERROR
    """An error: one number is needed, as backward needs it, and there are several."""
    LEAF_CHANGED = "leaf changed in place", Group.ERROR
    """An error: an in-place operation on a leaf that requires grad, or on a view of it."""
    VIEW_CHANGED = "view changed in place", Group.ERROR
    """An error: an in-place operation on one of several views that came from one call."""
    INFERENCE_USED = "inference tensor used", Group.ERROR
    """An error: autograd was given a tensor made under ``inference_mode``."""
    NOT_USED = "input not used", Group.ERROR
    """An error: ``torch.autograd.grad`` was asked for an input that the output has not."""
    UNUSED_PARAMETERS = "unused parameters", Group.ERROR
    """An error: ``DistributedDataParallel`` waits for gradients that never come."""
    WRONG_BACKWARD = "wrong backward", Group.ERROR
    """An error: a custom ``backward`` returned what does not fit its forward."""
    NAN_RETURNED = "NaN in backward", Group.ERROR
    """An error: anomaly mode found NaN in what the backward of an operation returned."""
    NOT_FLOATING = "not floating point", Group.ERROR
    """An error: ``requires_grad`` was asked of integers."""
    NOT_A_LEAF = "no leaf", Group.ERROR
    """An error: something that only a leaf can do was asked of the result of an operation."""
    NUMPY = "numpy", Group.ERROR
    """An error: ``numpy()`` of a tensor that requires grad."""
    WRONG_GRADIENT = "wrong gradient", Group.ERROR
    """An error: a gradient given to backward, returned by a hook or assigned does not fit."""
    NOT_A_TENSOR = "no tensor", Group.ERROR
    """An error: a number, an array or None stands where a tensor is needed."""
    OPTIMIZER = "optimizer refused", Group.ERROR
    """An error: an optimizer was given no parameters, or something that it cannot update."""
    NO_DERIVATIVE = "no derivative", Group.ERROR
    """An error: an operation that cannot be differentiated, or not once more."""
    CHECKPOINT = "checkpoint", Group.ERROR
    """An error: a checkpoint that cannot be computed again as it was, or not in this way."""
    DISTRIBUTED = "distributed", Group.ERROR
    """An error: several processes, or ``DistributedDataParallel``, do not fit together."""
    BACKWARD_RAISED = "backward raised", Group.ERROR
    """An error: a backward pass raised something that no other verdict is about."""
    OTHER_ERROR = "another error", Group.ERROR
    """An error that has to do with none of the above."""

    @property
    def state(self) -> str:
        """What a table says of it: ``no gradient``, ``zero``, ``error``, ...

        Example:
            >>> Verdict.CUT.state, Verdict.ZERO.state, Verdict.NOT_SCALAR.state
            ('no gradient', 'zero', 'error')
        """
        is_its_own = self.group in (Group.GRADIENT, Group.TRAINING)
        return str(self.value if is_its_own else self.group.value)

    @property
    def anchor(self) -> str:
        """The name of its section in the docs, and of its example: ``docs/verdicts/cut.py``.

        Example:
            >>> Verdict.CUT.anchor, Verdict.NOT_RUN.anchor
            ('cut', 'backward-not-run')
        """
        return str(self.value).lower().replace(" ", "-")

    @property
    def is_error(self) -> bool:
        """Whether it is about an exception."""
        return self.group is Group.ERROR
