"""Rules for a ``.grad`` that is None: cleared, left out, not run, frozen, non-leaf, ..."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import RECORD, UNNAMED, Context, Question, Reach, call_of
from gradviz.diagnosis.cuts import (
    TURN_ON,
    is_known_cut,
    left_off,
    said_of,
    said_of_path,
)
from gradviz.diagnosis.lines import (
    assignments_to,
    at_line,
    locations_of,
    mention,
    nodes_in,
    statement_at,
    transforms_in,
)
from gradviz.diagnosis.name_flow import frozen_from_start
from gradviz.diagnosis.no_graph import lost_on_the_way
from gradviz.diagnosis.not_connected import retained_late, returned_none
from gradviz.diagnosis.rule import Evidence, Needs, Rule, has_graph, without_call, written
from gradviz.diagnosis.training import CLEARS, repeated_pass
from gradviz.diagnosis.values import is_all_zero
from gradviz.facts import SENDING, Action, BackwardDetails, CutEdge, EventKind, HookDetails
from gradviz.graph import EdgeKind, GradGraph, NodeData, NodeKind, ancestors, is_gradient
from gradviz.graph.operations import operation, twin_of
from gradviz.graph.text import joined
from gradviz.story import Event
from gradviz.wording import clearing_word

ELSEWHERE = "an optimizer made steps in another thread, whose operations are not recorded"
RECORD_THERE = "begin the recording in that thread: with gradviz.record() as run: ..."
_FAILED = "explain the error: gradviz.explain(error, run)"
_LEFT_OUT = "nothing is to be done if that pass is meant to leave it out; else use it in that pass"
Match = Callable[[Context, Question], Evidence | None]


# Events about a leaf.


def _cleared(context: Context, question: Question) -> Evidence | None:
    if question.data["kind"] is NodeKind.UNTRACKED:
        return None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    if not added:
        return _cleared_in_a_hook(context, question)
    changes = context.gradient_changes(question.key)
    by = next((event for event in changes if event.action is Action.SET_TO_NONE), None)
    where = ", by code that was not recorded"
    fix = f"read {question.code}.grad before that, or clear it at the start of the next step"
    if by is not None:
        where = f" by {clearing_word(by.word)} at {mention(by.location)}"
        # It was cleared at the start of a step: then the pass of that step is the cause.
        again = repeated_pass(context, added[-1], by)
        if again is not None:
            has_failed = getattr(again.details, "has_failed", False)
            what = "raised an error" if has_failed else "added nothing to it"
            where += f"; after that, backward at {mention(again.location)} {what}"
            fix = _FAILED if has_failed else _LEFT_OUT
            is_last = again is context.passes[-1] and not has_failed
            if is_last and (said := said_of_path(context, question)) is not None:
                where += f": its path is cut by {said.cut}{said.more}"
                fix = f"{said.fix}; nothing, if that pass may leave it out"
    words = {"added": mention(added[-1].location), "where": where, "fix": fix}
    locations = (added[-1].location, *((by.location,) if by else ()))
    return Evidence(words, locations=locations)


def is_cleared(context: Context, key: str) -> bool:
    """Whether a gradient was cleared after the latest pass that added to it."""
    return any(event.action in CLEARS for event in context.gradient_changes(key))


def is_taken_by_torch(context: Context, key: str) -> bool:
    """Whether a function of torch removed a gradient, as the schedule of a pipeline sends it."""
    words = [e.word for e in context.gradient_changes(key) if e.action is Action.SET_TO_NONE]
    return bool(words) and words[-1] not in ("grad", "zero_grad")


def cleared_in_hooks(context: Context, key: str) -> list[Event]:
    """The hooks that set a gradient to None, or to zeros, after it was accumulated."""
    return [
        event
        for event in context.happened_to(key, EventKind.HOOK)
        if isinstance(event.details, HookDetails)
        and event.action is Action.AFTER_ACCUMULATION
        and event.details.before is not None
        and (event.details.after is None or is_all_zero(event.details.after))
    ]


def _cleared_in_a_hook(context: Context, question: Question) -> Evidence | None:
    """A hook that runs after accumulation cleared it, such as one that runs an optimizer."""
    hooks = cleared_in_hooks(context, question.key)
    passes = [event for event in context.passes if hooks and event.number < hooks[-1].number]
    if not passes:
        return None
    hook, fix = hooks[-1], f"read {question.code}.grad in the hook, before it is cleared"
    steps = [each for each, step in context.steps if question.key in step.held]
    if steps and steps[-1].number > hook.number:
        fix = f"do not clear it in the hook, as the step at {mention(steps[-1].location)} needs it"
    words = {"added": mention(passes[-1].location), "where": f" in a hook{at_line(hook.location)}"}
    return Evidence({**words, "fix": fix}, locations=(passes[-1].location, hook.location))


def _passes(context: Context) -> list[Event]:
    """The backward passes, without those that failed on another result than the explained one."""

    def is_of_another(event: Event) -> bool:
        details = event.details
        if not isinstance(details, BackwardDetails) or not details.has_failed:
            return False
        return bool(context.roots) and set(context.roots).isdisjoint(details.roots)

    return [event for event in context.passes if not is_of_another(event)]


def _only_autograd_grad(context: Context, question: Question) -> Evidence | None:
    roots = set(context.roots)
    calls = [
        event
        for event in context.happened(EventKind.BACKWARD)
        if isinstance(event.details, BackwardDetails) and not roots.isdisjoint(event.details.roots)
    ]
    if not question.is_leaf or _passes(context) or not calls or has_graph(calls[-1]):
        return None
    words = {"line": mention(calls[-1].location), "call": call_of(context)}
    return Evidence(words, locations=(calls[-1].location,))


def only_returned(
    context: Context, question: Question, verdict: Verdict
) -> tuple[Verdict, str] | None:
    """The verdict in a list on what ``torch.autograd.grad`` returned, and nothing else trains.

    None if an optimizer holds it, or if a call dropped the gradients; also if a backward pass or a
    step ran, unless a library called it for that tensor, or it is data beside a trained model, or
    has no name, as the data with which a pipeline finds the shapes of a stage.
    """
    key, is_data, steps = question.key, question.kind is NodeKind.LEAF, context.steps
    calls = [e for e in context.happened(EventKind.BACKWARD) if e.action is Action.AUTOGRAD_GRAD]
    lines = (statement_at(e.inside or e.location) for e in calls)
    if any(isinstance(each, ast.Expr) and "grad" in ast.dump(each) for each in lines):
        return None
    asked = [event for event in calls if key in (getattr(event.details, "inputs", None) or ())]
    is_held = key in context.held or context.steps_with(key)
    is_alone = not (context.passes or steps)
    is_enough = is_alone or (is_data and bool(steps or not question.data.get("name")))
    if asked and not is_held and (asked[-1].inside or is_enough):
        line = mention(asked[-1].location)
        return Verdict.FINE, f"torch.autograd.grad at {line} returned its gradient"
    if not calls or not is_alone:
        return None
    where = f"torch.autograd.grad, at {mention(calls[-1].location)},"
    if verdict is Verdict.LEFT_OUT:
        has_failed = getattr(calls[-1].details, "has_failed", False)
        what = "raised an error" if has_failed else "returned the gradients of other tensors"
        return Verdict.UNTRAINED, f"{where} {what}"
    made = context.happened_to(key, EventKind.REQUIRES_GRAD)
    if made and made[0].number > calls[-1].number:
        return Verdict.UNTRAINED, f"it became a leaf after the last gradient, by {where[:-1]}"
    return None


def _not_in_inputs(context: Context, question: Question) -> Evidence | None:
    last = next(reversed(context.passes), None)
    inputs = getattr(last.details, "inputs", None) if last is not None else None
    if last is None or inputs is None or question.key in inputs:
        return None
    words = {"line": mention(last.location), "name": question.code}
    return Evidence(words, locations=(last.location,))


def _pass_failed(context: Context, question: Question) -> Evidence | None:
    last = next(reversed(_passes(context)), None)
    if last is None or not getattr(last.details, "has_failed", False):
        return None
    return Evidence({"line": mention(last.location)}, locations=(last.location,))


def _without_elements(context: Context, question: Question) -> Evidence | None:
    is_trained = question.is_parameter and question.data["kind"] is not NodeKind.UNTRACKED
    is_empty = is_trained and 0 in question.data.get("shape", ())
    return Evidence() if is_empty and question.key in context.flat else None


event_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "FSDP has not reduced it over the ranks",
        Verdict.LEFT_OUT,
        lambda context, question: Evidence(),
        "backward added to the gradient that FSDP keeps on this rank, which is not reduced over "
        "the ranks yet: .grad is set by the next backward with gradient sync on",
        "call set_requires_gradient_sync(True) on the model before the last backward of a step",
        docs="FSDP2 after a pass under set_requires_gradient_sync(False).",
        given="unreduced",
    ),
    Rule(
        "this rank has no element of it",
        Verdict.LEFT_OUT,
        _without_elements,
        "this rank holds no element of it: its gradient is on the ranks that do",
        "nothing is to be done; to read all of it, use FullyShardedDataParallel.summon_full_params",
        docs="FSDP1 puts parameters into one flat tensor, of which each rank holds a part.",
        given="flat",
    ),
    Rule(
        "the gradient was cleared after backward",
        Verdict.CLEARED,
        _cleared,
        "backward at {added} accumulated its gradient, and it was cleared afterwards{where}",
        events=(EventKind.ACCUMULATE, EventKind.HOOK),
        docs="The last event that set .grad to None after the last pass that accumulated in it.",
        to_it=True,
    ),
    Rule(
        "torch.autograd.grad ran instead of backward",
        Verdict.LEFT_OUT,
        _only_autograd_grad,
        "torch.autograd.grad at {line} returns gradients and does not change .grad",
        "call {call} instead",
        events=(EventKind.BACKWARD,),
        docs="Every backward pass of the recording was torch.autograd.grad, called on the same "
        "result.",
        when=(Reach.REACHABLE,),
    ),
    Rule(
        "backward(inputs=...) did not list it",
        Verdict.LEFT_OUT,
        _not_in_inputs,
        "backward at {line} was called with inputs= without it",
        "add {name} to inputs=, or remove inputs=",
        events=(EventKind.BACKWARD,),
        docs="The latest backward pass was limited to other tensors.",
        when=(Reach.REACHABLE,),
    ),
    Rule(
        "backward failed before it reached the tensor",
        Verdict.NOT_RUN,
        _pass_failed,
        "backward at {line} raised an error before a gradient reached it",
        _FAILED,
        events=(EventKind.BACKWARD,),
        docs="The latest backward pass raised, and the tensor is reachable from its root.",
        when=(Reach.REACHABLE,),
    ),
)


# Leaves that are reachable from the roots, or without a root.


def _in_another_thread(context: Context, question: Question) -> Evidence | None:
    return Evidence() if question.is_leaf and not context.passes else None


def _frozen(context: Context, question: Question) -> Evidence | None:
    switched = context.happened_to(question.key, EventKind.REQUIRES_GRAD)
    off = [event for event in switched if event.action is Action.REQUIRES_GRAD_OFF]
    if question.data["kind"] is not NodeKind.UNTRACKED:  # only after the forward pass
        off = off if off and off[-1] is switched[-1] else []
    elif _integer(context, question) or _inference(context, question):
        return None
    if not off and not (question.is_parameter and question.data["kind"] is NodeKind.UNTRACKED):
        return None
    where = f", switched off at {mention(off[-1].location, off[-1].inside)}" if off else ""
    locations = tuple(event.location for event in off[-1:])
    fix = f"{question.code}.requires_grad_(True) before the forward pass"
    made = () if off else frozen_from_start(context.files, question.name)
    if made:
        location, how = made
        where, locations = f", as it was created at {mention(location)}", (location,)
        fix = f"{how} there; or {fix}"
    return Evidence({"where": where, "fix": f"if it is to be trained: {fix}"}, locations=locations)


def _no_pass(context: Context, question: Question) -> Evidence | None:
    """Something was computed, no result of it is left, and backward did not run."""
    if context.happened(EventKind.BACKWARD) or left_off(context) is not None:
        return None
    if not (steps := context.happened(EventKind.STEP)):
        return context.cached("lost result", lambda: _lost_result(context))
    what, fix = f"though an optimizer made a step at {mention(steps[-1].location)}", _BEFORE_STEP
    if lines := tuple(transforms_in(context.files)[:1]):
        what += f"; torch.func at {mention(lines[0])} returns gradients, and sets no .grad"
        fix = "assign what torch.func returns to .grad before the step, or call backward()"
    return Evidence({"what": what, "fix": fix}, locations=(steps[-1].location, *lines))


_BEFORE_STEP = "call backward() on the loss before the step"


def _lost_result(context: Context) -> Evidence | None:
    """The last operation, with gradients on, whose result is gone, or has no readable history."""
    made = [each for each in context.happened(EventKind.OPERATION) if context.is_hidden(each)]
    modes = [e for e in context.happened(EventKind.MODE) if made and e.number < made[-1].number]
    if not made or (modes and modes[-1].action is Action.GRADIENTS_OFF):
        return None
    what = f"and the graph at its end has no result of {made[-1].word} at "
    what += f"{mention(made[-1].location)}, which may have used it"
    fix = "call backward() on the loss where it is computed, or return the loss"
    return Evidence({"what": what, "fix": fix})


def _no_root(context: Context, question: Question) -> Evidence | None:
    if (off := left_off(context)) is None:
        edges = context.graph.out_edges([question.key], data=True)
        cuts = [CutEdge(*e) for e in edges if e[2]["kind"] is EdgeKind.CUT and is_known_cut(e[2])]
        if not cuts:
            return Evidence({"why": ""})
        said = said_of(context, cuts[-1])
        words = {"why": f": what was is cut off by {said.cut}", "fix": said.fix}
        return Evidence(words, (cuts[-1].target,), said.lines)
    why = f": gradients are off since {off.word}(False) at {mention(off.location)}"
    words = {"why": why, "fix": TURN_ON.format(off.location)}
    return Evidence(words, locations=(off.location,))


def _connected(context: Context, question: Question) -> Evidence | None:
    if not question.is_leaf and "grad" not in question.data:
        return None
    added = "no backward pass has accumulated a gradient so far"
    if not context.is_recorded:
        added = "nothing was accumulated since it was last None"
    added += (missing := without_call(context, "backward"))
    words = {"root": context.root_names, "added": added, "call": call_of(context)}
    words["call"] += ", with the parentheses" * bool(missing)
    events = reversed(context.happened_to(question.key, EventKind.OPERATION))
    if sent := next((each for each in events if each.word in SENDING), None):
        name = context.graph.nodes[context.roots[0]].get("name", "h")
        words["call"] += f"; if {sent.word} at {mention(sent.location)} gave {name} to another "
        words["call"] += f"rank, {name}.backward(gradient) with the gradient received from it"
    steps = () if _passes(context) else context.happened(EventKind.STEP)
    for step in steps[-1:]:
        words["added"] += f", though an optimizer made a step at {mention(step.location)}"
        if code := written([step], "step", "step"):
            words["call"] += f" in the function that {code} calls"
    return Evidence(words, locations=tuple(each.location for each in (sent, *steps[-1:]) if each))


def _a_pass_has_run(context: Context, question: Question) -> Evidence | None:
    if context.is_recorded or _connected(context, question) is None:
        return None
    sign = "another tensor has a gradient" if context.with_grad else ""
    if context.freed and context.freed & context.path(question.key):
        sign = "the saved tensors are freed"
    return Evidence({"root": context.root_names, "sign": sign}) if sign else None


def _without_derivative(context: Context, question: Question) -> Evidence | None:
    """Every path from the roots leads through operations that have no derivative."""
    graph, blocked = context.graph, context.without_derivative
    if not blocked:
        return None
    around = ancestors(
        graph,
        context.roots,
        lambda source, target, edge: is_gradient(source, target, edge) and target not in blocked,
    )
    if question.key in around:
        return None
    key = min(blocked & context.path(question.key), default=min(blocked))
    changes = context.happened_to(key, EventKind.IN_PLACE)
    calls = [event for event in changes if event.action is Action.NOT_SEEN]
    line = graph.nodes[key].get("source", "")
    what, fix = f"an operation at {line}" if line else "an operation", ""
    if calls:
        what = f"torch.distributed.{calls[-1].word} at {mention(calls[-1].location)}"
        fix = twin_of(calls[-1].word)
    locations = tuple(event.location for event in calls[-1:])
    return Evidence({"what": what, "fix": fix}, (key,), locations)


frozen: Rule[Any, Any] = Rule(
    "requires_grad was switched off",
    Verdict.FROZEN,
    _frozen,
    "it is frozen: requires_grad is False{where}",
    docs="A parameter that does not require grad, or a tensor for which a recording shows the "
    "switch, also after the forward pass.",
    when=(Reach.UNTRACKED, Reach.REACHABLE),
)
connected_rules: tuple[Rule[Any, Any], ...] = (
    frozen,
    Rule(
        "the path leads through an operation without a derivative",
        Verdict.CUT,
        _without_derivative,
        "the path to it leads through {what}, which has no derivative",
        docs="Torch warns in the backward pass that no autograd kernel was registered.",
        when=(Reach.REACHABLE,),
    ),
    Rule(
        "an optimizer of another thread made a step",
        Verdict.NOT_KNOWN,
        _in_another_thread,
        ELSEWHERE,
        RECORD_THERE,
        docs="A recording follows the thread that began it.",
        given="elsewhere",
        needs=Needs.RECORDING,
    ),
    Rule(
        "no backward pass, and no result is left",
        Verdict.NOT_RUN,
        _no_pass,
        "backward() was not called in the recording, {what}",
        docs="The results are gone, so that it is not known which of them used the tensor.",
        when=(Reach.NO_ROOT,),
        needs=Needs.RECORDING,
    ),
    Rule(
        "nothing was computed from it",
        Verdict.NOT_CONNECTED,
        _no_root,
        "no result that requires grad was computed from it{why}",
        docs="The recording shows no result that requires grad.",
        when=(Reach.NO_ROOT,),
        needs=Needs.RECORDING,
    ),
    Rule(
        "no result was passed or found",
        Verdict.NOT_KNOWN,
        lambda context, question: Evidence({"name": question.code}),
        "nothing was accumulated, and no result was found on which backward can be called",
        "pass the result: gradviz.explain({name}, loss)",
        docs="Without a recording, the result is searched among the variables of the caller.",
        when=(Reach.NO_ROOT,),
    ),
    retained_late,
    Rule(
        "connected, and a backward pass has run",
        Verdict.NOT_KNOWN,
        _a_pass_has_run,
        "it is connected to {root}, and a backward pass has run ({sign}); whether its gradient was "
        "cleared, left out by inputs= or returned by torch.autograd.grad, or the pass raised an "
        "error, was not recorded",
        lambda found: RECORD,
        docs="Freed saved tensors, or a gradient elsewhere, show that backward has run.",
        when=(Reach.REACHABLE,),
    ),
    returned_none,
    Rule(
        "connected, and backward has not run",
        Verdict.NOT_RUN,
        _connected,
        "it is connected to {root}, and {added}",
        "call {call}",
        docs="The tensor is reachable from the result.",
        when=(Reach.REACHABLE,),
    ),
)


# Tensors that do not require grad, and results of operations.


def _integer(context: Context, question: Question) -> Evidence | None:
    dtype = question.data.get("dtype", "unknown")
    if dtype.startswith(("float", "bfloat", "complex", "unknown")):
        return None
    return Evidence({"dtype": dtype, "name": question.code})


def _inference(context: Context, question: Question) -> Evidence | None:
    if not question.data.get("inference"):
        return None
    line = question.data.get("source", "")
    return Evidence({"where": at_line(line), "name": question.code}, (), locations_of([line]))


def _comes_from_a_cut(context: Context, question: Question) -> Evidence | None:
    if question.key not in context.graph:
        return None
    cut = next(iter(lost_on_the_way(context, question.key)), None)
    known = [edge for edge in question.cuts if is_known_cut(edge)]
    # No frame may show where its data came from, or only a cut before, or one written later.
    if known and (cut is None or cut.edge.get("source") != known[-1].get("source")):
        cut = CutEdge(question.key, question.key, known[-1])
    if cut is None:
        return None
    said = said_of(context, cut)
    return Evidence({"cut": said.cut, "fix": said.fix}, (cut.target,), said.lines)


def _untracked(context: Context, question: Question) -> Evidence | None:
    why = "; whether it never did, or was cut off, was not recorded"
    if context.is_recorded and question.key:
        why = ", and no tensor that it was computed from does"
    return Evidence({"why": why, "name": question.code})


def _non_leaf(context: Context, question: Question) -> Evidence | None:
    if question.is_leaf or "grad" in question.data:
        return None
    name, maker = question.code, _maker(context.graph, question.key)
    op, line = maker.get("op", "an operation"), maker.get("source", "")
    inputs = ancestors(context.graph, [question.key]) if question.key else set()
    leaves = [key for key in context.graph.leaves if key in inputs]
    leaf = context.graph.nodes[leaves[0]].get("name") if len(leaves) == 1 else ""
    called = [context.graph.nodes[key].get("name", "") for key in leaves]
    originals = [each for each in called if "parametrizations." in each]
    if originals:
        read = joined([f"{each}.grad" for each in originals])
        fix = f"a parametrization computes it each time that it is read: read {read} instead"
    elif question.name == UNNAMED:
        fix = "assign it to a variable, and call retain_grad() on it before backward"
    elif (operation(op).views or op == "reshape") and leaf:
        fix = f"it is a view of {leaf}: read {leaf}.grad, or {name}.retain_grad() before backward"
    elif operation(op).converts:
        fix = (
            f"to train {name} itself, make it a leaf when it has its final dtype, device and "
            f"scale: {name} = {name}.detach().requires_grad_(); else {name}.retain_grad() before "
            "backward"
        )
    else:
        fix = f"call {name}.retain_grad() before backward"
        if _is_rebound(line, question.name):
            fix = f"make it a leaf again after that line: {name} = {name}.detach().requires_grad_()"
        elif operation(op).updates and question.key not in context.roots:
            fix += "; to update a parameter, change it in place: "
            fix += f"with torch.no_grad(): {name} -= ..."
    words = {"op": op, "where": at_line(line), "fix": fix}
    return Evidence(words, locations=locations_of([line]))


def _is_rebound(line: str, name: str) -> bool:
    """Whether a line computes a variable from its own value: ``x = clamp(x + step, 0, 1)``."""
    for at in locations_of([line]):
        values = [value for number, value in assignments_to(at, name) if number == at.line]
        return any(ast.unparse(e) == name for value in values for e in nodes_in(value, ast.expr))
    return False


def _maker(graph: GradGraph, key: str) -> NodeData:
    if key not in graph:
        return {}
    data: NodeData = graph.nodes[key]
    made = [*graph.inputs(key)] if data["kind"] is NodeKind.RESULT else []
    return graph.nodes[made[0][0]] if made else data


other_tensor_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "integers and booleans have no gradient",
        Verdict.INTEGER,
        _integer,
        "it is {dtype}, and only floating-point and complex tensors have gradients",
        "make it floating point: {name} = {name}.float().requires_grad_()",
        when=(Reach.UNTRACKED,),
    ),
    Rule(
        "created under inference_mode",
        Verdict.INFERENCE,
        _inference,
        "it was created under inference_mode{where}, so autograd cannot record it",
        "create it under torch.no_grad() instead, or copy it outside: "
        "{name} = {name}.clone().requires_grad_()",
    ),
    Rule(
        "computed from data that was cut off",
        Verdict.CUT,
        _comes_from_a_cut,
        "its data comes from a tensor that requires grad, cut by {cut}",
        docs="The cut nearest to the tensor that requires grad is named.",
        when=(Reach.UNTRACKED,),
    ),
    Rule(
        "does not require grad",
        Verdict.UNTRACKED,
        _untracked,
        "it does not require grad{why}",
        "if it is a leaf: {name}.requires_grad_() before the forward pass",
        when=(Reach.UNTRACKED,),
    ),
    Rule(
        "a non-leaf tensor",
        Verdict.NON_LEAF,
        _non_leaf,
        "it is a non-leaf tensor, created by {op}{where}, and autograd keeps .grad of leaves only",
        docs="The result of an operation on which retain_grad() was not called.",
    ),
)
