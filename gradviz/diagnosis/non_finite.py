"""Rules for a gradient that is NaN or infinite, or large, for clipping, and for too many hooks."""

from __future__ import annotations

import math
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import dropwhile, pairwise, takewhile
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import RECORD, Context, Question
from gradviz.diagnosis.lines import at_line, locations_of, mention
from gradviz.diagnosis.rule import Evidence, Rule
from gradviz.diagnosis.silent_faults import (
    CLIP_LIMITS,
    around_last_step,
    grown_by_steps,
    is_part,
    unchanged,
)
from gradviz.diagnosis.suspects import (
    DIVIDING,
    HALF,
    KEEP_AWAY,
    Suspect,
    Suspects,
    after_half_step,
    backward_suspects,
    forward_suspects,
    in_order,
    is_finite,
    nan_parameter,
    of_untracked,
)
from gradviz.diagnosis.training import CHANGES, CLEARS, scaling_of
from gradviz.diagnosis.values import Values
from gradviz.facts import FROM_OTHERS, Action, EventKind, GradientDetails, HookDetails, Loss
from gradviz.graph import ancestors, is_data, word_of
from gradviz.graph.operations import operation
from gradviz.story import Event

_LOWER_SCALE = (
    "nothing if later steps are not skipped, since GradScaler lowers its scale; otherwise make the "
    "loss smaller, with a mean in place of a sum"
)
_UNCHOSEN = f"{KEEP_AWAY}, also where torch.where() takes its other branch: 0 * infinity is NaN"
_FIRST = "find the first result that is not finite: torch.isfinite(x).all()"
_PACKED = "; a hook of saved_tensors_hooks() packed what it saved, as another type"
_UNPACK = "look at what the hook packs: in float16, values over 65,504 are infinite"
_LOGDET = "torch.linalg.slogdet(x).logabsdet is the logarithm of the absolute value; or keep the "
_LOGDET += "determinant positive, such as by a matrix that is positive definite"
CLIPS = tuple(CLIP_LIMITS)
_NORMCLIPS = ("clip_grad_norm_", "clip_grads_with_norm_")
_SMALL = 1e-3  # of the gradient of a pass, where a change made it too small for a step
_USUAL = 1e4  # norm of a gradient with which no usual step diverges


_Match = Callable[[Context, Question], Evidence | None]


def _is_not_finite(question: Question) -> bool:
    return is_finite(question.data.get("grad")) is False


def _has_become_nan(context: Context, question: Question) -> bool:
    """Whether a step made its values NaN, so that a gradient of zeros means nothing."""
    value = question.data.get("value")
    is_nan = value is not None and value.nan > 0 and question.key in context.since
    return is_nan and question.has_zero_gradient


def _found(context: Context, question: Question) -> Evidence | None:
    if not (_is_not_finite(question) or _has_become_nan(context, question)):
        return None
    number, values = context.since.get(question.key, (0, context.values_of_pass(question)))
    if values is None:
        return None
    if (first := _first_suspect(context, question, values, number)) is None:
        return None
    of_all = ("suspect", id(values), first)
    suspect = context.cached(of_all, lambda: _of_step(context, values, first, number))
    data = values.graph.nodes[suspect.key]
    if suspect.was_seen and _is_packed(context, values, suspect.key):
        suspect = suspect._replace(why=f"{suspect.why}{_PACKED}", fix=_UNPACK)
    suspect = after_half_step(context, question, suspect)
    suspect = _after_growth(context, values, suspect, number)
    users = (values.graph.nodes[each].get("op") for each in values.graph.successors(suspect.key))
    row = operation(data.get("op", ""))
    is_chosen = (row.word == "div" or bool(row.not_finite_at)) and "where" in users
    stayed = f", in pass {number}, and it stayed so" if 0 < number < len(context.passes) else ""
    stayed += _skipped_step(context, question, suspect.in_forward)
    fix = _UNCHOSEN if is_chosen else suspect.fix
    words = {"count": _count(question), "stayed": stayed, "fix": fix}
    return _at_suspect(values, suspect, words)


def _at_suspect(values: Values, suspect: Suspect, words: dict[str, Any]) -> Evidence:
    """What was found at an operation, with its words."""
    data = values.graph.nodes[suspect.key]
    line, op, why = data.get("source", ""), data.get("op"), suspect.why
    before = (values.graph.nodes[each].get("op") for each, _ in values.graph.inputs(suspect.key))
    if op == "where" and "linalg_slogdet" in before:
        made, op = values.made_by(suspect.key), "logdet"
        why = f"the determinant is {'negative' if made is not None and made.nan else '0'}"
        words["fix"] = _LOGDET
    words["found"] = f"{op}{f', {mention(line)}' if line else ''} ({why})"
    return Evidence(words, (suspect.key,), locations_of([line]), suspect.key)


def _is_packed(context: Context, values: Values, key: str) -> bool:
    """Whether a saved-tensor hook packed an input of an operation as another type."""
    rows = (each.graph.nodes[key].get("saved", ()) for each in context.frames if key in each.graph)
    kept = [(each.dtype, values.source_of(key, each.input)) for row in rows for each in row]
    nodes = values.graph.nodes
    return any(source and dtype != nodes[source].get("dtype") for dtype, source in kept)


def _count(question: Question) -> str:
    grad, value = question.data.get("grad"), question.data.get("value")
    assert grad is not None
    if grad.is_finite and value is not None:
        return f"{value.nan:,} of its own {value.numel:,} elements are NaN"
    word = Verdict.NAN.value if grad.nan else Verdict.INFINITE.value
    if grad.is_part:
        return f"{grad.nan or grad.inf:,} {word} in the part of it on this rank"
    return f"{grad.nan or grad.inf:,} of {grad.numel:,} elements are {word}"


def _first_suspect(
    context: Context, question: Question, values: Values, number: int
) -> Suspect | None:
    found = context.cached(("suspects", id(values)), lambda: Suspects(context, values))
    lost = context.cached(("lost", id(values), number), lambda: _lost(context, found.order, number))
    backward, first = found.backward(question.key, lost), found.forward(question.key)
    if first is None or (found.is_known(first) and not first.has_nan_input):
        return first or next(iter(backward), None)
    data, causes = found.causes(first)
    if data is not None or found.is_known(first):
        return data or first
    behind = (each for each in reversed(backward) if each.key in found.before(first.key))
    return next(iter((*causes, *behind)), first)


def _lost(context: Context, order: Sequence[str], number: int) -> list[str]:
    """The operations at which a pass was seen to lose a finite gradient, as backward ran them."""
    lost = {key for key, _ in context.lost_in_pass(Loss.NOT_FINITE, number)}
    return [key for key in reversed(order) if key in lost]


def _of_scale(context: Context, values: Values, suspect: Suspect) -> Suspect:
    """The same, with a reason of its own if it is the product of a loss and GradScaler's scale."""
    scaling = scaling_of(context, values.graph)
    if scaling is not None and suspect.was_seen:
        return suspect._replace(fix=_LOWER_SCALE)  # what came to it was scaled
    if scaling is None or scaling.key != suspect.key:
        return suspect
    what = f"the loss times the scale {scaling.factor:,g} of GradScaler"
    return Suspect(suspect.key, f"{what} is too large, the loss is not", _LOWER_SCALE)


def _of_step(context: Context, values: Values, suspect: Suspect, number: int) -> Suspect:
    """The same, if an earlier gradient, or a step that divides, made a parameter NaN.

    ``number`` is that of the pass; 0 for the latest one.
    """
    suspect = _of_scale(context, values, suspect)
    leaf = nan_parameter(values, suspect.key)
    steps = context.steps_with(leaf)
    grads = [event.details for event in context.happened_to(leaf, EventKind.ACCUMULATE)]
    after = [e.after for e in grads if isinstance(e, GradientDetails) and e.after is not None]
    usual = list(takewhile(lambda each: each.is_finite and (each.norm or 0) < _USUAL, after))
    divides = bool(steps) and steps[0][1].optimizer in DIVIDING
    if not (usual and divides):
        return _since_a_pass(context, suspect, leaf, number) if leaf else suspect
    event, details = steps[0]
    why = f"{suspect.why}, which a step of {details.optimizer} at {mention(event.location)} made"
    why += f" from gradients with a norm of {usual[0].norm:.4g}"
    fix = f"look at the arguments of {details.optimizer}: a larger eps, or a lower learning rate"
    return suspect._replace(why=why, fix=fix)


def _since_a_pass(context: Context, suspect: Suspect, leaf: str, number: int) -> Suspect:
    """The same, with the first pass whose gradient of a parameter was not finite, if it is earlier.

    If none is, and the program wrote into the parameter before: with that line.
    """
    grads = (event.details for event in context.happened_to(leaf, EventKind.ACCUMULATE))
    found = (each for each in grads if isinstance(each, GradientDetails))
    rows = [(each.pass_number, each.after) for each in found if each.after is not None]
    rest = [*dropwhile(lambda row: row[1].is_finite, rows)]
    this = context.pass_of.get(number) or (context.passes[-1] if context.passes else None)
    if not rest or this is None:
        return suspect
    first = context.pass_of.get(rest[0][0], this)
    if first.number < this.number:
        why = f"{suspect.why}: its gradient was first not finite in pass {rest[0][0]}"
        suspect = suspect._replace(why=why + at_line(first.source))
        is_sudden = all((grad.norm or 0) < _USUAL for _, grad in rows[: -len(rest)])
        name = word_of(context.graph.nodes[leaf]) if leaf in context.graph else "it"
        fix = f"mend what made the gradient of {name} NaN in that pass"
        return suspect._replace(fix=fix) if is_sudden else suspect
    written = context.happened_to(leaf, EventKind.IN_PLACE)
    before = [each for each in written if each.location and each.number < this.number]
    steps = (event.number for event, _ in context.steps_with(leaf))
    if not before or any(before[-1].number < step < this.number for step in steps):
        return suspect
    why = f"{suspect.why}, and was last written by {before[-1].word}{at_line(before[-1].source)}"
    return suspect._replace(why=why, fix="write values that are finite")


def _after_growth(context: Context, values: Values, suspect: Suspect, number: int) -> Suspect:
    """The same, if steps made a parameter that it was computed from much larger before the pass."""
    this = context.pass_of.get(number) or (context.passes[-1] if context.passes else None)
    if this is None or not (suspect.in_forward or suspect.was_seen):
        return suspect
    key = ("grown", id(values), suspect.key, this.number)
    found = context.cached(key, lambda: grown_by_steps(context, values, suspect.key, this))
    if found is None:
        return suspect
    fix = f"lower the learning rate of {found[0]}, or scale the inputs"
    return suspect._replace(why=f"{suspect.why}; {found[1]}", fix=fix)


def _result_not_finite(context: Context, question: Question) -> Evidence | None:
    """A finite gradient of a result that is not finite."""
    is_zero = question.has_zero_gradient
    if _is_not_finite(question) or (is_zero and not context.lost_in_pass(Loss.ZERO)):
        return None
    if (values := context.values_of_pass(question)) is None:
        return None
    graph = values.graph
    wrong, before, suspect = context.cached(
        ("result", id(values)), lambda: _suspect_of_result(context, values)
    )
    if question.key not in before:
        return None
    value = values.of(wrong[0])
    what = "NaN" if value is not None and value.nan else "infinite"
    is_of_data = suspect is not None and (suspect.has_nan_input or not suspect.in_forward)
    if is_zero and not (what == "NaN" and is_of_data):
        return None  # zeros are explained by what blocks them
    words = {"root": graph.nodes[wrong[0]].get("name") or "the result", "what": what}
    words["grad"] = "zero" if is_zero else "finite"
    if suspect is None:
        dtypes = {graph.nodes[key].get("dtype") for key in ancestors(graph, wrong)}
        fix = HALF if "float16" in dtypes else _FIRST
        words |= {"known": "", "found": "", "skipped": "", "fix": fix}
        return Evidence(words, (wrong[0],))
    skipped = _skipped_step(context, question, suspect.in_forward)
    words |= {"known": ": the first known is at ", "skipped": skipped, "fix": suspect.fix}
    return _at_suspect(values, suspect, words)


def _suspect_of_result(
    context: Context, values: Values
) -> tuple[list[str], set[str], Suspect | None]:
    """The results that are not finite, what they were computed from, and the first suspect."""
    graph = values.graph
    wrong = [key for key in context.roots_of(graph) if is_finite(values.of(key)) is False]
    data = in_order(graph, ancestors(graph, wrong, is_data))
    suspects = list(forward_suspects(values, data))
    if suspects and not suspects[0].is_known:
        # What came before may have no finite value for one of its inputs.
        behind = in_order(graph, ancestors(graph, [suspects[0].key]))
        outside = [*filter(None, (of_untracked(values, each, only_nan=True) for each in behind))]
        suspects = outside or [*backward_suspects(values, behind), *suspects]
    suspect = _of_scale(context, values, suspects[0]) if suspects else None
    suspect = suspect and _after_growth(context, values, suspect, 0)
    return wrong, ancestors(graph, wrong), suspect


def _skipped_step(context: Context, question: Question, in_forward: bool | None) -> str:
    """A clause saying that GradScaler skipped the step; "" if it did not.

    A lower scale does not help if ``in_forward``; None if this is not known.
    """
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    skipped = ((e, d) for e, d in context.steps if added and e.action is Action.SKIPPED)
    if not any(e.number > added[-1].number and question.key in d.held for e, d in skipped):
        return ""
    if in_forward:
        return "; GradScaler skipped the step, and a lower scale does not help"
    end = "" if in_forward is None else ": normal in the first steps, if later ones are not skipped"
    return f"; GradScaler skipped the step and lowers its scale{end}"


def _unknown(context: Context, question: Question) -> Evidence | None:
    if not _is_not_finite(question):
        return None
    fix = "torch.autograd.set_detect_anomaly(True) names the operation"
    fix += "" if context.is_recorded else f"; {RECORD}"
    if by := _combined_by(context, question):
        fix = f"explain the recordings of the other ranks as well: one may name it; {fix}"
    more = f"{by}{_skipped_step(context, question, None)}"
    return Evidence({"count": _count(question), "fix": fix, "more": more})


def _combined_by(context: Context, question: Question) -> str:
    """What put gradients of other ranks into that of a leaf; "" if nothing is known to."""
    key = question.key
    given = [e for e in context.happened_to(key, EventKind.GRAD) if e.action in FROM_OTHERS]
    if given:
        did = "combined it over the ranks" if given[-1].action is Action.REDUCED else "received it"
        return f" on this rank, and {given[-1].word} at {mention(given[-1].location)} {did}"
    added = [each.details for each in context.happened_to(key, EventKind.ACCUMULATE)]
    ranks = max((each.ranks for each in added if isinstance(each, GradientDetails)), default=0)
    if ranks > 1:
        return f" on this rank, and DistributedDataParallel averaged it over {ranks} ranks"
    has_part = is_part(context, key, question.data.get("grad"))
    return " on this rank, which has a part of it" if has_part else ""


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


def _rules(verdict: Verdict) -> tuple[Rule[Any, Any], ...]:
    def only(match: _Match) -> _Match:
        def matched(context: Context, question: Question) -> Evidence | None:
            grad = question.data.get("grad")
            is_nan = grad is not None and bool(grad.nan)
            is_nan = is_nan or _has_become_nan(context, question)
            return match(context, question) if is_nan is (verdict is Verdict.NAN) else None

        return matched

    word = verdict.value
    return (
        Rule(
            f"the operation that made it {word}",
            verdict,
            only(_found),
            "{count}: the first known is at {found}{stayed}",
            docs="First what the forward pass computed, then operations whose derivative is not "
            "finite at an input that they had.",
        ),
        Rule(
            f"{word}, cause not known",
            verdict,
            only(_unknown),
            "{count}; the first operation with such values is not known{more}",
        ),
    )


non_finite_rules: tuple[Rule[Any, Any], ...] = (
    _clipped(Verdict.ZERO, lambda question: question.has_zero_gradient),
    _clipped(Verdict.NAN, _is_not_finite),
    *_rules(Verdict.NAN),
    *_rules(Verdict.INFINITE),
    Rule(
        "a finite gradient of a result that is not finite",
        Verdict.RESULT_NOT_FINITE,
        _result_not_finite,
        "its gradient is {grad}, but {root}, on which backward was called, is {what}{known}{found}"
        "{skipped}",
    ),
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
        "call scaler.unscale_(optimizer) before the clipping",
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
