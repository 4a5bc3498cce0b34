"""A hook that put another gradient in place of the one that came to it."""

from __future__ import annotations

from gradviz.explanation.answers import Explanation
from gradviz.explanation.lines import mention
from gradviz.explanation.moment import Moment, Question
from gradviz.explanation.verdict import Verdict
from gradviz.explanation.ways import word_of
from gradviz.story import Event, EventKind

__all__ = ["explain_hook"]


def explain_hook(question: Question, moment: Moment, is_wrong: bool) -> Explanation | None:
    """Explain a gradient by the hook that made it what it is; None if none did.

    Args:
        question: the tensor.
        moment: when.
        is_wrong: whether the gradient is zero or not finite: then a hook of a tensor on the way
            may be to blame as well.
    """
    own = [event for event in _replaced(moment) if _is_of(event, question)]
    if own:
        return _answer(question, moment, own[-1], "")
    if not is_wrong:
        return None
    way = moment.way(question.key)
    behind = [event for event in _replaced(moment) if event.node and event.node in way]
    return _answer(question, moment, behind[0], behind[0].node) if behind else None


def _replaced(moment: Moment) -> list[Event]:
    return [event for event in moment.happened(EventKind.HOOK) if event.word == "hook"]


def _is_of(event: Event, question: Question) -> bool:
    if event.node:
        return event.node == question.key
    return bool(event.name) and event.name == question.data.get("name", question.name)


def _answer(question: Question, moment: Moment, event: Event, culprit: str) -> Explanation:
    line = f" at {mention(event.source)}" if event.source else ""
    on = (
        f" on {event.name or word_of(moment.graph.nodes[culprit])}, on the way to it,"
        if (culprit)
        else ""
    )
    reason = f"a hook{on}{line} returned another gradient than came to it"
    if event.detail:
        reason += f": {event.detail}"
    fix = "if that is not meant, remove the hook: handle.remove()"
    evidence = [each for each in (culprit, event.source) if each]
    return moment.answer(question, Verdict.HOOK, reason, fix, evidence, culprit)
