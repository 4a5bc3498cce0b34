"""`explain`: explains a gradient or an error, by one ordered list of rules.

The order of the list is the documentation: `describe` prints it.
"""

from __future__ import annotations

import sys
from bisect import bisect
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis import (
    in_place,
    no_graph,
    plain_errors,
    relative_size,
    used_up,
    wrong_arguments,
)
from gradviz.diagnosis.answers import Explanation, Explanations, Group, Verdict, saved_explanations
from gradviz.diagnosis.context import Context, Question, Reach
from gradviz.diagnosis.gradient import hook_on_tensor, hooks_that_broke_it, last_rules, sparse
from gradviz.diagnosis.lines import first_on_line, mention, transforms_in
from gradviz.diagnosis.no_gradient import (
    ELSEWHERE,
    RECORD_THERE,
    cleared_in_hooks,
    connected_rules,
    event_rules,
    is_cleared,
    is_taken_by_torch,
    only_returned,
    other_tensor_rules,
)
from gradviz.diagnosis.non_finite import (
    clipping_rules,
    has_mild_hooks,
    hook_of_each_step,
    non_finite_rules,
)
from gradviz.diagnosis.not_connected import not_connected_rules
from gradviz.diagnosis.reading import (
    context_at_end,
    context_of,
    error_context,
    look,
    look_at_live,
    questions_of,
    with_values,
)
from gradviz.diagnosis.rule import Rule, first_answer
from gradviz.diagnosis.silent_faults import Held, all_frozen, loss_rules, unseen
from gradviz.diagnosis.subjects import Asked, with_names_in
from gradviz.diagnosis.suspects import is_steep
from gradviz.diagnosis.training import (
    CLEARS,
    cleared_before_step,
    first_training_rules,
    serves_data,
    set_aside,
    training_rules,
    uses_of,
)
from gradviz.diagnosis.values import ADDS, difference_without, gradient_uses, is_wrong
from gradviz.diagnosis.zeros import zero_rules
from gradviz.errors import GradvizError
from gradviz.facts import Action, EventKind, GradientDetails, Loss, SavedVerdict
from gradviz.graph import GradGraph, NodeKind, ancestors, is_data
from gradviz.story import Story, recorded_in

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

_ALONE = (relative_size.cut_term, unseen, all_frozen)  # not about a tensor that is asked for
RULES: tuple[Rule[Any, Any], ...] = (
    *first_training_rules,
    *event_rules,
    *connected_rules,
    *not_connected_rules,
    *other_tensor_rules,
    sparse,
    hook_of_each_step,
    hook_on_tensor,
    hooks_that_broke_it,
    *non_finite_rules,
    *zero_rules,
    *clipping_rules,
    *training_rules,
    *loss_rules,
    *last_rules,
    *_ALONE,
    *no_graph.RULES,
    *used_up.RULES,
    *in_place.RULES,
    *wrong_arguments.RULES,
    *plain_errors.RULES,
)

_number = attrgetter("number")
_MAY_BE_USED = (Verdict.STALE, Verdict.CLEARED, Verdict.ZERO)
_FAULTS_OF_A_STEP = (
    *(Verdict.NAN, Verdict.INFINITE, Verdict.ZERO, Verdict.RESULT_NOT_FINITE, Verdict.NOT_TRAINED),
    Verdict.NO_STEP,
    *(Verdict.CLIPPED_EARLY, Verdict.CLIPPED_LATE, Verdict.CLIPPED_SCALED, Verdict.BROADCAST),
    Verdict.OF_PROBABILITIES,
)
_IN_NONE = "no optimizer holds it"
_BEFORE_A_PASS = (Verdict.OTHER_ERROR, Verdict.NUMPY, Verdict.NOT_FLOATING)
_NO_GRADIENT = (Verdict.NOT_CONNECTED, Verdict.CUT, Verdict.NOT_KNOWN, Verdict.NOT_RUN)


@lru_cache
def rules(group: Group) -> tuple[Rule[Any, Any], ...]:
    """The rules of a group, in order.

    Args:
        group: of the subject: a missing gradient, a gradient, or an error. The rules about training
            are included in the first two.
    """
    groups = (group,) if group is Group.ERROR else (group, Group.TRAINING)
    return tuple(rule for rule in RULES if rule.verdict.group in groups and rule not in _ALONE)


def describe() -> str:
    """The list of rules as text: order, verdict, name, and what each needs.

    Example:
        >>> print(describe().splitlines()[11])
         12. cleared                    the gradient was cleared after backward (a recording)
    """
    return "\n".join(
        f"{number:3}. {rule.verdict.value:26} {rule.name} ({rule.needs.value})"
        for number, rule in enumerate(RULES, 1)
    )


def explain(
    *subjects: object, loss: object = None, names: object = None
) -> Explanation | Explanations:
    """Explain why a gradient is what it is, or what an error of autograd means.

    If the cause cannot be known without a recording, the answer says so; no cause is guessed.

    Args:
        subjects: tensors, whose ``.grad`` is explained: ``explain(w)``, ``explain(w, b)``. A
            module: each of its parameters. A `Recording`, alone or with tensors. A story that was
            gathered or saved. An exception, alone or with tensors or a recording. The result on
            which backward is called may be the last one, if it has a ``grad_fn`` and the others do
            not: ``explain(w, loss)``.
        loss: the result on which backward is called, or several; None to find it from the last
            subject, the recording, or the variables of the caller.
        names: an ``nn.Module`` or a dict from which the tensors get their names; None for the
            variables of the calling code. ``explain(loss, names=model)`` explains every parameter.

    Returns:
        One `Explanation` for one tensor or error; `Explanations` for a model or a recording.
        ``print`` shows them, ``gradviz.draw`` draws them.

    Raises:
        SubjectError: if ``subjects`` contains nothing that can be explained.
        UsageError: if ``names`` is none of the above, there are two recordings or errors, or a
            recording has no frame yet.

    Example:
        >>> import torch
        >>> w, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        >>> loss = (w * 2).sum()
        >>> loss.backward()
        >>> print(explain(w, loss))
        w: fine
          it has a gradient, norm 2.828
        >>> explain(b, loss).verdict.value
        'not connected'
    """
    if len(subjects) == 1 and isinstance(subjects[0], Story):
        saved = saved_explanations(subjects[0])
        if saved is not None:
            return saved
    from gradviz.capture.autograd.tensors import quietly
    from gradviz.capture.tensors.names import Names

    with quietly():
        found = Names.of(None, sys._getframe(1))
        if names is not None:
            found = Names([*Names.of(names, None), *found])
        return _answer_to(Asked.of(subjects, names, loss), found)


def answer(
    subjects: Sequence[object],
    found: Names,
    names: object,
    loss: object = None,
    raised: BaseException | None = None,
    is_overview: bool = False,
) -> Explanation | Explanations:
    """`explain` with names that were found before.

    Args:
        subjects: as for `explain`.
        found: the names of tensors.
        names: as for `explain`; the parameters of a module are explained.
        loss: as for `explain`.
        raised: the exception that ended the recording.
        is_overview: as for `Asked`.
    """
    from gradviz.capture.autograd.tensors import quietly

    asked = replace(Asked.of(subjects, names, loss), raised=raised, is_overview=is_overview)
    with quietly():
        return _answer_to(asked, found)


def _answer_to(asked: Asked, found: Names) -> Explanation | Explanations:
    if asked.modules:
        from gradviz.capture.tensors.names import Names

        own = [named for module in asked.modules for named in Names.of(module, None)]
        found = Names([*own, *found])
    if asked.error is not None:
        return _of_error(asked, found)
    if asked.recording is not None:
        return _of_recording(asked, found)
    context, questions = look(asked, found)
    explanation = _answers(questions, context, asked.is_many)
    if isinstance(explanation, Explanation):
        graph, key = context.graph, questions[0].key
        part = ancestors(graph, [key], is_data)
        if part and graph.nodes[key]["kind"] is NodeKind.RESULT:
            return replace(explanation, kept=graph.subgraph(part).copy())
    return explanation


def _of_error(asked: Asked, found: Names) -> Explanation:
    """Explain an exception, or the one that ended a recording."""
    from gradviz.capture.tensors.names import Named, Names

    found = with_names_in(asked.error, found)

    def why(tensor: Any, name: str, roots: Sequence[Any] = ()) -> Explanation:
        named = Names([Named(tensor, name, ()), *found])
        explanation = _answer_to(Asked([tensor], roots=[*roots], recording=asked.recording), named)
        assert isinstance(explanation, Explanation)
        return explanation

    context, error = error_context(asked, found, why)
    explanation = first_answer(rules(Group.ERROR), context, error)
    assert explanation is not None  # the last rule always answers
    return explanation


def _of_recording(asked: Asked, found: Names) -> Explanation | Explanations:
    story = recorded_in(asked.recording)  # raises if there is no frame yet
    assert isinstance(story, Story)
    context = look_at_live(asked, context_of(asked, story))
    if asked.tensors and asked.roots and not context.roots:
        return _answer_to(replace(asked, recording=None), found)  # no frame has the result
    questions = questions_of(asked, context, found)
    if not asked.roots:
        context = replace(context, later=context_at_end(asked.recording, context))
    roots = (context.graph.nodes[key].get("value") for key in context.roots)
    is_finite = all(value is None or value.is_finite for value in roots)
    added = [] if asked.tensors else context.happened(EventKind.ACCUMULATE)
    grads = [
        *(question.data.get("grad") for question in questions),
        *(getattr(event.details, "after", None) for event in added),
    ]
    if not is_finite or any(is_wrong(each) or is_steep(each) for each in grads):
        context = with_values(context, asked.recording, found)
    if asked.tensors and not asked.is_many:
        return _answers(questions, context, False)
    explanations = _answers(
        questions,
        context,
        True,
        is_overview=asked.is_overview or not asked.tensors or bool(asked.modules),
        is_early=asked.raised is not None,
    )
    assert isinstance(explanations, Explanations)
    if not asked.tensors or asked.modules:
        explanations = Explanations((*explanations, *relative_size.terms_without_gradient(context)))
    if not asked.tensors:
        rows = _unused_by_steps(context, {each.key for each in questions})
        if context.elsewhere:
            rows += [Explanation(Verdict.NOT_KNOWN, "other threads", ELSEWHERE, RECORD_THERE)]
        explanations = Explanations((*explanations, *rows))
    error = _of_error(replace(asked, error=asked.raised), found) if asked.has_failed else None
    if error is not None and error.verdict in _BEFORE_A_PASS and not context.passes:
        # It came before the first backward pass, which is therefore not missing.
        missing = (Verdict.NOT_RUN, Verdict.NOT_CONNECTED)
        explanations = Explanations(tuple(e for e in explanations if e.verdict not in missing))
    return Explanations((error, *explanations)) if error is not None else explanations


def _unused_by_steps(context: Context, explained: Collection[str]) -> list[Explanation]:
    """An explanation of each optimizer whose parameters are in no frame, or all frozen."""
    steps = context.steps
    last = {(each.optimizer, each.count): event for event, each in steps}
    seen = {key for _, details in steps for key in details.held}
    own = len(context.held.intersection({*explained, *context.flat}) - seen)
    held = [(unseen, Held(name, event, own)) for (name, _), event in last.items()]
    each_last = {details.held: (details.optimizer, event) for event, details in steps}
    held += [(all_frozen, Held(*each)) for each in each_last.values()]
    found = (first_answer([rule], context, each) for rule, each in held)
    return [each for each in found if each is not None]


def _answers(
    questions: Sequence[Question],
    context: Context,
    is_many: bool,
    is_overview: bool = False,
    is_early: bool = False,
) -> Explanation | Explanations:
    context, questions = context.with_unreachable(questions)
    explanations = []
    for question in questions:
        each = explain_tensor(question, context)
        if is_overview:
            each = _as_overview(each, question, context)
            each = _as_so_far(each, question.key, context) if is_early else each
            is_named = question.data.get("name") or question.kind is NodeKind.PARAMETER
            if each.verdict is Verdict.UNTRAINED and not is_named and len(questions) > 1:
                continue  # such as the memory in which a stage of a pipeline receives
        explanations.append(each)
    return Explanations(tuple(explanations)) if is_many else explanations[0]


def _as(verdict: Verdict, each: Explanation, reason: str) -> Explanation:
    return replace(each, verdict=verdict, reason=reason, fix="")


def _as_so_far(each: Explanation, key: str, context: Context) -> Explanation:
    """An answer about a program that ended early: the turn of some optimizers did not come."""
    optimizer = context.waiting.get(key)
    late = (*(_NO_GRADIENT if context.steps else ()), Verdict.ACCUMULATED)
    if optimizer is None or each.verdict not in late:
        return each
    reason = f"its optimizer {optimizer} has made no step so far: {each.reason}"
    return _as(Verdict.UNTRAINED, each, reason)


def _as_overview(each: Explanation, question: Question, context: Context) -> Explanation:
    """An answer in a list of all tensors, of which some need no gradient at the end.

    Returns:
        FINE for a gradient that steps used before it was cleared, or that a hook changed a little;
        UNTRAINED for a leaf without gradient in no optimizer, if others are trained; or the answer.
    """
    key = question.key
    added = context.happened_to(key, EventKind.ACCUMULATE)
    uses = _uses_of_a_gradient(context, key) if added and each.verdict in _MAY_BE_USED else []
    if each.verdict is Verdict.STALE and _was_used_once(context, key, uses):
        return _as(Verdict.FINE, each, "its gradient was used")
    is_gone = each.verdict in (Verdict.CLEARED, Verdict.ZERO)
    if (is_gone or each.verdict is Verdict.HOOK) and _was_used_in_a_hook(context, key):
        return _as(Verdict.FINE, each, "a step in a hook used it")
    is_right = bool(added) and not is_wrong(getattr(added[-1].details, "after", None))
    if each.verdict is Verdict.HOOK and has_mild_hooks(context):
        return replace(each, verdict=Verdict.FINE, fix="")
    graph = context.graph_of_latest_pass(key) if is_gone and not is_right else None
    is_known = bool({*each.nodes} - {key}) or each.verdict is not Verdict.ZERO
    if graph is not None and (
        difference_without(graph, key) or _is_bias(context, question, graph, is_known)
    ):
        reason = "its gradient is 0: it is added to terms whose gradients cancel"
        return _as(Verdict.FINE, each, reason)
    if is_gone and question.kind is not NodeKind.PARAMETER and is_taken_by_torch(context, key):
        return _as(Verdict.FINE, each, "torch took its gradient")
    if is_gone and is_cleared(context, key) and cleared_before_step(context, question) is None:
        if (before := _before_it_was_cleared(question, context)) is not None:
            return before
        last = context.happened(EventKind.BACKWARD)[-1].details
        if is_right and (uses or getattr(last, "has_failed", False)):
            reason = "its gradient was used" if uses else "cleared for the pass that failed"
            return _as(Verdict.FINE, each, reason)
    if is_gone and (clear := set_aside(context, key)) is not None:
        reason = f".grad = None at {mention(clear.location)} leaves it out of the step"
        return _as(Verdict.UNTRAINED, each, reason)
    if not added and each.verdict in _NO_GRADIENT and _was_assigned_and_used(context, key):
        return _as(Verdict.FINE, each, "its gradient was assigned")
    is_early = not (added or context.steps or context.passes) and each.verdict in _NO_GRADIENT
    if is_early and (lines := transforms_in(context.files)):
        reason = f"torch.func at {mention(lines[0])} returns gradients, and sets no .grad"
        return _as(Verdict.UNTRAINED, each, reason)
    returned = None if added else only_returned(context, question, each.verdict)
    if returned is not None and each.verdict in (*_NO_GRADIENT, Verdict.LEFT_OUT):
        return replace(each, verdict=returned[0], reason=returned[1], fix="")
    return _without_optimizer(each, question, context)


def _without_optimizer(each: Explanation, question: Question, context: Context) -> Explanation:
    """An answer in a list of all tensors, if no optimizer holds the tensor and others are trained.

    Returns:
        FINE for a copy of a trained tensor, or a template, that needs no gradient.
    """
    key, shape = question.key, question.data.get("shape")
    added, reason = context.happened_to(key, EventKind.ACCUMULATE), f"{_IN_NONE}: {each.reason}"
    is_summed = each.verdict is Verdict.ACCUMULATED and question.kind is NodeKind.PARAMETER
    if is_summed and serves_data(context, key):
        return _as(Verdict.UNTRAINED, each, reason)
    # Where optimizers were not seen, one may hold parameters that are in no frame: this one too.
    is_held = key in context.held or any(
        key in each.held or (each.count > len(each.held) and not (key and context.held))
        for _, each in context.steps
    )
    is_of_target = not added and each.verdict in _NO_GRADIENT and context.is_copy(key, shape)
    is_of_target = is_of_target and (each.verdict is Verdict.CUT or _is_training(context))
    is_unnamed = not question.data.get("name") and not all(e.is_own for e in each.locations)
    if is_held or not (_is_training(context) or is_of_target or (is_unnamed and context.passes)):
        return each
    if each.verdict is Verdict.ZERO and question.kind is not NodeKind.PARAMETER:
        if key in context.cached(_asked_inputs, lambda: _asked_inputs(context)):
            told = "torch.autograd.grad returned its gradient"  # as for a gradient penalty
            return _as(Verdict.FINE, each, told)
        return _as(Verdict.UNTRAINED, each, reason)
    is_without = each.verdict in (Verdict.NOT_TRAINED, Verdict.ACCUMULATED)
    is_copied = is_of_target or (is_without and context.is_copy(key, shape))
    is_template = not added and each.verdict in _NO_GRADIENT and context.is_template(key)
    if is_template or (is_copied and not _replaces_a_trained_one(context, key)):
        which = "copied to one that an optimizer holds" if is_template else "copied from another"
        reason = f"its values are {which}, and {_IN_NONE}"
        verdict = Verdict.UNTRAINED if added or each.verdict is Verdict.NOT_RUN else Verdict.FINE
        return replace(each, verdict=verdict, reason=reason, fix="")
    if added or each.verdict not in _NO_GRADIENT:
        return each
    reason = f"{_IN_NONE}, and it got no gradient: {each.reason}"
    return _as(Verdict.UNTRAINED, each, reason)


def _asked_inputs(context: Context) -> set[str]:
    """The leaves whose gradients calls of ``torch.autograd.grad`` returned."""
    events = context.happened(EventKind.BACKWARD)
    calls = (each.details for each in events if each.action is Action.AUTOGRAD_GRAD)
    return {key for each in calls for key in getattr(each, "inputs", None) or ()}


def _was_used_once(context: Context, key: str, uses: Sequence[int]) -> bool:
    """Whether one step, or one change by the program, used the latest gradient.

    An optimizer that is not of torch, as one of SciPy, copies its values into the parameters.
    """
    added = context.happened_to(key, EventKind.ACCUMULATE)
    written = context.happened_to(key, EventKind.IN_PLACE)
    loads = {event.number for event in written if event.word == "load_state_dict"}
    later = {use for use in uses if use > added[-1].number} - loads if added else set()
    stepped = {step.number for step, details in context.steps if key in details.held}
    if len(stepped & later) == 1 and min(later) in stepped:
        return True  # what was written into it after the step did not use the gradient
    by_hand = [event for event in written if event.number in later]
    if len(by_hand) == len(later) and len({event.location for event in by_hand}) == 1:
        ends = (bisect(context.passes, each, key=_number) for each in (min(later), max(later)))
        if len({*ends}) == 1:  # as add_() and clamp_() of one statement
            return True
    copies = {event.number for event in by_hand if event.word in ("copy_", "data", "setitem_")}
    return len(later) == 1 or bool(added[1:] and not stepped and later and later <= copies)


def _is_training(context: Context) -> bool:
    """Whether an optimizer made a step after a pass on the line of the latest one, or was to."""
    kind = EventKind.ACCUMULATE
    if context.was_cut and any(context.happened_to(each, kind) for each in context.held):
        return True  # the command stopped before the end of its first step
    return any(step.number > first_on_line(context.passes) for step, _ in context.steps[-1:])


def _was_used_in_a_hook(context: Context, key: str) -> bool:
    """Whether a step used the gradient of the last pass, a healthy one, and a hook cleared it."""
    hooks, steps = cleared_in_hooks(context, key), context.steps
    before = getattr(hooks[-1].details, "before", None) if hooks else None
    if not hooks or is_wrong(before):
        return False
    if any(key in d.changed and event.number > context.passes[-1].number for event, d in steps):
        return True
    graphs = (each for each in (context.before, context.graph) if each is not None and key in each)
    versions = [graph.nodes[key].get("version") for graph in graphs]  # a step by hand, in the hook
    return None not in versions and len(set(versions)) > 1


def _was_assigned_and_used(context: Context, key: str) -> bool:
    """Whether an optimizer's step changed a leaf whose ``.grad`` the program assigned."""
    assigned = [e for e in context.happened_to(key, EventKind.GRAD) if e.action is Action.ASSIGNED]
    steps = context.steps if assigned else ()
    return any(key in d.changed and step.number > assigned[0].number for step, d in steps)


def _before_it_was_cleared(question: Question, context: Context) -> Explanation | None:
    """What was wrong with the last gradient when it was cleared; None if nothing is known."""
    last = context.happened_to(question.key, EventKind.ACCUMULATE)[-1:]
    details = last[0].details if last else None
    if not isinstance(details, GradientDetails) or not details.after or not context.steps:
        return None
    data: Any = {**question.data, "grad": details.after, "accumulations": details.accumulations}
    before = explain_tensor(replace(question, data=data), context)
    if before.verdict is Verdict.HOOK:
        return None if has_mild_hooks(context) else before
    return before if before.verdict in _FAULTS_OF_A_STEP else None


def _replaces_a_trained_one(context: Context, key: str) -> bool:
    """Whether a leaf is a copy of one that an optimizer holds and that gets no gradient since."""
    since = next((e.number for e in context.happened_to(key, EventKind.ACCUMULATE)), 0)
    histories = (context.history_of(e) for e in context.copies.get(key, ()) if e in context.held)
    return any(all(e.number < since or e.kind is EventKind.STEP for e in h) for h in histories)


def _is_bias(context: Context, question: Question, graph: GradGraph, is_known: bool) -> bool:
    """Whether a leaf is only added, and the gradients of its rows or of its uses cancel.

    ``is_known``: whether it is known which operations of the graph made its gradient 0.
    """
    uses = gradient_uses(graph, question.key)
    is_added = all(
        edge.get("input", 0) in ADDS.get(graph.nodes[user].get("op", ""), ()) for user, edge in uses
    )
    if not is_added or not uses:
        return False
    if len(uses) == 1:  # as the bias of a layer whose gradients cancel over the rows
        user, number = uses[0][0], uses[0][1].get("input", 0)
        was_seen = (user, number) in context.lost_in_pass(Loss.ZERO)
        return was_seen or (
            not is_known and relative_size.reached_another(context, question, graph, user)
        )
    added = (event.details for event in context.happened_to(question.key, EventKind.ACCUMULATE))
    was_other = any(not is_wrong(getattr(each, "after", None)) for each in added)
    cancels = bool(relative_size.uses_that_cancel(context, question.key))
    cancels = cancels and not relative_size.all_cancel(context, have_several=True)
    return cancels or (was_other and not is_known)


def _uses_of_a_gradient(context: Context, key: str) -> list[int]:
    """The events that used the gradient of a leaf, without those that found it None or 0."""
    kinds = (EventKind.ACCUMULATE, EventKind.GRAD)
    events = (event for kind in kinds for event in context.happened_to(key, kind))
    changes = [(-1, False), *sorted((event.number, event.action in CLEARS) for event in events)]
    uses = uses_of(context, key)
    return [use for use in uses if not changes[bisect(changes, (use,)) - 1][1]]


def explain_tensor(question: Question, context: Context) -> Explanation:
    """Try the rules in order; the last one of each group always answers."""
    explanation = first_answer(rules(question.group), context, question)
    assert explanation is not None
    if explanation.verdict is Verdict.NOT_CONNECTED and context.later is not None:
        # A result on which no backward pass was called may use it.
        later = first_answer(rules(question.group), context.later, question)
        if later is not None and later.verdict in (Verdict.CUT, Verdict.NOT_RUN):
            return later
    if explanation.verdict is Verdict.ZERO and _is_not_reached(context, question):
        why = first_answer(not_connected_rules, context, question)
        if why is not None and why.verdict in (Verdict.CUT, Verdict.NOT_CONNECTED):
            said = "its gradient is all zeros, and "
            if context.is_recorded:
                said = "nothing was added to its zeros: "
            return replace(why, verdict=Verdict.ZERO, reason=f"{said}{why.reason}")
    return explanation


def _is_not_reached(context: Context, question: Question) -> bool:
    """Whether a leaf is not reachable from a result, and no pass added to its ``.grad`` since."""
    changes = [e for e in context.history_of(question.key) if e.kind is not EventKind.STEP]
    is_zeroed = all(each.action is Action.ZEROED for each in changes[-1:])
    return is_zeroed and context.reach_of(question) is Reach.UNREACHABLE


def with_verdicts(story: Story, subject: Any, names: Names | None = None) -> Story:
    """A story with what `explain` says about it, to be saved or listed in the viewer.

    Args:
        story: all or some frames of the recording, or the story of the answer.
        subject: the recording, which is over; or an answer, which is stored as it is.
        names: what to call the tensors of the recording; None for the names in its frames.
    """
    from gradviz.capture.tensors.names import Names

    if isinstance(subject, (Explanation, Explanations)):
        answers: Explanation | Explanations = subject
    else:
        try:
            answers = answer([subject], Names([]) if names is None else names, None)
        except GradvizError:  # there is nothing to explain
            return story
    explanations = [answers] if isinstance(answers, Explanation) else answers
    frames = {id(frame.graph): number for number, frame in enumerate(story)}
    of_all = 0 if answers is subject and len(story) == 1 else -1
    verdicts = []
    for e in explanations:
        found = (e.verdict.value, e.name, e.reason, e.fix, e.nodes, e.locations, e.culprit)
        verdicts.append(SavedVerdict(*found, frames.get(id(e.graph), of_all), e.rule, e.kind))
    return replace(story, verdicts=tuple(verdicts))
