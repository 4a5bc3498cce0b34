"""Rules about losses that compute another thing than is meant, and raise nothing."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import at_line, locations_of
from gradviz.diagnosis.rule import Evidence, Rule
from gradviz.diagnosis.values import is_sum
from gradviz.facts import EventKind
from gradviz.graph import EdgeKind, GradGraph, NodeData, NodeKind, ancestors, losses_of_all_pairs
from gradviz.graph.operations import operation
from gradviz.graph.text import shape_text


def _broadcast(context: Context, question: Question) -> Evidence | None:
    """A loss between it and the root compared each value with every target."""
    graph = context.graph_of_latest_pass(question.key) or context.graph
    found = context.cached((_broadcast, id(graph)), lambda: losses_of_all_pairs(graph))
    for loss, shapes, behind in found:
        if question.key in behind:
            data, lines = graph.nodes[loss], locations_of([graph.nodes[loss].get("source", "")])
            words: dict[str, object] = {"op": data["op"], "at": at_line(lines[0]) if lines else ""}
            words["first"], words["second"], words["both"] = map(shape_text, shapes)
            return Evidence(words, (loss,), lines, loss)
    return None


class _Expected(NamedTuple):
    """What a loss is given, what it expects, and the fix."""

    given: str
    expects: str
    fix: str


_LOGITS = "give it the logits, without {given}"
_EXPECTED = {
    "log_softmax": _Expected("softmax", "logits", f"{_LOGITS}; or use nll_loss of log_softmax"),
    "binary_cross_entropy_with_logits": _Expected(
        "sigmoid", "logits", f"{_LOGITS}; or use binary_cross_entropy"
    ),
    "nll_loss": _Expected("softmax", "log-probabilities", "use log_softmax instead of softmax"),
}
_EXPECTED["nll_loss2d"] = _EXPECTED["nll_loss"]


class _Found(NamedTuple):
    """A loss, what it is given, and what is behind both."""

    loss: str
    given: str
    behind: set[str]


def _losses_of_probabilities(graph: GradGraph) -> list[_Found]:
    nodes, found = graph.nodes, []
    for key, data in nodes(data=True):
        expected = _EXPECTED.get(data.get("op", ""))
        given = next(iter(_inputs(graph, key)), "") if expected else ""
        while given and _is_same_values(nodes[given].get("op", "")):
            given = next(iter(_inputs(graph, given)), "")
        if expected and given and nodes[given].get("op") == expected.given:
            found.append(_Found(key, given, ancestors(graph, [given])))
    return found


def _inputs(graph: GradGraph, key: str) -> list[str]:
    return [source for source, edge in graph.inputs(key) if edge.get("input", 0) == 0]


def _is_same_values(op: str) -> bool:
    return operation(op).rearranges or operation(op).converts


def _of_probabilities(context: Context, question: Question) -> Evidence | None:
    """A loss between it and the root expects logits, and is given the result of a softmax."""
    graph = context.graph_of_latest_pass(question.key) or context.graph
    found = context.cached((_of_probabilities, id(graph)), lambda: _losses_of_probabilities(graph))
    for loss, given, behind in found:
        if question.key in behind:
            op = graph.nodes[loss]["op"]
            expected, lines = (
                _EXPECTED[op],
                [graph.nodes[each].get("source", "") for each in (loss, given)],
            )
            # Only the last node that a function created has its event.
            is_inside = context.is_recorded and not context.happened_to(loss, EventKind.OPERATION)
            op = "cross_entropy" if op == "log_softmax" and is_inside else op.removesuffix("2d")
            words = {"op": op, "at": at_line(lines[0]), "expects": expected.expects}
            words["given"] = f"{expected.given}{at_line(lines[1])}"
            words["fix"] = expected.fix.format(given=expected.given)
            return Evidence(words, (loss, given), locations_of(lines), given)
    return None


loss_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "a loss of two shapes",
        Verdict.BROADCAST,
        _broadcast,
        "{op}{at} compares each value of one argument, of shape {first}, with every one of the "
        "other, of shape {second}: both are broadcast to {both}",
        "give both the same shape: target.view_as(prediction)",
        docs="Of mse_loss, smooth_l1_loss and huber_loss, where both have as many elements.",
    ),
    Rule(
        "a loss of probabilities",
        Verdict.OF_PROBABILITIES,
        _of_probabilities,
        "{op}{at} expects {expects}, and is given the probabilities from {given}",
        docs="Of cross_entropy, nll_loss and binary_cross_entropy_with_logits, directly behind a "
        "softmax or a sigmoid.",
    ),
)


def only_squares(graph: GradGraph, key: str) -> bool | None:
    """Whether the squares of a result are summed, or it itself; None when it is used otherwise."""
    stack, squares = [key], False
    while stack:
        for _, target, edge in graph.out_edges(stack.pop(), data=True):
            data: NodeData = graph.nodes[target]
            op, options = data.get("op", ""), data.get("options", {})
            is_square = op == "square" or (op == "pow" and options.get("exponent") in ("2", "2.0"))
            if data["kind"] is NodeKind.RESULT and math.prod(data.get("shape", (2,))) == 1:
                continue
            if edge["kind"] is not EdgeKind.GRADIENT or (is_square and squares):
                return None
            squares = squares or is_square
            if not (is_square or is_sum(op, options)):
                return None
            stack.append(target)
    return squares
