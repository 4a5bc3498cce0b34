"""Rules for tensors that no optimizer trains: three sets that should agree, and what has no effect.

The sets: the parameters of the model, those that an optimizer holds, the leaves behind the loss.
"""

from __future__ import annotations

from typing import Any

from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.lines import mention
from gradviz.diagnosis.rule import Evidence, Needs, Rule
from gradviz.diagnosis.verdict import Verdict
from gradviz.facts import Action, EventKind, StepDetails
from gradviz.graph import GradGraph, NodeKind, TensorSummary
from gradviz.story import Event

__all__ = ["first_training_rules", "scale_of", "skipped_step", "training_rules"]

_CLIPS = ("clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_")
_UNSCALES = ("unscale_", "step")


def _attribute(context: Context, question: Question) -> Evidence | None:
    if not question.without_effect or question.data["kind"] is NodeKind.UNTRACKED:
        return None
    owner, name = question.without_effect
    is_module = name == "requires_grad"
    what = f"{owner}.{name} = False" if owner else f"its attribute {name} = False"
    why = "nn.Module has no such switch" if is_module else "the switch is requires_grad"
    called = owner or question.name
    fix = f"{called}.requires_grad_(False)"
    return Evidence({"what": what, "why": why, "fix": fix})


def _not_registered(context: Context, question: Question) -> Evidence | None:
    if not question.unregistered:
        return None
    words = {"where": question.unregistered, "root": context.root_names or "the loss"}
    return Evidence(words)


def _steps(context: Context) -> list[tuple[Event, StepDetails]]:
    return [
        (event, event.details)
        for event in context.happened(EventKind.STEP)
        if isinstance(event.details, StepDetails)
    ]


def _in_no_optimizer(context: Context, question: Question) -> Evidence | None:
    """A parameter with a gradient that no optimizer which stepped after it holds."""
    if not question.is_parameter and question.data["kind"] is not NodeKind.PARAMETER:
        return None
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    if question.data.get("grad") is None or not added:
        return None
    changed = context.happened_to(question.key, EventKind.IN_PLACE)
    steps = [each for each in _steps(context) if each[0].number > added[0].number]
    if not steps or changed or any(question.key in details.held for _, details in steps):
        return None
    event, details = steps[-1]
    count = f"{details.count:,} parameter{'s' * (details.count != 1)}"
    words = {
        "step": f"{details.optimizer} at {mention(event.location)}",
        "count": f"{count}, and not this one",
    }
    return Evidence(words, locations=(event.location,))


def _frozen_and_moved(context: Context, question: Question) -> Evidence | None:
    off = [
        event
        for event in context.happened_to(question.key, EventKind.REQUIRES_GRAD)
        if event.action in (Action.REQUIRES_GRAD_OFF, Action.REQUIRES_GRAD_ON)
    ]
    if not off or off[-1].action is not Action.REQUIRES_GRAD_OFF:
        return None
    moved = [
        event
        for event, details in _steps(context)
        if event.number > off[-1].number
        and question.key in details.changed
        and details.changed_values != 0
    ]
    if not moved:
        return None
    words = {
        "off": mention(off[-1].location),
        "step": mention(moved[-1].location),
        "name": question.name,
    }
    return Evidence(words, locations=(off[-1].location, moved[-1].location))


# Gradients that GradScaler has scaled.


def scale_of(context: Context, question: Question) -> float | None:
    """By what GradScaler scaled the loss of the gradient, while it is not unscaled; or None.

    ``scale`` multiplies by a tensor that ``full`` made at the line of the call, or that
    ``_amp_update_scale_`` changes.
    """
    graph = context.before if context.before is not None else context.graph
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    if not added or any(
        event.number > added[-1].number and event.word in _UNSCALES
        for event in context.happened_to(question.key, EventKind.GRAD)
        if event.action is Action.CHANGED_IN_PLACE
    ):
        return None
    return _factor(context, graph)


def _factor(context: Context, graph: GradGraph) -> float | None:
    for root in graph.roots:
        for maker, _ in graph.inputs(root):
            if graph.nodes[maker].get("op") != "mul":
                continue
            for source, _ in graph.inputs(maker):
                data = graph.nodes[source]
                value: TensorSummary | None = data.get("value")
                if data["kind"] is not NodeKind.UNTRACKED or data.get("op") != "full":
                    continue
                updated = [
                    event.word == "_amp_update_scale_"
                    for event in context.happened_to(source, EventKind.IN_PLACE)
                ]
                is_here = data.get("source") == graph.nodes[maker].get("source")
                if (any(updated) or is_here) and value is not None and value.values:
                    return value.values[0].real
    return None


def _clipped_while_scaled(context: Context, question: Question) -> Evidence | None:
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    if not added:
        return None
    changes = [
        event
        for event in context.happened_to(question.key, EventKind.GRAD)
        if event.number > added[-1].number and event.action is Action.CHANGED_IN_PLACE
    ]
    if not changes or changes[0].word not in _CLIPS:
        return None
    graph = context.before if context.before is not None else context.graph
    scale = _factor(context, graph)
    if scale is None or scale == 1:
        return None
    words = {"clip": changes[0].word, "line": mention(changes[0].location), "scale": f"{scale:g}"}
    return Evidence(words, locations=(changes[0].location,))


def skipped_step(context: Context, question: Question) -> str:
    """A clause that says that GradScaler skipped the step; "" if it did not, or is not known to."""
    added = context.happened_to(question.key, EventKind.ACCUMULATE)
    unscaled = [
        event
        for event in context.happened_to(question.key, EventKind.GRAD)
        if added and event.number > added[-1].number and event.word in _UNSCALES
    ]
    updates = [
        event
        for event in context.happened(EventKind.IN_PLACE)
        if event.word == "_amp_update_scale_" and unscaled and event.number > unscaled[0].number
    ]
    if not updates:
        return ""
    begin, end = unscaled[0].number, updates[0].number
    if any(begin < event.number < end for event, _ in _steps(context)):
        return ""
    return "; GradScaler skipped the step"


first_training_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "a frozen tensor that an optimizer still changes",
        Verdict.MOVED,
        _frozen_and_moved,
        "it was frozen at {off}, and the optimizer's step at {step} still changed it: its gradient "
        "was not None, so momentum or weight decay moves it",
        "set its gradient to None, {name}.grad = None, or make the optimizer without it",
        Needs.RECORDING,
        (EventKind.STEP,),
        "requires_grad was switched off, and a later step changed values of the tensor.",
    ),
    Rule(
        "an attribute without effect",
        Verdict.WITHOUT_EFFECT,
        _attribute,
        "{what} has no effect, as {why}: it requires grad",
        "to freeze it: {fix}",
        docs="A plain attribute of a tensor or module with a name like requires_grad.",
    ),
)
training_rules: tuple[Rule[Any, Any], ...] = (
    Rule(
        "kept where the model does not look for parameters",
        Verdict.NOT_REGISTERED,
        _not_registered,
        "it is used, and is no parameter of the model: {where} is a plain list, tuple or dict, so "
        "model.parameters(), and an optimizer of these, leave it out",
        "keep the layers in nn.ModuleList or nn.ModuleDict, tensors in nn.ParameterList",
        docs="A parameter found in a plain container that is an attribute of a module.",
    ),
    Rule(
        "in no optimizer",
        Verdict.NOT_TRAINED,
        _in_no_optimizer,
        "it has a gradient, and no optimizer that stepped holds it: {step} holds {count}",
        "give it to the optimizer: its parameters must be those of the model that computes the "
        "loss, taken when the model is complete",
        Needs.RECORDING,
        (EventKind.STEP,),
        "Every step of the recording after the pass was of an optimizer without the parameter, and "
        "nothing else changed it.",
    ),
    Rule(
        "clipped while it was scaled",
        Verdict.CLIPPED_SCALED,
        _clipped_while_scaled,
        "{clip} at {line} acted on a gradient that was scaled by {scale}, before unscale_",
        "call scaler.unscale_(optimizer) before the clipping",
        Needs.RECORDING,
        (EventKind.GRAD,),
        "The loss was multiplied by the scale of a GradScaler, and the gradient was clipped before "
        "it was unscaled.",
    ),
)
