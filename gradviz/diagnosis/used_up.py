"""Backward came to a part of the graph that an earlier backward pass has freed."""

from __future__ import annotations

import re

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.trouble import Trouble
from gradviz.diagnosis.verdict import Verdict
from gradviz.graph import Buffers
from gradviz.story import EventKind

__all__ = ["explain_used_up"]

_RETAIN = "if it is to run twice, the first time with backward(retain_graph=True)"
_SUM = "run it once, on the sum of the losses: (loss_a + loss_b).backward()"


def explain_used_up(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """Explain ``Trying to backward through the graph a second time``."""
    if trouble.moment.is_recorded:
        return _from_recording(trouble)
    graph = trouble.moment.graph
    freed = [
        key
        for key in trouble.moment.behind_roots
        if graph.nodes[key].get("buffers") is Buffers.FREED
    ]
    evidence = sorted(freed, key=lambda key: -graph.nodes[key].get("sequence_nr", 0))[:1]
    reason = f"backward{trouble.at} came to what an earlier backward pass has freed"
    fix = (
        f"{_RETAIN}; if a tensor is carried from one step to the next, cut it off before it is "
        f"used again: hidden = hidden.detach(); if two losses share a part, {_SUM}"
    )
    return trouble.answer(Verdict.USED_UP, reason, fix, evidence, evidence[0] if evidence else "")


def _from_recording(trouble: Trouble) -> Explanation:
    graph, (key, problem) = trouble.moment.graph, trouble.problem
    passes = trouble.moment.happened(EventKind.BACKWARD)
    # The pass that failed is an event as well: the one before it is that which freed.
    earlier = passes[-2] if passes[1:] else None
    line = earlier.source if earlier else ""
    if "freed by backward at" in problem:
        line = problem.rpartition(" ")[2]
    again = f"backward{trouble.at} came to what {_who(line)} has freed"
    evidence = [key, line]
    if earlier is None:
        return trouble.answer(Verdict.USED_UP, again, _RETAIN, evidence, key)
    carried = _carried(trouble, earlier.number)
    if carried:
        data = graph.nodes[carried[0]]
        name, made_at = data.get("name", ""), data.get("source", "")
        where = f" (made at {mention(made_at)})" if made_at else ""
        called = name or f"the result of {data.get('op')}"
        reason = f"{again}: {called}{where} was carried over from before that pass"
        short = name if name.isidentifier() else "hidden"
        fix = f"cut it off once a step is done: {short} = {short}.detach()"
        return trouble.answer(Verdict.USED_UP, reason, fix, [*evidence, made_at], carried[0])
    before = trouble.moment.before
    if before is not None and not set(before.roots) & set(trouble.moment.roots):
        reason = f"{again}: two results share that part of the graph"
        return trouble.answer(Verdict.USED_UP, reason, f"{_SUM}; {_RETAIN}", evidence, key)
    return trouble.answer(Verdict.USED_UP, again, _RETAIN, evidence, key)


def _carried(trouble: Trouble, passed: int) -> list[str]:
    """Operations from before a backward pass whose results went into some from after it.

    Args:
        trouble: the error.
        passed: the number of the event of that pass.
    """
    graph = trouble.moment.graph
    order = {
        key: data["sequence_nr"] for key, data in graph.nodes(data=True) if "sequence_nr" in data
    }
    # An event names the last node that its operation made.
    known = [
        (order[event.node], event.number)
        for event in trouble.moment.events or ()
        if event.node in order and event.kind in (EventKind.OPERATION, EventKind.IN_PLACE)
    ]
    # What it made besides, such as the output of an RNN beside its state, may be gone: then the
    # frame after that pass still shows the operations from before it.
    before = trouble.moment.before
    shown = [created for key, created in order.items() if before is not None and key in before]
    told = [created for created, number in known if number < passed]
    old = max((*told, *shown), default=-1)
    if not any(number > passed for _, number in known):
        return []
    on_the_way = trouble.moment.behind_roots
    return [
        one
        for one, other in graph.edges()
        if one in on_the_way and order.get(one, old + 1) <= old < order.get(other, -1)
    ]


def _who(line: str) -> str:
    return f"backward at {mention(line)}" if line else "an earlier backward pass"
