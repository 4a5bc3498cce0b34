"""A gradient with NaN or infinite elements: where they began."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.missing import RECORD
from gradviz.diagnosis.verdict import Verdict
from gradviz.diagnosis.ways import above, below, plain, value_of, word_of
from gradviz.graph import GradGraph, NodeData, NodeKind, TensorSummary
from gradviz.graph.operations import operation, words

__all__ = ["explain_non_finite"]

_KEEP_AWAY = "keep its input away from there: add a small number, or clamp it before"


def explain_non_finite(
    question: Question, moment: Context, grad: TensorSummary, graph: GradGraph
) -> Explanation:
    """Explain a gradient that is not finite.

    Args:
        question: the tensor.
        moment: when.
        grad: the gradient.
        graph: the one that the gradient came through.
    """
    verdict = Verdict.NAN if grad.nan else Verdict.INFINITE
    roots = [each for each in graph.roots if graph.nodes[each]["kind"] is NodeKind.RESULT]
    between = _in_order(graph, below(graph, roots) & above(graph, [question.key]))
    count = f"{grad.nan or grad.inf:,} of {grad.numel:,} elements are {verdict.value}"
    forward = list(_forward_suspects(graph, _in_order(graph, below(graph, between))))
    backward = list(_backward_suspects(graph, between, moment.is_recorded))
    if forward and forward[0][1].endswith("not known"):
        # What went into it may have come from an operation that is known to have had no value.
        before = below(graph, [forward[0][0]])
        forward = [each for each in reversed(backward) if each[0] in before] + forward
    suspects = (*forward, *backward)
    for key, why, fix in suspects:
        line = graph.nodes[key].get("source", "")
        where = f", {mention(line)}" if line else ""
        reason = f"{count}: the first known is at {graph.nodes[key].get('op')}{where} ({why})"
        culprit = key if key in moment.graph else ""
        evidence = [each for each in (culprit, line) if each]
        return moment.answer(question, verdict, reason, fix, evidence, culprit)
    reason = f"{count}; which operation made them first is not known"
    fix = "torch.autograd.set_detect_anomaly(True) names the operation"
    return moment.answer(
        question, verdict, reason, fix if moment.is_recorded else f"{fix}; {RECORD}"
    )


def _in_order(graph: GradGraph, keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=lambda key: graph.nodes[key].get("sequence_nr", -1))


def _forward_suspects(graph: GradGraph, keys: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Operations that made something that is not finite, the first first.

    Those that put in what they are given are none: to mask by -inf is no mistake.
    """
    for key in keys:
        made = value_of(graph, key)
        if graph.nodes[key]["kind"] is not NodeKind.OPERATION:
            continue
        if graph.nodes[key].get("op") not in (*_PUT_IN, *_TURNS) and (
            name := _nan_parameter(graph, key)
        ):
            yield key, f"{name} has had NaN elements since before this pass", _DIVERGED
            return
        if _is_finite(made) is not False:
            continue
        if graph.nodes[key].get("op") in _PUT_IN and made is not None and not made.nan:
            continue
        inputs = [plain(graph, source) for source, _ in graph.inputs(key)]
        wrong = [each for each in inputs if _is_finite(value_of(graph, each)) is False]
        if wrong:
            name = word_of(graph.nodes[wrong[0]])
            bad = value_of(graph, wrong[0])
            what = "NaN" if bad is not None and bad.nan else "infinite"
            why = f"{name}, which goes into it, has {what} elements"
            if "softmax" in graph.nodes[key].get("op", "") and what == "infinite":
                why += ", and a row of nothing else gives NaN"
                yield key, why, "leave an element of each row unmasked, or drop such rows before"
                continue
            yield key, why, f"leave them out before: select from {name} first, and mask later"
        elif any(value_of(graph, each) is None for each in inputs):
            yield key, "its result is not finite; what went into it is not known", _KEEP_AWAY
        else:
            yield key, "its result is not finite, its inputs are", _KEEP_AWAY


_TURNS = frozenset(("t", "transpose", "view", "to"))
_PUT_IN = words(lambda row: row.puts_in)
_DIVERGED = (
    "find the first iteration whose loss is not finite; a lower learning rate may help, or "
    "torch.nn.utils.clip_grad_norm_() before each step"
)


def _nan_parameter(graph: GradGraph, key: str) -> str:
    """A parameter or leaf that goes into an operation and has NaN elements; "" if none has."""
    if graph.nodes[key].get("op") in (*_PUT_IN, *_TURNS):
        return ""
    for source, _ in graph.inputs(key):
        while graph.nodes[source].get("op") in _TURNS:
            source = next(graph.inputs(source))[0]
        data: NodeData = graph.nodes[plain(graph, source)]
        value = data.get("value")
        if data["kind"] in (NodeKind.PARAMETER, NodeKind.LEAF) and value is not None and value.nan:
            return word_of(data)
    return ""


def _is_finite(summary: TensorSummary | None) -> bool | None:
    return None if summary is None else not (summary.nan or summary.inf)


def _backward_suspects(
    graph: GradGraph, keys: Sequence[str], is_before: bool
) -> Iterator[tuple[str, str, str]]:
    """Operations without a finite derivative at their input; backward comes to the latest first."""
    for key in reversed(keys):
        data: NodeData = graph.nodes[key]
        op = data.get("op", "")
        if op == "div":
            for source, edge in graph.inputs(key):
                if edge.get("input") == 1 and _has(graph, plain(graph, source), 0.0, is_before):
                    yield key, "it divides by 0", _KEEP_AWAY
            continue
        if op == "pow" and not _is_root(data):
            continue
        if op == "sqrt" and _has(graph, key, 0.0, is_before):
            yield key, "its input has a 0", _KEEP_AWAY
            continue
        for source, _ in graph.inputs(key):
            for edge_of_domain in operation(op).not_finite_at:
                if _has(graph, plain(graph, source), edge_of_domain, is_before):
                    yield key, f"its input has a {edge_of_domain:g}", _KEEP_AWAY


def _is_root(data: NodeData) -> bool:
    try:
        return float(data.get("options", {}).get("exponent", "1")) < 1
    except ValueError:
        return False


def _has(graph: GradGraph, key: str, number: float, is_before: bool) -> bool:
    """Whether a tensor is known to have had a number in it when it was used."""
    summary = value_of(graph, key)
    if summary is None or (graph.nodes[key].get("version") and not is_before):
        return False
    if summary.values is not None:
        return any(value == number for value in summary.values)
    return number in (summary.min, summary.max)
