"""Rules for an unexpected gradient: hooks, old values, accumulation, scale."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.changed_gradients import is_cleared_for_another
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.cuts import known_cuts, said_of, said_of_path
from gradviz.diagnosis.in_place import is_update, passes_for_inputs
from gradviz.diagnosis.lines import at_line, mention
from gradviz.diagnosis.relative_size import scale_rules
from gradviz.diagnosis.rule import Evidence, Needs, Rule, without_call
from gradviz.diagnosis.silent_faults import combined_at_another_time, is_part, not_averaged
from gradviz.diagnosis.training import CLEARS, clearings_of, is_of_another, scale_of, uses_of
from gradviz.diagnosis.values import is_all_zero
from gradviz.facts import (
    FROM_OTHERS,
    Action,
    BackwardDetails,
    CutEdge,
    EventKind,
    GradientDetails,
    HookDetails,
    SourceLocation,
    StepDetails,
)
from gradviz.graph import NodeKind, word_of
from gradviz.graph.text import time_text
from gradviz.story import Event
from gradviz.wording import gradient_change_text

_HOOKED = "BackwardHookFunction"  # the node before and after a module with full backward hooks
_REMOVE = "if that is not meant, remove the hook: handle.remove()"


def _locations(*events: Event) -> tuple[SourceLocation, ...]:
    return tuple(event.location for event in events)


def _replaced(context: Context) -> list[tuple[Event, HookDetails]]:
    """The hooks that returned a different gradient than they received."""
    return [
        (event, event.details)
        for event in context.happened(EventKind.HOOK)
        if isinstance(event.details, HookDetails) and event.word == "hook"
    ]


def _hook_on_it(context: Context, question: Question) -> Evidence | None:
    own = [(event, change) for event, change in _replaced(context) if _is_of(event, question)]
    if not own:
        return None
    event, change = own[-1]
    words = {
        "where": at_line(event.location),
        "change": gradient_change_text(change.before, change.after),
        "who": f"the hook {change.function}" if change.function else "a hook",
    }
    return Evidence(words, locations=_locations(event))


def _is_of(event: Event, question: Question) -> bool:
    if event.nodes:
        return question.key in event.nodes
    return bool(event.name) and event.name == question.data.get("name", question.name)


def _hook_made_it_wrong(context: Context, question: Question) -> Evidence | None:
    grad = question.data.get("grad")
    if grad is None or (grad.is_finite and not is_all_zero(grad)):
        return None
    acted = _acted_on_the_path(context, question, is_wrong=True)
    rows = [(each, each[1].after) for each in acted]
    if grad.is_finite:
        return _hook_evidence(context, [each for each, to in rows if to and is_all_zero(to)])
    return _hook_evidence(context, [each for each, to in rows if to and not to.is_finite])


def _hook_on_the_path(context: Context, question: Question) -> Evidence | None:
    return _hook_evidence(context, _acted_on_the_path(context, question, is_wrong=False))


def _acted_on_the_path(
    context: Context, question: Question, is_wrong: bool
) -> list[tuple[Event, HookDetails, str]]:
    """Hooks of the latest pass that changed the gradient before the tensor, with their nodes."""
    replaced = _replaced(context)
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    if not replaced or not added:
        return []
    end = added[-1].number
    passes = (event.number for event in context.happened(EventKind.BACKWARD))
    begin = max((each for each in passes if each < end), default=end)
    acted = [each for each in replaced if begin < each[0].number < end]
    path = context.path(question.key) if acted else set()
    found = []
    for event, change in acted if path else ():
        key = next((key for key in event.nodes if key in path), "")
        if not event.nodes:
            key = _node_of_module(event, path, context, is_wrong)
        if key and key != question.key:
            found.append((event, change, key))
    return found


def _node_of_module(event: Event, path: set[str], context: Context, is_wrong: bool) -> str:
    """Where a full backward hook of a module acted; "" if not on this path, or not certain.

    Torch puts a node before and one after each such module: a gradient that reaches the node before
    has passed the hook. For the module's own parameters this is uncertain, unless they have none.
    """
    graph = context.graph
    hooked: list[str] = [key for key, data in graph.nodes(data=True) if data.get("op") == _HOOKED]
    named = [key for key in hooked if graph.nodes[key].get("module") == event.name]
    before = named or [key for key in hooked if not graph.nodes[key].get("module")]
    inside = [key for key in hooked if key in path]
    if before and set(before) <= path:
        return before[-1]
    return inside[0] if is_wrong and inside else ""


def _hook_evidence(
    context: Context, found: Sequence[tuple[Event, HookDetails, str]]
) -> Evidence | None:
    if not found:
        return None
    event, change, key = found[0]
    data = context.graph.nodes[key]
    words = {
        "by": f" {change.function}" if change.function else "",
        "on": f"module {event.name}" if data.get("op") == _HOOKED else event.name or word_of(data),
        "where": at_line(event.location),
        "change": gradient_change_text(change.before, change.after),
        "more": f"; so did {len(found) - 1} more" if found[1:] else "",
    }
    nodes = tuple(node for _, _, node in found)
    return Evidence(words, nodes, _locations(*(other for other, _, _ in found)), key)


_ON_THE_PATH = (
    "the hook{by} on {on}{where} changed the gradient before it reached the tensor: {change}{more}"
)


# Gradients that were computed for older values.


def changed_since(context: Context, question: Question) -> Sequence[Event]:
    """The events that changed the values of a leaf that still has its gradient of before."""
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    after = context.gradient_changes(question.key)
    if not added or (after and after[-1].action in CLEARS):
        return []
    changes = [
        event
        for event in context.happened_to(question.key, EventKind.STEP)
        if isinstance(event.details, StepDetails)
        and event.details.changed_values != 0
        and question.key not in event.details.same
        and event.action is not Action.SKIPPED
    ]
    changes += [  # x.data = ... may be a step by hand, such as that of an attack
        event
        for event in context.happened_to(question.key, EventKind.IN_PLACE)
        if event.action not in (Action.DATA_REPLACED, *FROM_OTHERS)
    ]
    changes = [event for event in changes if event.number > added[-1].number]
    return sorted(changes, key=lambda event: event.number)


def _change_words(change: Event) -> str:
    word = "the optimizer's step" if change.kind is EventKind.STEP else change.word
    return f"{word} at {mention(change.location, change.inside)}" if change.location else word


def _overwritten(context: Context, question: Question) -> Evidence | None:
    changes = changed_since(context, question)
    others = [e for e in changes if e.kind is EventKind.IN_PLACE and e.action is not Action.IN_STEP]
    written = [event for event in others if not is_update(event)]
    if not written:
        return None
    if changes[-1] is written[-1] and context.steps_of(question.key):
        return None  # steps used its gradients, and then the best parameters were restored
    added = context.happened_to(question.key, EventKind.ACCUMULATE)[-1]
    words = {"added": mention(added.location), "change": _change_words(written[-1])}
    return Evidence(words, locations=_locations(added, written[-1]))


def _passes_after(context: Context, question: Question, number: int) -> list[Event]:
    """The backward passes after an event that could have accumulated in a leaf."""
    return [
        event
        for event in context.passes
        if event.number > number
        and not (isinstance(event.details, BackwardDetails) and event.details.has_failed)
        and not _was_frozen(context, question.key, event.number)
    ]


def _cut_in(context: Context, question: Question, last: Event) -> CutEdge | None:
    """The known cut because of which a pass accumulated nothing in a leaf, or None."""
    roots = last.details.roots if isinstance(last.details, BackwardDetails) else ("",)
    if not set(roots) <= set(context.roots) or context.is_reachable(question.key):
        return None
    return next(iter(known_cuts(context, question)), None)


def _later(context: Context, question: Question, last: Event) -> Evidence:
    """A pass that accumulated nothing in a leaf, with the cut that explains it."""
    line = f"backward at {mention(last.location)}" if last.location else "a later backward"
    words = {"later": f"{line} accumulated nothing in it", "fix": _CLEAR}
    cut = _cut_in(context, question, last)
    if cut is None:
        return Evidence(words, locations=_locations(last))
    said = said_of(context, cut)
    words["later"] += f": the path to {context.root_names} is cut by {said.cut}"
    if said.fix:
        words["fix"] += f"; if {context.root_names} is meant to train it, {said.fix}"
    return Evidence(words, locations=(*_locations(last), *said.lines))


def _later_pass_without_it(context: Context, question: Question) -> Evidence | None:
    changes = changed_since(context, question)
    if not changes:
        return None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)[-1]
    passes = _passes_after(context, question, changes[0].number)
    if not passes or _is_cleared_in_time(context, question.key):
        return None
    later = _later(context, question, passes[-1])
    words = {"added": mention(added.location), "change": _change_words(changes[-1])}
    locations = (*_locations(added, changes[-1]), *later.locations)
    return Evidence({**words, **later.words}, locations=locations)


def _is_cleared_in_time(context: Context, key: str) -> bool:
    """Whether earlier gradients of a leaf were used once and then cleared, and this one used once.

    So does a generator: its gradient is still there while the critic is trained without it.
    """
    added = [event.number for event in context.happened_to(key, EventKind.ACCUMULATE)]
    cleared, steps = clearings_of(context, key), context.steps_of(key)
    uses = [step.number for step, _ in steps] or uses_of(context, key)  # clamp_ after it uses none
    again = [_next(added, use) for use in uses]
    if len(set(again)) != len(uses) or len(uses) < 2 or again[-1] is not None:
        return False
    return all(
        after is None or ((clear := _next(cleared, use)) is not None and clear < after)
        for use, after in zip(uses, again, strict=True)
    )


def _left_out_of_a_repeat(context: Context, question: Question) -> Evidence | None:
    """The latest pass was cut off from it, and all that this pass reached was in an earlier one.

    Without a step, two passes may be parts of one loss; here, the second one repeats the first.
    """
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    passes = _passes_after(context, question, added[-1].number) if added else []
    cut = _cut_in(context, question, passes[-1]) if passes else None
    if cut is None or uses_of(context, question.key):
        return None
    reached = {
        key
        for event in context.happened(EventKind.ACCUMULATE)
        if event.number > passes[-1].number
        for key in event.nodes
    }
    nodes = context.graph.nodes
    if not all(key in nodes and nodes[key].get("accumulations", 0) > 1 for key in reached):
        return None
    later = _later(context, question, passes[-1])
    words = {"added": mention(added[-1].location), **later.words}
    return Evidence(words, locations=(*_locations(added[-1]), *later.locations))


def _before_the_recording(context: Context, question: Question) -> Evidence | None:
    """No recorded pass accumulated in the gradient, and nothing else recorded set it."""
    key, events = question.key, context.events
    if not question.is_leaf or events is None:
        return None
    if any(context.happened_to(key, kind) for kind in (EventKind.ACCUMULATE, EventKind.GRAD)):
        return None
    if events and events[-1].number != len(events) - 1:
        return None  # some are left out
    if len(events) != len({each.number for each in events}):
        return None
    passes = _passes_after(context, question, -1)
    if not passes or not question.data.get("requires_grad", True):
        return None
    return _later(context, question, passes[-1])


def _was_frozen(context: Context, key: str, number: int) -> bool:
    """Whether requires_grad of a leaf was off when an event happened."""
    before = [e for e in context.happened_to(key, EventKind.REQUIRES_GRAD) if e.number < number]
    return bool(before) and before[-1].action is Action.REQUIRES_GRAD_OFF


def _used_again(context: Context, question: Question) -> Evidence | None:
    changes = changed_since(context, question)
    steps = [event for event in changes if event.kind is EventKind.STEP]
    if not steps[1:]:
        return None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)[-1]
    words = {"added": mention(added.location), "change": _change_words(changes[-1])}
    words["times"] = time_text(len(steps))
    return Evidence(words, locations=_locations(added, changes[-1]))


_STALE = "it comes from backward at {added}, before {change} "
_CLEAR = "clear the gradients before each backward pass: optimizer.zero_grad()"


# Accumulation of several passes.


def _accumulated(context: Context, question: Question) -> Evidence | None:
    if is_cleared_for_another(context, question.key):
        return None
    times = question.data.get("accumulations", 0)
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    if not times:  # some are from before the recording
        ends = (*CLEARS, Action.ASSIGNED)
        changes = context.happened_to(question.key, EventKind.GRAD)
        last = max((e.number for e in changes if e.action in ends), default=-1)
        added = [event for event in added if event.number > last]
        times = len(added)
    added = added[-times:] if times else []
    older = " on a gradient from before the recording" if _had_older(context, added) else ""
    if times + bool(older) <= 1:
        return None
    if older and context.steps:
        if not context.steps_with(question.key):
            return None
    elif _is_meant(context, question, added):
        if not (others := passes_for_inputs(context, added)):
            return None
        older = f", {others} of them before updates of an input that no optimizer holds"
    lines = list(dict.fromkeys(str(event.location) for event in added))
    where = f" (at {', '.join(lines[-3:])})" if lines else ""
    passes = f"{times} backward passes{where} were" if times > 1 else f"1 backward pass{where} was"
    words = {"passes": passes, "older": older, "clear": "optimizer.zero_grad()"}
    words["missing"] = without_call(context, "zero_grad")
    used_at = [event.number for event, _ in context.steps_with(question.key)]
    between = [each for each in used_at if added[0].number < each < added[-1].number]
    is_sum = bool(between) and times > len(between) + 1
    is_sum = is_sum and not _changes_between(context, question.key)  # by a step with a closure
    words["when"] = "the first backward() of each step" if is_sum else "each backward()"
    if context.held and question.key not in context.held:
        words["clear"] = "set its .grad to None, as no optimizer holds it,"
    elif not (context.held or context.waiting):  # the program may have no optimizer
        words["clear"] = "set its .grad to None (zero_grad() of an optimizer or module does that)"
    return Evidence(words, locations=_locations(*added))


def _had_older(context: Context, added: Sequence[Event]) -> bool:
    """Whether the gradient that the first pass accumulated into is from before the recording."""
    details = added[0].details if added else None
    if not isinstance(details, GradientDetails) or details.accumulations is not None:
        return False
    if details.before is None or is_all_zero(details.before):
        return False
    changes = context.happened_to(added[0].nodes[0], EventKind.GRAD)
    return not any(e.action is Action.ASSIGNED for e in changes)


def _is_meant(context: Context, question: Question, added: Sequence[Event]) -> bool:
    """Whether no step has used, or will use, a gradient to which an earlier step belongs.

    Several passes before one step are a sum that is meant. A pass after the step, such as that of
    a generator through the critic, does no harm if the gradient is cleared before the next step.
    """
    key = question.key
    uses = uses_of(context, key)
    if not uses:
        if context.was_cut and key in context.held:
            return True
        is_input = question.kind is not NodeKind.PARAMETER
        return is_input and bool(context.held) and key not in context.held
    if not added:
        return False
    used = [use for use in uses if use > added[0].number]
    after = [event for event in added if used and event.number > used[0]]
    if not after:
        return not _changes_between(context, key)
    if any(use > after[0].number for use in used):
        return False
    lines = {str(event.location) for event in added if event.number < used[0]}
    return lines.isdisjoint(str(event.location) for event in after) or _clears_first(context, key)


def _changes_between(context: Context, key: str) -> bool:
    """Whether values change between passes that are added up, as in a step of LBFGS."""
    ends = [e.number for e in context.history_of(key) if e.kind is not EventKind.ACCUMULATE]
    added = [event.number for event in context.happened_to(key, EventKind.ACCUMULATE)]
    first = {bisect(ends, number): number for number in reversed(added)}
    last, seen = {bisect(ends, number): number for number in added}, dict[int, object]()
    for frame in context.frames if len(first) < len(added) else ():
        run = bisect(ends, frame.follows)
        if key in frame.graph and run in first and first[run] <= frame.follows <= last[run]:
            version = frame.graph.nodes[key].get("version")
            if seen.setdefault(run, version) != version:
                return True
    return False


def _clears_first(context: Context, key: str) -> bool:
    """Whether the program cleared a gradient of another optimizer's pass, or after a step."""
    cleared, uses = clearings_of(context, key), uses_of(context, key)
    for added in context.happened_to(key, EventKind.ACCUMULATE):
        clear, use = _next(cleared, added.number), _next(uses, added.number)
        if clear is None or (use is not None and use < clear):
            continue
        if added.number >= uses[0] or is_of_another(context, key, added.number, clear):
            return True
    return False


def _next(numbers: Sequence[int], number: int) -> int | None:
    """The first of some numbers in order that is larger than another; None if none is."""
    at = bisect(numbers, number)
    return numbers[at] if at < len(numbers) else None


def _fine(context: Context, question: Question) -> Evidence | None:
    grad = question.data.get("grad")
    used = changed_since(context, question)
    hooked = ""
    if not context.is_recorded:
        if question.data.get("hooks"):
            hooked = "; what its hook does to it was not recorded"
        elif context.hooked and context.hooked & context.path(question.key):
            hooked = "; what a hook on the path to it does was not recorded"
    norm = f", norm {grad.norm:.4g}" if grad is not None and grad.norm is not None else ""
    if norm and is_part(context, question.key, grad):
        norm += " in the part of it on this rank"
    if question.has_zero_gradient:
        norm = ", and the part of it on this rank is all zeros"
    words = {
        "norm": norm,
        "since": f", from before the change at {mention(used[0].location)}" if used else "",
        "hooked": hooked,
        "scaled": "",
    }
    if context.is_recorded and (scale := scale_of(context, question.key)) not in (None, 1.0):
        words["scaled"] = f", scaled by {scale:g} as GradScaler does, and not unscaled"
    return Evidence(words, locations=_locations(*used[:1]))


def _of_another_result(context: Context, question: Question) -> Evidence | None:
    """It has a gradient, but the given results do not depend on it."""
    if not context.is_of_roots or context.is_reachable(question.key) or context.functions:
        return None
    root, said = context.root_names, said_of_path(context, question)
    words = {"root": root, "why": f"it is not reachable from {root}"}
    words["fix"] = f"compute {root} from it without a cut"
    if said is None:
        return Evidence(words, (question.key,))
    words |= {"why": f"the path is cut by {said.cut}", "fix": said.fix or words["fix"]}
    return Evidence(words, (question.key,), said.lines)


def _of_other_ranks(context: Context, question: Question) -> Evidence | None:
    """DistributedDataParallel wrote an average into a parameter that this rank did not use."""
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    details = added[-1].details if added else None
    if not isinstance(details, GradientDetails) or details.ranks < 2:
        return None
    if context.functions or context.is_reachable(question.key):
        return None
    if context.passes and added[-1].number < context.passes[-1].number:
        return None
    words = {"ranks": details.ranks, "line": mention(added[-1].location)}
    return Evidence(words, locations=_locations(added[-1]))


def _is_sparse(context: Context, question: Question) -> Evidence | None:
    grad = question.data.get("grad")
    is_used = bool(context.steps_of(question.key))
    return Evidence() if grad is not None and grad.is_sparse and not is_used else None


sparse: Rule[Any, Any] = Rule(
    "a sparse gradient",
    Verdict.SPARSE,
    _is_sparse,
    "its gradient is a sparse tensor, as embedding(sparse=True) returns it",
    "use an optimizer for sparse gradients, such as torch.optim.SparseAdam; or sparse=False",
)
hook_on_tensor: Rule[Any, Any] = Rule(
    "a hook of the tensor replaced it",
    Verdict.HOOK,
    _hook_on_it,
    "{who}{where} returned a different gradient than it received: {change}",
    _REMOVE,
    events=(EventKind.HOOK,),
)
hooks_that_broke_it: Rule[Any, Any] = Rule(
    "a hook on the path made it zero, or not finite",
    Verdict.HOOK,
    _hook_made_it_wrong,
    _ON_THE_PATH,
    _REMOVE,
    events=(EventKind.HOOK,),
)


last_rules: tuple[Rule[Any, Any], ...] = (
    not_averaged,
    combined_at_another_time,
    Rule(
        "it was there before the recording",
        Verdict.STALE,
        _before_the_recording,
        "it is from before the recording, and {later}",
        events=(EventKind.BACKWARD,),
        docs="The recording holds each event, and none that added to the gradient or changed it.",
    ),
    Rule(
        "its values were overwritten since",
        Verdict.STALE,
        _overwritten,
        _STALE + "gave it other values",
        "call backward() again, or clear it: optimizer.zero_grad()",
        events=(EventKind.IN_PLACE,),
    ),
    Rule(
        "a later backward pass accumulated nothing in it",
        Verdict.STALE,
        _later_pass_without_it,
        _STALE + "changed it, and {later}",
        events=(EventKind.STEP, EventKind.IN_PLACE),
    ),
    Rule(
        "a repeated pass was cut off from it",
        Verdict.STALE,
        _left_out_of_a_repeat,
        "it comes from backward at {added}, nothing cleared it, and {later}",
        "unless that is meant: {fix}",
        docs="The later pass repeats the earlier one for all other leaves that it reached.",
        needs=Needs.RECORDING,
    ),
    Rule(
        "an optimizer used it more than once",
        Verdict.STALE,
        _used_again,
        _STALE + "used it for the {times} time",
        "one backward() for each step, and optimizer.zero_grad() before it",
        events=(EventKind.STEP,),
    ),
    Rule(
        "several passes were accumulated",
        Verdict.ACCUMULATED,
        _accumulated,
        "{passes} accumulated{older}, and nothing cleared it in between{missing}",
        "unless that is meant: {clear} before {when}",
        docs="The number of accumulations is known from a recording.",
    ),
    Rule(
        "a hook on the path replaced it",
        Verdict.HOOK,
        _hook_on_the_path,
        _ON_THE_PATH,
        _REMOVE,
        events=(EventKind.HOOK,),
    ),
    *scale_rules,
    Rule(
        "its gradient is from other ranks",
        Verdict.OF_ANOTHER,
        _of_other_ranks,
        "no operation of this rank uses it: at {line} DistributedDataParallel wrote the average "
        "over {ranks} ranks into its gradient",
        "if this rank is meant to train it, use it in the forward pass of each rank",
        events=(EventKind.ACCUMULATE,),
        docs="The parameter is not reachable from what backward started from on this rank.",
    ),
    Rule(
        "the result that was asked about did not give it",
        Verdict.OF_ANOTHER,
        _of_another_result,
        "it has a gradient, and none of it came from {root}: {why}",
        "if {root} is meant to train it, {fix}",
        docs="Only where the question names the result: `explain(w, loss)`.",
    ),
    Rule(
        "a gradient without a known fault",
        Verdict.FINE,
        _fine,
        "it has a gradient{norm}{scaled}{since}{hooked}",
        docs="None of the rules above holds.",
    ),
)
