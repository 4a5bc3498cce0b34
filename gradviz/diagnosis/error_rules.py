"""The rules about errors, in the order in which they are tried, and the answer about one error."""

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
from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context
from gradviz.diagnosis.error_context import ErrorContext, Why, error_context
from gradviz.diagnosis.rule import Evidence, Needs, Rule, first_answer
from gradviz.diagnosis.subjects import Asked
from gradviz.diagnosis.verdict import Verdict

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

__all__ = ["ERROR_RULES", "explain_error"]

_LONGEST = 200


def _any_error(context: Context, error: ErrorContext) -> Evidence | None:
    """What is known of an error of which no rule knows more."""
    text = error.text.partition("\n")[0][:_LONGEST].rstrip(".") or "it has no message"
    return error.evidence(context.roots if error.is_backward else (), said=text)


_OTHER: Rule[ErrorContext, Evidence] = Rule(
    "another error",
    Verdict.OTHER_ERROR,
    _any_error,
    "{said}{at}",
    needs=Needs.ERROR,
    docs="It reports what is known: the line, and of a backward pass what it started from.",
)

ERROR_RULES: tuple[Rule[Any, Any], ...] = (
    *no_graph.RULES,
    *used_up.RULES,
    *in_place.RULES,
    *not_a_tensor.RULES,
    *wrong_gradient.RULES,
    *plain_errors.RULES,
    _OTHER,
)


def explain_error(asked: Asked, names: Names, why: Why) -> Explanation:
    """Explain an exception, or the one that ended a recording.

    Args:
        asked: the question.
        names: what tensors are called.
        why: explains why a tensor has no gradient.
    """
    context, error = error_context(asked, names, why)
    told = first_answer(ERROR_RULES, context, error)
    assert told is not None  # the last rule always answers
    return told
