"""Rules for gradients that the program changed or assigned, or hooks did: clipping, masks."""

from __future__ import annotations

import ast
import math
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise, takewhile
from typing import Any

from gradviz.diagnosis.answers import Explanation, Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import (
    assigned_before,
    assignments_to,
    locations_of,
    mention,
    nodes_in,
    statement_at,
    syntax_tree,
    transforms_in,
)
from gradviz.diagnosis.rule import (
    Evidence,
    OtherSubject,
    Rule,
    answers_about,
    created_at,
    scaling_of,
    written,
)
from gradviz.diagnosis.silent_faults import CLIP_LIMITS, around_last_step, unchanged
from gradviz.diagnosis.subjects import ErrorContext, variables_around
from gradviz.diagnosis.training import CHANGES, CLEARS
from gradviz.facts import Action, EventKind, GradientDetails, HookDetails
from gradviz.graph import TensorSummary
from gradviz.graph.text import counted, listed, time_text
from gradviz.story import Event
from gradviz.torch_messages import MessageKind

CLIPS = tuple(CLIP_LIMITS)
_ADDED = EventKind.ACCUMULATE
FINITE_CHANGES = "change gradients to values that are finite"
_NORMCLIPS = ("clip_grad_norm_", "clip_grads_with_norm_")
_SMALL = 1e-3  # of the gradient of a pass, where a change made it too small for a step


def is_finite(summary: TensorSummary | None) -> bool | None:
    """Whether all elements of a tensor are finite; None if its values are not known."""
    return None if summary is None else summary.is_finite


def is_not_finite(question: Question) -> bool:
    """Whether its gradient has NaN or infinite elements."""
    return is_finite(question.data.get("grad")) is False


def count_of(question: Question) -> str:
    """How many elements of its gradient, or of itself, are NaN or infinite."""
    grad, value = question.data.get("grad"), question.data.get("value")
    assert grad is not None
    if grad.is_finite and value is not None:
        return f"{value.nan:,} of its own {value.numel:,} elements are NaN"
    word = Verdict.NAN.value if grad.nan else Verdict.INFINITE.value
    if grad.is_part:
        return f"{grad.nan or grad.inf:,} {word} in the part of it on this rank"
    return f"{grad.nan or grad.inf:,} of {grad.numel:,} elements are {word}"


def _clipped_by_infinity(context: Context, question: Question) -> Evidence | None:
    """The gradient was scaled by a norm that is not finite, because of another gradient."""
    changes = context.gradient_changes(question.key)
    clips = [event for event in changes if event.word in _NORMCLIPS]
    if not clips:
        return None
    own = context.happened_to(question.key, EventKind.ACCUMULATE)[-1].details
    if not isinstance(own, GradientDetails) or is_finite(own.after) is False:
        return None
    key = ("not finite before", clips[0].number)
    wrong = context.cached(key, lambda: _wrong_before(context, clips[0]))
    if wrong is None:
        return None
    words = {"clip": f"{clips[0].word} at {mention(clips[0].location)}"}
    words["other"] = wrong.name or "another gradient"
    return Evidence(words, wrong.nodes, (clips[0].location,))


def _wrong_before(context: Context, clip: Event) -> Event | None:
    """The last gradient that a pass computed, that is not finite, and that was clipped then."""
    clipped, added = set(clip.nodes), reversed(context.happened(EventKind.ACCUMULATE))
    before = (each for each in added if each.number < clip.number)
    found = (each for each in before if is_finite(getattr(each.details, "after", None)) is False)
    return next((each for each in found if not clipped.isdisjoint(each.nodes)), None)


def changes_before(context: Context, key: str, until: float = math.inf) -> list[Event]:
    """The changes of a gradient since the latest pass before an event, the last one first."""
    kinds = (EventKind.ACCUMULATE, EventKind.GRAD)
    events = [e for e in context.history_of(key) if e.number < until and e.kind in kinds]
    changes = takewhile(lambda each: each.kind is EventKind.GRAD, reversed(events))
    return [each for each in changes if each.action not in CLEARS]


def change_to_not_finite(
    context: Context, key: str, changes: Sequence[Event], until: float = math.inf
) -> Event | None:
    """The one of these changes that made the gradient not finite, as frames show."""
    if not changes:
        return None
    frames = (frame for frame in context.frames if changes[-1].number <= frame.follows < until)
    rows = ((each.follows, each.graph._node.get(key, {}).get("grad")) for each in frames)
    bad = next((follows for follows, grad in rows if is_finite(grad) is False), -1)
    return next((each for each in changes if each.number <= bad), None)


def _changed(context: Context, question: Question, what: str) -> Evidence | None:
    """A change after the pass made a finite gradient NaN or infinite."""
    grad, added = question.data.get("grad"), context.happened_to(question.key, _ADDED)
    own = added[-1].details if added else None
    is_of_pass = not isinstance(own, GradientDetails) or is_finite(own.after) is not True
    if grad is None or bool(grad.nan) is not (what == "NaN") or is_of_pass:
        return None
    changes = changes_before(context, question.key)
    made = change_to_not_finite(context, question.key, changes)
    made = changes[0] if made is None and len(changes) == 1 else made
    if made is None:
        return None
    words = {"count": count_of(question), "what": f"{made.word} at {mention(made.location)}"}
    return Evidence(words, locations=(made.location,))


def _changed_to(verdict: Verdict) -> Rule[Any, Any]:
    return Rule(
        f"changed to {verdict.value} after the pass",
        verdict,
        lambda context, it: _changed(context, it, verdict.value) if is_not_finite(it) else None,
        "{count}: the pass gave a finite gradient, and {what} changed it",
        FINITE_CHANGES,
        events=(EventKind.GRAD,),
    )


def _clipped(verdict: Verdict, holds: Callable[[Question], bool]) -> Rule[Any, Any]:
    return Rule(
        "clipped by a total norm that is not finite",
        verdict,
        lambda context, it: _clipped_by_infinity(context, it) if holds(it) else None,
        "{clip} scaled it by a total norm that is not finite, because of {other}",
        "fix {other} first; clip_grad_norm_(..., error_if_nonfinite=True) raises instead",
        events=(EventKind.GRAD,),
        docs="Another gradient was infinite or NaN before clip_grad_norm_.",
    )


changed_to_it: tuple[Rule[Any, Any], ...] = (
    _clipped(Verdict.ZERO, lambda question: question.has_zero_gradient),
    _clipped(Verdict.NAN, is_not_finite),
    _changed_to(Verdict.NAN),
    _changed_to(Verdict.INFINITE),
)


# Clipping, which changes gradients in place.


def _clipped_while_scaled(context: Context, question: Question) -> Evidence | None:
    # Of the latest pass that was followed by a change: a command may stop before the clipping.
    kept = (EventKind.ACCUMULATE, EventKind.GRAD)
    events = [event for event in context.history_of(question.key) if event.kind in kept]
    pairs = [b for a, b in pairwise(events) if a.kind is kept[0] and b.action in CHANGES]
    if not pairs or pairs[-1].word not in CLIPS:
        return None
    scaling = scaling_of(context, context.graph if context.before is None else context.before)
    if scaling is None or scaling.factor == 1:
        return None
    line = mention(pairs[-1].location)
    words = {"clip": pairs[-1].word, "line": line, "scale": f"{scaling.factor:g}"}
    stepped = [step for step, _ in context.steps_with(question.key)]
    words["unscale"] = written(stepped, "step", "unscale_") or "scaler.unscale_(optimizer)"
    return Evidence(words, locations=(pairs[-1].location,))


def _clipped_after_step(context: Context, question: Question) -> Evidence | None:
    """The gradient was clipped after the step that used it, and before the next pass."""
    key, history = question.key, context.history_of(question.key)
    too_early = {each.location for each in history if each.action is Action.NOTHING_CLIPPED}
    for step, clip in pairwise(history):
        is_late = step.kind is EventKind.STEP and clip.word in CLIPS
        if is_late and (clip.location in too_early or _has_changed(context, key, clip)):
            words = {"clip": clip.word, "line": mention(clip.location)}
            words["step"] = mention(step.location)
            return Evidence(words, locations=(clip.location, step.location))
    return None


def _clipped_before_backward(context: Context, question: Question) -> Evidence | None:
    """Clipped while it was None or zero, then computed, and used by the last step."""
    history = context.history_of(question.key)
    found = around_last_step([each for each in history if each.action is not Action.UNSCALED])
    events = found[0] if found is not None else []
    if not events or events[-1].word not in CLIPS:
        return None
    clip = events[-1]
    was = "None" if clip.action is Action.NOTHING_CLIPPED else "zero"
    if was == "zero" and (len(events) < 2 or events[-2].action is not Action.ZEROED):
        return None
    words = {"clip": clip.word, "line": mention(clip.location), "was": was}
    return Evidence(words, locations=(clip.location,))


def _clipped_nothing(context: Context, question: Question) -> Evidence | None:
    """Between a pass and a step, the only function that clips was given no gradient."""
    changes = context.happened(EventKind.GRAD)
    calls = context.cached(CLIPS, lambda: [each for each in changes if each.word in CLIPS])
    steps = [each.number for each, held in context.steps if question.key in held.held]
    added = [each.number for each in context.happened_to(question.key, EventKind.ACCUMULATE)]
    if not calls or any(each.nodes for each in calls) or not steps or not added:
        return None
    if not added[0] < calls[-1].number < steps[-1]:
        return None
    words = {"clip": calls[-1].word, "line": mention(calls[-1].location)}
    return Evidence(words, locations=(calls[-1].location,))


def _has_changed(context: Context, key: str, clip: Event) -> bool:
    """Whether a clipping is known to have changed a gradient: a limit of infinity does not."""
    if (norms := _around_clip(context, key, clip)) is None and clip.word != "clip_grad_value_":
        others = (_around_clip(context, each, clip) for each in clip.nodes)  # all are scaled alike
        return any(each is not None and each[0] != each[1] for each in others)
    return norms is not None and norms[0] != norms[1]


def _around_clip(context: Context, key: str, clip: Event) -> tuple[float, float] | None:
    """The norms of a gradient before and after it was clipped; None if a frame lacks one."""
    history = [each.number for each in context.history_of(key) if each.kind is not EventKind.STEP]
    frames = [each for each in context.frames if key in each.graph]  # none inside a checkpoint
    at = history.index(clip.number) if clip.number in history else 0
    later = history[at + 1] if history[at + 1 :] else math.inf
    before = [each for each in frames if at and history[at - 1] <= each.follows < clip.number]
    after = [each for each in frames if clip.number <= each.follows < later]
    grads = (each.graph.nodes[key].get("grad") for each in (*before[-1:], *after[:1]))
    norms = [each.norm for each in grads if each is not None and each.norm is not None]
    return (norms[0], norms[1]) if len(norms) > 1 else None


# Hooks, which change gradients in the pass.


def has_mild_hooks(context: Context) -> bool:
    """Whether each hook kept the size of the gradient, as one that masks or refines it does."""
    details = (event.details for event in context.happened(EventKind.HOOK))
    rows = ((each.before, each.after) for each in details if isinstance(each, HookDetails))
    return not context.cached(_hooks_added, lambda: _hooks_added(context)) and all(
        before is not None
        and after is not None
        and bool(before.norm and after.is_finite and after.norm is not None)
        and 0.01 < (after.norm or 0) / (before.norm or 1) < 100
        for before, after in rows
    )


def _hooks_added(context: Context) -> dict[str, Event]:
    """By the leaf, the last of the hooks that one line adds to those of earlier passes."""
    passes = [event.number for event in context.happened(EventKind.BACKWARD)]
    rows: dict[tuple[str, str], list[Event]] = {}
    for event in context.happened(EventKind.HOOK):
        if isinstance(event.details, HookDetails) and event.nodes:
            rows.setdefault((event.nodes[0], str(event.location)), []).append(event)
    counts = {key: Counter(bisect(passes, e.number) for e in row) for key, row in rows.items()}
    steps = {key: {b - a for a, b in pairwise(each.values())} for key, each in counts.items()}
    most = {key: max(each.values()) for key, each in counts.items()}
    return {key[0]: rows[key][-1] for key in rows if steps[key] in ({1}, {0, 1}) and most[key] > 1}


def _hook_of_each_step(context: Context, question: Question) -> Evidence | None:
    """The program registers the same hook again before each pass, and each of them acts."""
    found = context.cached(_hooks_added, lambda: _hooks_added(context)).get(question.key)
    if found is None:
        return None
    return Evidence({"line": mention(found.location)}, locations=(found.location,))


def _made_small(context: Context, question: Question) -> Evidence | None:
    """Steps changed no value, as a change left them zeros, or a thousandth of the gradient."""
    key, found = question.key, unchanged(context, question)
    steps = context.steps_with(key)
    used = [event.number for event, step in steps if key not in step.at_rest][-1:]
    history = [each for each in context.history_of(key) if used and each.number < used[0]]
    *_, added, last = (None, None, *history)
    was = getattr(getattr(added, "details", None), "after", None)
    if was is None or last is None or last.action in (*CLEARS, Action.UNSCALED):
        return None
    frames = (each for each in context.frames if last.number <= each.follows < used[0])
    now = next((each.graph.nodes[key].get("grad") for each in frames if key in each.graph), None)
    if now is None or not was.norm or now.norm is None or now.norm > _SMALL * was.norm:
        return None
    words = {"change": last.word, "line": mention(last.location)}
    if now.norm == 0 and last.word in CLIPS:
        line = next(event.location for event, _ in context.steps if event.number == used[0])
        what = f"the step at {mention(line)} used zeros: {last.word} at {words['line']} had set "
        words |= {"what": f"{what}its gradient to them", "fix": CLIP_LIMITS[last.word]}
    elif found is None:
        return None
    else:
        what = f"{found.words['steps']} changed no value: {last.word} at {words['line']} changed "
        what += f"its gradient from norm {was.norm:.3g} to {now.norm:.3g}, and the updates are too "
        words |= {"what": f"{what}small", "fix": "leave it a larger gradient there"}
    return Evidence(words, locations=(last.location, *(found.locations if found else ())))


def _assigned_once(context: Context, question: Question) -> Evidence | None:
    """No pass accumulates in it, and steps used an assigned gradient again after other passes."""
    key, kept = question.key, question.data.get("grad")
    changes = [
        e for e in context.happened_to(key, EventKind.GRAD) if e.action is not Action.CLIPPED
    ]
    if not changes or changes[-1].action is not Action.ASSIGNED or not kept:
        return None
    given = changes[-1]
    steps = [e for e, step in context.steps_with(key) if e.number > given.number]
    if len(steps) < 2 or context.happened_to(key, _ADDED):
        return None
    calls = context.happened(EventKind.BACKWARD)  # also of torch.autograd.grad
    passes = [e for e in calls if steps[0].number < e.number < steps[-1].number]
    frames = (each for each in context.frames if each.follows >= steps[0].number)
    before = (each.graph.nodes[key].get("grad") for each in frames if key in each.graph)
    if not passes or next(filter(None, before), None) != kept:  # it may be that of another tensor
        return None
    words = {"line": mention(given.location), "step": mention(steps[-1].location)}
    words |= {"times": time_text(len(steps)), "last": mention(passes[-1].location)}
    return Evidence(words, locations=(given.location, steps[-1].location))


def is_cleared_for_another(context: Context, key: str) -> bool:
    """Whether its gradient was assigned from another leaf, and is cleared where that is."""
    changes, added = (context.happened_to(key, k) for k in (EventKind.GRAD, _ADDED))
    if not added or not changes or changes[-1].action is not Action.ASSIGNED:
        return False
    since, own = changes[-1].number, getattr(added[-1].details, "after", None)
    begun = max((e.number for e in context.passes if e.number < added[-1].number), default=-1)
    in_pass = (e for e in context.happened(_ADDED) if e.number > begun)
    same = (e.nodes[0] for e in in_pass if e.nodes and getattr(e.details, "after", None) == own)
    others = (context.happened_to(other, EventKind.GRAD) for other in same if other != key)
    cleared = ([e.number for e in events if e.action in CLEARS] for events in others)
    return any(since < numbers[-1] < added[-1].number for numbers in cleared if numbers)


assigned_once: Rule[Any, Any] = Rule(
    "an assigned gradient that steps used more than once",
    Verdict.STALE,
    _assigned_once,
    "its gradient was assigned at {line}, and the step at {step} used it for the {times} time: "
    "after backward at {last} it was not assigned again",
    "assign it after each backward(); where it is assigned only if it is None, clear it after "
    "the step: optimizer.zero_grad()",
    events=(EventKind.STEP,),
    docs="No recorded pass accumulated in it, and its values are the same as after the first step.",
)


def _step_of_a_scaler(context: Context, error: ErrorContext) -> Evidence | None:
    """A scaler that found no gradient, with the call that cleared them, or that scaled no loss."""
    if error.read.kind not in (MessageKind.SCALER_WITHOUT_GRADIENTS, MessageKind.NOT_SCALED):
        return None
    last = context.passes[-1] if context.passes else None
    changes = [e for e in context.happened(EventKind.GRAD) if last and e.number > last.number]
    clear = next((e for e in reversed(changes) if e.action in CLEARS and e.location), None)
    words = {"why": "no parameter of the optimizer has a gradient", "fix": _SCALE}
    words["call"] = error.read.operation or "step"
    if error.read.kind is MessageKind.NOT_SCALED:
        words["why"] = "scaler.scale() was not called before"
    elif last is not None and clear is not None:
        words["why"] += f": {clear.word} at {mention(clear.location)} cleared those of backward at "
        words["why"] += mention(last.location)
        words["fix"] = f"{clear.location}: clear the gradients before backward, or after the step"
        return error.evidence(locations=(clear.location, last.location), words=words)
    else:
        words["fix"] += "; gradviz.explain(model, loss) reports why there is none"
    return error.evidence(words=words)


_SCALE = "call scaler.scale(loss).backward() before it"
step_of_a_scaler: Rule[Any, Any] = Rule(
    "a step of a GradScaler without gradients, or without a scaled loss",
    Verdict.OPTIMIZER,
    _step_of_a_scaler,
    "GradScaler.{call} was called{at}, and {why}",
)

hook_of_each_step: Rule[Any, Any] = Rule(
    "a hook that is registered again before each pass",
    Verdict.HOOK,
    _hook_of_each_step,
    "each time that {line} runs, it registers one hook more, and all of them change its gradient",
    "register it once, before the loop; or remove it after the pass: handle.remove()",
    events=(EventKind.HOOK,),
)

clipping_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "clipped after the step",
        Verdict.CLIPPED_LATE,
        _clipped_after_step,
        "{clip} at {line} changed its gradient after the step at {step} had used it",
        "call it between backward() and step()",
        events=(EventKind.STEP,),
        docs="A clipping that follows a step of the tensor's optimizer, with no pass between.",
    ),
    Rule(
        "clipped before backward",
        Verdict.CLIPPED_EARLY,
        _clipped_before_backward,
        "{clip} at {line} ran before backward and clipped nothing: the gradient was {was} then; "
        "the step used a gradient that was not clipped",
        "call it between backward() and step()",
        events=(EventKind.STEP,),
        docs="The gradient was None or cleared when it was clipped, and no clipping followed the "
        "pass.",
    ),
    Rule(
        "clipping that was given no gradient",
        Verdict.NOT_CLIPPED,
        _clipped_nothing,
        "{clip} at {line} was given no gradient, and clipped nothing",
        "give it the parameters that are trained; a generator such as model.parameters() can be "
        "iterated once: keep it as a list, or call it again for each use",
        events=(EventKind.STEP,),
        docs="No call of a function that clips was given one.",
    ),
    Rule(
        "clipped while it was scaled",
        Verdict.CLIPPED_SCALED,
        _clipped_while_scaled,
        "{clip} at {line} acted on a gradient that was scaled by {scale}, before unscale_",
        "call {unscale} before the clipping",
        events=(EventKind.GRAD,),
        docs="The loss was multiplied by the scale of a GradScaler, and the gradient was clipped "
        "before it was unscaled.",
    ),
    Rule(
        "made too small for a step",
        Verdict.NO_STEP,
        _made_small,
        "{what}",
        events=(EventKind.STEP,),
    ),
)


def _given_nothing(context: Context, error: ErrorContext) -> Evidence | None:
    """The optimizer got a variable: an empty list, or an iterator that was used up before."""
    if error.error is None or error.read.kind is not MessageKind.NO_PARAMETERS:
        return None
    at, held = error.location, variables_around(error.error)
    calls = nodes_in(statement_at(at), ast.Call)
    given = [call.args[0].id for call in calls if call.args and isinstance(call.args[0], ast.Name)]
    found = {name: held.get(name) for name in given}
    empty = [e for e, value in found.items() if type(value) is list and not value]
    once = [name for name, value in found.items() if hasattr(type(value), "__next__")]
    if len(name := empty or once) != 1:
        return None
    rows = assignments_to(at, name[0])
    if empty:
        filled = [row for row, value in rows if not isinstance(value, ast.List) or value.elts]
        lines = locations_of(f"{at.file}:{row}" for row in filled[-1:])
        what = f"an empty list{f': {mention(lines[0])} put nothing into it' if lines else ''}"
        return error.evidence(locations=lines, name=name[0], what=what, fix=_LOOK_AT_CONDITION)
    made = [each.line for each in assigned_before(at, name[0])]
    names = (e for e in nodes_in(syntax_tree(at.file), ast.Name) if made and e.id == name[0])
    used = sorted({each.lineno for each in names if made[0] < each.lineno < at.line})
    if not used:
        return None
    lines = locations_of([f"{at.file}:{used[0]}"])
    code = next(ast.unparse(value) for row, value in rows if row == made[0])
    what = f"which {mention(lines[0])} had used up: a {type(found[name[0]]).__name__} can be "
    fix = f"keep it as a list, which can be used again: {name[0]} = list({code})"
    return error.evidence(locations=lines, name=name[0], what=f"{what}iterated once", fix=fix)


_LOOK_AT_CONDITION = (
    "look at the condition that fills it: print(name) for each of model.named_parameters()"
)
given_nothing: Rule[Any, Any] = Rule(
    "an optimizer of an empty list, or of an iterator that was used up",
    Verdict.OPTIMIZER,
    _given_nothing,
    "the optimizer{at} was given {name}, {what}",
)


def _hook_of_data(context: Context, error: ErrorContext) -> Evidence | None:
    """A full backward hook returned gradients for a module that is given plain data."""
    if error.read.kind is not MessageKind.MODULE_HOOK_OF_DATA:
        return None
    hook = next(reversed(context.happened(EventKind.HOOK)), None)
    name = getattr(hook.details, "function", "") if hook is not None else ""
    where = f", {name or 'the hook'} at {mention(hook.location)}" if hook is not None else ""
    lines = (hook.location,) if hook is not None else ()
    return error.evidence(locations=lines, hook=where)


hook_of_data: Rule[Any, Any] = Rule(
    "a module hook that returns gradients for plain data",
    Verdict.WRONG_GRADIENT,
    _hook_of_data,
    "backward{at} called a full backward hook of a module{hook}, which returned gradients for the "
    "inputs of the module, and no input requires grad",
    "return None from the hook, which changes no gradient of the parameters; to change those, "
    "register a hook on each parameter, or on a result that the module computes",
)


# Functions of torch.func that do not use what they are differentiated by.


def _of_unused(context: Context, question: Question) -> Evidence | None:
    """The gradient was assigned; ``torch.func.grad`` differentiates by an argument without use."""
    changes = context.happened_to(question.key, EventKind.GRAD)[-1:]
    if not question.has_zero_gradient or not changes or changes[0].action is not Action.ASSIGNED:
        return None
    for place in transforms_in(context.files):
        functions = nodes_in(syntax_tree(place.file), ast.FunctionDef)
        calls = [e for e in nodes_in(syntax_tree(place.file), ast.Call) if e.lineno == place.line]
        given = {ast.unparse(e.args[0]) for e in calls if e.args and not e.keywords}
        for function in (each for each in functions if each.name in given and each.args.args):
            argument = function.args.args[0].arg
            if not any(e.id == argument for e in nodes_in(function, ast.Name)):
                told = {"line": mention(place), "name": function.name, "argument": argument}
                return Evidence(told, locations=(place,))
    return None


unused_argument: Rule[Any, Any] = Rule(
    "a function that does not use what it is differentiated by",
    Verdict.ZERO,
    _of_unused,
    "torch.func at {line} differentiates {name} with respect to {argument}, which {name} does not "
    "use: all gradients that it returns are zeros",
    "in {name}, compute with {argument}: torch.func.functional_call(model, {argument}, args)",
    events=(EventKind.GRAD,),
    docs="As of a function that calls the model itself. The gradients were assigned to .grad.",
)


# Tensors in an optimizer.


def _never_required(context: Context, optimizer: OtherSubject) -> Evidence | None:
    """An optimizer holds plain tensors, as ``torch.zeros(2)``, that never required grad."""
    (step,) = optimizer.facts
    keys = step.details.plain
    keys = [e for e in keys if not context.happened_to(e, EventKind.REQUIRES_GRAD)]
    if not keys:
        return None
    made = created_at(context, step)
    names = [(context.node_in_a_frame(key) or {}).get("name", "") for key in keys]
    who = listed(names) if all(names) else counted(len(keys), "tensor")
    several = ("do", "are", "them", "they") if keys[1:] else ("does", "is", "it", "it")
    words = {"who": who, "line": mention(step.location)}
    words |= dict(zip(("does", "are", "it", "they"), several, strict=True))
    words["created"] = f", created at {mention(made)}" if made else ""
    return Evidence(words, locations=(*([made] if made else ()), step.location))


never_required: Rule[Any, Any] = Rule(
    "an optimizer holds tensors that do not require grad",
    Verdict.NO_STEP,
    _never_required,
    "{who} that it holds {does} not require grad and {are} no nn.Parameter: no pass gives {it} a "
    "gradient, and the step at {line} does not change {it}",
    "call requires_grad_() on {it} before {they} {are} used; or leave {it} out of the optimizer"
    "{created}",
    events=(EventKind.STEP,),
)


def plain_tensors_held(context: Context) -> list[Explanation]:
    """An explanation of each optimizer that holds tensors which do not require grad."""
    last = {details.held: (details.optimizer, event) for event, details in context.steps}
    rows = (OtherSubject(name, "", context, (event,)) for name, event in last.values())
    return answers_about(never_required, rows)
