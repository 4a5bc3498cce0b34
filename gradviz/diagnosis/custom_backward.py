"""The backward of a user's own ``Function`` raised, or returned what does not fit its forward."""

from __future__ import annotations

import re
from typing import Any

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.held import function_of
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.trouble import Trouble
from gradviz.diagnosis.verdict import Verdict

__all__ = ["explain_raised", "explain_wrong_count", "explain_wrong_gradient"]


def explain_wrong_gradient(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """Explain a gradient whose shape, type or device is not that of the input."""
    who = found["name"].removesuffix("Backward").removesuffix("Backward0")
    reason = (
        f"the backward of {who} returned for input {found['index']} what does not fit it: "
        f"{found['got']}, where {found['expected']} is needed{trouble.at}"
    )
    is_shape = "shape" in found["expected"]
    fix = (
        f"return a gradient shaped like input {found['index']}: sum over what was broadcast"
        if is_shape
        else f"return a gradient like input {found['index']}: grad.to(input)"
    )
    return _of_function(trouble, found["name"], reason, fix)


def explain_wrong_count(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """Explain too many gradients, or too few."""
    who = found["name"].removesuffix("Backward")
    reason = (
        f"the backward of {who} returned {found['got']} gradients "
        f"for {found['expected']} inputs of its forward{trouble.at}"
    )
    fix = "return one for each input of forward after ctx, None for what needs no gradient"
    return _of_function(trouble, found["name"], reason, fix)


def explain_raised(trouble: Trouble) -> Explanation | None:
    """Explain any other error that was raised inside such a backward; None if it was not."""
    ctx: Any = function_of(trouble.error)
    if ctx is None:
        return None
    name = type(ctx).__name__
    message = trouble.message.partition("\n")[0][:200].rstrip(".")
    who = name.removesuffix("Backward")
    reason = f"the backward of {who} raised{trouble.at}: {message}"
    fix = "bring what it saved and the gradient to one shape and device: their shapes are those of "
    fix += "the inputs and of the result of its forward"
    if not re.search(r"shape|size|device|dimension|dtype|multipl", message):
        fix = f"mend the backward of {who}; gradviz.check compares its gradient with differences"
    return _of_function(trouble, name, reason, fix)


def _of_function(trouble: Trouble, name: str, reason: str, fix: str) -> Explanation:
    """Point to the node of a ``Function``, when there is one alone."""
    nodes = [k for k, d in trouble.moment.graph.nodes(data=True) if d.get("grad_fn") == name]
    key = nodes[0] if len(nodes) == 1 else ""
    line = trouble.moment.graph.nodes[key].get("source", "") if key else ""
    if line:
        reason += f"; it was applied at {mention(line)}"
    return trouble.answer(Verdict.WRONG_BACKWARD, reason, fix, [key, line], key)
