"""Steps and optimizers that do another thing than is meant; only the last rule has an error."""

from __future__ import annotations

import ast
import math
import sys
from collections.abc import Collection, Sequence
from functools import partial
from itertools import chain, takewhile
from typing import Any

from gradviz.diagnosis.answers import Explanation, Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.cuts import TURN_ON, left_off, said_of_path
from gradviz.diagnosis.lines import (
    at_line,
    called_name,
    locations_of,
    mention,
    nodes_in,
    statement_at,
    statements_around,
)
from gradviz.diagnosis.name_flow import calls_in
from gradviz.diagnosis.rule import (
    Evidence,
    OtherSubject,
    Rule,
    answers_about,
    fix_of_rate,
    is_variable,
)
from gradviz.diagnosis.subjects import ErrorContext
from gradviz.diagnosis.values import (
    cancelled_at,
    difference_without,
    is_all_zero,
    is_wrong,
    largest,
    smallest,
)
from gradviz.facts import (
    FROM_OTHERS,
    Action,
    EventKind,
    GradientDetails,
    SourceLocation,
)
from gradviz.graph import GradGraph, NodeKind, TensorSummary, ancestors
from gradviz.graph.text import counted
from gradviz.story import Event

CLIP_LIMITS = dict.fromkeys(("clip_grad_norm_", "clip_grads_with_norm_"), "pass a max_norm above 0")
CLIP_LIMITS["clip_grad_value_"] = "pass a clip_value above 0"
_ADDED = EventKind.ACCUMULATE
_SEVERAL = 2  # steps that found all parameters frozen
_LEFT = 1e-3  # of its first gradient, where training has converged
_UNFREEZE = "switch requires_grad on again before their own forward pass: module.requires_grad_("
_UNFREEZE += "True); or, if another model was to be frozen, make that one a copy by deepcopy"


# Steps.


_MODULES_OF_TORCH = {"torch", "nn", "F"}


def is_of_itself(location: SourceLocation) -> bool:
    """Whether what a line writes into a tensor is computed from its values alone."""
    statement: Any = statement_at(location)
    value: Any = getattr(statement, "value", None)
    sides = [value], getattr(statement, "targets", [getattr(statement, "target", None)])
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and not any(sides[1]):
        sides = [*value.args], [value.func.value]
    found = [[n for e in side for n in nodes_in(e, ast.Name, ast.Attribute)] for side in sides]
    read, written = ({*filter(is_variable, map(ast.unparse, each))} for each in found)
    has_grad = any(getattr(each, "attr", "") == "grad" for each in chain(*found))
    return bool(written) and read - _MODULES_OF_TORCH == written and not has_grad


_LIMITING = ("clamp_", "clip_", "renorm_", "embedding_renorm_")


def updates_by_hand(context: Context, key: str) -> list[Event]:
    """The changes of a leaf that may use its gradient: none that limits or normalizes it."""
    changes = context.happened_to(key, EventKind.IN_PLACE)
    return context.cached((updates_by_hand, key), lambda: [*filter(_may_use_gradient, changes)])


def _may_use_gradient(change: Event) -> bool:
    word = change.word.removeprefix("_foreach_")
    return not word.startswith(_LIMITING) and not is_of_itself(change.location)


def unchanged(context: Context, question: Question) -> Evidence | None:
    """Its last steps had a rate of 0, or changed no value of any parameter, or none of its own."""
    key, every = question.key, context.steps_of(question.key)
    dtype = str(question.data.get("dtype"))
    is_half = "float16" in dtype  # whose updates may be too small for one parameter alone
    rows = (row for _, row in reversed(every))
    kept = (r.changed_values == 0 or key in r.at_rest or (is_half and key in r.same) for r in rows)
    steps = every[len(every) - len([*takewhile(bool, kept)]) :]
    start = "the last " * (steps != every)  # a schedule may end with a rate of 0
    at_rest = all(is_resting := [key in each.at_rest for _, each in steps])
    added = context.happened_to(key, _ADDED)
    after = (getattr(event.details, "after", None) for event in added)
    norms = [each.norm or 0.0 for each in after if each is not None]
    has_converged = bool(start and norms) and norms[-1] < _LEFT * norms[0]
    is_coarse = is_half and bool(norms and norms[-1]) and not any(is_resting)
    found = sum(event.number > row[0].number for row in steps[:1] for event in added)
    is_used = found >= len(steps) - 1 and not has_converged  # each step found a gradient
    if len(steps) < (3 if start else 2 - is_coarse) or not (is_used or at_rest):
        return None
    line, why = steps[-1][0].location, f"the updates are 0 or too small for {dtype}"
    where = f"{start}{counted(len(steps), 'step')} of {steps[-1][1].optimizer} at {mention(line)}"
    fix = fix_of_rate(context, steps[-1][0], bool(start))
    used = [e for e in context.history_of(key) if e.number < steps[-1][0].number][-1:]
    last = getattr(used[0].details, "after", None) if used else None
    if used and used[0].action is Action.ASSIGNED and not any(is_resting):
        fix = f"look at the gradient that is assigned at {used[0].location}; or {fix}"
    elif last is not None and not any(is_resting) and is_all_zero(last):
        why = f"the gradient that it used, of {mention(used[0].location)}, is all zeros"
        fix = "look at what that gradient is computed from, and at what clears it before"
    elif is_coarse:
        fix = "keep the parameters in float32, and compute in the other dtype under torch.autocast"
    elif any(is_resting):
        why = "its learning rate is 0" if at_rest else f"the learning rate is 0, or {why}"
    elif norms and norms[-1] < 1e-20:
        why = f"its gradient has the norm {norms[-1]:.1e}, and {why}"
        fix = "look at the loss: it may be at its minimum, or a function on the way is saturated"
    return Evidence({"why": why, "steps": where, "fix": fix}, locations=(line,))


def is_part(context: Context, key: str, grad: TensorSummary | None) -> bool:
    """Whether other ranks have the rest of a gradient: of FSDP1, or of a ``DTensor``."""
    from gradviz.capture.autograd.sharded import has_other_ranks

    return (key in context.flat and has_other_ranks()) or (grad is not None and grad.is_part)


def zeros_of_no_known_cause(context: Context, question: Question) -> Evidence | None:
    """A gradient of zeros that no rule explains; other ranks may have the rest of it."""
    grad = question.data.get("grad")
    if not question.has_zero_gradient or is_part(context, question.key, grad):
        return None
    several, value = question.data.get("accumulations", 0), question.data.get("value")
    more = f", the sum of {several} backward passes" if several > 1 else ""
    fix = "name the results on the path to it, and explain again; or record the program"
    fix = "" if context.is_recorded else fix
    if value is not None and value.nan:
        more += f"; {value.nan:,} of its own {value.numel:,} elements are NaN"
        fix = "find the first iteration whose loss is not finite"
    copies = (copy for copy, sources in context.copies.items() if question.key in sources)
    own = (question.key, *copies)  # its copies may give it theirs
    is_given = not context.is_recorded or any(context.happened_to(key, _ADDED) for key in own)
    if not is_given and (said := said_of_path(context, question)) is not None:
        more = f", and no pass gave it one: the path to {context.root_names} is cut by {said.cut}"
        return Evidence({"sum": more, "fix": said.fix}, said.keys, said.lines, said.keys[0])
    return Evidence({"sum": more, "fix": fix})


CONSTANT = "look at what is computed from that result: it does not change with it, as a plain sum "
CONSTANT += "of normalized values or probabilities is constant; compare or weigh them"
_EQUAL = "start at other values: all its entries are equal, where what is computed from them may "
_EQUAL += "have a maximum or a minimum, as an entropy has"


def of_uniform(made: TensorSummary | None) -> str:
    """What to do about a softmax, with its result, to which one gradient came for each entry."""
    is_equal = made is not None and largest(made) == smallest(made) and made.is_finite
    return _EQUAL if is_equal else CONSTANT


def set_to_zero(context: Context, question: Question) -> Evidence | None:
    """Its gradient was set to zeros, by a clearing, a clipping or a factor, or began as zeros."""
    if not question.has_zero_gradient:
        return None
    grads = context.happened_to(question.key, EventKind.GRAD)
    changes = [event for event in grads if event.action is Action.ZEROED][-1:]
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    passes = (context.pass_of.get(getattr(each.details, "pass_number", 0)) for each in added)
    if added and all(each and getattr(each.details, "zeros_given", False) for each in passes):
        line = added[-1].location
        what = f"backward at {mention(line)} began with what was passed to it as gradient, zeros"
        fix = "check what is passed as gradient: at least one of its elements must not be 0"
        return Evidence({"what": what, "fix": fix}, locations=(line,))
    fix = "call backward() after it"
    if not changes or (added and changes[-1].number < added[-1].number):
        after = getattr(added[-1].details, "after", None) if added else None
        if not added or is_wrong(after) or (after is not None and is_all_zero(after)):
            return None
        changes = [*context.gradient_changes(question.key)][-1:]
        fix = "multiply it by a number other than 0"
        if changes and changes[0].action is Action.ASSIGNED:
            fix = "assign a gradient that is not all zeros"
    if not changes:
        return None
    fix = CLIP_LIMITS.get(changes[0].word, fix)
    line, word = changes[0].location, changes[0].word
    word = "the assignment" if word == "grad" else word
    what = f"it was set to zeros by {word} at {mention(line)}, and nothing was added"
    return Evidence({"what": what, "fix": fix}, locations=(line,))


def _cancelled(context: Context, graph: GradGraph, key: str) -> str:
    live = context.cached(("live", id(graph)), lambda: ancestors(graph, context.roots_of(graph)))
    return cancelled_at(graph, key, live, context.cached(("cancelled", id(graph)), dict))


def _cancels(find: Any, context: Context, question: Question) -> Evidence | None:
    graph = context.graph_of_latest_pass(question.key) if question.has_zero_gradient else None
    if graph is None or not (key := find(context, graph, question.key)):
        return None
    line = graph.nodes[key].get("source", "")
    return Evidence({"where": at_line(line)}, (key,), locations_of([line]), key)


cancel_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "added to both terms of a difference",
        Verdict.ZERO,
        partial(_cancels, lambda _, *asked: difference_without(*asked)),
        "the gradients of its two uses cancel: it is added to both terms of sub{where}",
        "nothing, if the difference is meant: its value has no effect there, as that of the bias "
        "of a critic",
        docs="The result of critic(real) - critic(fake) does not depend on the last bias.",
    ),
    Rule(
        "subtracted from itself",
        Verdict.ZERO,
        partial(_cancels, _cancelled),
        "what is computed from it is subtracted from itself at sub{where}: its gradients cancel",
        "detach what is subtracted there, as in hard + x - x.detach()",
    ),
)


# Optimizers.

_CALLED = "create the optimizer from the model that is called, after that model was created"
_ALL = ", with all layers that it calls, and no others"
_BACKWARD = "call backward() before it, or assign what torch.func returns to .grad"


def of_the_called(context: Context) -> tuple[str, list[SourceLocation]]:
    """The fix for an optimizer of parameters that were replaced, and the line that did so."""
    loads = calls_in(context, "load_state_dict", "assign")[:1]
    first = f"create it after load_state_dict(assign=True) at {loads[0]}; or " if loads else ""
    return first + _CALLED, loads


def _unseen(context: Context, optimizer: OtherSubject) -> Evidence | None:
    step, explained = optimizer.facts  # the number of explained parameters in no frame
    details = step.details
    if explained >= (count := details.count - len(details.held) - details.plain.count("")):
        return None
    line, (fix, loads) = step.location, of_the_called(context)
    why, fix = "no result that backward started from uses them", fix + _ALL
    why, fix = (why, fix) if context.passes else ("backward() was not called", _BACKWARD)
    words = {"count": f"{count:,} of the {details.count:,} parameters that it holds", "why": why}
    words |= {"are": "is" if count == 1 else "are", "line": mention(line), "fix": fix}
    return Evidence(words, locations=(line, *loads))


unseen: Rule[Any, Any] = Rule(
    "an optimizer holds parameters that nothing recorded uses",
    Verdict.NOT_IN_A_GRAPH,
    _unseen,
    "{count} {are} in no graph of the recording: {why} (step at {line})",
    events=(EventKind.STEP,),
)


def _all_frozen(context: Context, optimizer: OtherSubject) -> Evidence | None:
    """All parameters of an optimizer were frozen after the first forward pass, and not unfrozen.

    If they were trained before: several of its steps found them frozen.
    """
    step, details = optimizer.facts[0], optimizer.facts[0].details
    keys = details.held if not details.changed else ()
    added = [event for key in keys for event in context.happened_to(key, EventKind.ACCUMULATE)]
    last = (e for key in keys for e in context.happened_to(key, EventKind.REQUIRES_GRAD)[-1:])
    off = [each for each in last if each.action is Action.REQUIRES_GRAD_OFF]
    nodes = context.frames[0].graph._node if context.frames else {}
    made = {key for key, data in nodes.items() if data["kind"] is NodeKind.OPERATION}
    events = context.happened(EventKind.OPERATION)
    used = (event.number for event in events if not made.isdisjoint(event.nodes))
    is_whole = off and len(off) == len(keys) == getattr(details, "count", 0)
    is_late = bool(off) and next(used, math.inf) < off[0].number < step.number
    is_never = not context.happened(EventKind.BACKWARD)  # so that nothing at all was trained
    if not is_whole or not (is_late or is_never):
        return None
    since = [other.held == keys for event, other in context.steps if event.number > off[0].number]
    later = sum(since)
    if added and (later < _SEVERAL or max(e.number for e in added) > off[0].number):
        return None
    # A schedule that stops their training, or freezing for the pass of another optimizer?
    if added and (since[0] or _is_conditional(off[0].location)):
        return None
    lines = step.location, off[0].location
    words = {"line": mention(lines[0]), "off": mention(lines[1]), "fix": _UNFREEZE}
    words["when"] = ", before any of them got a gradient"
    if added:
        words["fix"] = f"nothing, if they stay frozen on purpose; else {_UNFREEZE}"
        words["when"] = f", and were not unfrozen for the {counted(later, 'step')} since then"
    return Evidence(words, locations=lines[::-1])


def _is_conditional(line: SourceLocation) -> bool:
    """Whether a line is under a condition of its loop or function, without a backward pass."""
    inner = statements_around(line, ast.If, ast.For, ast.While, ast.FunctionDef)[-1:]
    calls = [called_name(call) for each in inner for call in nodes_in(each, ast.Call)]
    return [*map(type, inner)] == [ast.If] and "backward" not in calls


all_frozen: Rule[Any, Any] = Rule(
    "an optimizer whose parameters are all frozen",
    Verdict.NO_STEP,
    _all_frozen,
    "its step at {line} changes nothing: all parameters that it holds were frozen at {off}{when}",
    events=(EventKind.STEP,),
)


def _switched_off(context: Context, optimizer: OtherSubject) -> Evidence | None:
    """Gradients were switched off and stay so, and steps after that had none to use."""
    off, step = left_off(context), optimizer.facts[0]
    if off is None or (details := step.details).changed:
        return None
    own = [e for e, other in context.steps if other.held == details.held and e.number > off.number]
    added = [event.number for key in details.held for event in context.happened_to(key, _ADDED)]
    if not own or not added or max(added) > off.number:
        return None
    words = {"line": mention(step.location), "off": mention(off.location)}
    words |= {"count": counted(len(own), "step"), "fix": TURN_ON.format(off.location)}
    return Evidence(words, locations=(off.location, step.location))


switched_off: Rule[Any, Any] = Rule(
    "an optimizer that steps while gradients are off",
    Verdict.NO_STEP,
    _switched_off,
    "its step at {line} changes nothing: gradients are off since set_grad_enabled(False) at {off}, "
    "and no backward pass gave its parameters a gradient for the {count} since then",
    events=(EventKind.STEP, EventKind.MODE),
)


_OF_STEPS = (all_frozen, switched_off)


def unused_by_steps(context: Context, explained: Collection[str]) -> list[Explanation]:
    """An explanation of each optimizer whose parameters are in no frame, or all frozen."""
    steps = context.steps
    last = {(each.optimizer, each.count): event for event, each in steps}
    seen = {key for _, details in steps for key in details.held}
    own = len(context.held.intersection({*explained, *context.flat}) - seen)
    rows = [OtherSubject(name, "", context, (event, own)) for (name, _), event in last.items()]
    each_last = {details.held: (details.optimizer, event) for event, details in steps}
    every = [OtherSubject(name, "", context, (event,)) for name, event in each_last.values()]
    found = (answers_about(rule, [each]) for each in every for rule in _OF_STEPS)
    return [*answers_about(unseen, rows), *chain(*found)]


# Gradients of one rank.


def around_last_step(events: Sequence[Event]) -> tuple[list[Event], Event, Sequence[Event]] | None:
    """What was before the passes that the last step used, the step, and what followed it.

    Args:
        events: the history of a leaf.

    Returns:
        None if there is no step, or it did not use the gradient as passes left it.
    """
    at = _last_step(events)
    before = [*events[:at]]
    while before and before[-1].kind is EventKind.ACCUMULATE:
        before.pop()
    return (before, events[at], events[at + 1 :]) if len(before) < at else None


def _last_step(events: Sequence[Event]) -> int:
    """The place of the last step among some events; 0 for none."""
    return max((at for at, each in enumerate(events) if each.kind is EventKind.STEP), default=0)


_BY_DDP = (Action.AVERAGED, Action.HOOKED, Action.NOT_COMBINED)
_OF_ONE_RANK = (Action.CLIPPED, Action.UNSCALED, Action.NOT_COMBINED)
"""Changes after which it is still of one rank."""


def _not_averaged(context: Context, question: Question) -> Evidence | None:
    """The latest step used a gradient that ``DistributedDataParallel`` has not averaged."""
    key = question.key
    step = next((event for event, _ in reversed(context.steps_of(key))), None)
    added = context.happened_to(key, EventKind.ACCUMULATE)
    used = [event for event in added if step is not None and event.number < step.number]
    details = used[-1].details if used else None
    if step is None or not isinstance(details, GradientDetails) or details.unaveraged < 2:
        return None
    changes = [*context.happened_to(key, EventKind.GRAD)]
    between = [each for each in changes if used[-1].number < each.number < step.number]
    if _is_combined(context, key, EventKind.GRAD) or any(
        each.action not in _OF_ONE_RANK for each in between
    ):
        return None
    is_hooked = any(each.action is Action.NOT_COMBINED for each in between)
    others = any(
        event.action in _BY_DDP and used[-1].number < event.number < step.number
        for event in context.happened(EventKind.GRAD)
    )
    why, fix = (_HOOK, _RETURN) if is_hooked else (_FROZEN_THEN, _MAKE_LATER)
    if not others:
        why, fix = (_NOT_SHARDED, _SHARD) if details.is_beside else (_PAST_IT, _CALL_IT)
    words = {
        "step": f"the step at {mention(step.location)}",
        "by": "fully_shard" if details.is_beside else "DistributedDataParallel",
        "ranks": details.unaveraged,
        "line": f"backward at {mention(used[-1].location)}",
        "why": why,
        "fix": fix,
    }
    return Evidence(words, locations=(used[-1].location, step.location))


def _is_combined(context: Context, key: str, *more: EventKind) -> bool:
    """Whether the program combines gradients or values of a parameter over the ranks.

    Many parameters are combined as one tensor, whose parts are then written back.
    """
    written, kinds = context.happened_to(key, EventKind.IN_PLACE), (EventKind.OPERATION, *more)
    known = [*written, *(event for kind in kinds for event in context.happened_to(key, kind))]
    if any(event.action in FROM_OTHERS for event in known):
        return True
    others = context.happened(EventKind.IN_PLACE)
    since = next((event.number for event in others if event.action in FROM_OTHERS), math.inf)
    return any(event.word in _WRITTEN_BACK and event.number > since for event in written)


_WRITTEN_BACK = ("copy_", "data", "set_")


def _combined_at_another_time(context: Context, question: Question) -> Evidence | None:
    """The ranks' gradients were combined before they were computed, or after the step used them."""
    events = [e for e in context.history_of(question.key) if e.action not in _OF_ONE_RANK]
    if (sent := _sent_before_step(context, question.key, events)) is not None:
        return sent
    if (some := _combined_in_some_steps(context, question, events)) is not None:
        return some
    if (found := around_last_step(events)) is None:
        return None  # what the step used was changed after the pass: perhaps by an average
    early = [each for each in found[0] if each.action is not Action.CHANGED_IN_PLACE]
    cleared, before = ([None, None, *early])[-2:]
    step, after = found[1], next(iter(found[2]), None)
    if after is not None and after.action is Action.REDUCED:
        call, when = after, "after the step had used it"
    elif before is not None and before.action is Action.REDUCED:
        if cleared is None or cleared.action is not Action.ZEROED:
            return None
        call, when = before, "before backward, while it was zero"
    else:
        return None
    return _of_one_rank(call, f"combined it over the ranks {when}", step, _BETWEEN)


def _combined_in_some_steps(
    context: Context, question: Question, events: Sequence[Event]
) -> Evidence | None:
    """Before some steps the gradient was combined, and others used it as the pass left it."""
    if is_part(context, question.key, question.data.get("grad")):
        return None  # the rest is on other ranks
    alone, calls, since = list[Event](), list[Event](), list[Event]()
    for event in events:
        since.append(event)
        if event.kind is EventKind.STEP:
            first = next((e.number for e in since if e.kind is EventKind.ACCUMULATE), math.inf)
            calls += [e for e in since if e.action is Action.REDUCED and e.number > first][-1:]
            alone += [event] * (first < math.inf and all(map(_is_of_this_rank, since[:-1])))
            since = []
    if not alone or not calls or _is_combined(context, question.key):
        return None
    did = f"combined it over the ranks for {len(calls)} of {len(calls) + len(alone)} steps only"
    return _of_one_rank(calls[-1], did, alone[-1], "combine it between backward() and each step()")


def _is_of_this_rank(event: Event) -> bool:
    """Whether a pass added to a gradient on this rank alone, or it was cleared."""
    if isinstance(event.details, GradientDetails):
        return event.details.ranks < 2
    return event.action in (Action.SET_TO_NONE, Action.ZEROED)


def _sent_before_step(context: Context, key: str, events: Sequence[Event]) -> Evidence | None:
    """``reduce`` gave the sum to one rank only, and this one used its own gradient."""
    at = _last_step(events)
    since = max((e.number for e in events[:at] if e.kind is EventKind.ACCUMULATE), default=0)
    calls = [e for e in context.happened_to(key, EventKind.OPERATION) if e.action is Action.SENT]
    calls = [e for e in calls if e.word == "reduce" and since < e.number < events[at].number]
    writes = [*events, *context.happened_to(key, EventKind.IN_PLACE)]
    if not calls or not since or any(each.action in FROM_OTHERS for each in writes):
        return None
    did = "gave the combined gradient to another rank only"
    return _of_one_rank(calls[-1], did, events[at], _TO_ALL)


def _of_one_rank(call: Event, did: str, step: Event, fix: str) -> Evidence:
    line = f"{call.word} at {mention(call.location)}"
    words = {"call": line, "did": did, "step": f"the step at {mention(step.location)}", "fix": fix}
    return Evidence(words, locations=(call.location, step.location))


_BETWEEN = "combine it between backward() and step()"
_TO_ALL = "use torch.distributed.all_reduce, whose result all ranks get"


combined_at_another_time: Rule[Any, Any] = Rule(
    "the gradients of the ranks were combined at another time",
    Verdict.NOT_AVERAGED,
    _combined_at_another_time,
    "{step} used the gradient of this rank alone: {call} {did}",
    events=(EventKind.STEP,),
    docs="A function of torch.distributed that the program calls on .grad.",
)


_FROZEN_THEN = "DistributedDataParallel was created while the parameter was frozen, or without it"
_HOOK = "its communication hook, which replaces the average, called no collective"
_RETURN = (
    "from that hook return default_hooks.allreduce_hook(None, bucket), which is in "
    "torch.distributed.algorithms.ddp_comm_hooks; or do not register it"
)
_NOT_SHARDED = "it is none of the parameters that it shards, as in ignored_params"
_SHARD = "call fully_shard on a module that contains it, without it in ignored_params"
_PAST_IT = "the forward pass was not a call of the DistributedDataParallel module, or in no_sync()"
_MAKE_LATER = (
    "create DistributedDataParallel of a module that contains it, after requires_grad is set"
)
_CALL_IT = (
    "call the DistributedDataParallel module itself, not its .module; the last forward and "
    "backward before a step are outside of no_sync()"
)

not_averaged: Rule[Any, Any] = Rule(
    "a step used the gradient of one rank",
    Verdict.NOT_AVERAGED,
    _not_averaged,
    "{step} used the gradient of this rank alone: {by} did not average it over the {ranks} ranks "
    "in {line}, since {why}",
    events=(EventKind.STEP,),
    docs="The copies of the model on the ranks differ from then on. Not where the program itself "
    "combines gradients or parameters over the ranks.",
)


def _step_before_sharding(context: Context, error: ErrorContext) -> Evidence | None:
    """FSDP1 has not reduced the gradients: they have the shapes of the whole parameters."""
    from gradviz.capture.autograd.sharded import has_other_ranks

    is_likely = has_other_ranks() and "torch.distributed.fsdp" in sys.modules
    if not is_likely or not any(text in error.text for text in _OF_SHAPES):
        return None
    recording = error.asked.recording
    named = [*(error.names or ()), *(recording._snapshots.parameters() if recording else ())]
    leaves = {id(each.tensor): each for each in named if each.tensor.is_leaf}.values()
    rows = [(each, each.tensor.grad) for each in leaves]
    whole = [each for each, grad in rows if grad is not None and grad.shape != each.tensor.shape]
    return error.evidence(name=whole[0].name) if whole else None


_OF_SHAPES = ("must match the size of tensor", "doesn't match the broadcast shape")

step_before_sharding: Rule[Any, Any] = Rule(
    "a step before FullyShardedDataParallel reduced the gradients",
    Verdict.DISTRIBUTED,
    _step_before_sharding,
    "a step found{at} a gradient of another shape than the parameter, {name}: after backward in "
    "no_sync(), FullyShardedDataParallel has neither reduced nor sharded the gradients",
    "call the last backward() before the step, with its forward pass, outside of no_sync()",
)
