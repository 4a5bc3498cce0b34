"""A gradient that is there, and is not what one hoped for: zero, doubled, NaN, huge or tiny."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from gradviz.explanation.answers import Explanation
from gradviz.explanation.lines import mention
from gradviz.explanation.missing import RECORD
from gradviz.explanation.moment import Moment, Question
from gradviz.explanation.verdict import Verdict
from gradviz.explanation.ways import above, below, is_gradient, value_of
from gradviz.graph import EdgeData, GradGraph, NodeData, NodeKind, TensorSummary
from gradviz.story import EventKind

__all__ = ["compare_norms", "explain_present", "is_all_zero"]

_RATIO = 1e3
_SATURATED = {"relu": (0.0,), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
_AT_ZERO = ("sqrt", "log", "div", "pow", "rsqrt", "reciprocal")


def explain_present(question: Question, moment: Moment, grad: TensorSummary) -> Explanation:
    """Explain a gradient that is not None."""
    if grad.note.startswith("sparse"):
        reason = "its gradient is a sparse tensor, as embedding(sparse=True) makes it"
        fix = (
            "use an optimizer for sparse gradients, such as torch.optim.SparseAdam; or sparse=False"
        )
        return _answer(question, moment, Verdict.SPARSE, reason, fix)
    if grad.nan or grad.inf:
        return _of_non_finite(question, moment, grad)
    if is_all_zero(grad):
        return _of_zeros(question, moment)
    return _of_passes(question, moment, grad)


def _answer(
    question: Question,
    moment: Moment,
    verdict: Verdict,
    reason: str,
    fix: str = "",
    evidence: Sequence[str] = (),
    culprit: str = "",
) -> Explanation:
    found = tuple(dict.fromkeys(filter(None, (question.key, *evidence))))
    culprit = culprit or question.key
    return Explanation(verdict, question.name, reason, found, fix, moment.graph, culprit)


def _of_passes(question: Question, moment: Moment, grad: TensorSummary) -> Explanation:
    times = question.data.get("accumulations", 0)
    if times > 1:
        added = [e for e in moment.happened(EventKind.ACCUMULATE) if e.node == question.key]
        lines = list(dict.fromkeys(event.source for event in added[-times:]))
        where = f" (at {', '.join(lines[-3:])})" if lines else ""
        reason = f"{times} backward passes{where} were added up, and nothing cleared it in between"
        fix = "unless that is meant: optimizer.zero_grad() before each backward()"
        return _answer(question, moment, Verdict.ACCUMULATED, reason, fix, lines)
    norm = f", norm {grad.norm:.4g}" if grad.norm is not None else ""
    return _answer(question, moment, Verdict.FINE, f"it has a gradient{norm}")


def _as_used(question: Question, moment: Moment) -> GradGraph:
    """The graph that the gradient came through: empty when it may have been another one."""
    if not moment.is_recorded:
        return moment.graph
    passes = moment.happened(EventKind.BACKWARD)
    added = [e for e in moment.happened(EventKind.ACCUMULATE) if e.node == question.key]
    is_latest = len(added) == 1 and bool(passes) and added[0].number > passes[-1].number
    return moment.before if is_latest and moment.before is not None else GradGraph()


# Zeros.


def is_all_zero(summary: TensorSummary) -> bool:
    """Whether every element is zero, as far as the values were read."""
    if summary.values is not None:
        return bool(summary.values) and all(value == 0 for value in summary.values)
    return summary.min == 0 == summary.max and not (summary.nan or summary.inf)


def _is_only(summary: TensorSummary | None, allowed: Sequence[float]) -> bool:
    """Whether every element is known to be one of a few numbers."""
    if summary is None or summary.nan or summary.inf:
        return False
    if summary.values is not None:
        return bool(summary.values) and all(value in allowed for value in summary.values)
    if summary.min is None or summary.min != summary.max:
        return False
    return summary.min in allowed


def _of_zeros(question: Question, moment: Moment) -> Explanation:
    zeroed = [
        event
        for event in moment.happened(EventKind.GRAD)
        if "zeroed" in event.detail and event.node in (question.key, "")
    ]
    added = [e for e in moment.happened(EventKind.ACCUMULATE) if e.node == question.key]
    if zeroed and (not added or zeroed[-1].number > added[-1].number):
        line = zeroed[-1].source
        reason = (
            f"it was set to zeros by {zeroed[-1].word} at {mention(line)}, and nothing was added"
        )
        return _answer(question, moment, Verdict.ZERO, reason, "call backward() after it", [line])
    graph = _as_used(question, moment)
    blocking = _blocking(graph, question.key, moment.is_recorded)
    if not blocking:
        fix = "" if moment.is_recorded else "name the results on the way to it, and explain again"
        return _answer(question, moment, Verdict.ZERO, "its gradient is all zeros", fix)
    key, why = blocking[0]
    data = graph.nodes[key]
    line = data.get("source", "")
    where = f" at {mention(line)}" if line else ""
    more = f", and {len(blocking) - 1} more like it" if blocking[1:] else ""
    reason = f"{data.get('op')}{where} passes nothing: {why}{more}"
    fix = _FIX_OF_ZERO.get(data.get("op", ""), "")
    evidence = [
        each for found, _ in blocking for each in (found, graph.nodes[found].get("source", ""))
    ]
    kept = [each for each in evidence if each in moment.graph or ":" in each]
    return _answer(
        question, moment, Verdict.ZERO, reason, fix, kept, key if key in moment.graph else ""
    )


_FIX_OF_ZERO = {
    "relu": "let some inputs be positive (start, bias, learning rate), or use leaky_relu",
    "sigmoid": "keep the inputs small: scale or normalise them, or use a loss with logits",
    "tanh": "keep the inputs small: scale or normalise them",
    "mul": "leave out the factor that is zero, or start it at another value",
}


def _blocking(graph: GradGraph, key: str, is_before: bool) -> list[tuple[str, str]]:
    """The operations that stop every gradient to a leaf, if they are known: (key, why)."""
    roots = [root for root in graph.roots if graph.nodes[root]["kind"] is NodeKind.RESULT]
    found: dict[str, str] = {}

    def passes(source: str, target: str, edge: EdgeData) -> bool:
        if not is_gradient(source, target, edge):
            return False
        why = _why_blocked(graph, target, edge, is_before)
        if why:
            found[target] = why
        return not why

    if not roots or key in below(graph, roots, passes):
        return []
    on_the_way = below(graph, roots) if key in graph else set()
    if key not in on_the_way:
        return []
    return [(each, why) for each, why in found.items() if key in below(graph, [each])]


def _why_blocked(graph: GradGraph, target: str, edge: EdgeData, is_before: bool) -> str:
    """Why an operation gives nothing to one of its inputs; "" if it may give something."""
    data = graph.nodes[target]
    op = data.get("op", "")
    if op in _SATURATED and (is_before or not data.get("version")):
        made = value_of(graph, target)
        if made is not None and _is_only(made, _SATURATED[op]):
            if op == "relu":
                return (
                    f"none of its {made.numel:,} inputs is positive"
                    if made.numel > 1
                    else ("its input is not positive")
                )
            return "it is saturated at every element"
    if op == "mul":
        if data.get("options", {}).get("other") in ("0", "0.0", "-0.0"):
            return "the other factor is 0"
        for source, other in graph.inputs(target):
            if other.get("input") == edge.get("input"):
                continue
            factor = value_of(graph, _plain(graph, source))
            node = graph.nodes[_plain(graph, source)]
            if (
                factor is not None
                and is_all_zero(factor)
                and (is_before or not node.get("version"))
            ):
                name = node.get("name")
                return f"the other factor{f', {name},' if name else ''} is all zeros"
    return ""


def _plain(graph: GradGraph, key: str) -> str:
    """The leaf in place of its ``AccumulateGrad``."""
    if graph.nodes[key]["kind"] is NodeKind.ACCUMULATE:
        return next((source for source, _ in graph.inputs(key)), key)
    return key


# NaN and infinity.


def _of_non_finite(question: Question, moment: Moment, grad: TensorSummary) -> Explanation:
    verdict = Verdict.NAN if grad.nan else Verdict.INFINITE
    graph = _as_used(question, moment)
    roots = [each for each in graph.roots if graph.nodes[each]["kind"] is NodeKind.RESULT]
    between = sorted(
        below(graph, roots) & above(graph, [question.key]),
        key=lambda key: graph.nodes[key].get("sequence_nr", -1),
    )
    count = f"{grad.nan or grad.inf:,} of {grad.numel:,} elements are {verdict.value}"
    suspects = (
        *_forward_suspects(graph, between),
        *_backward_suspects(graph, between, moment.is_recorded),
    )
    for key, why in suspects:
        line = graph.nodes[key].get("source", "")
        where = f", {mention(line)}" if line else ""
        reason = f"{count}: the first known is at {graph.nodes[key].get('op')}{where} ({why})"
        fix = "keep its input away from there: add a small number, or clamp it before"
        culprit = key if key in moment.graph else ""
        evidence = [each for each in (culprit, line) if each]
        return _answer(question, moment, verdict, reason, fix, evidence, culprit)
    reason = f"{count}; which operation made them first is not known"
    fix = "torch.autograd.set_detect_anomaly(True) names the operation"
    return _answer(
        question, moment, verdict, reason, fix if moment.is_recorded else f"{fix}; {RECORD}"
    )


def _forward_suspects(graph: GradGraph, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Operations that made something that is not finite from what is."""
    for key in keys:
        made = value_of(graph, key)
        if graph.nodes[key]["kind"] is not NodeKind.OPERATION or made is None:
            continue
        if not (made.nan or made.inf):
            continue
        inputs = [value_of(graph, _plain(graph, source)) for source, _ in graph.inputs(key)]
        if inputs and all(each is not None and not (each.nan or each.inf) for each in inputs):
            yield key, "its result is not finite, its inputs are"


def _backward_suspects(
    graph: GradGraph, keys: Sequence[str], is_before: bool
) -> Iterator[tuple[str, str]]:
    """Operations without a finite derivative at their input; backward comes to the latest first."""
    for key in reversed(keys):
        data = graph.nodes[key]
        op = data.get("op", "")
        if op not in _AT_ZERO or (op == "pow" and not _is_root(data)):
            continue
        if op == "sqrt" and _has_zero(graph, key, is_before):
            yield key, "its input has a 0"
            continue
        for source, edge in graph.inputs(key):
            is_divisor = op != "div" or edge.get("input") == 1
            if is_divisor and _has_zero(graph, _plain(graph, source), is_before):
                yield key, "it divides by 0" if op == "div" else "its input has a 0"


def _is_root(data: NodeData) -> bool:
    try:
        return float(data.get("options", {}).get("exponent", "1")) < 1
    except ValueError:
        return False


def _has_zero(graph: GradGraph, key: str, is_before: bool) -> bool:
    """Whether a tensor is known to have had a zero in it when it was used."""
    summary = value_of(graph, key)
    if summary is None or (graph.nodes[key].get("version") and not is_before):
        return False
    if summary.values is not None:
        return any(value == 0 for value in summary.values)
    return summary.min == 0 or summary.max == 0


# Norms.


def compare_norms(questions: Sequence[Question], moment: Moment) -> dict[str, Explanation]:
    """Explain the gradients that are far from that of the parameter next to the root."""
    rows = []
    for question in questions:
        grad = question.data.get("grad")
        if grad is None or not grad.norm or grad.nan or grad.inf:
            continue
        if (order := _order(moment.graph, question.key)) is not None:
            rows.append((order, grad.norm, question))
    rows.sort(key=lambda row: row[0])
    if len(rows) < 2:
        return {}
    _, reference, last = rows[-1]
    found = {}
    for _, size, question in rows[:-1]:
        ratio = size / reference
        if 1 / _RATIO <= ratio <= _RATIO:
            continue
        is_large = ratio > 1
        verdict = Verdict.EXPLODING if is_large else Verdict.VANISHING
        reason = (
            f"the norm of its gradient is over {_RATIO:,.0f} times "
            f"{'larger' if is_large else 'smaller'} than that of {last.name}; {_where(rows)}"
        )
        fix = (
            "clip it: torch.nn.utils.clip_grad_norm_(parameters, 1.0)"
            if is_large
            else "let the layers between keep the scale: another initialisation, normalisation, "
            "residual connections"
        )
        evidence = [last.key]
        found[question.key] = _answer(question, moment, verdict, reason, fix, evidence)
    return found


def _where(rows: Sequence[tuple[int, float, Question]]) -> str:
    steps = [
        (abs(math.log(after[1] / before[1])), before[2].name, after[2].name)
        for before, after in pairwise(rows)
    ]
    _, one, other = max(steps, key=lambda step: step[0])
    return f"it changes most between {one} and {other}"


def _order(graph: GradGraph, key: str) -> int | None:
    """When the forward pass first used a leaf."""
    if key not in graph:
        return None
    users = [
        graph.nodes[user].get("sequence_nr", 0)
        for accumulate in graph.successors(key)
        for user in (
            graph.successors(accumulate)
            if graph.nodes[accumulate]["kind"] is NodeKind.ACCUMULATE
            else [accumulate]
        )
    ]
    return min(users, default=None)
