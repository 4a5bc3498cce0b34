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
from gradviz.diagnosis.subjects import Asked, is_raised_by_autograd
from gradviz.facts import SourceLocation
from gradviz.graph import Buffers, NodeKind
from gradviz.story import EventKind

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

__all__ = ["ERROR_RULES", "UNKNOWN_OF_AUTOGRAD", "explain_error"]

_LONGEST = 200
UNKNOWN_OF_AUTOGRAD = "autograd raised an error that no rule knows"


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
        root=f", which started from {context.root_names}," if context.roots and call else "",
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


def _of_autograd(context: Context, error: ErrorContext) -> Evidence | None:
    """Known facts about an error of autograd outside of a backward pass, without another rule."""
    if error.error is None or not is_raised_by_autograd(error.error, error.text):
        return None
    made = [event for event in context.happened(EventKind.OPERATION) if event.nodes]
    last = made[-1] if made else None
    before = "no operation was recorded before it"
    if last is not None:
        name = f" ({last.name})" if last.name else ""
        before = f"the last operation recorded before it is {last.word}{name}"
        before += f" at {mention(last.location)}" if last.location else ""
    nodes = last.nodes[:1] if last is not None else ()
    return error.evidence(nodes, said=_said(error), before=before)


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
    Rule(
        UNKNOWN_OF_AUTOGRAD,
        Verdict.OTHER_ERROR,
        _of_autograd,
        "{said}{at}; gradviz has no rule for this error of autograd, and {before}",
        needs=Needs.ERROR,
        docs="It reports the line, and the last operation that was recorded.",
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
