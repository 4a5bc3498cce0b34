"""The cuts between a tensor and a result: their order, their words and their fixes."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from functools import cached_property
from itertools import takewhile
from math import inf
from typing import NamedTuple

from gradviz.diagnosis.context import MADE, Context, Question
from gradviz.diagnosis.lines import (
    as_written,
    called_name,
    called_on,
    has_line,
    lines_with_graph,
    locations_of,
    mention,
    nodes_in,
    one_of_several,
    statements_around,
    straight_through,
    syntax_tree,
)
from gradviz.diagnosis.losses import is_only_added
from gradviz.diagnosis.rule import leads_to_an_index, smooth_form
from gradviz.facts import Action, CutEdge, EventKind, FrameKind, SourceLocation
from gradviz.graph import (
    LEAVES,
    Cause,
    EdgeData,
    GradGraph,
    NodeData,
    NodeKind,
    descendants,
    is_data,
    word_of,
)
from gradviz.graph.operations import operation, twin_of
from gradviz.graph.text import as_code
from gradviz.story import Event

FIX_OF_CAUSE = {
    Cause.DETACH: "leave out the detach()",
    Cause.NO_GRAD: "compute it outside of torch.no_grad(), or under torch.enable_grad()",
    Cause.INFERENCE_MODE: "compute it outside of torch.inference_mode()",
    Cause.DATA: "use the tensor itself instead of .data",
    Cause.ITEM: "keep it a tensor: leave out item(), float() or tolist(); several become one by "
    "torch.stack",
    Cause.NUMPY: "compute it with torch instead of numpy",
    Cause.COPY: "use the tensor itself, or torch.stack for several, instead of torch.tensor",
    Cause.REQUIRES_GRAD: "switch it on again before the forward pass: requires_grad_(True)",
    Cause.AUTOGRAD_GRAD: "pass create_graph=True to it",
    Cause.CUSTOM_FUNCTION: "let an input of it require grad: x.requires_grad_(); for a checkpoint, "
    "checkpoint(..., use_reentrant=False)",
    Cause.VALUES_COPIED: "compute with the tensor itself; a module takes it as a parameter by "
    "torch.func.functional_call(module, {name: tensor}, inputs); or optimize the copy",
    Cause.NOT_DIFFERENTIABLE: "use an operation that has a gradient, such as a soft version of it",
}
_GRID = "scale a constant grid: start + (end - start) * torch.linspace(0, 1, steps)"
FIX_OF_WORD = {
    "_values": "use values() of a coalesced tensor, which has a gradient",
    **dict.fromkeys(("arange", "linspace"), _GRID),
    "nonzero": "multiply by the values at these indices: the indices have no gradient",
    "full": "multiply by it: x * torch.ones(size)",
    "interpolate": "sample by grid_sample() on a grid of affine_grid(theta, size), which has one",
    "logspace": f"{_GRID}, as an exponent of the base",
    "multinomial": "draw by gumbel_softmax(logits, hard=True), or weight log_prob() of the sample",
}
_WORD_OF_CAUSE = {
    Cause.DETACH: "detach()",
    Cause.NO_GRAD: "no_grad",
    Cause.INFERENCE_MODE: "inference_mode",
    Cause.DATA: ".data",
    Cause.NUMPY: "numpy()",
    Cause.COPY: "torch.tensor()",
    Cause.REQUIRES_GRAD: "requires_grad_(False)",
    Cause.AUTOGRAD_GRAD: "torch.autograd.grad",
}
_COPIED = {"": "a copy of its values", "data": "an assignment to .data"}
_COPIED |= {"Parameter": "nn.Parameter()", "setitem_": "an assignment to an index"}
_COPIED[".data.setitem_"] = "an assignment to an index of .data"
TURN_ON = (
    "{}: switch gradients on again afterwards, torch.set_grad_enabled(True), or use it as a "
    "block: with torch.set_grad_enabled(False):"
)
OF_A_LIBRARY = (
    "call a function of that library that keeps the gradient, or compute this part in your own code"
)
_OF_A_CALLER = (
    "leave out torch.{}(), which is also in force in the functions that are called there; or "
    "compute what is trained under torch.{}"
)
_WAITS = "yield outside of the block: torch.{}() stays in force while the generator waits there"
_ENABLED_BY = {"no_grad": "enable_grad()", "inference_mode": "inference_mode(False)"}
_SAMPLE = "use rsample(), if it exists, instead of sample(); else weight log_prob() of a sample"
_STACKED = "it makes new leaves: give the optimizer those, params.values()"
_FIX_OF_CALL = {
    "deepcopy": "compute with the tensor itself: copy.deepcopy refuses one with a grad_fn",
    "state_dict": "use dict(module.named_parameters()), whose tensors are not detached",
    "stack_module_state": _STACKED,
    "numpy": FIX_OF_CAUSE[Cause.NUMPY],  # refuses what is not detached
}
_OF_THE_COPY = "the copy is a parameter of its own: create the optimizer after it is loaded"
_DETACHING = ("state_dict", "stack_module_state")
_NEW = "compute a new tensor with gradients on, and use that"
_ONLY_IN_PLACE = ("copy", "setitem", "set", "normal", "uniform", "zero")  # have no other form
_REPLACE = {"weight_norm", "spectral_norm", "orthogonal", "register_parametrization"}
_MODULE_COPIES = ("deepcopy", "load_state_dict")


class LineFacts:
    """What all cuts on a line have in common."""

    def __init__(self, context: Context, line: str) -> None:
        self._context, self._line = context, line

    @cached_property
    def calls(self) -> set[str]:
        """The functions that it calls."""
        return called_on(self._line)

    @cached_property
    def _events(self) -> Sequence[Event]:
        return self._context.events_on(self._line)

    @cached_property
    def words(self) -> set[str]:
        """The words of its operations and changes in place."""
        return {each.word for each in self._events if each.kind in MADE}

    @cached_property
    def cuts(self) -> dict[str, Event]:
        """The latest cut on it, by the nodes that were cut off."""
        return {key: e for e in self._events if e.kind is EventKind.CUT for key in e.nodes}

    @cached_property
    def written(self) -> set[NodeKind]:
        """The kinds of what it writes into, if that outlives a pass: running statistics."""
        keys = {k for e in self._events if e.kind is EventKind.IN_PLACE for k in e.nodes}
        nodes = map(self._context.node_in_a_frame, keys)
        return {e["kind"] for e in nodes if e and (e["kind"] in LEAVES or "." in e.get("name", ""))}

    @cached_property
    def estimator(self) -> tuple[str, str, bool] | None:
        """The two tensors of a straight-through estimator; None for other code."""
        return straight_through(self._line)


class CutFacts:
    """What a recording shows of one cut; each fact is read once, when it is first asked for.

    Args:
        context: the recording and the graph.
        cut: the cut edge.
    """

    def __init__(self, context: Context, cut: CutEdge) -> None:
        self.context, self.cut, self.graph = context, cut, context.graph
        self.cause = cut.edge.get("cause", Cause.NOT_RECORDED)
        self.word = cut.edge.get("word", "")
        self.line, self.inside = cut.edge.get("source", ""), cut.edge.get("inside", "")

    @classmethod
    def of(cls, context: Context, cut: CutEdge) -> CutFacts:
        """The facts of a cut, which all explained tensors share."""
        key = (cls, cut.source, cut.target, id(cut.edge))  # the edge lives as long as its facts
        found: CutFacts = context.cache.setdefault(key, cls(context, cut))
        return found

    def on(self, line: str) -> LineFacts:
        """The facts of a line, which all cuts on it share."""
        facts = LineFacts(self.context, line)
        found: LineFacts = self.context.cache.setdefault((LineFacts, line), facts)
        return found

    @property
    def made(self) -> NodeData:
        """The attributes of what was cut off."""
        return self.graph.nodes[self.cut.target] if self.cut.target in self.graph else {}

    @property
    def calls(self) -> set[str]:
        """The functions that its line calls."""
        return self.on(self.line).calls

    @cached_property
    def is_module_copy(self) -> bool:
        """Whether it copies the state of a module, also by the detach() in ``state_dict()``."""
        if self.cause is Cause.VALUES_COPIED:
            return self.word in _MODULE_COPIES
        return not self.on(self.line).words.isdisjoint(_MODULE_COPIES)

    @property
    def written(self) -> set[NodeKind]:
        """The kinds of what a cut that can be removed writes into, as far as its line shows."""
        is_removable = self.cause in (Cause.DETACH, Cause.NO_GRAD, Cause.DATA)
        return self.on(self.line).written if is_removable else set()

    @cached_property
    def is_linearized(self) -> bool:
        """Whether it is a constant of ``torch.func.linearize``."""
        return self.cause is Cause.DETACH and "linearize" in self.calls

    @cached_property
    def mode(self) -> Event | None:
        """The event that switched gradients off before it; None if it was not recorded."""
        events = self.context.events or ()
        if not self._made_here or events[-1].number >= len(events):  # some events were omitted
            return None
        end = self._made_here[-1].number
        return off_since(self.context, end)

    @cached_property
    def switched_off(self) -> Event | None:
        """The call of ``set_grad_enabled(False)`` that caused it; None for another cause."""
        return self.mode if self.mode is not None and _is_switch(self.mode) else None

    @cached_property
    def is_under_no_grad(self) -> bool:
        """Whether it is a change in place where gradients were off."""
        if not self.word.endswith("_") or "data" in self.word:
            return False
        changes = self.context.happened_to(self.cut.target, EventKind.IN_PLACE)
        numbers = [each.number for each in changes if str(each.location) == self.line]
        return bool(numbers) and off_since(self.context, numbers[-1]) is not None

    @cached_property
    def caller(self) -> SourceLocation | None:
        """The decorator or ``with`` of a caller that switched gradients off for its line."""
        mode, lines = self.mode, locations_of([self.line])
        if mode is None or mode.word not in _ENABLED_BY or not lines:
            return None
        blocks = nodes_in(syntax_tree(mode.location.file), ast.With, ast.AsyncWith)
        begun = [each for each in blocks if each.lineno == mode.location.line]
        is_around = lines[0].file == mode.location.file and any(
            has_line(each, lines[0].line) for each in begun
        )
        is_block = bool(begun) or mode.location.text.startswith("@")
        return mode.location if is_block and not is_around else None

    @cached_property
    def is_yielded(self) -> bool:
        """Whether its line takes what a generator yields in a block that switched gradients off."""
        at, lines = self.caller or SourceLocation(), locations_of([self.line])
        blocks = nodes_in(syntax_tree(at.file), ast.With, ast.AsyncWith)
        inside = [each for block in blocks if block.lineno == at.line for each in ast.walk(block)]
        called = {called_name(each) for each in inside if isinstance(each, ast.Call)}
        around = {e.name for line in lines for e in statements_around(line, ast.FunctionDef)}
        return any(isinstance(e, ast.Yield) for e in inside) and called.isdisjoint(around)

    @cached_property
    def is_sample(self) -> bool:
        """Whether ``sample()`` of a torch distribution caused it, which runs under no_grad."""
        made = self._made_here
        if self.cause is Cause.NO_GRAD and "sample" in self.calls and not self.inside:
            return self.mode is None  # no_grad is torch's own
        if self.cause is Cause.NOT_DIFFERENTIABLE and "sample" in self.calls:
            made = self.context.made_at(self.line, self.cut.target)
        return any(operation(event.word).draws for event in made) and self.mode is None

    @cached_property
    def which(self) -> str:
        """``b.detach()``, if its line has several of them with other text; else ""."""
        made = self.on(self.line).cuts.get(self.cut.target)
        return one_of_several(made.location, made.word) if made and not self.inside else ""

    @cached_property
    def rank(self) -> int:
        """The lower, the more likely it is a fault; a copy as a target network seldom is."""
        if self.is_module_copy:
            return 3
        key = ("index", self.cut.target, self.cause)
        is_index = self.context.cached(key, lambda: leads_to_an_index(self.graph, self.cut))
        if is_index or NodeKind.UNTRACKED in self.written:
            return 4
        if self.cause is Cause.VALUES_COPIED:
            return 1
        return 2 * (self.cause is Cause.NOT_DIFFERENTIABLE)

    @cached_property
    def _made_here(self) -> Sequence[Event]:
        """The operations on the line of a cut by gradient mode; the operation of the cut last."""
        if self.cause not in (Cause.NO_GRAD, Cause.INFERENCE_MODE):
            return ()
        return self.context.made_at(self.line, self.cut.target)


class SaidOfCuts(NamedTuple):
    """What is said of the cuts between a tensor and a result."""

    cut: str  # the first of them: ``detach() at train.py:31 (h = h.detach())``
    more: str  # those at other lines: with their words, if these are other ones
    fix: str  # of the first, if its cause is known
    lines: tuple[SourceLocation, ...]  # of each
    # the event that switched gradients off before the first; None for another cause
    mode: Event | None
    keys: tuple[str, ...]  # of what was cut off


def said_of_path(context: Context, question: Question, *before: CutEdge) -> SaidOfCuts | None:
    """What is said of its known cuts, after some others; None if there are none."""
    known = known_cuts(context, question)
    return said_of(context, *before, *known) if known else None


def said_of(context: Context, *cuts: CutEdge) -> SaidOfCuts:
    """What is said of some cuts, at least one."""
    facts = [CutFacts.of(context, cut) for cut in cuts]
    fix, lines = fix_of_cut(context, cuts[0]), lines_of(context, *cuts)
    keys = tuple(cut.target for cut in cuts)
    return SaidOfCuts(_words(facts[0]), _others(facts), fix, lines, facts[0].mode, keys)


def _words(facts: CutFacts) -> str:
    line, off, mode = facts.line, facts.switched_off, facts.mode
    if off is not None:
        where = f", still in force at {mention(line)}" if line not in ("", off.source) else ""
        return f"{off.word}(False) at {mention(off.location)}{where}"
    word, more = _what_cut(facts)
    if facts.is_sample:
        word, more = "sample(), which runs under no_grad,", ""
    elif mode is not None and mode.word in _ENABLED_BY and mode.source != line:
        more = f", in force since {mention(mode.location)}"
    return f"{word} at {mention(line, facts.inside)}{more}" if line else f"{word}{more}"


def _what_cut(facts: CutFacts) -> tuple[str, str]:
    """What cut the data off, and what is said of it behind the line."""
    cause, called = facts.cause, facts.word
    if facts.is_linearized:
        return "torch.func.linearize(), to which it is a constant,", ""
    if cause is Cause.ITEM:
        return f"{called or 'item'}()", ""
    if cause is Cause.VALUES_COPIED or facts.is_module_copy:
        called = called if cause is Cause.VALUES_COPIED else "load_state_dict"
        how = " under no_grad" * facts.is_under_no_grad
        does = "changes values without a" if _changes(called) else "copies values and no"
        return f"{_COPIED.get(called, f'{called}()')}{how}, which {does} gradient,", ""
    if cause is Cause.CUSTOM_FUNCTION:
        return f"{called or 'a Function'}, of which no input requires grad,", ""
    if cause in (Cause.DETACH, Cause.DATA):
        by = [f"{each}(), which detaches," for each in _DETACHING if each in facts.calls]
        return by[0] if by else facts.which or _WORD_OF_CAUSE[cause], ""
    if word := _WORD_OF_CAUSE.get(cause):
        return word, ""
    op = (called or facts.made.get("op") or word_of(facts.made)).partition(",")[0]
    if cause is Cause.COLLECTIVE:
        return f"torch.distributed.{op}", ", which autograd does not record"
    return as_written(op, facts.inside or facts.line), ", which has no gradient"


def _changes(word: str) -> bool:
    """Whether the word of a copy is that of an operation in place on other values."""
    name = word.removeprefix(".data.")
    return name.endswith("_") and name.removesuffix("_") not in _ONLY_IN_PLACE


def fix_of_cut(context: Context, cut: CutEdge) -> str:
    """The fix of a cut whose cause is known."""
    facts = CutFacts.of(context, cut)
    line, inside, off = facts.line, facts.inside, facts.switched_off
    if off is not None and off is left_off(context):
        return TURN_ON.format(off.location)
    if facts.is_linearized:
        return f"{line}: compute it with torch.func.jvp, whose result depends on it"
    if facts.cause is Cause.NO_GRAD and not _REPLACE.isdisjoint(facts.calls):
        return f"{line}: create the optimizer after it: it replaces the parameter by others"
    fix = next(filter(None, (find(facts) for find in _FIXES)), "")
    if fix and inside and not (facts.cause is Cause.REQUIRES_GRAD or _is_off_around(facts)):
        line, fix = (inside, fix) if cut.edge.get("is_own") else (line, OF_A_LIBRARY)
    elif facts.mode is not None and fix == FIX_OF_CAUSE.get(facts.cause) and facts.caller:
        word = facts.mode.word
        fix = _WAITS if facts.is_yielded else _OF_A_CALLER
        line, fix = str(facts.caller), fix.format(word, _ENABLED_BY[word])
    return f"{line}: {fix}" if fix and line else fix


def _is_off_around(facts: CutFacts) -> bool:
    """Whether a ``with`` of the file that calls a library switched gradients off."""
    files = {each.file for each in locations_of([facts.line])}
    at = facts.mode.location if facts.mode is not None else None
    return at is not None and at.file in files and at.text.startswith("with")


def _of_call(facts: CutFacts) -> str:
    """Of a detach() in a function that was called."""
    called = [fix for name, fix in _FIX_OF_CALL.items() if name in facts.calls]
    if facts.cause is not Cause.DETACH or _copies(facts) or not called:
        return ""
    below = descendants(facts.graph, [facts.cut.target], is_data)
    is_leaf = any(facts.graph.nodes[key]["kind"] in LEAVES for key in below)
    return _OF_THE_COPY if is_leaf and called[0] is not _STACKED else called[0]


def _detaches(facts: CutFacts) -> bool:
    return facts.cause in (Cause.DETACH, Cause.DATA) and not _copies(facts)


def _of_straight_through(facts: CutFacts) -> str:
    if not _detaches(facts):
        return ""
    pair = facts.on(facts.inside or facts.line).estimator
    if pair is None:
        return ""
    kept, other, is_replaced = pair
    fix = f"a straight-through estimator passes the gradient to {kept} alone; train {other} by "
    fix += f"a loss of its own{', computed before this line' * is_replaced}: "
    return f"{fix}torch.nn.functional.mse_loss({other}, {kept}.detach())"


def _of_two_passes(facts: CutFacts) -> str:
    """Of a detached result that serves the passes of two losses, as that of a generator."""
    if facts.cause is not Cause.DETACH or _copies(facts):
        return ""
    root, others = facts.context.root_names, list[str]()
    for frame in facts.context.frames if facts.context.passes else ():
        nodes = frame.graph.nodes
        if frame.kind is FrameKind.AFTER_BACKWARD and facts.cut.target in nodes:
            others += [nodes[key].get("name", "") for key in facts.context.roots_of(frame.graph)]
    others = [each for each in dict.fromkeys(others) if each not in ("", root)]
    fix = f"compute {root} from the result without detach(), and only {{}} from the detached one"
    return fix.format(" and ".join(others)) if others else ""


def _of_one_of_several(facts: CutFacts) -> str:
    which = facts.which if _detaches(facts) else ""
    kept = which.removesuffix(".data").removesuffix(".detach()")
    return f"use {kept} instead of {which}" if which else ""


def _of_mode(facts: CutFacts) -> str:
    if facts.is_sample:
        return _SAMPLE
    is_off = facts.switched_off is not None
    return "compute it where gradients are on: with torch.set_grad_enabled(True):" * is_off


def _of_part(facts: CutFacts) -> str:
    """Of an operation of whose results, or forms, another one has a gradient."""
    if facts.word in (*FIX_OF_WORD, "argmax", "gt", "ge", "lt", "le"):
        return FIX_OF_WORD.get(facts.word) or smooth_form(facts.word, facts.inside or facts.line)
    if facts.cause is Cause.NOT_DIFFERENTIABLE and operation(facts.word).sorts:
        return "use the values that it returns: its indices have no gradient"
    return ""


def _of_kept(facts: CutFacts) -> str:
    """Of values that were computed before other passes, as those in a replay buffer."""
    mode, context = facts.mode, facts.context
    since = [each for each in context.passes if mode and each.number > mode.number]
    first = getattr(since[0].details, "roots", ()) if since else ()  # that pass may be its own
    if facts.cause is not Cause.NO_GRAD or len(since) < 2 or {*context.roots} & {*first}:
        return ""
    fix = f"compute it again for {context.root_names}, and there outside of torch.no_grad()"
    return f"its values are kept from before other passes: {fix}"


def _of_write(facts: CutFacts) -> str:
    if fix := _out_of_place(facts.graph, facts.cut):
        return fix
    is_leaf = facts.made.get("kind") in LEAVES
    if facts.word.removeprefix(".data.") == "setitem_" and not is_leaf:
        return "join the tensors by torch.stack or torch.cat instead of writing their values"
    return _NEW if facts.written == {NodeKind.LEAF} else ""


def _of_cause(facts: CutFacts) -> str:
    if facts.cause is Cause.COLLECTIVE and facts.word:
        return twin_of(facts.word)
    if facts.cause is Cause.AUTOGRAD_GRAD and facts.line in lines_with_graph(
        facts.context.happened(EventKind.BACKWARD)
    ):
        return (
            "its result is constant, as the derivative is; or a Function's backward has no "
            "graph: it is once_differentiable, or uses numpy, or more than ctx.saved_tensors"
        )
    return FIX_OF_CAUSE.get(Cause.VALUES_COPIED if _copies(facts) else facts.cause, "")


_FIXES = (
    *(_of_call, _of_straight_through, _of_two_passes, _of_one_of_several),
    *(_of_mode, _of_part, _of_write, _of_kept, _of_cause),
)
"""The fixes of a cut; the first that applies is proposed."""


def _copies(facts: CutFacts) -> bool:
    """Whether what matters is that values are copied: into a module, or a leaf."""
    return facts.is_module_copy or not facts.written.isdisjoint(LEAVES)


def _out_of_place(graph: GradGraph, cut: CutEdge) -> str:
    """The fix of an operation in place on the values of a tensor that is no parameter; or ""."""
    name = cut.edge.get("word", "").removeprefix(".data.").removesuffix("_")
    made: NodeData = graph.nodes[cut.target] if cut.target in graph else {}
    # A tensor that a function such as zeros returned, and that no module keeps.
    is_plain = made.get("kind") is NodeKind.UNTRACKED and "op" in made
    is_plain = is_plain and "." not in made.get("name", ".")
    is_free = is_plain or made.get("kind") in (NodeKind.OPERATION, NodeKind.LEAF)
    if cut.edge.get("cause") is not Cause.VALUES_COPIED or not is_free or name == "":
        return ""
    if name == cut.edge.get("word") or name in _ONLY_IN_PLACE or name.startswith("_"):
        return ""
    of = as_code(made.get("name", ""))
    call = f"torch.fill({of}, ...)" if name == "fill" else f"{of}.{name}(...)"
    how = f"{of} = {call}" if of else f"{name}() returns one"
    return f"{_NEW}: {how}"


def lines_of(context: Context, *cuts: CutEdge) -> tuple[SourceLocation, ...]:
    """The lines of each cut."""
    found: list[SourceLocation] = []
    for cut in cuts:
        facts = CutFacts.of(context, cut)
        found += locations_of([facts.line, facts.inside])
        if facts.mode is not None and facts.mode.location:
            found.append(facts.mode.location)
    return tuple(found)


def left_off(context: Context) -> Event | None:
    """The ``set_grad_enabled(False)`` since which gradients are off; None if they are on."""
    mode = off_since(context, len(context.events or ()))
    return mode if mode is not None and _is_switch(mode) else None


_BLOCKS = ("with ", "async with ", "@")


def off_since(context: Context, before: int) -> Event | None:
    """The switch since which gradients are off before an event; None if they are on.

    The end of a block, as of ``with torch.enable_grad():``, restores the mode before it.
    """
    found = list[Event]()
    for event in takewhile(lambda each: each.number < before, context.happened(EventKind.MODE)):
        is_end = bool(found) and found[-1].source == event.source != ""
        if is_end and (event.word == "enable_grad" or event.location.text.startswith(_BLOCKS)):
            found.pop()
        else:
            found.append(event)
    is_off = found and found[-1].action in (Action.GRADIENTS_OFF, Action.INFERENCE_ON)
    return found[-1] if is_off else None


def _is_switch(event: Event) -> bool:
    called = (event.word, event.action)
    return called == ("set_grad_enabled", Action.GRADIENTS_OFF) and bool(event.location)


def is_known_cut(edge: EdgeData) -> bool:
    """Whether it was recorded that and why data left the graph along an edge."""
    return edge.get("cause") not in (Cause.CONSTANT, Cause.NOT_RECORDED, None)


def cuts_of(context: Context, question: Question) -> Sequence[CutEdge]:
    """The cuts between the tensor and the roots, those that can be removed first."""
    found = context.cuts_of(question)
    found = [each for each in found if not is_of_a_constant(context, question.key, each)]
    if len(found) < 2:
        return found
    ranks = {id(cut): CutFacts.of(context, cut).rank for cut in found}
    found.sort(key=lambda cut: (ranks[id(cut)], -_latest(context, cut.edge.get("source", ""))))
    # Where a cut can be removed, what is seldom a fault beside it is left out.
    return [cut for cut in found if ranks[id(cut)] // 2 == ranks[id(found[0])] // 2]


def _latest(context: Context, line: str) -> int:
    """The latest event at a line before the pass: its data was in the graph longest; -1 if none."""
    end = context.passes[-1].number if context.passes else inf
    events = reversed(context.events_on(line))
    return next((each.number for each in events if each.number < end), -1)


def is_of_a_constant(context: Context, key: str, cut: CutEdge) -> bool:
    """Whether a derivative was cut that does not depend on a leaf: it is only added, as a bias."""
    if cut.edge.get("cause") is not Cause.AUTOGRAD_GRAD or cut.source == cut.target:
        return False
    return is_only_added(context.graph, key, cut.source)


def known_cuts(context: Context, question: Question) -> Sequence[CutEdge]:
    """The cuts between a tensor and the roots, if the cause of the first is known."""
    cuts = cuts_of(context, question)
    return cuts if cuts and is_known_cut(cuts[0].edge) else ()


def _others(cuts: Sequence[CutFacts]) -> str:
    lines: dict[tuple[str, str], CutFacts] = {}
    for facts in cuts:
        lines.setdefault((facts.line, facts.which), facts)
    first, *rest = lines.values()
    kind = (first.cause, first.word)
    same = [each for each in rest if (each.cause, each.word) == kind and not each.which]
    more = f", and at {', '.join(each.line for each in same[:3])}" if same else ""
    other = next((each for each in rest if each not in same), None)
    return more if other is None else f"{more}, and by {_words(other)}"
