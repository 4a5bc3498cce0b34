"""`explain`: explains a gradient or an error, by one ordered list of rules.

The order of the list is the documentation: `describe` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis import (
    in_place,
    no_graph,
    plain_errors,
    relative_size,
    used_up,
    wrong_arguments,
)
from gradviz.diagnosis.answers import (
    Explanation,
    Explanations,
    Group,
    Verdict,
    saved_explanations,
    with_explanations,
)
from gradviz.diagnosis.context import Context, Question, Reach
from gradviz.diagnosis.gradient import hook_on_tensor, hooks_that_broke_it, last_rules, sparse
from gradviz.diagnosis.lines import mention, transforms_in
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
from gradviz.diagnosis.silent_faults import all_frozen, loss_rules, unseen, unused_by_steps
from gradviz.diagnosis.subjects import Asked, with_names_in
from gradviz.diagnosis.suspects import is_steep
from gradviz.diagnosis.training import (
    cleared_before_step,
    first_training_rules,
    is_training,
    replaces_a_trained_one,
    serves_data,
    set_aside,
    training_rules,
    uses_of_a_gradient,
    was_assigned_and_used,
    was_used_once,
)
from gradviz.diagnosis.values import ADDS, difference_without, gradient_uses, is_wrong
from gradviz.diagnosis.zeros import zero_rules
from gradviz.errors import GradvizError
from gradviz.facts import Action, EventKind, GradientDetails, Loss
from gradviz.graph import GradGraph, NodeKind, ancestors, is_data
from gradviz.story import Event, Story, recorded_in

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
        rows = unused_by_steps(context, {each.key for each in questions})
        if context.elsewhere:
            rows += [Explanation(Verdict.NOT_KNOWN, "other threads", ELSEWHERE, RECORD_THERE)]
        explanations = Explanations((*explanations, *rows))
    error = _of_error(replace(asked, error=asked.raised), found) if asked.has_failed else None
    if error is not None and error.verdict in _BEFORE_A_PASS and not context.passes:
        # It came before the first backward pass, which is therefore not missing.
        missing = (Verdict.NOT_RUN, Verdict.NOT_CONNECTED)
        explanations = Explanations(tuple(e for e in explanations if e.verdict not in missing))
    return Explanations((error, *explanations)) if error is not None else explanations


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
            each = next(filter(None, _replacements(_Row(each, question, context))), each)
            each = _as_so_far(_Row(each, question, context)) if is_early else each
        explanations.append(each)
    return Explanations(tuple(explanations)) if is_many else explanations[0]


@dataclass(frozen=True)
class _Row:
    """An answer in a list of all tensors, of which some need no gradient at the end."""

    each: Explanation
    question: Question
    context: Context

    def fine(self, reason: str) -> Explanation:
        """The answer that nothing is wrong."""
        return replace(self.each, verdict=Verdict.FINE, reason=reason, fix="")

    def untrained(self, reason: str) -> Explanation:
        """The answer that it needs no gradient, since nothing trains it."""
        return replace(self.each, verdict=Verdict.UNTRAINED, reason=reason, fix="")

    @property
    def is_gone(self) -> bool:
        """Whether the gradient is None or zeros now."""
        return self.each.verdict in (Verdict.CLEARED, Verdict.ZERO)

    @property
    def has_none(self) -> bool:
        return self.each.verdict in _NO_GRADIENT

    @cached_property
    def added(self) -> Sequence[Event]:
        """The passes that added to its gradient."""
        return self.context.happened_to(self.question.key, EventKind.ACCUMULATE)

    @cached_property
    def is_right(self) -> bool:
        """Whether the last of them left a gradient that is finite and not zero."""
        return bool(self.added) and not is_wrong(getattr(self.added[-1].details, "after", None))

    @cached_property
    def uses(self) -> list[int]:
        """The events that used its gradient."""
        return uses_of_a_gradient(self.context, self.question.key) if self.added else []

    @property
    def is_trained(self) -> bool:
        """Whether an optimizer holds it; or may, where optimizers were not seen."""
        held, key = self.context.held, self.question.key
        return key in held or any(
            key in each.held or (each.count > len(each.held) and not (key and held))
            for _, each in self.context.steps
        )

    @property
    def is_of_target(self) -> bool:
        """Whether it got no gradient, and is a copy of another leaf, as in a target network."""
        if self.added or not self.has_none:
            return False
        is_copy = self.context.is_copy(self.question.key, self.question.data.get("shape"))
        return is_copy and (self.each.verdict is Verdict.CUT or is_training(self.context))


def _only_cancels(row: _Row) -> Explanation | None:
    if not row.is_gone or row.is_right:
        return None
    context, key = row.context, row.question.key
    graph = context.graph_of_latest_pass(key)
    is_known = bool({*row.each.nodes} - {key}) or row.each.verdict is not Verdict.ZERO
    cancels = graph is not None and (
        difference_without(graph, key) or _is_bias(context, row.question, graph, is_known)
    )
    reason = "its gradient is 0: it is added to terms whose gradients cancel"
    return row.fine(reason) if cancels else None


def _cleared_after_its_use(row: _Row) -> Explanation | None:
    context, question = row.context, row.question
    if not row.is_gone or not is_cleared(context, row.question.key):
        return None
    if cleared_before_step(context, question) is not None:
        return None
    before = _before_it_was_cleared(question, context)
    if before is not None or not row.is_right:
        return before
    last = context.happened(EventKind.BACKWARD)[-1].details
    if row.uses:
        return row.fine("its gradient was used")
    has_failed = getattr(last, "has_failed", False)
    return row.fine("cleared for the pass that failed") if has_failed else None


def _of_torch_func(row: _Row) -> Explanation | None:
    context = row.context
    is_early = row.has_none and not (row.added or context.steps or context.passes)
    lines = transforms_in(context.files) if is_early else ()
    if not lines:
        return None
    at = mention(lines[0])
    return row.untrained(f"torch.func at {at} returns gradients, and sets no .grad")


def _only_returned(row: _Row) -> Explanation | None:
    returned = None if row.added else only_returned(row.context, row.question, row.each.verdict)
    if returned is None or row.each.verdict not in (*_NO_GRADIENT, Verdict.LEFT_OUT):
        return None
    return replace(row.each, verdict=returned[0], reason=returned[1], fix="")


def _in_no_optimizer(row: _Row) -> Explanation | None:
    """Others are trained, or it is a copy: it needs no gradient."""
    each, question, context = row.each, row.question, row.context
    is_unnamed = not question.data.get("name") and not all(e.is_own for e in each.locations)
    is_apart = is_training(context) or row.is_of_target or (is_unnamed and context.passes)
    if row.is_trained or not is_apart:
        return None
    if row.each.verdict is Verdict.ZERO and question.kind is not NodeKind.PARAMETER:
        if row.question.key in context.cached(_asked_inputs, lambda: _asked_inputs(context)):
            return row.fine("torch.autograd.grad returned its gradient")  # a gradient penalty
        return row.untrained(f"{_IN_NONE}: {each.reason}")
    if (copied := _copied(row)) is not None:
        return copied
    if row.added or not row.has_none:
        return None
    return row.untrained(f"{_IN_NONE}, and it got no gradient: {each.reason}")


def _copied(row: _Row) -> Explanation | None:
    """A copy of a trained tensor, or a template that trained ones are copied from."""
    context, key = row.context, row.question.key
    is_without = row.each.verdict in (Verdict.NOT_TRAINED, Verdict.ACCUMULATED)
    shape = row.question.data.get("shape")
    is_copied = row.is_of_target or (is_without and context.is_copy(key, shape))
    is_template = not row.added and row.has_none and context.is_template(key)
    if not is_template and not (is_copied and not replaces_a_trained_one(context, key)):
        return None
    which = "copied to one that an optimizer holds" if is_template else "copied from another"
    reason = f"its values are {which}, and {_IN_NONE}"
    is_late = row.added or row.each.verdict is Verdict.NOT_RUN
    return row.untrained(reason) if is_late else row.fine(reason)


def _replacements(row: _Row) -> Iterator[Explanation | None]:
    """What replaces an answer in a list of all tensors; the first that is not None does."""
    verdict, key, context = row.each.verdict, row.question.key, row.context
    is_parameter = row.question.kind is NodeKind.PARAMETER
    if verdict is Verdict.STALE and was_used_once(context, key, row.uses):
        yield row.fine("its gradient was used")
    if (row.is_gone or verdict is Verdict.HOOK) and _was_used_in_a_hook(context, key):
        yield row.fine("a step in a hook used it")
    if verdict is Verdict.HOOK and has_mild_hooks(context):
        yield row.fine(row.each.reason)
    yield _only_cancels(row)
    if row.is_gone and not is_parameter and is_taken_by_torch(context, key):
        yield row.fine("torch took its gradient")
    yield _cleared_after_its_use(row)
    if row.is_gone and (clear := set_aside(context, key)) is not None:
        yield row.untrained(f".grad = None at {mention(clear.location)} leaves it out of the step")
    if row.has_none and not row.added and was_assigned_and_used(context, key):
        yield row.fine("its gradient was assigned")
    yield _of_torch_func(row)
    yield _only_returned(row)
    if verdict is Verdict.ACCUMULATED and is_parameter and serves_data(context, key):
        yield row.untrained(f"{_IN_NONE}: {row.each.reason}")
    yield _in_no_optimizer(row)


def _as_so_far(row: _Row) -> Explanation:
    """An answer about a program that ended early: the turn of some optimizers did not come."""
    optimizer = row.context.waiting.get(row.question.key)
    late = (*(_NO_GRADIENT if row.context.steps else ()), Verdict.ACCUMULATED)
    if optimizer is None or row.each.verdict not in late:
        return row.each
    return row.untrained(f"its optimizer {optimizer} has made no step so far: {row.each.reason}")


def _asked_inputs(context: Context) -> set[str]:
    """The leaves whose gradients calls of ``torch.autograd.grad`` returned."""
    events = context.happened(EventKind.BACKWARD)
    calls = (each.details for each in events if each.action is Action.AUTOGRAD_GRAD)
    return {key for each in calls for key in getattr(each, "inputs", None) or ()}


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
        return with_explanations(story, subject, is_own=len(story) == 1)
    try:
        answers = answer([subject], Names([]) if names is None else names, None)
    except GradvizError:  # there is nothing to explain
        return story
    return with_explanations(story, answers)
