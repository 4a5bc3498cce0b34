"""A hook that put another gradient in place of the one that came to it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.verdict import Verdict
from gradviz.diagnosis.ways import word_of
from gradviz.graph import TensorSummary
from gradviz.story import Event, EventKind

__all__ = ["explain_hook", "explain_hook_on_the_way", "explain_wrong_by_hook"]

_HOOKED = "BackwardHookFunction"  # stands before and behind a module that has full backward hooks
_ZERO = re.compile(r"→ (norm )?\[?-?0( -?0)*\]?( by \w+)?$")
_NOT_FINITE = re.compile(r"→ .*\b(NaN|nan|infinite|inf)\b")


def explain_hook(question: Question, moment: Context) -> Explanation | None:
    """Explain a gradient by a hook on the tensor itself; None if none changed it."""
    own = [event for event in _replaced(moment) if _is_of(event, question)]
    if not own:
        return None
    event = own[-1]
    line = f" at {mention(event.source)}" if event.source else ""
    reason = f"a hook{line} returned another gradient than came to it"
    if event.detail:
        reason += f": {event.detail}"
    return moment.answer(question, Verdict.HOOK, reason, _FIX, [event.source])


def explain_wrong_by_hook(
    question: Question, moment: Context, grad: TensorSummary
) -> Explanation | None:
    """Explain zeros, or what is not finite, by a hook on the way that made them."""
    made = _NOT_FINITE if grad.nan or grad.inf else _ZERO
    found = [each for each in _on_the_way(question, moment, True) if made.search(each[0].detail)]
    return _answer(question, moment, found)


def explain_hook_on_the_way(question: Question, moment: Context) -> Explanation | None:
    """Explain a gradient that a hook on its way changed; None if none did."""
    return _answer(question, moment, _on_the_way(question, moment, False))


_FIX = "if that is not meant, remove the hook: handle.remove()"


def _replaced(moment: Context) -> list[Event]:
    return [event for event in moment.happened(EventKind.HOOK) if event.word == "hook"]


def _is_of(event: Event, question: Question) -> bool:
    if event.node:
        return event.node == question.key
    return bool(event.name) and event.name == question.data.get("name", question.name)


def _on_the_way(question: Question, moment: Context, is_wrong: bool) -> list[tuple[Event, str]]:
    """Hooks that changed the gradient before it came here, and where: those of the latest pass."""
    replaced = _replaced(moment)
    added = moment.happened_to(question.key, EventKind.ACCUMULATE)
    if not replaced or not added:
        return []
    end = added[-1].number
    begin = max(
        (e.number for e in moment.happened(EventKind.BACKWARD) if e.number < end), default=end
    )
    acted = [event for event in replaced if begin < event.number < end]
    way = moment.way(question.key) if acted else set()
    if not way:
        return []
    found = []
    for event in acted:
        key = event.node if event.node in way else ""
        key = key or (_place_of_module(event, way, moment, is_wrong) if not event.node else "")
        if key and key != question.key:
            found.append((event, key))
    return found


def _place_of_module(event: Event, way: set[str], moment: Context, is_wrong: bool) -> str:
    """Where a full backward hook of a module acted; "" if not on this way, or not for sure.

    Torch puts a node before and one behind each such module: what comes to the one before has been
    through the hook. Of the module's own parameters that is not sure, unless they lack a gradient.
    """
    graph = moment.graph
    hooked: list[str] = [key for key, data in graph.nodes(data=True) if data.get("op") == _HOOKED]
    named = [key for key in hooked if graph.nodes[key].get("module") == event.name]
    before = named or [key for key in hooked if not graph.nodes[key].get("module")]
    inside = [key for key in hooked if key in way]
    if before and set(before) <= way:
        return before[-1]
    return inside[0] if is_wrong and inside else ""


def _answer(
    question: Question, moment: Context, found: Sequence[tuple[Event, str]]
) -> Explanation | None:
    if not found:
        return None
    event, key = found[0]
    change, _, by = event.detail.removeprefix("gradient ").partition(" by ")
    data = moment.graph.nodes[key]
    on = f"module {event.name}" if data.get("op") == _HOOKED else event.name or word_of(data)
    line = f" at {mention(event.source)}" if event.source else ""
    more = f"; so did {len(found) - 1} more" if found[1:] else ""
    reason = f"the hook{f' {by}' if by else ''} on {on}{line} changed the gradient on its way"
    reason += f": {change}{more}" if change else more
    evidence = [each for other, place in found for each in (place, other.source) if each]
    return moment.answer(question, Verdict.HOOK, reason, _FIX, evidence, key)
