"""A tensor that was saved for backward has been changed since: by what, and where."""

from __future__ import annotations

import math
import re

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.no_gradient import RECORD
from gradviz.diagnosis.trouble import Trouble
from gradviz.diagnosis.verdict import Verdict
from gradviz.story import EventKind

__all__ = ["explain_in_place"]

_TOLD = re.compile(
    r"needs (?P<quote>'?)(?P<name>.*)(?P=quote) as it was at version (?P<version>\d+)"
)
_CHANGE = re.compile(r"; (?P<word>.+?)(?: at (?P<line>\S+))? made it version (?P<after>\d+)")
_MESSAGE = re.compile(
    r"\[[\w.]+(?: \[(?P<shape>[\d, ]*)\])?\](?:, which is output \d+ of (?:\w+::)*(?P<node>\w+),)? "
    r"is at version (?P<found>\d+); expected version (?P<wanted>\d+)"
)


def explain_in_place(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """Explain ``modified by an inplace operation``."""
    key, problem = trouble.problem
    told = _TOLD.search(problem)
    if told is None:
        return _from_message(trouble)
    name = told["name"] if _fits(trouble, told["name"]) else "a tensor"
    data = trouble.moment.graph.nodes[key]
    line = data.get("source", "")
    who = f"{data.get('op')}{f' at {mention(line)}' if line else ''} saved {name} for backward"
    if change := _CHANGE.search(problem):
        place = f" at {mention(change['line'])}" if change["line"] else ""
        word = change["word"]
        if word == "step":
            word = "the optimizer's step"
        reason = f"{who}, and {word}{place} changed it afterwards (version {told['version']} → "
        reason += f"{change['after']})"
        evidence = [change["line"] or "", key, line]
        return trouble.answer(Verdict.CHANGED_IN_PLACE, reason, _fix(word), evidence, key)
    names = re.split(r"[,\s]+", name)
    steps = [
        event
        for event in trouble.moment.happened(EventKind.STEP)
        if names[0] in re.split(r"[,\s]+", event.detail)
    ]
    if steps:
        where = steps[-1].source
        reason = f"{who}, and the optimizer's step at {mention(where)} changed it afterwards"
        fix = _fix("the optimizer's step")
        return trouble.answer(Verdict.CHANGED_IN_PLACE, reason, fix, [where, key, line], key)
    reason = f"{who}, and something that was not recorded changed it afterwards"
    return trouble.answer(Verdict.CHANGED_IN_PLACE, reason, _fix(""), [key, line], key)


def _fits(trouble: Trouble, name: str) -> bool:
    """Whether a tensor of that name has as many elements as the message tells."""
    found = _MESSAGE.search(trouble.message)
    try:
        shape = trouble.moment.graph.nodes[trouble.moment.graph.find(name)].get("shape")
    except KeyError:
        return True
    return found is None or shape is None or math.prod(shape) == math.prod(_size(found))


def _is_of(grad_fn: str, node: str | None) -> bool:
    """Whether a message means that node: ``Exp`` or ``ExpBackward0``, by the version of torch."""
    return bool(node) and grad_fn.rstrip("0123456789") in (node, f"{node}Backward", str(node)[:-1])


def _size(found: re.Match[str]) -> list[int]:
    return [int(each) for each in (found["shape"] or "").split(",") if each.strip()]


def _fix(word: str) -> str:
    if word == "the optimizer's step":
        return (
            "call optimizer.step() after every backward() that needs the old parameters; what is "
            "carried from step to step has to be cut off: hidden = hidden.detach()"
        )
    if word == "setitem_":
        return "build a new tensor instead of writing into it: torch.cat, torch.stack, torch.where"
    if word.endswith("_") and word.isidentifier():
        return (
            f"make a new tensor: {word.rstrip('_')} instead of {word}, x = x + 1 instead of x += 1"
        )
    return "change a copy of it: x = x.clone(); or make a new tensor: x = x + 1 instead of x += 1"


def _from_message(trouble: Trouble) -> Explanation:
    """What the message and the graph tell when nothing was recorded."""
    found = _MESSAGE.search(trouble.message)
    if found is None:
        reason = f"a tensor that was saved for backward has been changed in place{trouble.at}"
        return trouble.answer(Verdict.CHANGED_IN_PLACE, reason, f"{_fix('')}; {RECORD}")
    graph, what = trouble.moment.graph, "a tensor"
    size = _size(found)
    makers = [
        key
        for key, data in graph.nodes(data=True)
        if _is_of(data.get("grad_fn", ""), found["node"]) and list(data.get("shape", ())) == size
    ]
    if found["node"]:
        from gradviz.graph.operations import forward_word

        what = f"the result of {forward_word(found['node'])}"
    key = makers[0] if found["node"] and len(makers) == 1 else ""
    name = graph.nodes[key].get("name", "") if key else ""
    times = int(found["found"]) - int(found["wanted"])
    called = f"{what}, {name}," if name else what
    reason = (
        f"backward{trouble.at} needs {called} of shape {size} as it was, and it has been changed "
        f"in place {times} time{'s' * (times != 1)} since (version {found['wanted']} → "
        f"{found['found']}); where was not recorded"
    )
    return trouble.answer(Verdict.CHANGED_IN_PLACE, reason, f"{_fix('')}; {RECORD}", [key], key)
