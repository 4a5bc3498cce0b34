"""Rules for a gradient, or a result, that is NaN or infinite; what uses a leaf, and a Function."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.changed_gradients import (
    FINITE_CHANGES,
    change_to_not_finite,
    changed_to_it,
    changes_before,
    count_of,
    is_finite,
    is_not_finite,
)
from gradviz.diagnosis.context import RECORD, Context, Question
from gradviz.diagnosis.lines import (
    at_line,
    called_name,
    locations_of,
    mention,
    nodes_in,
    syntax_tree,
)
from gradviz.diagnosis.rule import Evidence, Rule, scaling_of
from gradviz.diagnosis.silent_faults import is_part
from gradviz.diagnosis.suspects import (
    HALF,
    KEEP_AWAY,
    Suspect,
    Suspects,
    backward_suspects,
    bad_leaf,
    forward_suspects,
    of_untracked,
)
from gradviz.diagnosis.values import Values, is_all_zero
from gradviz.facts import (
    FROM_OTHERS,
    Action,
    EventKind,
    FrameKind,
    GradientDetails,
    Loss,
    SourceLocation,
    StepDetails,
)
from gradviz.graph import (
    GradGraph,
    NodeKind,
    TensorSummary,
    ancestors,
    descendants,
    in_order,
    is_data,
    is_gradient,
    word_of,
)
from gradviz.graph.operations import operation
from gradviz.graph.text import counted, number_text
from gradviz.story import Event

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names
    from gradviz.recording.api import Recording

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
_FINITE = "its learning rate and weight decay must be finite, and not too large"
_DIVIDING = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta")
_AT_FIRST = "give it values that are finite, where it is created or loaded; if steps before the "
_AT_FIRST += "recording made it so, a lower learning rate may help"
_USUAL = 1e4  # norm of a gradient with which no usual step diverges


_Match = Callable[[Context, Question], Evidence | None]


def _has_become_nan(context: Context, question: Question) -> bool:
    """Whether a step made its values NaN, so that a gradient of zeros means nothing."""
    value = question.data.get("value")
    is_nan = value is not None and value.nan > 0 and question.key in context.since
    return is_nan and question.has_zero_gradient


def not_finite_since(context: Context, recording: Recording) -> dict[str, tuple[int, GradGraph]]:
    """For each leaf, the first of the passes since which its gradient was not finite.

    Of one whose values became NaN, a later gradient of zeros does not count.
    """
    found: dict[str, tuple[int, GradGraph]] = {}
    for earlier, frame in pairwise(recording.frames):
        if frame.kind is not FrameKind.AFTER_BACKWARD:
            continue
        before, _ = recording._snapshots.wrong.get(frame.pass_number, (earlier.graph, {}))
        has_all = before._node.keys() >= frame.graph._node.keys()
        for key in frame.graph.leaves:
            data = frame.graph.nodes[key]
            grad, value = data.get("grad"), data.get("value")
            if grad is None or grad.is_finite:
                if value is None or not value.nan:
                    found.pop(key, None)
            elif key not in found and has_all:
                found[key] = frame.pass_number, before
    if not (wrong := recording._snapshots.wrong):
        return found
    rows: dict[str, list[Any]] = {}
    for event in context.happened(EventKind.ACCUMULATE):
        rows.setdefault(event.nodes[0] if event.nodes else "", []).append(event.details)
    for key, each in rows.items():  # of passes without a frame
        since = [*takewhile(lambda e: e.after is not None and not e.after.is_finite, each[::-1])]
        number = since[-1].pass_number if since else 0
        if key not in found and number in wrong and key in wrong[number][0]:
            found[key] = number, wrong[number][0]
    return found


def with_values(context: Context, recording: Recording, names: Names) -> Context:
    """Add known values of large tensors, which frames do not contain.

    Named tensors are still alive; one that was changed in place since is not read.
    """
    before, values, snapshots = context.before, None, recording._snapshots
    since, made = not_finite_since(context, recording), dict[int, Values]()
    graphs = dict(since.values())  # of many leaves it is the same one
    if before is not None:
        graphs[0] = before
    zeros = {n: each for n, each in _before_zeros(context).items() if snapshots.contents(each)}
    graphs |= zeros
    for number, graph in graphs.items():
        _, kept = snapshots.wrong.get(number, (graph, {}))
        known = {**_live_values(graph, recording, names), **kept}
        made[id(graph)] = Values(graph, snapshots.contents(graph), known=known)
    if before is not None:
        values = made[id(before)]
    found = {key: (number, made[id(graph)]) for key, (number, graph) in since.items()}
    earlier = {number: made[id(graph)] for number, graph in zeros.items()}
    return replace(context, values=values, since=found, earlier=earlier)


def _before_zeros(context: Context) -> dict[int, GradGraph]:
    """The graphs before passes that gave a leaf its last gradient, of zeros, by their numbers."""
    given = [e.details for e in context.happened(EventKind.ACCUMULATE)]
    rows = [(e.pass_number, e.after) for e in given if isinstance(e, GradientDetails)]
    zeros = {number for number, after in rows if after is not None and is_all_zero(after)}
    frames = [frame for frame in context.frames if frame.kind is FrameKind.FORWARD]
    return {frame.pass_number: frame.graph for frame in frames if frame.pass_number in zeros}


def _live_values(
    graph: GradGraph, recording: Recording, names: Names
) -> Mapping[str, TensorSummary]:
    from gradviz.capture.autograd.tensors import version_of
    from gradviz.capture.tensors.summary import summarize

    tensors = {
        key: named.tensor
        for named in names
        if (key := recording._snapshots.key_of(named.tensor, graph)) in graph
        and "value" not in (data := graph.nodes[key])
        and data.get("version", 0) == version_of(named.tensor)
    }
    return dict(zip(tensors, summarize(list(tensors.values())), strict=True))


def _found(context: Context, question: Question) -> Evidence | None:
    if not (is_not_finite(question) or _has_become_nan(context, question)):
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
    suspect = _after_half_step(context, question, suspect)
    suspect = _after_growth(context, values, suspect, number)
    users = (values.graph.nodes[each].get("op") for each in values.graph.successors(suspect.key))
    row = operation(data.get("op", ""))
    is_chosen = (row.word == "div" or bool(row.not_finite_at)) and "where" in users
    stayed = f", in pass {number}, and it stayed so" if 0 < number < len(context.passes) else ""
    stayed += _skipped_step(context, question, suspect.in_forward)
    fix = _UNCHOSEN if is_chosen else suspect.fix
    words = {"count": count_of(question), "stayed": stayed, "fix": fix}
    return _at_suspect(values, suspect, words)


def _after_half_step(context: Context, question: Question, suspect: Suspect) -> Suspect:
    """The same, if its first step was one that divides, in float16, and the next pass gave NaN."""
    steps = context.steps_with(question.key)
    grads = [e.details for e in context.happened_to(question.key, EventKind.ACCUMULATE)][:2]
    after = [e.after for e in grads if isinstance(e, GradientDetails) and e.after is not None]
    is_first = [is_finite(each) for each in after] == [True, False]
    if suspect.is_known and not (suspect.was_seen or suspect.leaf):
        return suspect
    if not (is_first and steps and steps[0][1].optimizer in _DIVIDING):
        return suspect
    if question.data.get("dtype") != "float16":
        return suspect
    event, details = steps[0]
    why = f"{suspect.why}; the step of {details.optimizer} at {mention(event.location)} before it "
    why += "was in float16, where an eps below 3e-8, such as the usual 1e-8, is 0"
    fix = f"keep the parameters in float32, or give {details.optimizer} a larger eps, such as 1e-4"
    return suspect._replace(why=why, fix=fix)


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
    """The same, with what made a parameter NaN before a pass: a gradient, a step, or a write.

    ``number`` is that of the pass; 0 for the latest one.
    """
    suspect = _of_scale(context, values, suspect)
    leaf = suspect.leaf or bad_leaf(values, suspect.key)
    this = context.pass_of.get(number) or (context.passes[-1] if context.passes else None)
    if not leaf or this is None:
        return suspect
    grads = (event.details for event in context.happened_to(leaf, EventKind.ACCUMULATE))
    found = (each for each in grads if isinstance(each, GradientDetails))
    rows = [(each.pass_number, each.after) for each in found if each.after is not None]
    usual = [*takewhile(lambda row: row[1].is_finite, rows)]
    first = context.pass_of.get(rows[len(usual)][0], this) if rows[len(usual) :] else this
    is_sudden = all((grad.norm or 0) < _USUAL for _, grad in usual)
    if first.number < this.number:
        why = f"{suspect.why}: its gradient was first not finite in pass {rows[len(usual)][0]}"
        suspect = suspect._replace(why=why + at_line(first.source))
        name = word_of(context.graph.nodes[leaf]) if leaf in context.graph else "it"
        fix = f"mend what made the gradient of {name} NaN in that pass"
        return suspect._replace(fix=fix) if is_sudden else suspect
    written = context.happened_to(leaf, EventKind.IN_PLACE)
    before = [each for each in written if each.location and each.number < this.number]
    steps = [row for row in context.steps_with(leaf) if row[0].number < this.number]
    if steps and (not before or before[-1].number < steps[-1][0].number):
        norm = usual[-1][1].norm if usual else None
        return _by_a_step(context, suspect, leaf, steps[-1], norm) if is_sudden else suspect
    if not before:
        return suspect._replace(fix=_AT_FIRST)
    why = f"{suspect.why}, and was last written by {before[-1].word}{at_line(before[-1].source)}"
    return suspect._replace(why=why, fix="write values that are finite")


def _by_a_step(
    context: Context,
    suspect: Suspect,
    leaf: str,
    row: tuple[Event, StepDetails],
    norm: float | None,
) -> Suspect:
    """The same, with the step that made a parameter NaN, or what had changed its gradient."""
    step, optimizer = row[0], row[1].optimizer
    what = "a larger eps, or a lower learning rate" if optimizer in _DIVIDING else _FINITE
    fix = f"look at the arguments of {optimizer}: {what}"
    changes = changes_before(context, leaf, step.number)
    if (made := change_to_not_finite(context, leaf, changes, step.number)) is not None:
        why = f"{suspect.why}: {made.word} at {mention(made.location)} had made its gradient so"
        return suspect._replace(why=why, fix=FINITE_CHANGES)
    why = f"{suspect.why}, which a step of {optimizer} at {mention(step.location)} made"
    if changes:
        why += f" after {changes[0].word} at {mention(changes[0].location)} changed its gradient"
        fix = f"look at what {changes[0].word} writes, and at the arguments of {optimizer}"
    elif norm is not None:
        why += f" from gradients with a norm of {norm:.4g}"
    return suspect._replace(why=why, fix=fix)


def _after_growth(context: Context, values: Values, suspect: Suspect, number: int) -> Suspect:
    """The same, if steps made a parameter that it was computed from much larger before the pass."""
    this = context.pass_of.get(number) or (context.passes[-1] if context.passes else None)
    if this is None or not (suspect.in_forward or suspect.was_seen):
        return suspect
    key = ("grown", id(values), suspect.key, this.number)
    found = context.cached(key, lambda: _grown_by_steps(context, values, suspect.key, this))
    if found is None:
        return suspect
    return suspect._replace(why=f"{suspect.why}; {found[1]}", fix=found[0])


def _grown_by_steps(
    context: Context, values: Values, key: str, before: Event
) -> tuple[str, str] | None:
    """What to do, and by how much steps changed what a node comes from before a pass; or None."""
    steps = [row for row in context.steps if row[0].number < before.number]
    held = {each for _, details in steps for each in details.held}
    nodes = context.frames[0].graph._node if context.frames and steps else {}
    rows = list[tuple[float, float, str]]()
    for leaf in held & ancestors(values.graph, [key]):
        was, now = nodes.get(leaf, {}).get("value"), values.of(leaf)
        if was is not None and now is not None and was.is_finite:
            rows.append((math.inf if now.inf else now.norm or 0.0, was.norm or 0.0, leaf))
    norm, old, leaf = max(rows, default=(0.0, 0.0, ""))
    if norm <= _GROWN * max(old, 1.0):
        return None
    own = [row for row in steps if leaf in row[1].held]
    (step, details), to = own[-1], "infinity" if norm == math.inf else number_text(norm)
    by, fix = _GROWS_BY[details.argument_of(leaf)]
    what = f"{counted(len(own), 'step')} of {details.optimizer} at {mention(step.location)} had "
    what += f"changed the norm of {word_of(values.graph.nodes[leaf])} from {number_text(old)} to "
    return fix.format(details.optimizer), f"{what}{to}{by}"


def _result_not_finite(context: Context, question: Question) -> Evidence | None:
    """A finite gradient of a result that is not finite."""
    is_zero = question.has_zero_gradient
    if is_not_finite(question) or (is_zero and not context.lost_in_pass(Loss.ZERO)):
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
    if not is_not_finite(question):
        return None
    fix = "torch.autograd.set_detect_anomaly(True) names the operation"
    fix += "" if context.is_recorded else f"; {RECORD}"
    if by := _combined_by(context, question):
        fix = f"explain the recordings of the other ranks as well: one may name it; {fix}"
    more = f"{by}{_skipped_step(context, question, None)}"
    return Evidence({"count": count_of(question), "fix": fix, "more": more})


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


_GROWN = 1e3  # times
_LESS_DECAY = "lower weight_decay, or lr: their product must be far below 1"
_GROWS_BY = {
    "lr": ("", "lower the learning rate of {}, or scale the inputs"),
    "momentum": (", with a momentum of 1 or more", "pass a momentum below 1, such as 0.9"),
    "weight_decay": ("; each multiplies it by 1 - lr * weight_decay, not above 0", _LESS_DECAY),
}


def _grown(context: Context, question: Question) -> Evidence | None:
    """Steps made the loss and the gradient of a parameter much larger: the training diverges."""
    key, grad = question.key, question.data.get("grad")
    added = [e for e in context.happened_to(key, EventKind.ACCUMULATE) if e.location]
    same = [each for each in added if each.location == added[-1].location]
    own = (event.number for event, _ in context.steps_with(key))
    steps = [number for number in own if same and same[0].number < number < same[-1].number]
    if grad is None or not grad.is_finite or not steps:
        return None
    rows: Any = [same[0].details, same[-1].details]
    norms = [each.after.norm if each.after is not None else None for each in rows]
    results = [_result_of(context, each.pass_number) for each in rows]
    pairs = ((norms[0] or 0, norms[1] or 0), results)
    if not all(before > 0 and max(before * _GROWN, 1) < after for before, after in pairs):
        return None
    before, after = map(number_text, results)
    words = {"steps": counted(len(steps), "step"), "before": before, "after": after}
    details = context.steps_with(key)[-1][1]
    by, fix = _GROWS_BY[details.argument_of(key)]
    words |= {
        "backward": mention(same[-1].location),
        "by": by,
        "fix": fix.format(details.optimizer),
    }
    return Evidence(words, locations=(same[-1].location,))


def _result_of(context: Context, number: int) -> float:
    """The size of the number on which a pass was called; 0 if it is not known."""
    frames = (each for each in context.frames or () if each.pass_number == number)
    graph = next((f.graph for f in frames if f.kind is FrameKind.AFTER_BACKWARD), None)
    roots = context.roots_of(graph) if graph is not None else ()
    value = graph.nodes[roots[0]].get("value") if graph is not None and len(roots) == 1 else None
    return abs(value.values[0]) if value is not None and value.values is not None else 0.0


grown: Rule[Any, Any] = Rule(
    "grown from step to step",
    Verdict.EXPLODING,
    _grown,
    "after {steps}, its gradient is over 1,000 times larger, and the result on which backward at "
    "{backward} is called grew from {before} to {after}{by}",
    events=(EventKind.STEP,),
    docs="Both are over 1,000 times what they were at the first pass of the line.",
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
    *changed_to_it,
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


def left_out(context: Context, question: Question) -> Event | None:
    """The last named result computed from a parameter of a module, and with what the roots were.

    Of a leaf of the program's own it is not known for which result it was meant.
    """
    graphs = [each.graph for each in context.frames if question.key in each.graph]
    if not graphs or "." not in question.name:
        return None
    below = descendants(graphs[-1], [question.key], is_gradient) - {question.key}
    named = [each for each in context.happened(EventKind.OPERATION) if each.name]
    last = next((each for each in reversed(named) if not below.isdisjoint(each.nodes)), None)
    behind = ancestors(graphs[-1], last.nodes if last is not None else ())
    shared = (graphs[-1].nodes[key]["kind"] for key in behind & context.reachable)
    return last if NodeKind.OPERATION in shared else None


def differentiated_in(function: str, line: str) -> SourceLocation | None:
    """Where the backward of a Function calls ``torch.autograd.grad``, without gradients on."""
    for place in locations_of([line]):
        classes = nodes_in(syntax_tree(place.file), ast.ClassDef)
        parts = (part for each in classes if each.name == function for part in each.body)
        for method in (e for e in parts if getattr(e, "name", "") == "backward"):
            called = {called_name(e): e.lineno for e in nodes_in(method, ast.Call)}
            if "grad" in called and called.keys().isdisjoint(("enable_grad", "set_grad_enabled")):
                return SourceLocation(place.file, called["grad"])
    return None
