"""Rules about a saved tensor that was changed in place before backward: by what, and where."""

from __future__ import annotations

from typing import Any

from gradviz.diagnosis.context import Context
from gradviz.diagnosis.error_context import ErrorContext
from gradviz.diagnosis.lines import locations_of, mention
from gradviz.diagnosis.missing import RECORD
from gradviz.diagnosis.no_graph import is_of, source_of
from gradviz.diagnosis.rule import Evidence, Needs, Rule
from gradviz.diagnosis.verdict import Verdict
from gradviz.facts import Problem, ProblemKind, StepDetails
from gradviz.graph.operations import forward_word
from gradviz.story import Event, EventKind
from gradviz.torch_messages import MessageKind

__all__ = ["RULES"]

_STEP = (
    "call optimizer.step() after every backward() that needs the old parameters; detach what is "
    "carried from step to step: hidden = hidden.detach()"
)
_COPY = "change a copy: x = x.clone(); or make a new tensor: x = x + 1 instead of x += 1"
_FIXES = {
    "step": _STEP,
    "setitem_": "build a new tensor instead of writing into it: torch.cat, torch.stack, "
    "torch.where",
    "embedding_renorm_": "let backward use a copy of the weight: layer.weight.clone(); or look up "
    "before the weight is used; or leave out max_norm",
    "load_state_dict": "call backward() before load_state_dict()",
}


def _problem_of(error: ErrorContext) -> Problem | None:
    problem = error.problem
    is_it = problem is not None and problem.kind is ProblemKind.CHANGED_IN_PLACE
    return problem if is_it and is_of(error, MessageKind.CHANGED_IN_PLACE) else None


def _who(context: Context, problem: Problem) -> str:
    """``"exp at train.py:3 saved 'y' for backward"``."""
    name = problem.name and f"{problem.name!r}"
    name = name or ("its result" if problem.is_result else "one of its inputs")
    line = source_of(context, problem.node)
    return f"{problem.op}{f' at {mention(line)}' if line else ''} saved {name} for backward"


def _changed(context: Context, error: ErrorContext) -> Evidence | None:
    problem = _problem_of(error)
    if problem is None or not problem.changed_by:
        return None
    line = str(problem.location)
    return _evidence(
        context,
        error,
        problem,
        by="the optimizer's step" if problem.changed_by == "step" else problem.changed_by,
        where=f" at {mention(line)}" if line else "",
        versions=f" (version {problem.wanted} → {problem.changed_to})",
        fix=_fix(problem.changed_by),
    )


def _changed_by_a_step(context: Context, error: ErrorContext) -> Evidence | None:
    """The change was not seen, and an optimizer has changed that tensor."""
    problem = _problem_of(error)
    if problem is None or (step := _step_of(context, problem)) is None:
        return None
    where = f" at {mention(step.source)}" if step.source else ""
    return _evidence(
        context,
        error,
        problem,
        step,
        by="the optimizer's step",
        where=where,
        versions="",
        fix=_STEP,
    )


def _step_of(context: Context, problem: Problem) -> Event | None:
    steps = [
        event
        for event in context.happened(EventKind.STEP)
        if isinstance(event.details, StepDetails) and problem.name in event.details.names
    ]
    return steps[-1] if steps and problem.name else None


def _changed_by_the_unknown(context: Context, error: ErrorContext) -> Evidence | None:
    problem = _problem_of(error)
    return None if problem is None else _evidence(context, error, problem)


def _evidence(
    context: Context,
    error: ErrorContext,
    problem: Problem,
    step: Event | None = None,
    **words: object,
) -> Evidence:
    location = step.location if step is not None else problem.location
    lines = [location, *locations_of([source_of(context, problem.node)])]
    key = problem.node
    return error.evidence([key], lines, key, who=_who(context, problem), **words)


def _fix(word: str) -> str:
    if word in _FIXES:
        return _FIXES[word]
    if word.endswith("_") and word.isidentifier():
        return f"make a new tensor: {word[:-1]} instead of {word}, x = x + 1 instead of x += 1"
    return _COPY


def _not_recorded(context: Context, error: ErrorContext) -> Evidence | None:
    """What the message and the graph say when the change was not recorded."""
    if not is_of(error, MessageKind.CHANGED_IN_PLACE):
        return None
    message, graph = error.message, context.graph
    assert message is not None
    makers = [
        key
        for key, data in graph.nodes(data=True)
        if _is_of(data.get("grad_fn", ""), message.node) and data.get("shape") == message.shape
    ]
    key = makers[0] if message.node and len(makers) == 1 else ""
    what = "a tensor"
    if message.node:
        what = f"the result of {forward_word(message.node)}"
    name = graph.nodes[key].get("name", "") if key else ""
    times = message.found - message.wanted
    return error.evidence(
        [key],
        culprit=key,
        what=f"{what}, {name}," if name else what,
        size=list(message.shape or ()),
        times=f"{times} time{'s' * (times != 1)}",
    )


def _is_of(grad_fn: str, node: str) -> bool:
    """Whether a message means that node: ``Exp`` or ``ExpBackward0``, by the version of torch."""
    return bool(node) and grad_fn.rstrip("0123456789") in (node, f"{node}Backward", node[:-1])


_NEEDS = Needs.RECORDING
_CHANGED = Verdict.CHANGED_IN_PLACE
RULES: tuple[Rule[Any, Any], ...] = (
    Rule(
        "a saved tensor was changed by a recorded operation",
        _CHANGED,
        _changed,
        "{who}, and {by}{where} changed it afterwards{versions}",
        "{fix}",
        _NEEDS,
    ),
    Rule(
        "a saved tensor was changed by an optimizer",
        _CHANGED,
        _changed_by_a_step,
        "{who}, and {by}{where} changed it afterwards{versions}",
        "{fix}",
        _NEEDS,
    ),
    Rule(
        "a saved tensor was changed by something that was not recorded",
        _CHANGED,
        _changed_by_the_unknown,
        "{who}, and something that was not recorded changed it afterwards",
        _COPY,
        _NEEDS,
    ),
    Rule(
        "a saved tensor was changed, and nothing was recorded",
        _CHANGED,
        _not_recorded,
        "backward{at} needs {what} of shape {size} as it was, and it was changed in place {times} "
        "since (version {wanted} → {found}); where was not recorded",
        f"{_COPY}; {RECORD}",
        Needs.ERROR,
    ),
)
