"""The verdicts, and the answers: one explanation, or one per tensor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from itertools import count
from typing import Any, overload

from gradviz.errors import DamagedFileError, UnknownNameError
from gradviz.facts import SavedVerdict, SourceLocation
from gradviz.graph import (
    LEAVES,
    EdgeKind,
    GradGraph,
    NodeKind,
    ancestors,
    descendants,
    is_data,
    word_of,
)
from gradviz.reports.memory import SavedTable, saved
from gradviz.shown import Shown
from gradviz.story import Frame, Story
from gradviz.views.focus import in_focus
from gradviz.wording import ranks_text

_TOGETHER = 3  # the number of rows with the same reason that are printed as one
_LONG = 12  # operations; a longer path is folded, except near the culprit
_IN_CAPTION = 3  # the number of reasons in the caption of a picture


@dataclass(frozen=True, eq=False)
class Explanation(Shown):
    """Why a gradient is what it is, or what an error means.

    Args:
        verdict: the answer as a code.
        name: the tensor, or the kind of error.
        reason: one sentence.
        fix: what to do, one sentence, with code if possible; "" for nothing.
        nodes: keys of the nodes of the graph that show it.
        locations: lines of the program that show it.
        graph: the graph at that moment.
        culprit: key of the node to mark in it; "" for none.
        kept: the graph at the moment when most bytes were saved for backward; None for ``graph``.
        rule: name of the rule that answered.
        kind: of the tensor; None for an error, or if unknown.
        ranks: the ranks that it holds for.
        cause: equal for tensors that have one cause at several lines; "" for no such cause.

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
    kind: NodeKind | None = field(default=None, repr=False)
    ranks: str = field(default="", repr=False)
    cause: str = field(default="", repr=False)

    @property
    def lines(self) -> tuple[str, ...]:
        """The locations as text: ``train.py:31``."""
        return tuple(map(str, self.locations))

    @property
    def evidence(self) -> tuple[str, ...]:
        """Keys of nodes, and lines as text."""
        return (*self.nodes, *self.lines)

    @cached_property
    def saved(self) -> SavedTable:
        """What the graph saved for backward; of a recording, at the moment when it saved most.

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
        """One frame: the relevant paths, with the subject and the culprit marked."""
        return _story([self], [self], self.graph, f"{self.name}: {self.reason}")

    @property
    def whole_graph(self) -> GradGraph:
        """The whole graph, marked as in the story; for a viewer, which can show the rest."""
        whole: GradGraph = self.graph.copy()
        _mark(whole, [self])
        return whole


@dataclass(frozen=True, eq=False)
class Explanations(Sequence[Explanation], Shown):
    """Several explanations, sorted: errors first, tensors without a fault last.

    Args:
        all: the explanations.

    Example:
        >>> one = Explanation(Verdict.FROZEN, "w", "requires_grad is False")
        >>> two = Explanation(Verdict.FINE, "b", "a gradient, norm 2")
        >>> print(Explanations((one, two)))
        w            no gradient  requires_grad is False
        1 other parameter  fine
    """

    all: tuple[Explanation, ...]

    def __post_init__(self) -> None:
        ranks = {Verdict.UNTRAINED: 1, Verdict.FINE: 2}
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
            UnknownNameError: if there is none; it is a KeyError.
        """
        for each in self.all:
            if each.name == name:
                return each
        names = ", ".join(each.name for each in self)
        raise UnknownNameError(f"nothing is called {name!r}; there are {names}")

    @property
    def wrong(self) -> tuple[Explanation, ...]:
        """The explanations that name a fault: not those of tensors that are fine or not trained."""
        return tuple(each for each in self.all if each.verdict not in _NO_FAULT)

    @property
    def saved(self) -> SavedTable:
        """What the graph saved for backward; of a recording, at the moment when it saved most."""
        return self.all[0].saved if self.all else saved(GradGraph())

    def __str__(self) -> str:
        """A table: name, state, reason; errors come first, and in full."""
        errors = [str(each) for each in self.all if each.verdict.is_error]
        others = [each for each in self.all if not each.verdict.is_error]
        fine = [each for each in others if each.verdict is Verdict.FINE]
        rows = [
            (_names(group), group[0].verdict.state, _reason(group), group[0].fix)
            for group in _groups([each for each in others if each.verdict is not Verdict.FINE])
        ]
        on_ranks = [fine] if fine else []
        if rows or errors:  # of ranks, on some of which they were not found fine
            on_ranks = _groups([replace(each, reason="", cause="") for each in fine], fewest=1)
        for group in on_ranks:
            where = f"{group[0].ranks}: " if group[0].ranks and on_ranks != [fine] else ""
            other = "" if where or not rows else "other "
            rows.append((f"{where}{len(group):,} {other}{_noun(group)}", "fine", "", ""))
        widths = [max((len(row[at]) for row in rows), default=0) for at in (0, 1)]
        table = []
        for at, (name, state, reason, fix) in enumerate(rows):
            table.append(f"{name:{widths[0]}}  {state:{widths[1]}}  {reason}".rstrip())
            if fix and fix not in (row[3] for row in rows[at + 1 : at + 2]):  # once for both
                table.append(f"  fix: {fix}")
        nothing = "nothing to explain: found no tensor that requires grad"
        return "\n".join([*errors, *table]) or nothing

    @cached_property
    def story(self) -> Story:
        """One frame: the relevant paths, with subjects and culprits marked."""
        if not self.all:
            return Story(())
        graph = self.all[0].graph
        here = [each for each in self.wrong if each.graph is graph]
        # Of many equal explanations, only one is drawn.
        drawn = [group[0] for group in _groups(here)]
        named = [each for each in self.all if each.graph is graph]
        return _story(drawn, named, graph, self._caption)

    @property
    def whole_graph(self) -> GradGraph:
        """The whole graph, marked as in the story; for a viewer, which can show the rest."""
        whole: GradGraph = self.all[0].graph.copy() if self.all else GradGraph()
        _mark(whole, [each for each in self.all if each.graph is self.all[0].graph])
        return whole

    @property
    def _caption(self) -> str:
        if not self.wrong:
            return ""
        groups = _groups(self.wrong, fewest=1)
        said = [f"{_names(group)}: {_reason(group)}." for group in groups[:_IN_CAPTION]]
        left = sum(map(len, groups[_IN_CAPTION:]))
        if left:
            said.append(f"{left:,} more of {len(self.all):,} are not fine, for other reasons.")
        return " ".join(said)


def _groups(
    explanations: Sequence[Explanation], fewest: int = _TOGETHER
) -> list[list[Explanation]]:
    """Group rows with the same verdict, cause and ranks, if there are enough of them."""
    found: dict[tuple[Verdict, str, str], list[Explanation]] = {}
    for each in explanations:
        found.setdefault((each.verdict, each.cause or each.reason, each.ranks), []).append(each)
    groups = []
    for group in found.values():
        groups += [group] if len(group) >= fewest else [[each] for each in group]
    return groups


def _noun(explanations: Sequence[Explanation]) -> str:
    """A noun for some tensors: ``"parameters"``, ``"leaf"``, ``"tensors"``."""
    kinds = {each.kind for each in explanations} - {None}
    one, several = "parameter", "parameters"
    if not kinds <= {NodeKind.PARAMETER}:
        is_leaf = kinds <= {NodeKind.PARAMETER, NodeKind.LEAF}
        one, several = ("leaf", "leaves") if is_leaf else ("tensor", "tensors")
    return one if len(explanations) == 1 else several


def _reason(group: Sequence[Explanation]) -> str:
    """The reason of the first row; the others of a group have it too, perhaps at other lines."""
    others = len({each.reason for each in group}) - 1
    more = f", also at {others} other line{'s' if others > 1 else ''}" if others else ""
    return f"{group[0].reason}{more}"


def _names(group: Sequence[Explanation]) -> str:
    first, *others = (each.name for each in group)
    return f"{first} and {len(others):,} more" if others else first


def _story(
    explanations: Sequence[Explanation],
    named: Sequence[Explanation],
    graph: GradGraph,
    caption: str,
) -> Story:
    """The graph with the explained tensors and the culprits marked."""
    if not graph:
        return Story(())
    keys = [key for each in explanations for key in each.nodes if key in graph]
    marks = [each.culprit for each in explanations if each.culprit in graph]
    marked = _relevant_part(graph, keys, marks) if keys or marks else graph.copy()
    for each in explanations:
        if each.verdict is Verdict.CUT and each.nodes:
            _join_to_cut(marked, graph, each.nodes[0], each.culprit)
    _mark(marked, named)
    return Story((Frame("", marked, caption),))


def _mark(marked: GradGraph, named: Sequence[Explanation]) -> None:
    """Write names, states and culprits on the nodes of a graph."""
    for each in reversed(named):  # if several mark the same node, the first has priority
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


def _relevant_part(graph: GradGraph, starts: Sequence[str], marks: Sequence[str]) -> GradGraph:
    """Show the paths from some nodes to the roots, and their inputs."""
    if _operations(graph, graph) <= _LONG:
        return graph.copy()  # type: ignore[no-any-return]
    kept = _paths_of(graph, [*starts, *marks])
    kept |= {key for key in (*starts, *marks, *graph.roots) if key in graph}
    before = ancestors(graph, marks, is_data)
    if _operations(graph, before) <= _LONG:
        kept |= before
    kept |= _inputs(graph, kept)
    part: GradGraph = graph.subgraph([key for key in graph if key in kept]).copy()
    left = len(graph) - len(part)
    if left:
        part = part.with_note(f"only the relevant paths: {left:,} nodes left out")
    if _operations(part, part) > _LONG and (target := next(iter([*marks, *starts]), "")) in part:
        part = in_focus(part, target, word_of(part.nodes[target]))
    return part


def _join_to_cut(part: GradGraph, graph: GradGraph, leaf: str, culprit: str) -> None:
    """Draw a leaf before the cut that ends its path, if the operations between are not shown."""
    if leaf not in part or culprit not in part or part.out_degree(leaf):
        return
    edges = graph.in_edges(culprit, data=True)
    cuts = [data for *_, data in edges if data.get("kind") is EdgeKind.CUT]
    if not cuts:
        return
    taken = {key for key in part if key[:1] == "g"}
    key = next(name for name in map("g{}".format, count()) if name not in taken)
    state = "are not shown" if graph.out_degree(leaf) else "were not kept"
    part.add_node(key, kind=NodeKind.GROUP, op=f"operations that {state}", members=0)
    part.add_edge(leaf, key, 0, kind=EdgeKind.GRADIENT, input=0)
    inputs = [data.get("input", 0) for *_, data in part.in_edges(culprit, data=True)]
    number = 1 + max(inputs, default=-1)
    part.add_edge(key, culprit, number, **{**cuts[0], "input": number})


def _operations(graph: GradGraph, keys: Iterable[str]) -> int:
    return sum(graph.nodes[key]["kind"] is NodeKind.OPERATION for key in keys)


def _paths_of(graph: GradGraph, keys: Iterable[str]) -> set[str]:
    from_there = descendants(graph, keys, is_data)
    paths = from_there & ancestors(graph, graph.roots, is_data)
    return paths or from_there  # no path to a root: all descendants


def _inputs(graph: GradGraph, kept: Iterable[str]) -> set[str]:
    """Leaves and untracked tensors that are inputs of the operations of a path only."""
    found = set()
    for key in kept:
        if graph.nodes[key]["kind"] is not NodeKind.OPERATION:
            continue
        for source, _ in graph.inputs(key):
            kind = graph.nodes[source]["kind"]
            if kind is NodeKind.ACCUMULATE:
                found |= {source, *graph.predecessors(source)}
            elif kind is NodeKind.UNTRACKED or kind in LEAVES:
                found.add(source)
    return found


class Group(str, Enum):
    """The subject of a verdict."""

    NO_GRADIENT = "no gradient"
    """The ``.grad`` is None."""
    GRADIENT = "gradient"
    """The ``.grad`` is a tensor."""
    TRAINING = "training"
    """Whether and how a tensor is trained, with or without a gradient."""
    ERROR = "error"
    """An exception."""


class Verdict(str, Enum):
    """Why a gradient is what it is, or what an error means.

    Example:
        >>> Verdict("cut") is Verdict.CUT, Verdict.CUT.group.value
        (True, 'no gradient')
    """

    group: Group
    """The subject of the verdict."""

    @classmethod
    def _missing_(cls, value: object) -> Verdict | None:
        """The verdict with an old value."""
        if value == "no leaf":
            return cls.NOT_A_LEAF
        return cls.NOT_A_TENSOR if value == "no tensor" else None

    def __new__(cls, value: str, group: Group) -> Verdict:
        """Make a member whose value is only the text."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.group = group
        return member

    NOT_RUN = "backward not run", Group.NO_GRADIENT
    """Connected, but no backward pass has accumulated a gradient."""
    NOT_CONNECTED = "not connected", Group.NO_GRADIENT
    """The tensor is not reachable from the root."""
    CUT = "cut", Group.NO_GRADIENT
    """Data flowed from the tensor to the root, but every gradient path is cut."""
    FROZEN = "frozen", Group.NO_GRADIENT
    """A parameter, or a leaf whose ``requires_grad`` was switched off."""
    UNTRACKED = "does not require grad", Group.NO_GRADIENT
    """A tensor that autograd does not track; the reason was not recorded."""
    INTEGER = "integer dtype", Group.NO_GRADIENT
    """Integers and booleans have no gradient."""
    INFERENCE = "inference tensor", Group.NO_GRADIENT
    """Created under ``inference_mode``."""
    NON_LEAF = "not a leaf", Group.NO_GRADIENT
    """The result of an operation, on which ``retain_grad()`` was not called."""
    CLEARED = "cleared", Group.NO_GRADIENT
    """There was a gradient, but ``zero_grad`` or a similar call has cleared it."""
    LEFT_OUT = "left out", Group.NO_GRADIENT
    """``backward(inputs=...)`` did not list it, ``torch.autograd.grad`` ran instead, or FSDP has
    its gradient in another place."""
    NOT_KNOWN = "cause not recorded", Group.NO_GRADIENT
    """No gradient, and the available facts do not show why."""
    ZERO = "zero", Group.GRADIENT
    """The gradient is all zeros."""
    ACCUMULATED = "accumulated", Group.GRADIENT
    """Several backward passes were accumulated."""
    NAN = "NaN", Group.GRADIENT
    """The gradient has NaN elements."""
    INFINITE = "infinite", Group.GRADIENT
    """The gradient has infinite elements, and no NaN."""
    RESULT_NOT_FINITE = "loss not finite", Group.GRADIENT
    """The gradient is finite, and the result that backward started from is NaN or infinite."""
    EXPLODING = "exploding", Group.GRADIENT
    """Over a thousand times larger than at the parameter next to the root."""
    VANISHING = "vanishing", Group.GRADIENT
    """Over ten thousand times smaller than at the parameter next to the root."""
    HOOK = "hook returned another", Group.GRADIENT
    """A hook replaced the gradient that it received."""
    STALE = "stale", Group.GRADIENT
    """The gradient is not from the latest pass, or older than the values of the tensor."""
    CHANGED_UNSEEN = "changed unseen", Group.GRADIENT
    """A tensor on the path was changed by something that autograd does not record."""
    NOT_AVERAGED = "not averaged", Group.GRADIENT
    """A step used the gradient of this rank alone, despite ``DistributedDataParallel``."""
    SPARSE = "sparse", Group.GRADIENT
    """The gradient is a sparse tensor."""
    OF_ANOTHER = "from another result", Group.GRADIENT
    """Another result, or another rank, gave the gradient: this one does not depend on it."""
    BROADCAST = "broadcast loss", Group.GRADIENT
    """A loss compared each value of the prediction with every one of the target."""
    LOSS_INPUT = "loss input", Group.GRADIENT
    """A loss is given other values than it expects, such as probabilities in place of logits."""
    FINE = "fine", Group.GRADIENT
    """A gradient without a known fault."""

    NOT_TRAINED = "left out of the optimizer", Group.TRAINING
    """It has a gradient, but no optimizer that made a step contains it."""
    NO_STEP = "no step", Group.TRAINING
    """Its optimizer has made no step with its gradient."""
    WRONG_STEP = "wrong step", Group.TRAINING
    """Its optimizer forgets earlier steps, erases its values, or follows a loss upwards."""
    NOT_REGISTERED = "not registered", Group.TRAINING
    """A parameter that the model uses, but that is not among its parameters."""
    MOVED = "frozen but updated", Group.TRAINING
    """``requires_grad`` is False, and an optimizer still changes it."""
    WITHOUT_EFFECT = "attribute without effect", Group.TRAINING
    """An attribute similar to ``requires_grad`` was set, which PyTorch does not read."""
    NOT_IN_A_GRAPH = "in no graph", Group.TRAINING
    """An optimizer contains parameters that no recorded result depends on."""
    NOT_A_COPY = "not a copy", Group.TRAINING
    """An average, a target network or a saved state that is the trained model itself."""
    UNTRAINED = "not trained", Group.TRAINING
    """In no optimizer and without a gradient: of an overview, if others are trained."""
    CLIPPED_LATE = "clipped after the step", Group.TRAINING
    """Its gradient was clipped after the step that used it."""
    CLIPPED_EARLY = "clipped before backward", Group.TRAINING
    """Its gradient was clipped before the backward pass that computed it, and not afterwards."""
    NOT_CLIPPED = "not clipped", Group.TRAINING
    """A step used its gradient after a clipping that was given no gradients."""
    CLIPPED_SCALED = "clipped while scaled", Group.TRAINING
    """Its gradient was clipped before ``GradScaler`` unscaled it."""

    NO_GRAPH = "nothing to differentiate", Group.ERROR
    """An error: the gradient of, or with respect to, a tensor that does not require grad."""
    USED_UP = "backward a second time", Group.ERROR
    """An error: the saved tensors were freed by an earlier backward pass."""
    CHANGED_IN_PLACE = "changed in place", Group.ERROR
    """An error: a saved tensor was changed in place."""
    NOT_SCALAR = "not a scalar", Group.ERROR
    """An error: a tensor with several elements, where backward needs one number."""
    LEAF_CHANGED = "leaf changed in place", Group.ERROR
    """An error: an in-place operation on a leaf that requires grad, or on a view of it."""
    VIEW_CHANGED = "view changed in place", Group.ERROR
    """An error: an in-place operation on one of several views created by one call."""
    INFERENCE_USED = "inference tensor used", Group.ERROR
    """An error: autograd received a tensor created under ``inference_mode``."""
    NOT_USED = "input not used", Group.ERROR
    """An error: an input of ``torch.autograd.grad`` that the output does not depend on."""
    UNUSED_PARAMETERS = "unused parameters", Group.ERROR
    """An error: ``DistributedDataParallel`` waits for gradients of unused parameters."""
    WRONG_BACKWARD = "wrong backward", Group.ERROR
    """An error: a custom ``backward`` returned gradients that do not match its forward."""
    NAN_RETURNED = "NaN in backward", Group.ERROR
    """An error: anomaly mode found NaN in the gradients that an operation returned."""
    NOT_FLOATING = "not floating point", Group.ERROR
    """An error: ``requires_grad`` was set on integers."""
    NOT_A_LEAF = "leaf required", Group.ERROR
    """An error: an operation that only a leaf supports, on a non-leaf tensor."""
    NUMPY = "numpy", Group.ERROR
    """An error: ``numpy()`` of a tensor that requires grad."""
    WRONG_GRADIENT = "wrong gradient", Group.ERROR
    """An error: a gradient passed to backward, returned by a hook or assigned does not match, or
    is not finite: ``clip_grad_norm_`` found that, or a function that got the updated values."""
    NOT_A_TENSOR = "not a tensor", Group.ERROR
    """An error: a number, an array or None, where a tensor is needed."""
    OPTIMIZER = "optimizer refused", Group.ERROR
    """An error: an optimizer received no parameters, or objects that it cannot update."""
    NO_DERIVATIVE = "no derivative", Group.ERROR
    """An error: an operation that cannot be differentiated, or not twice."""
    CHECKPOINT = "checkpoint", Group.ERROR
    """An error: the recomputation of a checkpoint differs, or is not supported."""
    DISTRIBUTED = "distributed", Group.ERROR
    """An error: the processes of a group, or ``DistributedDataParallel``, do not agree."""
    BACKWARD_RAISED = "backward raised", Group.ERROR
    """An error: a backward pass raised an error that has no other verdict."""
    OTHER_ERROR = "another error", Group.ERROR
    """An error that has no other verdict."""

    @property
    def state(self) -> str:
        """The state of the tensor in a table: ``no gradient``, ``zero``, ``error``, ...

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


_NO_FAULT = (Verdict.FINE, Verdict.UNTRAINED)


def saved_explanations(story: Story) -> Explanations | None:
    """The explanations that were saved with a story; None if there are none.

    Example:
        >>> from gradviz.facts import SavedVerdict
        >>> saved = SavedVerdict("frozen", "w", "requires_grad is False")
        >>> print(saved_explanations(Story(verdicts=[saved])))
        w  no gradient  requires_grad is False
    """
    if story.verdicts is None:
        return None
    nothing, found = GradGraph(), []
    for e in story.verdicts:
        ranks = ranks_text(e.ranks) if e.ranks else e.name
        name = e.name if e.name == ranks else f"{ranks}: {e.name}"  # a rank itself has its own
        graph = story[e.frame].graph if 0 <= e.frame < len(story) else nothing
        said = (_verdict(e.verdict), name, e.reason, e.fix, e.nodes, e.locations)
        more: Any = {"rule": e.rule, "kind": e.kind, "ranks": ranks if e.ranks else ""}
        found.append(Explanation(*said, graph, e.culprit, **more))
    return Explanations(tuple(found))


def with_explanations(
    story: Story, answers: Explanation | Explanations, is_own: bool = False
) -> Story:
    """A story with explanations, which `saved_explanations` returns.

    Args:
        story: the frames.
        answers: what is said of them.
        is_own: whether its only frame is that of the answers.
    """
    rows = [answers] if isinstance(answers, Explanation) else answers
    frames, verdicts = {id(frame.graph): number for number, frame in enumerate(story)}, []
    for e in rows:
        said = (e.verdict.value, e.name, e.reason, e.fix, e.nodes, e.locations, e.culprit)
        frame = frames.get(id(e.graph), 0 if is_own else -1)
        verdicts.append(SavedVerdict(*said, frame, e.rule, e.kind))
    return replace(story, verdicts=tuple(verdicts))


def _verdict(value: str) -> Verdict:
    found = next((each for each in Verdict if each.value == value), None)
    if found is None:
        raise DamagedFileError(f"the verdict {value!r} is not one of this version of gradviz")
    return found
