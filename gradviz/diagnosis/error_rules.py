"""The rules about errors in order, and the explanation of one error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gradviz.diagnosis import (
    in_place,
    no_graph,
    not_a_tensor,
    plain_errors,
    used_up,
    wrong_gradient,
)
from gradviz.diagnosis.answers import Explanation, Verdict
from gradviz.diagnosis.context import Context
from gradviz.diagnosis.error_context import ErrorContext, Why, error_context
from gradviz.diagnosis.lines import locations_of, mention
from gradviz.diagnosis.no_graph import inputs_of
from gradviz.diagnosis.rule import Evidence, Needs, Rule, first_answer
from gradviz.diagnosis.subjects import Asked
from gradviz.facts import SourceLocation
from gradviz.graph import Buffers, NodeKind
from gradviz.story import EventKind

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

__all__ = ["ERROR_RULES", "explain_error"]

_LONGEST = 200


def _said(error: ErrorContext) -> str:
    return error.text.partition("\n")[0][:_LONGEST].rstrip(".") or "it has no message"


def _raised_in_backward(context: Context, error: ErrorContext) -> Evidence | None:
    """An error in a backward pass for which there is no other rule."""
    if not error.is_backward:
        return None
    passes = context.happened(EventKind.BACKWARD)
    call = passes[-1].location if passes else SourceLocation()
    key = _reached(context)
    line = str(context.graph.nodes[key].get("source", "")) if key else ""
    op = context.graph.nodes[key].get("op", "") if key else ""
    inputs = inputs_of(context, key)
    reached = f"; it had reached {op}" if op else ""
    reached += f" with {inputs}" if op and inputs else ""
    reached += f" at {mention(line)}" if op and line else ""
    return error.evidence(
        [key],
        [*locations_of([line]), call],
        key,
        where=f" at {mention(call)}" if call else "",
        name=error.name,
        inner="" if error.location == call else error.at,
        root=f", which started from {context.root_names}," if context.roots else "",
        said=_said(error),
        reached=reached,
    )


def _reached(context: Context) -> str:
    """The operation that raised: the first one whose saved tensors are not freed; "" if unknown.

    Backward runs the latest operation first and frees the tensors of each one after it.
    """
    graph = context.graph
    operations = [
        (data["sequence_nr"], key, data.get("buffers"))
        for key in context.reachable
        if "sequence_nr" in (data := graph.nodes[key]) and data["kind"] is NodeKind.OPERATION
    ]
    ordered = sorted(operations, reverse=True)
    states = [buffers for *_, buffers in ordered]
    if Buffers.FREED not in states or Buffers.HELD not in states:
        return ""
    first = states.index(Buffers.HELD)
    return ordered[first][1] if states[first - 1] is Buffers.FREED else ""


def _any_error(context: Context, error: ErrorContext) -> Evidence | None:
    """The text and the line of an error for which there is no other rule."""
    return error.evidence(said=_said(error))


_LAST: tuple[Rule[Any, Any], ...] = (
    Rule(
        "a backward pass raised another error",
        Verdict.BACKWARD_RAISED,
        _raised_in_backward,
        "backward{where}{root} raised {name}{inner}: {said}{reached}",
        needs=Needs.ERROR,
        docs="It reports what is known: the line, the root of backward, and the operation.",
    ),
    Rule("another error", Verdict.OTHER_ERROR, _any_error, "{said}{at}", needs=Needs.ERROR),
)

ERROR_RULES: tuple[Rule[Any, Any], ...] = (
    *no_graph.RULES,
    *used_up.RULES,
    *in_place.RULES,
    *not_a_tensor.RULES,
    *wrong_gradient.RULES,
    *plain_errors.RULES,
    *_LAST,
)


def explain_error(asked: Asked, names: Names, why: Why) -> Explanation:
    """Explain an exception, or the one that ended a recording.

    Args:
        asked: the question.
        names: the names of tensors.
        why: explains why a tensor has no gradient.
    """
    context, error = error_context(asked, names, why)
    explanation = first_answer(ERROR_RULES, context, error)
    assert explanation is not None  # the last rule always answers
    return explanation
