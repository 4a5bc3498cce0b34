"""Cuts between a tensor and a result, and the rules for a leaf that is not reachable from it."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import RECORD, Context, Question, Reach, call_of, is_before_an_index
from gradviz.diagnosis.lines import (
    as_written,
    at_line,
    called_on,
    lines_with_graph,
    locations_of,
    mention,
    straight_through,
)
from gradviz.diagnosis.name_flow import is_proved, is_unused_by, is_used_by, number_reads
from gradviz.diagnosis.rule import Evidence, Needs, Rule, only_when
from gradviz.diagnosis.values import is_only_added
from gradviz.facts import Action, CutEdge, EventKind, SourceLocation
from gradviz.graph import LEAVES, Cause, EdgeData, NodeData, NodeKind, descendants, is_data, word_of
from gradviz.graph.operations import operation, twin_of
from gradviz.graph.text import listed
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
TURN_ON = (
    "{}: switch gradients on again afterwards, torch.set_grad_enabled(True), or use it as a "
    "block: with torch.set_grad_enabled(False):"
)
_OF_A_LIBRARY = (
    "call a function of that library that keeps the gradient, or compute this part in your own code"
)
_STACKED = "it makes new leaves: give the optimizer those, params.values()"
_FIX_OF_CALL = {
    "deepcopy": "compute with the tensor itself: copy.deepcopy refuses one with a grad_fn",
    "state_dict": "use dict(module.named_parameters()), whose tensors are not detached",
    "stack_module_state": _STACKED,
}
_STEP_SIZE = (
    "fake_quantize has no derivative in its scale: v = w / scale; q = v.round().clamp(low, high); "
    "w = (v + (q - v).detach()) * scale"
)
_OF_THE_COPY = "the copy is a parameter of its own: create the optimizer after it is loaded"
_DETACHING = ("state_dict", "stack_module_state")
_MODULE_COPIES = ("deepcopy", "load_state_dict")


def cut_words(context: Context, cut: CutEdge) -> str:
    """``detach() at train.py:31 (h = h.detach())``."""
    graph = context.graph
    cause = cut.edge.get("cause", Cause.NOT_RECORDED)
    word, more = _WORD_OF_CAUSE.get(cause), ""
    if cause is Cause.CUSTOM_FUNCTION:
        word = f"{cut.edge.get('word', 'a Function')}, of which no input requires grad,"
    if cause is Cause.VALUES_COPIED or _is_module_copy(context, cut):
        called = cut.edge.get("word", "") if cause is Cause.VALUES_COPIED else "load_state_dict"
        word = _COPIED.get(called, f"{called}()") + ", which copies values and no gradient,"
    if cause is Cause.ITEM:
        word = f"{cut.edge.get('word') or 'item'}()"
    if word is None:
        made: NodeData = graph.nodes[cut.target] if cut.target in graph else {}
        op = cut.edge.get("word") or made.get("op") or word_of(made)
        word, more = op.partition(",")[0], ", which has no gradient"
    if cause is Cause.COLLECTIVE:
        word, more = f"torch.distributed.{word}", ", which autograd does not record"
    line, inside = cut.edge.get("source", ""), cut.edge.get("inside", "")
    word = as_written(word, inside or line)
    if _is_linearized(context, cut):
        word = "torch.func.linearize(), to which it is a constant,"
    elif word == "detach()":
        by = [f"{each}(), which detaches," for each in _DETACHING if _calls(context, line, each)]
        word = by[0] if by else word
    if off := _switched_off(context, cut):
        where = f", still in force at {mention(line)}" if line not in ("", off.source) else ""
        return f"{off.word}(False) at {mention(off.location)}{where}"
    if _is_sample(context, cut):
        word, more = "sample(), which runs under no_grad,", ""
    elif (mode := _mode_of(context, cut)) and mode.word == "no_grad" and mode.source != line:
        more = f", in force since {mention(mode.location)}"
    return f"{word} at {mention(line, inside)}{more}" if line else f"{word}{more}"


def fix_of_cut(context: Context, cut: CutEdge) -> str:
    """The fix of a cut whose cause is known."""
    cause, line = cut.edge.get("cause", Cause.NOT_RECORDED), cut.edge.get("source", "")
    if _is_module_copy(context, cut) or _written(context, cut).intersection(LEAVES):
        cause = Cause.VALUES_COPIED
    of_all = cut.edge.get("word", "") if cause is Cause.COLLECTIVE else ""
    fix = twin_of(of_all) if of_all else FIX_OF_CAUSE.get(cause, "")
    is_grad = cause is Cause.AUTOGRAD_GRAD
    if is_grad and line in lines_with_graph(context.happened(EventKind.BACKWARD)):
        fix = "its result is constant, as the derivative is; or a Function's backward has no "
        fix += "graph: it is once_differentiable, or uses numpy, or more than ctx.saved_tensors"
    if cut.edge.get("word") == "_values":
        fix = "use values() of a coalesced tensor, which has a gradient"
    elif cause is Cause.NOT_DIFFERENTIABLE and operation(cut.edge.get("word", "")).sorts:
        fix = "use the values that it returns: its indices have no gradient"
    if off := _switched_off(context, cut):
        if left_off(context) is off:
            return TURN_ON.format(off.location)
        fix = "compute it where gradients are on: with torch.set_grad_enabled(True):"
    if _is_sample(context, cut):
        fix = "use rsample(), if it exists, instead of sample(); else weight log_prob() of a sample"
    at = cut.edge.get("inside") or line
    pair = context.cached(("straight-through", at), lambda: straight_through(at))
    if cause is Cause.DETACH and pair is not None:
        kept, other = pair
        fix = f"a straight-through estimator passes the gradient to {kept} alone; train {other} by "
        fix += f"a loss of its own: torch.nn.functional.mse_loss({other}, {kept}.detach())"
    if cause is Cause.DETACH:
        called = next((f for name, f in _FIX_OF_CALL.items() if _calls(context, line, name)), "")
        below = descendants(context.graph, [cut.target], is_data) if called else ()
        is_leaf = any(context.graph.nodes[key]["kind"] in LEAVES for key in below)
        fix = _OF_THE_COPY if is_leaf and called is not _STACKED else called or fix
    if _is_linearized(context, cut):
        return f"{line}: compute it with torch.func.jvp, whose result depends on it"
    if fix and (inside := cut.edge.get("inside")):
        is_own = cut.edge.get("is_own", False)
        line, fix = (inside, fix) if is_own else (line, _OF_A_LIBRARY)
    return f"{line}: {fix}" if fix and line else fix


def _is_linearized(context: Context, cut: CutEdge) -> bool:
    is_detached = cut.edge.get("cause") is Cause.DETACH
    return is_detached and _calls(context, cut.edge.get("source", ""), "linearize")


def _calls(context: Context, line: str, name: str) -> bool:
    """Whether a line calls a function; its functions are found once for all leaves."""
    return name in context.cached(("called", line), lambda: called_on(line))


def lines_of(context: Context, *cuts: CutEdge) -> tuple[SourceLocation, ...]:
    """The lines of each cut."""
    found: list[SourceLocation] = []
    for cut in cuts:
        found += locations_of([cut.edge.get("source", ""), cut.edge.get("inside", "")])
        if (off := _mode_of(context, cut)) and off.location:
            found.append(off.location)
    return tuple(found)


def left_off(context: Context) -> Event | None:
    """The call of ``set_grad_enabled(False)`` that was never undone, or None."""
    modes = context.happened(EventKind.MODE)
    return modes[-1] if modes and _is_switch(modes[-1]) else None


def _is_switch(event: Event) -> bool:
    called = (event.word, event.action)
    return called == ("set_grad_enabled", Action.GRADIENTS_OFF) and bool(event.location)


def _switched_off(context: Context, cut: CutEdge) -> Event | None:
    """The call of ``set_grad_enabled(False)`` that caused a cut; None for another cause."""
    mode = _mode_of(context, cut)
    return mode if mode is not None and _is_switch(mode) else None


def _made(context: Context, cut: CutEdge) -> Sequence[Event]:
    """The operations on the line of a cut by gradient mode; the operation of the cut last."""
    if cut.edge.get("cause") is not Cause.NO_GRAD:
        return ()
    return context.made_at(cut.edge.get("source", ""), cut.target)


def _mode_of(context: Context, cut: CutEdge) -> Event | None:
    """The event that switched gradients off before a cut; None if it was not recorded."""
    made, events = _made(context, cut), context.events or ()
    if not made or events[-1].number >= len(events):  # some events were omitted
        return None
    modes = [each for each in context.happened(EventKind.MODE) if each.number < made[-1].number]
    return modes[-1] if modes and modes[-1].action is Action.GRADIENTS_OFF else None


def _is_sample(context: Context, cut: CutEdge) -> bool:
    """Whether ``sample()`` of a torch distribution caused the cut, which runs under no_grad."""
    made, line = _made(context, cut), cut.edge.get("source", "")
    if cut.edge.get("cause") is Cause.NOT_DIFFERENTIABLE and _calls(context, line, "sample"):
        made = context.made_at(line, cut.target)
    is_draw = any(operation(event.word).draws for event in made)
    return is_draw and _mode_of(context, cut) is None


def is_known_cut(edge: EdgeData) -> bool:
    """Whether it was recorded that and why data left the graph along an edge."""
    return edge.get("cause") not in (Cause.CONSTANT, Cause.NOT_RECORDED, None)


def _cuts_of(context: Context, question: Question) -> Sequence[CutEdge]:
    """The cuts between the tensor and the roots, those that can be removed first."""
    found = context.cuts_of(question.key)
    if context.lost is not None and question.is_leaf:
        # The graph shows what was written into a tensor also after it was used.
        lost = context.lost.get(question.key, ())
        lines = {each.edge.get("source") for each in lost}
        found = [cut for cut in found if cut.edge.get("source") in lines]
        shown = {cut.edge.get("source") for cut in found}
        found += [each for each in lost if each.edge.get("source") not in shown]
    found = [each for each in found if not _is_of_a_constant(context, question.key, each)]
    ranks = {id(cut): rank_of_cut(context, cut) for cut in found}
    found.sort(key=lambda cut: (ranks[id(cut)], -_latest(context, cut.edge.get("source", ""))))
    # Where a cut can be removed, what is seldom a fault beside it is left out.
    return [cut for cut in found if ranks[id(cut)] // 2 == ranks[id(found[0])] // 2]


def rank_of_cut(context: Context, cut: CutEdge) -> int:
    """The lower, the more likely a cut is a fault; a copy as a target network seldom is."""
    if _is_module_copy(context, cut):
        return 3
    key = ("index", cut.target, cut.edge.get("cause"))
    is_index = context.cached(key, lambda: is_before_an_index(context.graph, cut))
    if is_index or NodeKind.UNTRACKED in _written(context, cut):
        return 4
    cause = cut.edge.get("cause")
    return 1 if cause is Cause.VALUES_COPIED else 2 * (cause is Cause.NOT_DIFFERENTIABLE)


def _is_module_copy(context: Context, cut: CutEdge) -> bool:
    """Whether it copies the state of a module, also by the detach() in ``state_dict()``."""
    if cut.edge.get("cause") is Cause.VALUES_COPIED:
        return cut.edge.get("word") in _MODULE_COPIES
    return not context.written_on(cut.edge.get("source", ""))[0].isdisjoint(_MODULE_COPIES)


def _written(context: Context, cut: CutEdge) -> set[NodeKind]:
    """The kinds of what its line writes into, if that outlives a pass, as running statistics."""
    if cut.edge.get("cause") not in (Cause.DETACH, Cause.NO_GRAD, Cause.DATA):
        return set()
    line = cut.edge.get("source", "")
    nodes = (context.node_in_a_frame(each) for each in context.written_on(line)[1])
    kept = (e for e in nodes if e and (e["kind"] in LEAVES or "." in e.get("name", "")))
    return context.cached(("written", line), lambda: {each["kind"] for each in kept})


def _latest(context: Context, line: str) -> int:
    """The latest event at a line before the pass: its data was in the graph longest; -1 if none."""
    end = context.passes[-1].number if context.passes else inf
    events = reversed(context.by_line.get(line, ()))
    return next((each.number for each in events if each.number < end), -1)


def _derivative_without_it(context: Context, question: Question) -> Evidence | None:
    """The result was computed from a derivative that does not depend on the tensor."""
    cuts = context.cuts.of(question.key) if question.key else ()
    if not cuts or not all(_is_of_a_constant(context, question.key, cut) for cut in cuts):
        return None
    words = {"root": context.root_names, "cut": cut_words(context, cuts[0])}
    return Evidence(words, (cuts[0].target,), lines_of(context, *cuts), cuts[0].target)


def _is_of_a_constant(context: Context, key: str, cut: CutEdge) -> bool:
    """Whether a derivative was cut that does not depend on a leaf: it is only added, as a bias."""
    if cut.edge.get("cause") is not Cause.AUTOGRAD_GRAD or cut.source == cut.target:
        return False
    return is_only_added(context.graph, key, cut.source)


def known_cuts(context: Context, question: Question) -> Sequence[CutEdge]:
    """The cuts between a tensor and the roots, if the cause of the first is known."""
    cuts = _cuts_of(context, question)
    return cuts if cuts and is_known_cut(cuts[0].edge) else ()


def _cut(context: Context, question: Question) -> Evidence | None:
    if not (cuts := known_cuts(context, question)):
        return None
    words = {"root": context.root_names, "fix": fix_of_cut(context, cuts[0])}
    words["cut"], words["more"] = cut_words(context, cuts[0]), other_cuts(context, cuts)
    return Evidence(words, tuple(c.target for c in cuts), lines_of(context, *cuts), cuts[0].target)


def other_cuts(context: Context, cuts: Sequence[CutEdge]) -> str:
    """The cuts at other lines than the first: with their words, if these are other ones."""
    lines: dict[str, CutEdge] = {}
    for cut in cuts:
        lines.setdefault(cut.edge.get("source", ""), cut)
    first, *rest = lines.values()
    kind = (first.edge.get("cause"), first.edge.get("word"))
    same = [each for each in rest if (each.edge.get("cause"), each.edge.get("word")) == kind]
    more = f", and at {', '.join(each.edge.get('source', '') for each in same[:3])}" if same else ""
    other = next((each for each in rest if each not in same), None)
    return more if other is None else f"{more}, and by {cut_words(context, other)}"


def _cut_not_recorded(context: Context, question: Question) -> Evidence | None:
    if not (cuts := _cuts_of(context, question)):
        return None
    targets, words = tuple(cut.target for cut in cuts), {"root": context.root_names}
    return Evidence(words, targets, lines_of(context, *cuts))


def _switched_on_too_late(context: Context, question: Question) -> Evidence | None:
    switched = [
        event
        for event in context.happened(EventKind.REQUIRES_GRAD)
        if not event.nodes
        or event.count > 1
        or any(key == question.key or _may_be(context, question, key) for key in event.nodes)
    ]
    off = [event for event in switched if event.action is Action.REQUIRES_GRAD_OFF]
    if not switched or (off and switched[-1] is off[-1]):
        return None
    again, use = switched[-1], _use_as_data(context, question.key, switched[-1])
    line = (use or (off or [again])[-1]).location
    if use is not None:
        more = f": {use.word} at {mention(line)} used it before {mention(again.location)}"
    elif off:
        more = f"; if it is one of the tensors frozen at {mention(line)}, what used it before it "
        more += f"was switched on again at {mention(again.location)} was computed without it"
    elif question.key in again.nodes and again.number > _first_number(context):
        more = f": it was switched on at {mention(line)}, and what ran before did not record it"
    else:
        return None
    return Evidence({"root": context.root_names, "more": more}, locations=(line, again.location))


def _first_number(context: Context) -> float:
    """The number of the first event of an operation that a root was computed by."""
    events = (e for k in context.reachable for e in context.happened_to(k, EventKind.OPERATION))
    return context.cached("first", lambda: min((each.number for each in events), default=inf))


def _use_as_data(context: Context, key: str, switched: Event) -> Event | None:
    """The operation before the roots that used a tensor before it required grad."""
    is_shown = key in switched.nodes and key in context.graph
    edges = context.graph.out_edges(key, data=True) if is_shown else ()
    used = [t for _, t, e in edges if e.get("cause") is Cause.CONSTANT and t in context.reachable]
    events = (each for target in used for each in context.happened_to(target, EventKind.OPERATION))
    return next((each for each in events if each.number < switched.number), None)


def _may_be(context: Context, question: Question, key: str) -> bool:
    """Whether a frozen tensor can be the explained one: it has no other name."""
    data: NodeData = context.graph.nodes[key] if key in context.graph else {}
    return data.get("kind") is NodeKind.UNTRACKED and data.get("name", "") in ("", question.name)


def _became_numbers(context: Context, question: Question) -> Evidence | None:
    """Its data went into a number or array before the pass, and no tensor carries it on."""
    before = {str(event.location) for event in number_reads(context)}
    found = context.numbers.get(question.key, ())
    rows = {row.source: row for row in found if row.source in before}
    reads = [row for key, row in rows.items() if not is_proved(context, is_unused_by, key)]
    if not reads:
        return None
    reads = [row for row in reads if not row.has_no_gradient] or reads
    used = [row for row in reads if len(reads) > 1 and is_proved(context, is_used_by, row.source)]
    reads = (used or reads)[-3:]
    said = [f"{row.word}() at {mention(row.source, row.inside)}" for row in reads]
    by = f"it became plain numbers by {', and by '.join(said)}"
    cause = Cause.NUMPY if all(row.word == "numpy" for row in reads) else Cause.ITEM
    fix = f"{', '.join(row.source for row in reads)}: {FIX_OF_CAUSE[cause]}"
    if any("fake_quantize" in name for name in called_on(reads[-1].source, is_whole=True)):
        fix = f"{reads[-1].source}: {_STEP_SIZE}"
    if len(reads) == 1 and reads[0].has_no_gradient:
        by, fix = f"{cut_words(context, reads[0].cut)}; {by}", fix_of_cut(context, reads[0].cut)
    words = {"root": context.root_names, "by": by, "fix": fix}
    lines = [each for row in reads for each in lines_of(context, row.cut)]
    lines += locations_of(line for row in reads for line in (row.source, row.inside))
    return Evidence(words, locations=tuple(dict.fromkeys(lines)))


def _may_be_inside(context: Context, question: Question) -> Evidence | None:
    """Parameters used inside a Function or a reentrant checkpoint are not in the graph."""
    if not context.functions:
        return None
    nodes = context.graph.nodes
    using = [key for key in context.functions if question.key in nodes[key].get("uses_inside", ())]
    # For a recorded Function, the tensors that its forward read are known.
    unknown = [key for key in context.functions if not nodes[key].get("source")]
    if not using and not unknown:
        return None
    key = (using or unknown)[0]
    data = nodes[key]
    line, is_checkpoint = data.get("source", ""), data.get("op") == "checkpoint"
    has_run = bool(context.passes or context.freed or context.with_grad)
    more = ", and what is used there is not in the graph"
    fix = "pass it to the Function as an input, and return its gradient from backward"
    if is_checkpoint:
        fix = "checkpoint(..., use_reentrant=False), which records what is used inside"
        if not has_run:
            more = ", a reentrant checkpoint: what is used there is recorded when backward runs"
            fix = f"call {call_of(context)}: what is used there gets its gradient then; or {fix}"
    elif has_run:
        more = ", and backward of a Function returns gradients of its inputs only"
    function = f"{word_of(data)}{at_line(line)}"
    words = {"root": context.root_names, "used": "is used" if using else "may be used"}
    words |= {"function": function, "more": more, "fix": fix}
    return Evidence(words, (key,), locations_of([line]), key)


def _numbers_were_taken(context: Context, question: Question) -> Evidence | None:
    if not (found := _numbers_taken(context, question)):
        return None
    words = {"root": context.root_names, "line": mention(found[0]), "where": found[0]}
    return Evidence({**words, "fix": FIX_OF_CAUSE[Cause.ITEM]}, locations=tuple(found))


def _numbers_taken(context: Context, question: Question) -> list[SourceLocation]:
    """Lines before backward that converted tensors to numbers, which may come from a leaf."""
    found = [event.location for event in number_reads(context)]
    own = {read.source for read in context.numbers.get(question.key, ())}
    known = {read.source for reads in context.numbers.values() for read in reads} - own
    known |= {source for source in map(str, found) if is_proved(context, is_unused_by, source)}
    return [location for location in found if str(location) not in known]


def _began_before(context: Context, question: Question) -> Evidence | None:
    """Operations behind the result ran before the recording, which did not see their inputs."""
    older = (context.graph.nodes[key].get("sequence_nr", 0) < 0 for key in context.reachable)
    return _not_used(context, question) if context.cached("began", lambda: any(older)) else None


def _not_used(context: Context, question: Question) -> Evidence | None:
    return Evidence({"root": context.root_names})


def _result_not_used(context: Context, question: Question) -> Evidence | None:
    was_used = context.happened_to(question.key, EventKind.ACCUMULATE)
    return _not_used(context, question) if question.call and not was_used else None


def _part_not_called(context: Context, question: Question) -> Evidence | None:
    parts = [] if question.call is None else question.call.uncalled_in(question.name)
    if not parts:
        return None
    unused, verb = f"not used by {context.root_names}", "were" if parts[1:] else "was"
    if context.hides_operations:
        unused = f"no operation that {context.root_names} was computed from uses it"
    return Evidence({"unused": unused, "parts": listed(parts), "verb": verb})


def _step_without_gradients(context: Context, question: Question) -> Evidence | None:
    """Steps of its optimizer, with no pass between them, found no gradient of any parameter."""
    # Where ``held`` is empty, no frame has the parameters of that optimizer.
    steps = [row for row in context.steps if question.key in row[1].held or not row[1].held]
    if question.key not in context.held or any(each.changed_count for _, each in steps):
        return None
    numbers = [event.number for event, _ in steps]
    if len(steps) < 2 or any(numbers[0] < each.number < numbers[-1] for each in context.passes):
        return None
    event, details = steps[-1]
    found = {"root": context.root_names, "line": mention(event.location)}
    found["optimizer"] = details.optimizer
    found["any"] = f"any of its {details.count:,} parameters" if details.count > 1 else "it"
    return Evidence(found, locations=(event.location,))


INSIDE = "it may be used inside a Function"
not_connected_rules: tuple[Rule[Any, Any], ...] = only_when(
    Reach.UNREACHABLE,
    Rule(
        "the path to the result is cut",
        Verdict.CUT,
        _cut,
        "the path to {root} is cut by {cut}{more}",
        docs="Data flowed from the tensor to the result, and each path crosses a cut. A cut that "
        "can be removed is named before an operation that has no gradient.",
    ),
    Rule(
        "the path to the result is cut, cause not recorded",
        Verdict.CUT,
        _cut_not_recorded,
        "its data flows into {root}, but no gradient flows back; the cause was not recorded",
        lambda found: RECORD,
    ),
    Rule(
        "a derivative that does not depend on it",
        Verdict.NOT_CONNECTED,
        _derivative_without_it,
        "{root} was computed from a derivative, {cut}, which does not depend on it: it was only "
        "added",
    ),
    Rule(
        "requires_grad was switched on too late",
        Verdict.NOT_CONNECTED,
        _switched_on_too_late,
        "not used by {root} while it required grad{more}",
        "switch it on before the forward pass: requires_grad_(True)",
        events=(EventKind.REQUIRES_GRAD,),
    ),
    Rule(
        "it was converted to numbers",
        Verdict.NOT_CONNECTED,
        _became_numbers,
        "no tensor carries it to {root}: {by}",
        needs=Needs.RECORDING,
    ),
    Rule(
        INSIDE,
        Verdict.NOT_KNOWN,
        _may_be_inside,
        "no recorded operation of {root} uses it; it {used} inside {function}{more}",
    ),
    Rule(
        "the forward pass began before the recording",
        Verdict.NOT_CONNECTED,
        _began_before,
        "it is not reachable from {root}, of which operations ran before the recording: it was "
        "not used, or it was cut off",
        "to know the cause, start the recording before the forward pass",
        needs=Needs.RECORDING,
    ),
    Rule(
        "a part of a module that is not called",
        Verdict.NOT_CONNECTED,
        _part_not_called,
        "{unused}: {parts} {verb} not called",
        "call {parts} in the forward pass, or leave the parameters out of the optimizer",
        needs=Needs.RECORDING,
    ),
    Rule(
        "values were read as numbers",
        Verdict.NOT_CONNECTED,
        _numbers_were_taken,
        "no tensor carries it to {root}; values were read as numbers at {line}, whose further use "
        "is not recorded",
        "{where}: {fix}",
        events=(EventKind.CUT,),
    ),
    Rule(
        "a step without gradients",
        Verdict.NOT_CONNECTED,
        _step_without_gradients,
        "not used by {root}, and the step of {optimizer} at {line} had no gradient for {any}",
        "call backward() before the step, on the result that is computed from it; if there is "
        "none, give the optimizer the parameters that are used",
        events=(EventKind.STEP,),
    ),
    Rule(
        "the result of its module is not used",
        Verdict.NOT_CONNECTED,
        _result_not_used,
        "its module was called, and no operation that {root} was computed from uses the result",
        "use that result in what {root} is computed from, without nn.Parameter(), .data or a copy",
        needs=Needs.RECORDING,
    ),
    Rule(
        "no recorded operation uses it",
        Verdict.NOT_CONNECTED,
        lambda context, it: _not_used(context, it) if context.hides_operations else None,
        "no operation that {root} was computed from uses it",
        "use it in what {root} is computed from; if it is used, look where its values go on "
        "without a gradient: nn.Parameter(...), .data, a copy, or before it required grad",
        needs=Needs.RECORDING,
    ),
    Rule(
        "not used",
        Verdict.NOT_CONNECTED,
        _not_used,
        "not used by {root}",
        "use it in what {root} is computed from, or leave it out of the optimizer",
        needs=Needs.RECORDING,
    ),
    Rule(
        "not reachable, cause not recorded",
        Verdict.NOT_CONNECTED,
        _not_used,
        "it is not reachable from {root}: it was not used, or it was cut off; which of them "
        "was not recorded",
        lambda found: RECORD,
    ),
)
