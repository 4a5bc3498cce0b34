"""Things that autograd refuses to do with a leaf, a view, a result or an inference tensor."""

from __future__ import annotations

import re
from collections.abc import Callable

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.trouble import Trouble
from gradviz.diagnosis.verdict import Verdict

__all__ = [
    "explain_inference",
    "explain_leaf_changed",
    "explain_no_leaf",
    "explain_view",
    "plainly",
]


def explain_leaf_changed(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """Explain an in-place operation on a leaf that requires grad, or on a view of it."""
    what = "a view of a leaf" if "view" in found[0] else "a leaf"
    reason = (
        f"{what} that requires grad was changed in place{trouble.at}, which autograd cannot record"
    )
    fix = "to update it: with torch.no_grad(): around that line; to compute: work on w.clone()"
    return trouble.answer(Verdict.LEAF_CHANGED, reason, fix)


def explain_inference(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """Explain a tensor made under ``inference_mode`` where autograd records."""
    reason = f"a tensor made under inference_mode was used where autograd records{trouble.at}"
    made = [
        data.get("source", "")
        for _, data in trouble.moment.graph.nodes(data=True)
        if data.get("inference") and data.get("source")
    ]
    if made:
        reason += f"; it was made at {mention(made[-1])}"
    fix = "make it under torch.no_grad() instead, or use a copy: x = x.clone()"
    return trouble.answer(Verdict.INFERENCE_USED, reason, fix, made[-1:])


def explain_view(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """Explain an in-place operation on a view whose place in the graph is fixed."""
    from gradviz.graph.operations import forward_word

    message, maker = trouble.message, re.search(r"Output \d+ of (\w+)", trouble.message)
    word = forward_word(maker[1]) if maker else ""
    fix = "work on a copy: x = x.clone(); or make a new tensor: x = x - 1 instead of x -= 1"
    if "created in no_grad mode" in message:
        why = "it was made under no_grad, and is changed where gradients are recorded"
        fix = "make the view and change it in one place, both inside no_grad or both outside"
    elif "BackwardHookFunction" in message:
        why = "a module with a full backward hook hands out views, of its inputs and its results"
        fix = "work on a copy: y = y.clone(); and leave inplace=True out of such a module"
    elif "custom Function" in message:
        why = f"it is what the Function {maker[1] if maker else ''} returned, a view of its input"
        fix = "let the Function return a copy: x.clone()"
    elif "detach" in message:
        why = "detach_() would take it out of the graph, and its base with it"
        fix = "use x = x.detach() instead of x.detach_()"
    else:
        why = f"{word or 'one call'} made several views of one tensor, and that is one of them"
    of_base = "base or another view of its base" in message
    what = (
        "the base of a view was changed in place, and the view used"
        if of_base
        else ("a view was changed in place")
    )
    return trouble.answer(Verdict.VIEW_CHANGED, f"{what}{trouble.at}: {why}", fix)


def explain_no_leaf(trouble: Trouble, found: re.Match[str]) -> Explanation:
    """Explain what was asked of the result of an operation, and only a leaf can do."""
    deed, fix = _DEEDS[found["deed"]]
    name, op, line, key = trouble.origin
    made = f"{op or 'an operation'} made it" + (f" at {mention(line)}" if line else "")
    reason = f"{name or 'a tensor'} is no leaf: {made}, and {deed}{trouble.at}"
    return trouble.answer(
        Verdict.NOT_A_LEAF, reason, fix.format(name=name or "x"), [line, key], key
    )


_DEEDS = {
    "can't optimize a non-leaf": (
        "an optimizer updates leaves alone",
        "make it a leaf once it is as it should be: {name} = {name}.detach().requires_grad_()",
    ),
    "support the deepcopy protocol": (
        "only leaves can be deep-copied",
        "keep no result on the model that is copied, or keep {name}.detach()",
    ),
}


def plainly(
    verdict: Verdict, reason: str, fix: str
) -> Callable[[Trouble, re.Match[str]], Explanation]:
    """An error that is told from its message and line alone.

    Args:
        verdict: the answer.
        reason: one sentence; the line stands in place of ``{at}``, or else at its end.
        fix: what to do.
    """
    told = reason if "{at}" in reason else f"{reason}{{at}}"

    def explain(trouble: Trouble, found: re.Match[str]) -> Explanation:
        return trouble.answer(verdict, told.replace("{at}", trouble.at), fix)

    return explain
