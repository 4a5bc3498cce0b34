"""The rules for a leaf that is not reachable from a result, and for a list with its gradient."""

from __future__ import annotations

import ast
from math import inf
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import RECORD, Context, Question, Reach, call_of
from gradviz.diagnosis.copies import (
    fix_of_number,
    left_result,
    of_another_model,
    pass_of_a_leaf,
    replaced_at,
)
from gradviz.diagnosis.cuts import (
    FIX_OF_CAUSE,
    cuts_of,
    is_of_a_constant,
    lines_of,
    said_of,
    said_of_path,
)
from gradviz.diagnosis.lines import (
    assignments_to,
    at_line,
    called_name,
    called_on,
    can_be_none,
    locations_of,
    mention,
    nodes_in,
    statement_at,
    syntax_tree,
)
from gradviz.diagnosis.name_flow import is_proved, is_unused_by, is_used_by, number_reads
from gradviz.diagnosis.non_finite import differentiated_in, left_out
from gradviz.diagnosis.rule import Evidence, Needs, Rule, library_call, of_a_linear, only_when
from gradviz.diagnosis.statements import in_condition
from gradviz.diagnosis.subjects import (
    ErrorContext,
    grad_call_of,
    leaves_of,
    listed_in,
    variables_of,
)
from gradviz.facts import Action, BackwardDetails, EventKind, FrameKind, Loss, ValueRead
from gradviz.graph import Cause, NodeData, NodeKind, ancestors, stops_on_every_way, word_of
from gradviz.graph.text import joined, listed
from gradviz.story import Event
from gradviz.torch_messages import MessageKind

_STEP_SIZE = (
    "fake_quantize has no derivative in its scale: v = w / scale; q = v.round().clamp(low, high); "
    "w = (v + (q - v).detach()) * scale"
)


def _derivative_without_it(context: Context, question: Question) -> Evidence | None:
    """The result was computed from a derivative that does not depend on the tensor."""
    cuts = context.cuts.of(question.key) if question.key else ()
    if not cuts or not all(is_of_a_constant(context, question.key, cut) for cut in cuts):
        return None
    said = said_of(context, *cuts)
    words = {"root": context.root_names, "cut": said.cut}
    return Evidence(words, (cuts[0].target,), said.lines, cuts[0].target)


def _cut(context: Context, question: Question) -> Evidence | None:
    """Known cuts in the graph; before them, numbers that the result is certainly computed from."""
    rows = _reads_of(context, question).items()
    read = [row.cut for line, row in rows if is_proved(context, is_used_by, line)]
    read = [cut for cut in read if cut.edge.get("cause") in (Cause.ITEM, Cause.NUMPY)]
    if (said := said_of_path(context, question, *read)) is None:
        return None
    shown = said.keys[len(read) :]
    lines, left, fix = left_result(context, question.name) or ((), "", said.fix)
    words = {"root": context.root_names, "cut": said.cut, "more": said.more + left, "fix": fix}
    cause = f"{words['root']} {said.mode.source}" if said.mode is not None and not said.more else ""
    return Evidence(words, shown, (*lines, *said.lines), shown[0], cause)


def _reads_of(context: Context, question: Question) -> dict[str, ValueRead]:
    """Where its data became numbers or arrays before the pass, by the lines."""
    if not (found := context.numbers.get(question.key)):
        return {}
    before = {str(event.location) for event in number_reads(context)}
    return {row.source: row for row in found if row.source in before}


def _cut_not_recorded(context: Context, question: Question) -> Evidence | None:
    if not (cuts := cuts_of(context, question)):
        return None
    words = {"root": context.root_names}
    return Evidence(words, tuple(cut.target for cut in cuts), lines_of(context, *cuts))


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
    elif (
        question.key in again.nodes
        and again.number > _first_number(context)
        and not _is_made_there(again)
    ):
        more = f": it was switched on at {mention(line)}, and what ran before did not record it"
    else:
        return None
    return Evidence({"root": context.root_names, "more": more}, locations=(line, again.location))


def _is_made_there(switched: Event) -> bool:
    """Whether the tensor was made by the line that switched it on: nothing used it before."""
    calls = nodes_in(statement_at(switched.location), ast.Call)
    on = (each.func for each in calls if called_name(each) == "requires_grad_")
    return any(isinstance(each, ast.Attribute) and isinstance(each.value, ast.Call) for each in on)


def _first_number(context: Context) -> float:
    """The number of the first event of an operation that a root was computed by."""
    nodes = context.graph.nodes
    made = (key for key in context.reachable if nodes[key].get("kind") is NodeKind.OPERATION)
    events = (each for key in made for each in context.happened_to(key, EventKind.OPERATION))
    return context.cached("first", lambda: min((each.number for each in events), default=inf))


def _use_as_data(context: Context, key: str, switched: Event) -> Event | None:
    """The operation before the roots that used a tensor before it required grad."""
    is_in = key in switched.nodes and key in context.graph
    edges = context.graph.out_edges(key, data=True) if is_in else ()
    used = [t for _, t, e in edges if e.get("cause") is Cause.CONSTANT and t in context.reachable]
    events = (each for target in used for each in context.happened_to(target, EventKind.OPERATION))
    return next((each for each in events if each.number < switched.number), None)


def _may_be(context: Context, question: Question, key: str) -> bool:
    """Whether a frozen tensor can be the explained one: it has no other name."""
    data: NodeData = context.graph.nodes[key] if key in context.graph else {}
    return data.get("kind") is NodeKind.UNTRACKED and data.get("name", "") in ("", question.name)


def _became_numbers(context: Context, question: Question) -> Evidence | None:
    """Its data went into a number or array before the pass, and no tensor carries it on."""
    rows = _reads_of(context, question).items()
    if not (reads := [row for line, row in rows if not is_proved(context, is_unused_by, line)]):
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
    elif how := fix_of_number(context, reads[-1].word, reads[-1].source, reads[-1].inside):
        fix = f"{reads[-1].source}: {how}"
    if len(reads) == 1 and reads[0].has_no_gradient:
        said_of_cut = said_of(context, reads[0].cut)
        by, fix = f"{said_of_cut.cut}; {by}", said_of_cut.fix
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
    data = nodes[key := (using or unknown)[0]]
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
    function = f"{word_of(data)}{at_line(line)}{library_call(context, line).rstrip(',')}"
    words = {"root": context.root_names, "used": "is used" if using else "may be used"}
    words |= {"function": function, "more": more, "fix": fix}
    return Evidence(words, (key,), locations_of([line]), key)


def _numbers_were_taken(context: Context, question: Question) -> Evidence | None:
    """Lines before backward converted tensors to numbers, which may come from a leaf."""
    taken = [event.location for event in number_reads(context)]
    own = {read.source for read in context.numbers.get(question.key, ())}
    known = {read.source for reads in context.numbers.values() for read in reads} - own
    known |= {source for source in map(str, taken) if is_proved(context, is_unused_by, source)}
    if not (found := [location for location in taken if str(location) not in known]):
        return None
    words = {"root": context.root_names, "line": mention(found[0]), "where": found[0]}
    return Evidence({**words, "fix": FIX_OF_CAUSE[Cause.ITEM]}, locations=tuple(found))


def _began_before(context: Context, question: Question) -> Evidence | None:
    """Operations behind the result ran before the recording, which did not see their inputs."""
    older = (context.graph.nodes[key].get("sequence_nr", 0) < 0 for key in context.reachable)
    return _not_used(context, question) if context.cached("began", lambda: any(older)) else None


def _not_used(context: Context, question: Question) -> Evidence | None:
    return Evidence({"root": context.root_names})


def _result_not_used(context: Context, question: Question) -> Evidence | None:
    was_used = context.happened_to(question.key, EventKind.ACCUMULATE)
    if was_used or question.name.rpartition(".")[0] in _used_modules(context):
        return None
    return _with_place(context, question.name, "use its result in {}.data or a copy")


def _hidden(context: Context, question: Question) -> Evidence | None:
    if not context.hides_operations:
        return None
    fix = "use it in {}.data, a copy, or before it required grad"
    found, used = _with_place(context, question.name, fix), left_out(context, question)
    if found.locations or used is None:
        return found
    more, fix = f"; {used.name} does, at {mention(used.location)}", f"use {used.name} in what "
    words = {**found.words, "more": more, "fix": f"{fix}{context.root_names} is computed from"}
    return Evidence(words, locations=(used.location,))


def _with_place(context: Context, name: str, fix: str) -> Evidence:
    """Names the line at which its values are known to be lost, if there is one."""
    on = f"what {context.root_names} is computed from; if it is used, look where its values go on "
    fix = fix.format(f"{on}without a gradient: nn.Parameter(...), ")
    lines, more, fix = replaced_at(context, name) or ((), "", fix)
    return Evidence({"root": context.root_names, "more": more, "fix": fix}, locations=lines)


def _used_modules(context: Context) -> frozenset[str]:
    """The paths of modules with operations or parameters that the roots were computed from."""

    def search() -> frozenset[str]:
        nodes = [context.graph.nodes[key] for key in context.reachable]
        paths = {data["module"] for data in nodes if data.get("module")}
        leaves = (e for e in nodes if e["kind"] is NodeKind.PARAMETER)
        paths |= {data.get("name", "").rpartition(".")[0] for data in leaves}
        parts = [path.split(".") for path in paths]
        return frozenset(".".join(part[:end]) for part in parts for end in range(len(part) + 1))

    return context.cached("used modules", search)


def _part_not_called(context: Context, question: Question) -> Evidence | None:
    path, uncalled = question.call or ("", ())
    owner = question.name.rpartition(path)[0] if path else question.name  # "" in a loop
    parts, roots = [owner + each for each in uncalled], context.root_names
    hidden = f"no operation that {roots} was computed from uses it"
    unused = hidden if context.hides_operations else f"not used by {roots}"
    words = {"parts": listed(parts), "verb": "were" if parts[1:] else "was"}
    return Evidence({"unused": unused, **words}) if uncalled else None


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
    every = f"any of its {details.count:,} parameters" if details.count > 1 else "it"
    found |= {"optimizer": details.optimizer, "any": every}
    return Evidence(found, locations=(event.location,))


def gradient_in_a_list(error: ErrorContext) -> tuple[str, Any, bool] | None:
    """The first gradient in a list that is None, where a loop or a comprehension used it.

    Returns:
        The item as code, ``grads[2]``; the parameter whose gradient it is, and whether it is what
        ``torch.autograd.grad`` returned, in place of its ``.grad``.
    """
    statement, raised = statement_at(error.location), error.error
    if statement is None or raised is None or error.names is None:
        return None
    held = variables_of(raised)
    used = {e.id for e in can_be_none(statement, error.read) if isinstance(e, ast.Name)}
    used = {name for name in used if held.get(name, held) is None}
    leaves = {id(e.tensor): e.tensor for e in error.names if used and e.tensor.is_leaf}
    trained = [each for each in leaves.values() if each.requires_grad]
    every = [e for e in leaves.values() if e.requires_grad or type(e).__name__ == "Parameter"]
    tree = syntax_tree(error.location.file) if used else None
    loops = [(each.target, each.iter) for each in nodes_in(tree, ast.For)]
    loops += [(each.target, each.iter) for each in nodes_in(tree, ast.comprehension)]
    for target, over in loops:
        if used.isdisjoint(each.id for each in nodes_in(target, ast.Name)):
            continue
        code, rows = listed_in(over, held)
        at = next((at for at, each in enumerate(rows) if each is None), None)
        made = [value for _, value in assignments_to(error.location, code)]
        is_returned = any(isinstance(e, ast.Call) and called_name(e) == "grad" for e in made)
        if at is not None and (
            found := leaves_of(rows, trained, is_returned) or leaves_of(rows, every, False)
        ):
            return f"{code}[{at}]", found[at], is_returned
    return None


_OF_UNUSED = "leave it out: [g for g in grads if g is not None]; or pass materialize_grads=True, "
_OF_UNUSED += "which gives zeros"


def none_of_grad(error: ErrorContext) -> Evidence | None:
    """A gradient that ``torch.autograd.grad`` returned as None, as it was allowed to."""
    if (item := gradient_in_a_list(error)) is None or not item[2]:
        return None
    name = error.called.get(id(item[1]), "a parameter")
    said = f"{item[0]} is None{error.at}: torch.autograd.grad with allow_unused=True returned it, "
    said += f"as no path leads from what it was called on to {name}"
    return error.evidence(words={"said": said, "fix": _OF_UNUSED})


def input_not_used(context: Context, error: ErrorContext) -> Evidence | None:
    """Inputs of ``torch.autograd.grad`` that the output does not depend on."""
    if error.read.kind is not MessageKind.INPUT_NOT_USED:
        return None
    unused, call = _unused_inputs(error), grad_call_of(error.error)
    who = [error.as_input(*each[:2]) for each in unused] or _unused_keys(context, error)
    names = (error.called.get(id(each)) for each in (call.outputs if call is not None else ()))
    output = joined([name for name in names if name])
    number = error.read.index if error.read else -1  # torch 2.12 does not say it
    unnamed = f"inputs[{number}]" if number >= 0 else "one of its inputs"
    fix = "compute the output from it, or pass allow_unused=True, which returns None for it"
    words = {"who": joined(who) or unnamed, "output": output or "the output", "why": "", "fix": fix}
    if unused and all(each[2] for each in unused):
        words["why"] = ", though both were computed from one tensor"
        words["fix"] = f"make it before {words['output']}, and compute {words['output']} from it"
        if len(whole := {error.whole_of(each[1]) for each in unused} - {""}) == 1:
            fix = f"ask for the gradient of {whole.pop()}, and take the same part of it; or "
            words["fix"] = fix + words["fix"]
    if unused and call and error.why and error.asked.recording is not None:
        why = error.why(unused[0][1], error.called.get(id(unused[0][1]), ""), call.outputs)
        words["fix"] = why.fix if why.rule == INSIDE else words["fix"]
        if why.verdict is Verdict.NOT_CONNECTED:
            key = error.asked.recording._snapshots.key_of(unused[0][1])
            words |= of_a_linear(context, error.location, key)
        if why.verdict is Verdict.CUT and len(unused) == 1:
            words |= {"why": f": {why.reason}", "fix": why.fix}
            return error.evidence((), why.locations, words=words)
    return error.evidence(words=words)


def _unused_inputs(error: ErrorContext) -> list[tuple[int, Any, bool]]:
    """The inputs that no output depends on, their places, and whether they share a source."""
    call = grad_call_of(error.error)
    if call is None or not all(hasattr(type(each), "grad_fn") for each in sum(call, ())):
        return []
    from gradviz.capture.tensors.names import Names
    from gradviz.diagnosis.reading import traced

    graph, keys = traced((*call.outputs, *call.inputs), Names([]))
    reached = Context(graph, tuple(keys[id(each)] for each in call.outputs))
    rows = [(n, each, keys[id(each)]) for n, each in enumerate(call.inputs)]
    shared = {key: not reached.reachable.isdisjoint(ancestors(graph, [key])) for *_, key in rows}
    return [(n, each, shared[key]) for n, each, key in rows if not reached.is_reachable(key)]


def _unused_keys(context: Context, error: ErrorContext) -> list[str]:
    """The unused inputs of the recorded call, if the exception was not passed."""
    passes = context.happened(EventKind.BACKWARD)
    details = passes[-1].details if passes else None
    if not isinstance(details, BackwardDetails):
        return []
    keys, number = details.inputs or (), error.read.index
    is_known = 0 <= number < len(keys) and keys[number] in context.graph
    name = context.graph.nodes[keys[number]].get("name", "") if is_known else ""
    return [f"{name} (inputs[{number}])"] if name else []


INSIDE = "it may be used inside a Function"
not_connected_rules: tuple[Rule[Any, Any], ...] = only_when(
    Reach.UNREACHABLE,
    of_another_model,
    Rule(
        "the pass before its step began at a leaf",
        Verdict.NOT_CONNECTED,
        pass_of_a_leaf,
        "backward at {line}, the last one before the step at {step}, began at {root}, a leaf, and "
        "gave it no gradient",
        events=(EventKind.STEP,),
        docs="A loss that is made anew, as by torch.tensor(loss.item(), requires_grad=True), has "
        "no history.",
    ),
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
        given="call",
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
    in_condition,
    Rule(
        "the result of its module is not used",
        Verdict.NOT_CONNECTED,
        _result_not_used,
        "its module was called, and no operation that {root} was computed from uses what it "
        "computed{more}",
        given="call",
        needs=Needs.RECORDING,
    ),
    Rule(
        "no recorded operation uses it",
        Verdict.NOT_CONNECTED,
        _hidden,
        "no operation that {root} was computed from uses it{more}",
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


# Reachable tensors without a gradient.

_RETURN = "return its gradient from backward, instead of None"


def _retained_late(context: Context, question: Question) -> Evidence | None:
    """A pass ran through a result on which ``retain_grad()`` was called after it."""
    is_retained = not question.is_leaf and "grad" in question.data
    if not is_retained or not context.passes or question.key not in context.graph:
        return None
    of_passes = [each for each in context.frames if each.kind is FrameKind.AFTER_BACKWARD]
    rows = [each for each in of_passes if question.key in each.graph]
    event = context.pass_of.get(rows[-1].pass_number) if rows else None
    if event is None or getattr(event.details, "inputs", None) is not None:
        return None
    if rows[-1].graph.nodes[question.key].get("retains_grad"):
        return None
    words = {"line": mention(event.location), "name": question.code}
    return Evidence(words, locations=(event.location,))


def _returned_none(context: Context, question: Question) -> Evidence | None:
    """Every way to a leaf leads through an input for which a Function returned None."""
    lost: Any = context.lost_in_pass(Loss.MISSING)
    details = context.passes[-1].details if context.passes else None
    is_whole = details is not None and not getattr(details, "has_failed", False)
    is_whole = is_whole and {*context.roots} <= {*getattr(details, "roots", ())}
    if is_whole and not context.happened_to(question.key, EventKind.ACCUMULATE):
        # Its inputs=... are explained before; only operations next to the roots are watched.
        lost = lost or {(each, at) for each in context.functions for at in range(16)}
    key = question.key if lost and question.is_leaf and question.key in context.graph else ""
    if not key or not (found := stops_on_every_way(context.graph, context.roots, key, lost)):
        return None
    data = context.graph.nodes[found[0]]
    line, op = data.get("source", ""), data.get("op", "")
    fix = "look for a detach() inside it; checkpoint(..., use_reentrant=False) shows it"
    words = {"function": op or word_of(data), "fix": fix if op == "checkpoint" else _RETURN}
    words["where"] = f", applied at {mention(line)}," if line else ""
    words["why"], asked = "", differentiated_in(op, line)
    if asked:
        words["why"] = (
            f": {mention(asked)} differentiates what is computed there, where operations "
        )
        words["why"] += "are not recorded"
        words["fix"] = "compute it again and differentiate it under torch.enable_grad() in backward"
    return Evidence(words, tuple(found), locations_of([line, str(asked or "")]), found[0])


retained_late: Rule[Any, Any] = Rule(
    "retain_grad() after the pass",
    Verdict.NON_LEAF,
    _retained_late,
    "retain_grad() was not called on it before backward at {line}, which ran through it",
    "call {name}.retain_grad() before backward",
    events=(EventKind.BACKWARD,),
    when=(Reach.REACHABLE,),
)

returned_none: Rule[Any, Any] = Rule(
    "a Function returned no gradient for it",
    Verdict.CUT,
    _returned_none,
    "the backward of {function}{where} returned None for the input that it leads to{why}",
    events=(EventKind.BACKWARD,),
    when=(Reach.REACHABLE,),
)
