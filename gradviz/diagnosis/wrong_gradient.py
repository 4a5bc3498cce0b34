"""Rules about gradients that do not match: passed to backward, or from a hook or Function."""

from __future__ import annotations

import ast
from typing import Any

from gradviz.diagnosis.answers import Verdict
from gradviz.diagnosis.context import Context
from gradviz.diagnosis.lines import locations_of, mention, statement_at
from gradviz.diagnosis.no_graph import is_of, node_of, source_of, with_article
from gradviz.diagnosis.rule import Evidence, Needs, Rule
from gradviz.diagnosis.subjects import ErrorContext, calls_of, function_of
from gradviz.facts import Action, HookDetails
from gradviz.story import Event, EventKind
from gradviz.torch_messages import MessageKind as Kind

__all__ = ["RULES"]


# Passed to backward, or to ``torch.autograd.grad``.


def _given(context: Context, error: ErrorContext) -> Evidence | None:
    if not is_of(error, Kind.GIVEN_ANOTHER, Kind.GIVEN_ANOTHER_DEVICE):
        return None
    read = error.read
    assert read is not None
    key = context.roots[0] if len(context.roots) == 1 else ""
    name = context.graph.nodes[key].get("name", "") if key else ""
    like = f"torch.ones_like({name or 'y'})"
    call = _call(error)
    given = f"{name or 'y'}.backward({like})" if call == "backward" else f"grad_outputs={like}"
    return error.evidence(
        [key],
        culprit=key,
        call=call,
        what=read.aspect or "device",
        root=name or "the result",
        given=given,
    )


def _number_given(context: Context, error: ErrorContext) -> Evidence | None:
    """``backward(1.0)``; no answer if the number may be another argument."""
    if not is_of(error, Kind.NUMBER_GIVEN):
        return None
    if error.error is not None:
        inner = calls_of(error.error)[:1]
        is_given = inner == [("torch.autograd", "_tensor_or_tensors_to_tuple")]
    else:  # the frame that raised is unknown: the line must pass a number
        is_given = _passes_a_number(error)
    if not is_given:
        return None
    assert error.read is not None
    call = _call(error)
    fix = "loss.backward(torch.ones_like(loss)); for a single number: loss.backward()"
    if call != "backward":
        fix = "grad_outputs=torch.ones_like(loss); for a single number leave it out"
    return error.evidence(call=call, a_type=with_article(error.read.python_type), fix=fix)


def _calls_in(error: ErrorContext, name: str) -> list[ast.Call]:
    statement = statement_at(error.location)
    return [
        node
        for node in (ast.walk(statement) if statement else ())
        if isinstance(node, ast.Call)
        and name in (getattr(node.func, "attr", ""), getattr(node.func, "id", ""))
    ]


def _passes_a_number(error: ErrorContext) -> bool:
    given = [
        each
        for call in _calls_in(error, "backward")
        for each in (*call.args[:1], *(k.value for k in call.keywords if k.arg == "gradient"))
    ]
    numbers = (each.operand if isinstance(each, ast.UnaryOp) else each for each in given)
    return any(
        isinstance(each, ast.Constant) and isinstance(each.value, (int, float)) for each in numbers
    )


def _call(error: ErrorContext) -> str:
    """``backward`` or ``torch.autograd.grad``."""
    if error.error is not None:
        is_grad = ("torch.autograd", "grad") in calls_of(error.error)
    else:
        is_grad = bool(_calls_in(error, "grad")) and not _calls_in(error, "backward")
    return "torch.autograd.grad" if is_grad else "backward"


# Returned by a hook.


def _from_hook(context: Context, error: ErrorContext) -> Evidence | None:
    kinds = (Kind.HOOK_CHANGED_SHAPE, Kind.HOOK_CHANGED_TYPE, Kind.HOOK_RETURNED_NO_TENSOR)
    if not is_of(error, *kinds):
        return None
    read = error.read
    assert read is not None
    change = {
        Kind.HOOK_CHANGED_SHAPE: "a gradient of another shape",
        Kind.HOOK_CHANGED_TYPE: "a gradient of another dtype or device "
        f"({read.expected} → {read.got})",
        Kind.HOOK_RETURNED_NO_TENSOR: f"{with_article(read.python_type)}, not a tensor",
    }[read.kind]
    name = read.name if read.name.isidentifier() and read.name != "hook" else ""
    last = _last_seen(context, name)
    who, also = f"the hook {name}" if name else "a hook", ""
    if last is not None:
        on = f" on {last.name}" if last.name else ""
        where = f"{on} at {mention(last.source)}" if last.source else on
        if _is_it(last, name):
            who = f"{who.replace('a hook', 'the hook')}{where}"
        else:
            also = f"; the last hook that was seen to change a gradient is that{where}"
            last = None
    return error.evidence(
        [last.node] if last is not None else [],
        [last.location] if last is not None else [],
        last.node if last is not None else "",
        who=who,
        change=change,
        also=also,
    )


def _last_seen(context: Context, name: str) -> Event | None:
    """The last recorded hook that changed a gradient in the failed pass.

    Torch checks the result of a hook right after it: it is this hook, unless the hook is on a
    node, where hooks are not recorded.
    """
    passes = context.happened(EventKind.BACKWARD)
    begun = passes[-1].number if passes else -1
    seen = [
        event
        for event in context.happened(EventKind.HOOK)
        if event.action is not Action.REGISTERED and event.number > begun
    ]
    if not seen or (name and _function(seen[-1]) != name):
        return None
    return seen[-1]


def _function(event: Event) -> str:
    return event.details.function if isinstance(event.details, HookDetails) else ""


def _is_it(event: Event, name: str) -> bool:
    """Whether it is certainly the hook in the message."""
    details = event.details
    if name and _function(event) == name:
        return True
    if not isinstance(details, HookDetails) or details.before is None or details.after is None:
        return True  # its result could not be read
    before, after = details.before, details.after
    return (before.shape, before.dtype, before.device) != (after.shape, after.dtype, after.device)


# Returned by the backward of the user's own ``Function``.


def _of_function(context: Context, error: ErrorContext, node: str, **words: object) -> Evidence:
    """The node of a ``Function``, if there is only one."""
    key = node_of(context, grad_fn=node)
    line = source_of(context, key)
    applied = f"; it was applied at {mention(line)}" if line else ""
    name = node.removesuffix("0").removesuffix("Backward")
    words = {"who": name, "applied": applied, **words}
    return error.evidence([key], locations_of([line]), key, words=words)


def _from_function(context: Context, error: ErrorContext) -> Evidence | None:
    if not is_of(error, Kind.RETURNED_ANOTHER_SHAPE, Kind.RETURNED_ANOTHER_DEVICE):
        return None
    read = error.read
    assert read is not None
    is_shape = read.kind is Kind.RETURNED_ANOTHER_SHAPE
    what = "shape" if is_shape else "device"
    fix = "sum over the dimensions that were broadcast" if is_shape else "grad.to(input.device)"
    return _of_function(context, error, read.node, what=what, fix=fix)


def _count_from_function(context: Context, error: ErrorContext) -> Evidence | None:
    if not is_of(error, Kind.RETURNED_ANOTHER_COUNT):
        return None
    assert error.read is not None
    return _of_function(context, error, error.read.node)


_ABOUT_TENSORS = ("shape", "size", "device", "dimension", "dtype", "multipl")


def _raised_in_function(context: Context, error: ErrorContext) -> Evidence | None:
    """Any other error that was raised in such a backward."""
    ctx: Any = function_of(error.error)
    if ctx is None or error.read is not None:
        return None
    text = error.text.partition("\n")[0][:200].rstrip(".")
    node = type(ctx).__name__
    fix = (
        "bring the saved tensors and the gradient to one shape and device: those of the inputs and "
        "of the output of its forward"
    )
    if not any(word in text for word in _ABOUT_TENSORS):
        name = node.removesuffix("Backward")
        fix = f"correct the backward of {name}; gradviz.check compares it with finite differences"
    return _of_function(context, error, node, said=text, fix=fix)


_GRADIENT, _FUNCTION = Verdict.WRONG_GRADIENT, Verdict.WRONG_BACKWARD
RULES: tuple[Rule[Any, Any], ...] = (
    Rule(
        "backward was given a gradient that does not fit",
        _GRADIENT,
        _given,
        "{call}{at} was given a gradient of {what} {got}, and {root} has {expected}",
        "give one with the shape, dtype and device of the result: {given}",
        Needs.ERROR,
    ),
    Rule(
        "backward was given a number as gradient",
        _GRADIENT,
        _number_given,
        "{call}{at} was given {a_type} as its gradient, not a tensor",
        "{fix}",
        Needs.ERROR,
    ),
    Rule(
        "a hook returned a gradient that does not fit",
        _GRADIENT,
        _from_hook,
        "{who} returned {change}, in backward{at}{also}",
        "let the hook return None, or a gradient of the same shape, dtype and device: grad * 2",
        Needs.ERROR,
    ),
    Rule(
        "a Function's backward returned a gradient that does not fit",
        _FUNCTION,
        _from_function,
        "the backward of {who} returned for input {index} a gradient of {what} {got}, where "
        "{expected} is needed{at}{applied}",
        "return a gradient like input {index}: {fix}",
        Needs.ERROR,
    ),
    Rule(
        "a Function's backward returned another number of gradients",
        _FUNCTION,
        _count_from_function,
        "the backward of {who} returned {found} gradients for {wanted} inputs of its forward{at}"
        "{applied}",
        "return one for each input of forward after ctx, None for an input that needs no gradient",
        Needs.ERROR,
    ),
    Rule(
        "a Function's backward raised an error",
        _FUNCTION,
        _raised_in_function,
        "the backward of {who} raised{at}: {said}{applied}",
        "{fix}",
        Needs.ERROR,
    ),
)
