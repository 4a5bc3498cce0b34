"""Rules for a gradient that is NaN or infinite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import LEAVES, RECORD, Context, Question
from gradviz.diagnosis.lines import locations_of, mention
from gradviz.diagnosis.relative_size import not_finite
from gradviz.diagnosis.rule import Evidence, Rule
from gradviz.diagnosis.training import scaling_of
from gradviz.diagnosis.values import Values, chooses_among, has, number_of, smallest
from gradviz.facts import Action, BackwardDetails, EventKind, GradientDetails, Loss
from gradviz.graph import (
    GradGraph,
    NodeData,
    NodeKind,
    TensorSummary,
    ancestors,
    descendants,
    is_data,
    leaf_of_node,
    word_of,
)
from gradviz.graph.operations import operation, words

_KEEP_AWAY = "keep its input away from this value: add a small number, or clamp it before"
_LOOK = "look at its inputs: one may be infinite or NaN already, or too large"
_TOO_LARGE = "make its inputs smaller: normalize them, or clamp them before"
_DIVERGED = (
    "find the first iteration whose loss is not finite; a lower learning rate may help, or "
    "torch.nn.utils.clip_grad_norm_() before each step"
)
_LOWER_SCALE = (
    "nothing if later steps are not skipped, since GradScaler lowers its scale; otherwise make the "
    "loss smaller, with a mean in place of a sum"
)
_HALF = "compute this part in float32 or bfloat16: float16 holds at most 65,504"
_SINGLE = (
    "of a single element it divides by 0: take it over more elements, or pass correction=0; "
    "DataLoader(drop_last=True) leaves out a last batch of one row"
)
_OF_OP = {
    "ctc_loss": "make each input at least as long as its target, plus one for each pair of equal "
    "labels in a row; or use CTCLoss(zero_infinity=True)",
    **dict.fromkeys(("std", "var"), _SINGLE),
}
_MASK_LATER = (
    "mask with -inf after this operation, or replace the infinite elements by finite ones before"
)
_RETURNED = "in backward a finite gradient came to it, and what it returned is not finite"
_MASKED = "its result is NaN; its input is masked, and a row of -inf alone gives NaN"
_UNMASK = "leave an element of each row unmasked, or drop such rows before"
_OF_POSITIVE = ("log", "log2", "log10", "sqrt", "rsqrt")
_SOFTMAXES = ("softmax", "log_softmax")
_DIVIDING = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta")
_USUAL = 1e4  # norm of a gradient with which no usual step diverges
_NEAR = 6  # operations between a mask and its softmax
_PUT_IN = words(lambda row: row.puts_in)
_CHOOSES = {*_PUT_IN, *("index", "index_select", "masked_select", "gather", "nan_to_num")}
_CHOOSES |= {"max", "min"}
_TURNS = frozenset(("t", "transpose", "view", "to"))
_SINGULAR = frozenset(("linalg_svd", "svd", "linalg_eigh", "linalg_eig"))


class Suspect(NamedTuple):
    """An operation with a result or gradient that is not finite.

    key: the operation.
    why: a clause.
    fix: what to do.
    is_known: whether its inputs are known to be finite.
    in_forward: whether the forward pass computed these values.
    has_nan_input: whether an input has NaN, which another operation may have created.
    """

    key: str
    why: str
    fix: str = _KEEP_AWAY
    is_known: bool = True
    in_forward: bool = False
    has_nan_input: bool = False


def _is_not_finite(question: Question) -> bool:
    return not_finite(question.data.get("grad"))


def _found(context: Context, question: Question) -> Evidence | None:
    if not _is_not_finite(question):
        return None
    number, values = context.since.get(question.key, (0, context.values_of_pass(question)))
    if values is None:
        return None
    suspect = _first_suspect(context, question, values, number)
    if suspect is None:
        return None
    suspect = _of_step(context, values, _of_scale(context, values, suspect))
    data = values.graph.nodes[suspect.key]
    line = data.get("source", "")
    stayed = f", in pass {number}, and it stayed so" if 0 < number < len(context.passes) else ""
    skipped = _skipped_step(context, question, suspect.in_forward)
    words = {
        "count": _count(question),
        "op": data.get("op"),
        "where": f", {mention(line)}" if line else "",
        "why": suspect.why,
        "stayed": stayed + skipped,
        "fix": suspect.fix,
    }
    return Evidence(words, (suspect.key,), locations_of([line]), suspect.key)


def _count(question: Question) -> str:
    grad = question.data.get("grad")
    assert grad is not None
    word = Verdict.NAN.value if grad.nan else Verdict.INFINITE.value
    return f"{grad.nan or grad.inf:,} of {grad.numel:,} elements are {word}"


def _first_suspect(
    context: Context, question: Question, values: Values, number: int
) -> Suspect | None:
    graph = values.graph
    roots = [each for each in graph.roots if graph.nodes[each]["kind"] is NodeKind.RESULT]
    between = _in_order(graph, ancestors(graph, roots) & descendants(graph, [question.key]))
    forward = list(_forward_suspects(values, _in_order(graph, ancestors(graph, between))))
    kept = (at for at, each in enumerate(forward) if not values.is_left_out(each.key))
    forward = forward[next(kept, 0) :]
    backward = list(_backward_suspects(values, between))
    singular: list[Suspect] = []
    if forward and values.graph.nodes[forward[0].key].get("source") in _lines_of_passes(context):
        # It belongs to the gradient of an operation, which the program has on another line.
        forward[0] = forward[0]._replace(is_known=False)
        every = _in_order(graph, ancestors(graph, [forward[0].key]) - {forward[0].key})
        singular = list(_backward_suspects(values, every))
    lost = {key for key, _ in context.lost_in_pass(Loss.NOT_FINITE, number)}
    if seen := [key for key in reversed(between) if key in lost]:
        # What the pass was seen to do counts more than what the values suggest.
        backward = [each for each in backward if each.key in seen] or [
            _of_untracked(values, key) or Suspect(key, _RETURNED, _fix_of(graph, key))
            for key in seen
        ]
    if forward and (not forward[0].is_known or forward[0].has_nan_input):
        # Its input may come from an operation that is known to have had no finite value.
        before = ancestors(graph, [forward[0].key])
        if forward[0].is_known:
            before.discard(forward[0].key)
        data = (_of_data(values, key, forward[0].has_nan_input) for key in _in_order(graph, before))
        if suspect := next(filter(None, data), None):
            return suspect
    if forward and not forward[0].is_known:
        spoiled = _spoiled(values, forward[0].key, before)
        earlier = [Suspect(key, _why_singular(values, key), in_forward=True) for key in spoiled]
        earlier += [each for each in reversed(backward) if each.key in before]
        forward = singular[::-1] + earlier + forward
    return next(iter((*forward, *backward)), None)


def _lines_of_passes(context: Context) -> set[str]:
    """The lines of the passes that recorded their own operations: with ``create_graph=True``."""
    passes = ((event, event.details) for event in context.happened(EventKind.BACKWARD))
    return {
        str(event.location)
        for event, details in passes
        if isinstance(details, BackwardDetails) and details.create_graph
    }


def _of_scale(context: Context, values: Values, suspect: Suspect) -> Suspect:
    """The same, with a reason of its own if it is the product of a loss and GradScaler's scale."""
    scaling = scaling_of(context, values.graph)
    if scaling is not None and suspect.why == _RETURNED:
        return suspect._replace(fix=_LOWER_SCALE)  # what came to it was scaled
    if scaling is None or scaling.key != suspect.key:
        return suspect
    why = (
        f"the loss times the scale {scaling.factor:,g} of GradScaler is too large, the loss is not"
    )
    return Suspect(suspect.key, why, _LOWER_SCALE)


def _of_step(context: Context, values: Values, suspect: Suspect) -> Suspect:
    """The same, if an earlier gradient, or a step that divides, made a parameter NaN."""
    leaf = _nan_parameter(values, suspect.key)
    steps = [(event, each) for event, each in context.steps if leaf and leaf in each.held]
    grads = [event.details for event in context.happened_to(leaf, EventKind.ACCUMULATE)]
    after = [e.after for e in grads if isinstance(e, GradientDetails) and e.after is not None]
    usual = list(takewhile(lambda each: each.norm is not None and each.norm < _USUAL, after))
    divides = bool(steps) and steps[0][1].optimizer in _DIVIDING
    if not (usual and divides):
        rest = after[len(usual) :]
        if len(rest) < 2 or rest[0].is_finite:
            return suspect
        name = word_of(values.graph.nodes[leaf])
        return suspect._replace(fix=f"mend what made the gradient of {name} NaN in an earlier pass")
    event, details = steps[0]
    why = f"{suspect.why}, which a step of {details.optimizer} at {mention(event.location)} made"
    why += f" from gradients with a norm of {usual[0].norm:.4g}"
    fix = f"look at the arguments of {details.optimizer}: a larger eps, or a lower learning rate"
    return suspect._replace(why=why, fix=fix)


def _of_untracked(values: Values, key: str, only_nan: bool = False) -> Suspect | None:
    """An operation with an input outside the graph that is not finite."""
    for source, edge in values.graph.inputs(key):
        data: NodeData = values.graph.nodes[source]
        if data["kind"] is not NodeKind.UNTRACKED:
            continue
        value = data.get("value") or values.input_of(key, edge.get("input", 0))
        is_mask = values.graph.nodes[key].get("op") == "add"  # -inf is added on purpose
        name, op = data.get("name", ""), data.get("op", "")
        line, by = data.get("source", ""), f" by {op}" if name and op.isidentifier() else ""
        name = name or op or "that does not require grad"
        made = f", created{by} at {mention(line)}," if line else ""
        if suspect := _with_input(key, f"its input {name}{made}", value, only_nan or is_mask):
            return suspect
    return None


def _of_data(values: Values, key: str, only_nan: bool) -> Suspect | None:
    """An operation before the first result that is not finite, with such data as an input."""
    if (suspect := _of_untracked(values, key, only_nan)) is not None:
        return suspect
    tracked = _numbers(values.graph, key)
    for number in (0, 1, 2):
        value = values.input_of(key, number) if number not in tracked else None
        factors = operation(values.graph.nodes[key].get("op", "")).factors or (0,)
        which = "its input" if number == factors[0] else f"its input {number}"
        which += ", which does not require grad,"
        if suspect := _with_input(key, which, value, only_nan):
            return suspect
    return None


def _with_input(
    key: str, which: str, value: TensorSummary | None, only_nan: bool
) -> Suspect | None:
    """An operation with an input from outside the graph, if that has NaN or infinite elements."""
    if value is None or not (value.nan or not (only_nan or value.is_finite)):
        return None
    what = "NaN" if value.nan else "infinite"
    return Suspect(
        key, f"{which} has {what} elements", f"find where it becomes {what}, before the loss"
    )


def _fix_of(graph: GradGraph, key: str) -> str:
    dtypes = (graph.nodes[each].get("dtype") for each in (key, *graph.predecessors(key)))
    usual = _HALF if "float16" in dtypes else _KEEP_AWAY
    return _OF_OP.get(graph.nodes[key].get("op", "")) or usual


def _fix_of_result(op: str, made: TensorSummary, is_known: bool) -> str:
    """What to do about an operation whose inputs are finite, or not known."""
    is_overflow = made.inf > 0 and not made.nan
    if is_overflow and made.dtype == "float16":
        return _HALF
    if op == "div" or operation(op).not_finite_at:
        return _KEEP_AWAY
    if not is_known:
        return _LOOK
    return _TOO_LARGE if is_overflow else _KEEP_AWAY


def _in_order(graph: GradGraph, keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=lambda key: graph.nodes[key].get("sequence_nr", -1))


def _forward_suspects(values: Values, keys: Sequence[str]) -> Iterator[Suspect]:
    """Operations whose result is not finite, in order; masking with -inf does not count."""
    for key in keys:
        data: NodeData = values.graph.nodes[key]
        op = data.get("op", "")
        if data["kind"] is not NodeKind.OPERATION or op in _TURNS:
            continue
        if leaf := _nan_parameter(values, key):
            why = f"{word_of(values.graph.nodes[leaf])} has had NaN elements since before this pass"
            yield Suspect(key, why, _DIVERGED, in_forward=True)
            return
        made = values.made_by(key)
        if _is_finite(made) is not False or made is None:
            continue
        inputs = [leaf_of_node(values.graph, source) for source, _ in values.graph.inputs(key)]
        wrong = [each for each in inputs if _is_finite(values.of(each)) is False]
        outside = [each for each in wrong if values.graph.nodes[each]["kind"] is NodeKind.UNTRACKED]
        if op == "add" and not any(_has_nan(values.of(each)) for each in wrong):
            wrong = [each for each in wrong if each not in outside]
        if not made.nan and (op in _PUT_IN or (outside and not wrong)):
            continue
        if op in _SOFTMAXES and made.nan and not outside and _is_masked(values, key):
            yield Suspect(key, _MASKED, _UNMASK, in_forward=True, has_nan_input=True)
        elif why := _too_few(values, key):
            yield Suspect(key, why, _SINGLE, in_forward=True)
        elif wrong:
            yield _spread(values, key, wrong[0])
        elif why := _why_singular(values, key):
            yield Suspect(key, why, in_forward=True, has_nan_input=op in _OF_POSITIVE)
        elif any(values.of(each) is None for each in inputs):
            why = "its result is not finite; its inputs are not known"
            fix = _fix_of_result(op, made, False)
            if op in _SOFTMAXES and made.nan:
                why += ": a row of -inf alone, as where a mask hides all of it, gives NaN"
                fix = f"{_UNMASK}; if no row is, {fix}"
            yield Suspect(key, why, fix, False, in_forward=True)
        else:
            fix, why = _fix_of_result(op, made, True), "its result is not finite, its inputs are"
            yield Suspect(key, why, fix, in_forward=True)


def _spread(values: Values, key: str, source: str) -> Suspect:
    """An operation with an input that is not finite."""
    name = word_of(values.graph.nodes[source])
    bad = values.of(source)
    what = "NaN" if bad is not None and bad.nan else "infinite"
    why = f"its input {name} has {what} elements"
    if what == "infinite" and (suspect := _of_untracked(values, key)) is not None:
        return suspect
    if values.graph.nodes[key].get("op") in _SOFTMAXES and what == "infinite":
        why += ", and a row of nothing else gives NaN"
        fix = _UNMASK
    else:
        fix = f"leave them out before: select from {name} first, and mask later"
    return Suspect(key, why, fix, in_forward=True, has_nan_input=what == "NaN")


def _is_masked(values: Values, key: str) -> bool:
    """Whether the input of a softmax was masked, as far as -inf can be the mask."""
    nodes = values.graph.nodes
    for _ in range(_NEAR):
        inputs = [source for source, _ in values.graph.inputs(key)]
        key = next((each for each in inputs if nodes[each]["kind"] is NodeKind.OPERATION), "")
        op = nodes[key].get("op", "") if key else ""
        if op in _PUT_IN:
            return True
        if op == "add":
            added = (values.of(source) for source, _ in values.graph.inputs(key))
            if any(value is not None and value.inf and not value.nan for value in added):
                return True
        elif op not in _TURNS and op not in ("mul", "div"):
            return False
    return False


def _nan_parameter(values: Values, key: str) -> str:
    """The key of a parameter or leaf among the inputs that has NaN elements; "" if none has."""
    graph = values.graph
    if graph.nodes[key].get("op") in _PUT_IN:
        return ""
    for source, _ in graph.inputs(key):
        while graph.nodes[source].get("op") in _TURNS and (row := next(graph.inputs(source), ())):
            source = row[0]
        source = leaf_of_node(graph, source)
        if graph.nodes[source]["kind"] in LEAVES:
            value = values.of(source)
            if value is not None and value.nan:
                return source
    return ""


def _is_finite(summary: TensorSummary | None) -> bool | None:
    return None if summary is None else summary.is_finite


def _has_nan(summary: TensorSummary | None) -> bool:
    return summary is not None and summary.nan > 0


def _backward_suspects(values: Values, keys: Sequence[str]) -> Iterator[Suspect]:
    """Operations without a finite derivative at their input, in the order of backward."""
    graph = values.graph
    for key in reversed(keys):
        data: NodeData = graph.nodes[key]
        op = data.get("op", "")
        if op in _SINGULAR:
            if (suspect := _equal_values(values, key)) is not None:
                yield suspect
        elif why := _infinite_factor(values, key):
            yield Suspect(key, why, _MASK_LATER)
        elif why := _why_singular(values, key):
            yield Suspect(key, why)


def _infinite_factor(values: Values, key: str) -> str:
    """Why the derivative in one factor is not finite: the other one is infinite; or ""."""
    op, tracked = values.graph.nodes[key].get("op", ""), _numbers(values.graph, key)
    ways = {"div": ((0, 1),), "mul": ((0, 1), (1, 0))}.get(op, ())
    if any((v := values.input_of(key, n)) is not None and v.inf for n, at in ways if at in tracked):
        return "an input has infinite elements, by which the derivative in the other is multiplied"
    return ""


def _too_few(values: Values, key: str) -> str:
    """Why a standard deviation is NaN: it is taken over too few elements; or ""."""
    data: NodeData = values.graph.nodes[key]
    shapes = [values.graph.nodes[each].get("shape") for each, _ in values.graph.inputs(key)]
    correction = number_of(data.get("options", {}).get("correction", "1"))
    if data.get("op") not in ("std", "var") or shapes[:1] == [None] or correction is None:
        return ""
    count = math.prod(shapes[0] or ()) // max(math.prod(data.get("shape", ())), 1)
    noun = "element" if count == 1 else "elements"
    return f"it is taken over {count:,} {noun}" if 0 < count <= correction else ""


def _why_singular(values: Values, key: str) -> str:
    """Why a result or derivative is not finite, by a known input of the operation; or ""."""
    data: NodeData = values.graph.nodes[key]
    op = data.get("op", "")
    if op == "div":
        is_zero = 1 in _numbers(values.graph, key) and has(values.input_of(key, 1), 0.0)
        return "it divides by 0" if is_zero else ""
    below = smallest(given) if (given := values.input_of(key, 0)) is not None else None
    if op in _OF_POSITIVE and below is not None and below < 0:
        return "its input has negative elements"
    if op in _OF_POSITIVE and below is None and _has_nan(values.made_by(key)):
        return "its input has elements that are negative or NaN"
    if op == "sqrt":
        is_zero = has(values.made_by(key), 0.0) or has(values.input_of(key, 0), 0.0)
        return "its input has a 0" if is_zero else ""
    if op == "pow" and ((why := _negative_base(values, key)) or not _is_root(data)):
        return why
    bad = (n for n in operation(op).not_finite_at if has(values.input_of(key, 0), n))
    return next((f"its input has a {number:g}" for number in bad), "")


def _spoiled(values: Values, key: str, before: Iterable[str]) -> list[str]:
    """The operations whose result is not finite and may reach an operation, in order.

    One behind which elements are chosen does not count: its NaN may be left out.
    """
    graph = values.graph
    found = [each for each in _in_order(graph, before) if _spoils_its_result(values, each)]
    if not found:
        return []
    nodes = graph.nodes
    choosing = {each for each in ancestors(graph, [key]) if nodes[each].get("op") in _CHOOSES}
    behind = {each: descendants(graph, [each]) | {each} for each in found}
    return [
        each
        for each in found
        if all(chooses_among(graph, where, behind[each]) for where in choosing & behind[each])
    ]


def _spoils_its_result(values: Values, key: str) -> bool:
    """Whether the result of an operation is not finite, as a known input of it shows."""
    op, given = values.graph.nodes[key].get("op", ""), values.input_of(key, 0)
    if op in _OF_POSITIVE:
        below = None if given is None else smallest(given)
        return below is not None and (below < 0 or (op != "sqrt" and has(given, 0.0)))
    if op == "div":
        return bool(_why_singular(values, key))
    return op == "pow" and bool(_negative_base(values, key))


def _negative_base(values: Values, key: str) -> str:
    """Why a power is NaN: negative elements, and an exponent that is no integer; or ""."""
    exponent = number_of(values.graph.nodes[key].get("options", {}).get("exponent", "1"))
    base = values.input_of(key, 0)
    lowest = None if base is None else smallest(base)
    if exponent is None or lowest is None or not lowest < 0 or exponent.is_integer():
        return ""
    return f"its input has negative elements, and its exponent is {exponent:g}"


def _numbers(graph: GradGraph, key: str) -> set[int]:
    return {edge.get("input", 0) for _, edge in graph.inputs(key)}


def _equal_values(values: Values, key: str) -> Suspect | None:
    """A decomposition with equal singular values or eigenvalues."""
    for name in ("S", "L", "eigenvalues"):
        found = values.saved(key, name)
        if found is None:
            continue
        if found.values is not None:
            is_equal = len(set(found.values)) < len(found.values)
        else:
            is_equal = found.min is not None and found.min == found.max
        if is_equal:
            what = "singular values" if name == "S" else "eigenvalues"
            why = f"two of its {what} are equal, and the derivative of its vectors divides by their"
            fix = f"compute the loss from the {what} alone, or add a small random matrix before"
            return Suspect(key, f"{why} difference", fix)
    return None


def _is_root(data: NodeData) -> bool:
    exponent = number_of(data.get("options", {}).get("exponent", "1"))
    return exponent is not None and exponent < 1


def _result_not_finite(context: Context, question: Question) -> Evidence | None:
    """A finite gradient of a result that is not finite."""
    if _is_not_finite(question) or question.has_zero_gradient:
        return None
    values = context.values_of_pass(question)
    if values is None:
        return None
    graph = values.graph
    wrong = [key for key in context.roots_of(graph) if _is_finite(values.of(key)) is False]
    if not wrong or not ancestors(graph, wrong) & {question.key}:
        return None
    before = _in_order(graph, ancestors(graph, wrong, is_data))
    suspects = list(_forward_suspects(values, before))
    if suspects and not suspects[0].is_known:
        # What came before may have no finite value for one of its inputs.
        behind = _in_order(graph, ancestors(graph, [suspects[0].key]))
        suspects = [*_backward_suspects(values, behind), *suspects]
    value = values.of(wrong[0])
    what = "NaN" if value is not None and value.nan else "infinite"
    words = {"root": graph.nodes[wrong[0]].get("name") or "the result", "what": what}
    if not suspects:
        words |= {"found": "", "fix": _KEEP_AWAY}
        return Evidence(words, (wrong[0],))
    suspect = _of_scale(context, values, suspects[0])
    line = graph.nodes[suspect.key].get("source", "")
    where = f", {mention(line)}" if line else ""
    op = graph.nodes[suspect.key].get("op")
    skipped = _skipped_step(context, question, suspect.in_forward)
    words["found"] = f": the first known is at {op}{where} ({suspect.why}){skipped}"
    words["fix"] = suspect.fix
    return Evidence(words, (suspect.key,), locations_of([line]), suspect.key)


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
    fix = fix if context.is_recorded else f"{fix}; {RECORD}"
    skipped = _skipped_step(context, question, None)
    return Evidence({"count": _count(question), "fix": fix, "skipped": skipped})


def _rules(verdict: Verdict) -> tuple[Rule[Any, Any], ...]:
    def only(
        match: Callable[[Context, Question], Evidence | None],
    ) -> Callable[[Context, Question], Evidence | None]:
        def matched(context: Context, question: Question) -> Evidence | None:
            grad = question.data.get("grad")
            is_nan = grad is not None and bool(grad.nan)
            return match(context, question) if is_nan is (verdict is Verdict.NAN) else None

        return matched

    word = verdict.value
    return (
        Rule(
            f"the operation that made it {word}",
            verdict,
            only(_found),
            "{count}: the first known is at {op}{where} ({why}){stayed}",
            "{fix}",
            docs="First what the forward pass computed, then operations whose derivative is not "
            "finite at an input that they had.",
        ),
        Rule(
            f"{word}, cause not known",
            verdict,
            only(_unknown),
            "{count}; the first operation with such values is not known{skipped}",
            "{fix}",
        ),
    )


non_finite_rules: tuple[Rule[Any, Any], ...] = (
    *_rules(Verdict.NAN),
    *_rules(Verdict.INFINITE),
    Rule(
        "a finite gradient of a result that is not finite",
        Verdict.RESULT_NOT_FINITE,
        _result_not_finite,
        "its gradient is finite, but {root}, on which backward was called, is {what}{found}",
        "{fix}",
    ),
)
