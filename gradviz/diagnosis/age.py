"""A gradient that is older than the values it stands beside."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.verdict import Verdict
from gradviz.graph.operations import operation
from gradviz.story import Event, EventKind

__all__ = ["changed_since", "explain_age"]


def _is_update(word: str) -> bool:
    """Whether an in-place operation goes on from the old value, as an update by hand does."""
    return operation(word.removeprefix("_foreach_").removesuffix("_")).updates


def explain_age(question: Question, moment: Context) -> Explanation | None:
    """Explain a gradient that was left over from before; None if it was not.

    A step that comes right after backward uses the gradient, and does not make it stale; another
    one does, and so do new values, or a later backward pass that brought nothing to it. A forward
    pass alone does not: it may be one of validation.
    """
    changes = changed_since(question, moment)
    if not changes:
        return None
    last = changes[-1]
    steps = [event for event in changes if event.kind is EventKind.STEP]
    written = [e for e in changes if e.kind is EventKind.IN_PLACE and not _is_update(e.word)]
    added = moment.happened_to(question.key, EventKind.ACCUMULATE)[-1]
    passes = [
        event
        for event in moment.happened(EventKind.BACKWARD)
        if event.number > added.number and event.word != "grad"
    ]
    was = f"it comes from backward at {mention(added.source)}, before "
    evidence = [added.source, last.source]
    if written:
        reason = f"{was}{_words(written[-1])} gave it other values"
        fix = "call backward() again, or clear it: optimizer.zero_grad()"
        evidence = [added.source, written[-1].source]
    elif passes:
        reason = f"{was}{_words(last)} changed it, and {_backward(passes[-1])} added nothing to it"
        fix = "clear the gradients before each backward pass: optimizer.zero_grad()"
        evidence.append(passes[-1].source)
    elif steps[1:]:
        reason = f"{was}{_words(last)} used it for the {_nth(len(steps))} time"
        fix = "one backward() for each step, and optimizer.zero_grad() before it"
    else:
        return None
    return moment.answer(question, Verdict.STALE, reason, fix, evidence)


def changed_since(question: Question, moment: Context) -> Sequence[Event]:
    """What has changed the values of a leaf since its gradient was last added to."""
    if not (added := moment.happened_to(question.key, EventKind.ACCUMULATE)):
        return []
    since = added[-1].number
    changes = [
        event for event in moment.happened(EventKind.STEP) if _is_about(event, question, moment)
    ]
    changes += moment.happened_to(question.key, EventKind.IN_PLACE)
    return sorted(
        (event for event in changes if event.number > since), key=lambda event: event.number
    )


def _is_about(event: Event, question: Question, moment: Context) -> bool:
    if counts := re.fullmatch(r"changed (\d+) of (\d+) parameters", event.detail):
        return counts[1] == counts[2]  # of some of them it is not told which
    named = re.split(r"[,\s]+", event.detail.removeprefix("changed "))
    data = moment.graph.nodes[question.key] if question.key in moment.graph else question.data
    return data.get("name", question.name) in named


def _words(change: Event) -> str:
    word = "the optimizer's step" if change.kind is EventKind.STEP else change.word
    return f"{word} at {mention(change.source)}" if change.source else word


def _backward(event: Event) -> str:
    return f"backward at {mention(event.source)}" if event.source else "a later backward"


def _nth(count: int) -> str:
    return {2: "second", 3: "third"}.get(count, f"{count}th")
