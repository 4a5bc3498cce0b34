"""A gradient that is all zeros: which operation lets nothing through."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.verdict import Verdict
from gradviz.diagnosis.ways import above, below, is_gradient, plain, value_of, word_of
from gradviz.graph import EdgeData, GradGraph, NodeData, NodeKind, TensorSummary
from gradviz.graph.operations import Blocks, operation, words
from gradviz.story import EventKind

__all__ = ["explain_zeros", "is_all_zero"]

_STEPS = words(lambda row: row.blocks is Blocks.STEPS)
_PRODUCTS = words(lambda row: row.blocks is Blocks.PRODUCT)
_FLAT_AT_ZERO = words(lambda row: row.blocks is Blocks.FLAT_AT_ZERO)


def explain_zeros(question: Question, moment: Context, graph: GradGraph) -> Explanation:
    """Explain a gradient of zeros.

    Args:
        question: the tensor.
        moment: when.
        graph: the one that the gradient came through.
    """
    zeroed = [
        event
        for event in moment.happened(EventKind.GRAD)
        if "zeroed" in event.detail and event.node in (question.key, "")
    ]
    added = moment.happened_to(question.key, EventKind.ACCUMULATE)
    if zeroed and (not added or zeroed[-1].number > added[-1].number):
        line = zeroed[-1].source
        reason = f"it was set to zeros by {zeroed[-1].word} at {mention(line)}, "
        reason += "and nothing was added"
        fix = "call backward() after it"
        return moment.answer(question, Verdict.ZERO, reason, fix, [line])
    blocking = _blocking(graph, question.key, moment.is_recorded)
    if not blocking:
        fix = "" if moment.is_recorded else "name the results on the way to it, and explain again"
        several = question.data.get("accumulations", 0)
        sum_of = f", the sum of {several} backward passes" if several > 1 else ""
        return moment.answer(question, Verdict.ZERO, f"its gradient is all zeros{sum_of}", fix)
    key, why = blocking[0]
    data = graph.nodes[key]
    line = data.get("source", "")
    where = f" at {mention(line)}" if line else ""
    more = f", and {len(blocking) - 1} more like it" if blocking[1:] else ""
    reason = f"{data.get('op')}{where} passes nothing: {why}{more}"
    fix = _FIXES.get(data.get("op", ""), "")
    evidence = [
        each for found, _ in blocking for each in (found, graph.nodes[found].get("source", ""))
    ]
    kept = [each for each in evidence if each in moment.graph or ":" in each]
    culprit = key if key in moment.graph else ""
    return moment.answer(question, Verdict.ZERO, reason, fix, kept, culprit)


_SMALL = "keep the inputs small: scale or normalise them"
_INSIDE = "keep the inputs inside that range, or clamp for the output alone, not for the loss"
_SOFT = "use a soft version of it, or pass the gradient by: y = x + (y - x).detach()"
_FIXES = {
    "relu": "let some inputs be positive (start, bias, learning rate), or use leaky_relu",
    "sigmoid": f"{_SMALL}, or use a loss with logits",
    "tanh": _SMALL,
    "mul": "leave out the factor that is zero, or start it at another value",
    "clamp": _INSIDE,
    "hardtanh": _INSIDE,
    "threshold": _INSIDE,
    **dict.fromkeys(_PRODUCTS, "look at what makes those zeros"),
    "clamp_min": _INSIDE,
    "clamp_max": _INSIDE,
    "where": "look at the condition, which chooses the other branch everywhere",
    "masked_fill": "look at the mask, which covers everything",
    "embedding": "look at what is looked up: that row is never trained",
    **dict.fromkeys(_FLAT_AT_ZERO, "start at a value other than zero"),
    **dict.fromkeys(_STEPS, _SOFT),
}


def is_all_zero(summary: TensorSummary) -> bool:
    """Whether every element is zero, as far as the values were read."""
    if summary.values is not None:
        return bool(summary.values) and all(value == 0 for value in summary.values)
    return summary.min == 0 == summary.max and not (summary.nan or summary.inf)


def _is_only(summary: TensorSummary, allowed: Sequence[float]) -> bool:
    """Whether every element is known to be one of a few numbers."""
    if summary.nan or summary.inf:
        return False
    if summary.values is not None:
        return bool(summary.values) and all(value in allowed for value in summary.values)
    return summary.min is not None and summary.min == summary.max and summary.min in allowed


def _blocking(graph: GradGraph, key: str, is_before: bool) -> list[tuple[str, str]]:
    """The operations that stop every gradient to a leaf, if they are known: (key, why)."""
    roots = [root for root in graph.roots if graph.nodes[root]["kind"] is NodeKind.RESULT]
    if not roots or key not in below(graph, roots):
        return []
    found: dict[str, str] = {}
    users = above(graph, [key])

    def passes(source: str, target: str, edge: EdgeData) -> bool:
        if not is_gradient(source, target, edge):
            return False
        why = _why_blocked(_GradientStep(graph, source, target, edge, is_before))
        if why and source in users:
            found[target] = why
        return not why

    return [] if key in below(graph, roots, passes) else list(found.items())


@dataclass(frozen=True)
class _GradientStep:
    """A gradient's way from an operation to one of its inputs.

    Args:
        graph: where.
        source: the input.
        target: the operation.
        edge: between them.
        is_before: whether the graph is from before the backward pass; else what was changed in
            place since may have been another.
    """

    graph: GradGraph
    source: str
    target: str
    edge: EdgeData
    is_before: bool

    @property
    def data(self) -> NodeData:
        """The operation."""
        data: NodeData = self.graph.nodes[self.target]
        return data

    def value(self, key: str) -> TensorSummary | None:
        """What is known of the values of a tensor as the operation met them."""
        if key and (self.is_before or not self.graph.nodes[key].get("version")):
            return value_of(self.graph, key)
        return None

    @property
    def made(self) -> TensorSummary | None:
        """The result."""
        return self.value(self.target)

    @property
    def given(self) -> TensorSummary | None:
        """The input."""
        return self.value(plain(self.graph, self.source))


def _why_blocked(step: _GradientStep) -> str:
    """Why an operation gives nothing to one of its inputs; "" if it may give something."""
    blocks = operation(step.data.get("op", "")).blocks
    return _CHECKS[blocks](step) if blocks else ""


def _relu(step: _GradientStep) -> str:
    made, given = step.made, step.given
    dead = made is not None and _is_only(made, (0.0,))
    if not dead and (given is None or _largest(given) is None or (_largest(given) or 0) > 0):
        return ""
    count = (made or given or TensorSummary((), "", "")).numel
    return f"none of its {count:,} inputs is positive" if count > 1 else "its input is not positive"


def _saturated(step: _GradientStep) -> str:
    made = step.made
    if made is not None and _is_only(made, operation(step.data["op"]).ends):
        return "it is saturated at every element"
    return ""


def _clamped(step: _GradientStep) -> str:
    given, options = step.given, step.data.get("options", {})
    if given is None or not options:
        return ""
    low, high = (_number(options.get(e, options.get(f"{e}_val"))) for e in ("min", "max"))
    least, most = _smallest(given), _largest(given)
    if given.values is not None:
        outside = all(
            (low is not None and _real(value) < low) or (high is not None and _real(value) > high)
            for value in given.values
        )
    else:
        below_it = low is not None and most is not None and most < low
        outside = below_it or (high is not None and least is not None and least > high)
    if not outside or given.nan or not given.numel:
        return ""
    ends = [
        f"below {low:g}" if low is not None else "",
        f"above {high:g}" if high is not None else "",
    ]
    words = " or ".join(filter(None, ends))
    return (
        f"all of its {given.numel:,} inputs are {words}"
        if given.numel > 1
        else (f"its input is {words}")
    )


def _below_threshold(step: _GradientStep) -> str:
    given, threshold = step.given, _number(step.data.get("options", {}).get("threshold", "0"))
    most = _largest(given) if given is not None else None
    if given is None or most is None or threshold is None or most > threshold:
        return ""
    return f"none of its {given.numel:,} inputs is above {threshold:g}"


def _by_zeros(step: _GradientStep) -> str:
    """A matrix product, or a convolution: a factor gets nothing if the other is all zeros."""
    factors = operation(step.data.get("op", "")).factors or ()
    if step.edge.get("input", 0) not in factors:
        return ""
    (partner,) = (number for number in factors if number != step.edge.get("input", 0))
    for source, other in step.graph.inputs(step.target):
        if other.get("input", 0) == partner:
            key = plain(step.graph, source)
            factor = step.value(key)
            if factor is not None and factor.numel and is_all_zero(factor):
                return f"the other factor, {word_of(step.graph.nodes[key])}, is all zeros"
    return ""


def _step_function(step: _GradientStep) -> str:
    return "its result goes in steps, and between them its slope is 0"


def _flat_at_zero(step: _GradientStep) -> str:
    given, exponent = step.given, _number(step.data.get("options", {}).get("exponent"))
    if step.data.get("op") == "norm":
        is_flat = step.made is not None and is_all_zero(step.made)
        return "its input is all zeros, where torch takes its slope to be 0" if is_flat else ""
    if step.data.get("op") == "pow" and (exponent is None or exponent <= 1):
        return ""
    if given is None or not is_all_zero(given):
        return ""
    return "its input is all zeros, where its slope is 0"


def _times_zero(step: _GradientStep) -> str:
    graph = step.graph
    if step.data.get("options", {}).get("other") in ("0", "0.0", "-0.0"):
        return "the other factor is 0"
    for source, other in graph.inputs(step.target):
        if other.get("input") == step.edge.get("input"):
            continue
        factor = step.value(plain(graph, source))
        if factor is not None and is_all_zero(factor):
            name = graph.nodes[plain(graph, source)].get("name")
            return f"the other factor{f', {name},' if name else ''} is all zeros"
    return ""


def _mask(step: _GradientStep) -> tuple[complex, ...]:
    """The values of the mask of an operation: its one input of booleans; () if not known."""
    for source, _ in step.graph.inputs(step.target):
        if step.graph.nodes[source].get("dtype") == "bool":
            mask = step.value(source)
            return (mask.values if mask else None) or ()
    return ()


def _not_chosen(step: _GradientStep) -> str:
    mask, number = _mask(step), step.edge.get("input")
    if mask and number == 0 and not any(mask):
        return "its condition is False everywhere"
    if mask and number == 1 and all(mask):
        return "its condition is True everywhere"
    return ""


def _covered(step: _GradientStep) -> str:
    mask = _mask(step)
    is_all = bool(mask) and all(mask) and step.edge.get("input") == 0
    return "its mask is True everywhere" if is_all else ""


def _padded(step: _GradientStep) -> str:
    padding = _number(step.data.get("options", {}).get("padding_idx"))
    for source, edge in step.graph.inputs(step.target):
        indices = step.value(source) if edge.get("input") == 1 else None
        if padding is not None and indices is not None and _is_only(indices, (padding,)):
            return f"all that was looked up is row {padding:g}, its padding_idx"
    return ""


_CHECKS: dict[Blocks, Callable[[_GradientStep], str]] = {
    Blocks.FLAT_AT_ZERO: _flat_at_zero,
    Blocks.MASKED: _covered,
    Blocks.NOT_CHOSEN: _not_chosen,
    Blocks.NOT_POSITIVE: _relu,
    Blocks.OTHER_FACTOR: _times_zero,
    Blocks.OUTSIDE: _clamped,
    Blocks.PADDING: _padded,
    Blocks.PRODUCT: _by_zeros,
    Blocks.SATURATED: _saturated,
    Blocks.STEPS: _step_function,
    Blocks.UNDER_THRESHOLD: _below_threshold,
}


def _largest(summary: TensorSummary) -> float | None:
    values = summary.values
    return max(map(_real, values)) if values else summary.max


def _smallest(summary: TensorSummary) -> float | None:
    values = summary.values
    return min(map(_real, values)) if values else summary.min


def _real(value: complex) -> float:
    return value.real


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
