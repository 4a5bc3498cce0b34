"""Gradients that do not fit: given to backward, assigned to ``.grad``, or returned by a hook."""

from __future__ import annotations

import re

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.held import calls_of
from gradviz.diagnosis.lines import code_of, mention
from gradviz.diagnosis.trouble import Trouble
from gradviz.diagnosis.verdict import Verdict
from gradviz.story import Event, EventKind

__all__ = [
    "explain_assigned",
    "explain_given",
    "explain_hook_result",
    "explain_module_hook",
    "explain_number_given",
]


def explain_given(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """The gradient that backward or ``torch.autograd.grad`` was given does not fit the result."""
    graph, roots = trouble.moment.graph, trouble.moment.roots
    key = roots[0] if len(roots) == 1 else ""
    name = (graph.nodes[key].get("name") if key else "") or "the result"
    groups = found.groupdict()
    got, wanted = _plain(groups.get("got")), _plain(groups.get("wanted"))
    asked = _asked(trouble)
    reason = (
        f"{asked}{trouble.at} was given a gradient of {groups.get('what', 'device')} {got}, "
        f"and {name} has {wanted}"
    )
    called = "y" if name == "the result" else name
    given = f"torch.ones_like({called})"
    given = f"{called}.backward({given})" if asked == "backward" else f"grad_outputs={given}"
    fix = f"give one with the shape of the result: {given}"
    return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix, [key], key)


def explain_number_given(trouble: Trouble, found: re.Match[str]) -> Explanation | None:
    """``backward(1.0)``; None when it was another number."""
    if trouble.error is not None:
        is_given = calls_of(trouble.error)[:1] == [
            ("torch.autograd", "_tensor_or_tensors_to_tuple")
        ]
    else:  # where it was raised is not known: a number must stand there
        is_given = re.search(_NUMBER_GIVEN, code_of(trouble.line)) is not None
    if not is_given:
        return None
    asked = _asked(trouble)
    reason = f"{asked}{trouble.at} was given a {found['kind']} as its gradient, not a tensor"
    reason = reason.replace(" a int ", " an int ")
    fix = "loss.backward(torch.ones_like(loss)); a single number needs none: loss.backward()"
    if asked != "backward":
        fix = "grad_outputs=torch.ones_like(loss); a single number needs none"
    return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix)


_NUMBER_GIVEN = r"\.backward\(\s*(gradient\s*=\s*)?[-+]?\.?\d[\w.]*\s*[,)]"


def _asked(trouble: Trouble) -> str:
    """Whether it was ``backward`` or ``torch.autograd.grad``."""
    if trouble.error is not None:
        is_grad = ("torch.autograd", "grad") in calls_of(trouble.error)
    else:
        code = code_of(trouble.line)
        is_grad = re.search(r"\bgrad\(", code) is not None and ".backward(" not in code
    return "torch.autograd.grad" if is_grad else "backward"


def explain_assigned(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """``x.grad = ...`` of another size, type or device."""
    text = trouble.message.partition(".")[0]
    values = re.findall(r"'([^']*)'", text)
    what = "shape" if "of size" in text else "dtype" if "dtype" in text else "device"
    got, wanted = (*values, "another", "another")[:2]
    reason = (
        f"a gradient of {what} {_plain(got)} was assigned{trouble.at} "
        f"to the .grad of a tensor of {what} {_plain(wanted)}"
    )
    fix = "assign one that is like it: w.grad = torch.zeros_like(w), or None to clear it"
    return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix)


def explain_hook_result(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """A hook returned what is no gradient, or one of another size, type or device."""
    groups = found.groupdict()
    if kind := groups.get("kind"):
        change = f"that is no tensor but {'an' if kind[0] in 'aeio' else 'a'} {kind}"
    else:
        change = f"of another {'shape' if groups['told'] == 'size' else 'type or device'}"
    if was := re.search(r"was (?P<old>\S+) got (?P<new>\S+)\)", trouble.message):
        change += f" ({was['old']} → {was['new']})"
    name = groups.get("name") or ""
    last = _last_seen(trouble, name)
    who, also = "a hook", ""
    if name.isidentifier() and name != "hook":
        who = f"the hook {name}"
    if last is not None:
        on = f" on {last.name}" if last.name else ""
        where = f"{on} at {mention(last.source)}" if last.source else on
        if _is_it(last, name):
            who = f"{who.replace('a hook', 'the hook')}{where}"
        else:
            also = f"; the last hook that was seen to change one is that{where}"
    reason = f"{who} returned a gradient {change}, in backward{trouble.at}{also}"
    fix = "let the hook return None, or a gradient like that which it was given: grad * 2"
    node = last.node if last is not None and not also else ""
    evidence = [node, last.source] if last is not None else []
    return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix, evidence, node)


def _last_seen(trouble: Trouble, name: str) -> Event | None:
    """The last hook that was seen to change a gradient in the pass that failed.

    Torch looks at what a hook returned right after it: it is the one, unless that was on a node,
    where hooks are not seen.
    """
    passes = trouble.moment.happened(EventKind.BACKWARD)
    begun = passes[-1].number if passes else -1
    seen = [
        event
        for event in trouble.moment.happened(EventKind.HOOK)
        if event.word == "hook" and event.number > begun
    ]
    if not seen or (name.isidentifier() and _by(seen[-1]) != name and name != "hook"):
        return None
    return seen[-1]


def _by(event: Event) -> str:
    return event.detail.rpartition(" by ")[2] if " by " in event.detail else ""


def _is_it(event: Event, name: str) -> bool:
    """Whether it is for sure the hook that the message is about."""
    if name.isidentifier() and _by(event) == name:
        return True
    change = event.detail.removeprefix("gradient ").partition(" by ")[0]
    old, _, new = change.partition(" → ")
    if change == "changed" or new in ("None", "a gradient"):
        return True  # it reads the same and is another, or it is none that could be read
    return old[:1] == new[:1] == "[" and len(old.split()) != len(new.split())


def explain_module_hook(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """A full backward hook of a module returned too many gradients, or too few."""
    reason = f"a full backward hook of a module returned {found['got']} gradients "
    reason += f"for {found['wanted']}{trouble.at}"
    fix = "return a tuple with one gradient for each input of the module, or None to change none"
    return trouble.answer(Verdict.WRONG_GRADIENT, reason, fix)


def _plain(text: str | None) -> str:
    """``[3]`` of ``torch.Size([3])``, ``float32`` of ``torch.float32``."""
    return re.sub(r"torch\.Size\((.*)\)", r"\1", text or "another").removeprefix("torch.").lower()
