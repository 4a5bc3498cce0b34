"""A gradient that is there, and may not be what one hoped for."""

from __future__ import annotations

from dataclasses import replace

from gradviz.diagnosis.age import changed_since, explain_age
from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.hooks import (
    explain_hook,
    explain_hook_on_the_way,
    explain_wrong_by_hook,
)
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.non_finite import explain_non_finite
from gradviz.diagnosis.verdict import Verdict
from gradviz.diagnosis.zeros import explain_zeros, is_all_zero
from gradviz.graph import GradGraph, TensorSummary
from gradviz.story import EventKind

__all__ = ["explain_present", "is_wrong"]


def explain_present(question: Question, moment: Context, grad: TensorSummary) -> Explanation:
    """Explain a gradient that is not None."""
    if grad.note.startswith("sparse"):
        reason = "its gradient is a sparse tensor, as embedding(sparse=True) makes it"
        fix = (
            "use an optimizer for sparse gradients, such as torch.optim.SparseAdam; or sparse=False"
        )
        return moment.answer(question, Verdict.SPARSE, reason, fix)
    if told := explain_hook(question, moment):
        return told
    if is_wrong(grad) and (told := explain_wrong_by_hook(question, moment, grad)):
        return told
    if grad.nan or grad.inf:
        number, graph = moment.since.get(question.key, (0, _as_used(question, moment)))
        told = explain_non_finite(question, moment, grad, graph)
        passes = [e for e in moment.happened(EventKind.BACKWARD) if e.word != "grad"]
        if told.fix and 0 < number < len(passes):
            told = replace(told, reason=f"{told.reason}, in pass {number}, and it stayed so")
        return told
    if is_all_zero(grad):
        return explain_zeros(question, moment, _as_used(question, moment, is_zero=True))
    return explain_age(question, moment) or _of_passes(question, moment, grad)


def is_wrong(grad: TensorSummary | None) -> bool:
    """Whether a gradient is zero, or not finite."""
    return grad is not None and (bool(grad.nan or grad.inf) or is_all_zero(grad))


def _of_passes(question: Question, moment: Context, grad: TensorSummary) -> Explanation:
    times = question.data.get("accumulations", 0)
    added = moment.happened_to(question.key, EventKind.ACCUMULATE)
    if times > 1:
        lines = list(dict.fromkeys(event.source for event in added[-times:]))
        where = f" (at {', '.join(lines[-3:])})" if lines else ""
        reason = f"{times} backward passes{where} were added up, and nothing cleared it in between"
        fix = "unless that is meant: optimizer.zero_grad() before each backward()"
        return moment.answer(question, Verdict.ACCUMULATED, reason, fix, lines)
    if told := explain_hook_on_the_way(question, moment):
        return told
    norm = f", norm {grad.norm:.4g}" if grad.norm is not None else ""
    used = [event.source for event in changed_since(question, moment)]
    since = f", from before it was changed at {mention(used[0])}" if used else ""
    hooked = ""
    if not moment.is_recorded:
        if question.data.get("hooks"):
            hooked = "; what its hook does to it was not recorded"
        elif moment.hooked and moment.hooked & moment.way(question.key):
            hooked = "; what a hook on its way does to it was not recorded"
    reason = f"it has a gradient{norm}{since}{hooked}"
    return moment.answer(question, Verdict.FINE, reason, "", used)


def _as_used(question: Question, moment: Context, is_zero: bool = False) -> GradGraph:
    """The graph that the gradient came through: empty when it may have been another one.

    Zeros that were added up were zeros each, so that the latest pass tells of itself.
    """
    if not moment.is_recorded:
        return moment.graph
    passes = moment.happened(EventKind.BACKWARD)
    added = moment.happened_to(question.key, EventKind.ACCUMULATE)
    is_latest = bool(passes and added) and added[-1].number > passes[-1].number
    # A loop has added to it many times; what counts is since it was cleared.
    is_all = len(added) == 1 or question.data.get("accumulations") == 1
    is_known = is_latest and (is_all or is_zero)
    return moment.before if is_known and moment.before is not None else GradGraph()
