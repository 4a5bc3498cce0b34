"""`explain`: explains a gradient or an error, by one ordered list of rules.

The order of the list is the documentation: `describe` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis import (
    in_place,
    no_graph,
    plain_errors,
    relative_size,
    silent_faults,
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
from gradviz.diagnosis.changed_gradients import (
    assigned_once,
    clipping_rules,
    given_nothing,
    hook_of_data,
    hook_of_each_step,
    never_required,
    plain_tensors_held,
    step_of_a_scaler,
    unused_argument,
)
from gradviz.diagnosis.context import Context, Question, Reach
from gradviz.diagnosis.copies import no_copies, same_model
from gradviz.diagnosis.gradient import hook_on_tensor, hooks_that_broke_it, last_rules, sparse
from gradviz.diagnosis.losses import changed_through_an_alias, loss_rules, target_of_kl_div
from gradviz.diagnosis.name_flow import older_that_is_held
from gradviz.diagnosis.no_gradient import (
    ELSEWHERE,
    RECORD_THERE,
    connected_rules,
    event_rules,
    frozen,
    other_tensor_rules,
)
from gradviz.diagnosis.non_finite import non_finite_rules, with_values
from gradviz.diagnosis.not_connected import not_connected_rules
from gradviz.diagnosis.overview import (
    ListedAnswer,
    as_so_far,
    hooks_piled_up,
    in_overview,
    piled_up,
    step_rules,
)
from gradviz.diagnosis.reading import (
    context_at_end,
    context_of_pass,
    error_context,
    look,
    look_at_recording,
    recording_of,
)
from gradviz.diagnosis.rule import Rule, explanation_of, first_answer
from gradviz.diagnosis.silent_faults import (
    all_frozen,
    switched_off,
    unseen,
    unused_by_steps,
)
from gradviz.diagnosis.statements import (
    compared,
    comparisons,
    cut_term,
    terms_without_gradient,
)
from gradviz.diagnosis.subjects import Asked, with_names_in
from gradviz.diagnosis.training import (
    first_training_rules,
    training_rules,
)
from gradviz.diagnosis.values import is_all_zero, is_wrong, number_of
from gradviz.diagnosis.zeros import zero_rules
from gradviz.errors import GradvizError
from gradviz.facts import Action, EventKind
from gradviz.graph import NodeData, NodeKind, ancestors, is_data, leave_out_drawn
from gradviz.story import Event, Story

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

_ALONE = (
    compared,
    cut_term,
    relative_size.sampled,
    same_model,
    never_required,
    unseen,
    all_frozen,
    switched_off,
    piled_up,
)  # not about a tensor that is asked for
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
    target_of_kl_div,
    *non_finite_rules,
    *in_place.unseen_rules,
    changed_through_an_alias,
    unused_argument,
    *zero_rules,
    *clipping_rules,
    *training_rules,
    *step_rules,
    *loss_rules,
    assigned_once,
    *last_rules,
    *_ALONE,
    *no_graph.RULES,
    *used_up.RULES,
    *in_place.RULES,
    *wrong_arguments.RULES,
    given_nothing,
    silent_faults.step_before_sharding,
    step_of_a_scaler,
    hook_of_data,
    *plain_errors.RULES,
)

_UNREACHABLE = 1_000_000  # keys from here on are not used by frames
_BEFORE_A_PASS = (Verdict.OTHER_ERROR, Verdict.NUMPY, Verdict.NOT_FLOATING)


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
        >>> print(describe().splitlines()[12])
         13. cleared                    the gradient was cleared after backward (a recording)
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
        if asked.recording is None:
            asked = replace(asked, recording=recording_of(asked.error))
        return _of_error(asked, found)
    if asked.recording is not None:
        return _of_recording(asked, found)
    context, questions = look(asked, found)
    keys = (question.key for question in questions)
    context = relative_size.with_factors(context, zip(keys, asked.tensors, strict=True))
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
    context, questions = look_at_recording(asked, found)  # raises if there is no frame yet
    if asked.tensors and asked.roots and not context.roots:
        return _answer_to(replace(asked, recording=None), found)  # no frame has the result
    if not asked.roots:
        of_pass = partial(context_of_pass, asked.recording, context)
        context = replace(context, later=context_at_end(asked.recording, context), of_pass=of_pass)
    roots = (context.graph.nodes[key].get("value") for key in context.roots)
    is_finite = all(value is None or value.is_finite for value in roots)
    added = [] if asked.tensors else context.happened(EventKind.ACCUMULATE)
    grads = [
        *(question.data.get("grad") for question in questions),
        *(getattr(event.details, "after", None) for event in added),
    ]
    known = [each for each in grads if each is not None]
    is_wanted = any(
        is_wrong(each) or is_all_zero(each) or relative_size.is_steep(each) for each in known
    )
    if not is_finite or is_wanted or (known and relative_size.has_large(context)):
        context = with_values(context, asked.recording, found)
    if known:
        context = relative_size.with_factors(context, asked.recording._snapshots.leaves())
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
        said = {line for each in explanations.wrong for line in each.locations}
        terms = [e for e in terms_without_gradient(context) if not said.issuperset(e.locations)]
        explanations = Explanations((*explanations, *terms, *relative_size.samples(context)))
    if not asked.tensors:
        rows = unused_by_steps(context, {each.key for each in questions})
        rows += plain_tensors_held(context)
        if context.elsewhere:
            rows += [Explanation(Verdict.NOT_KNOWN, "other threads", ELSEWHERE, RECORD_THERE)]
        rows += [*no_copies(context), *comparisons(context), *hooks_piled_up(context)]
        unseen = [each for each in found if not each.tensor.requires_grad and context.held]
        names = {asked.recording._snapshots.key_of(each.tensor): each.name for each in unseen}
        rows += _frozen(context, {each.key for each in questions}, names)
        explanations = Explanations((*explanations, *rows))
    error = _of_error(replace(asked, error=asked.raised), found) if asked.has_failed else None
    if error is not None and error.verdict in _BEFORE_A_PASS and not context.passes:
        # It came before the first backward pass, which is therefore not missing.
        missing = (Verdict.NOT_RUN, Verdict.NOT_CONNECTED)
        explanations = Explanations(tuple(e for e in explanations if e.verdict not in missing))
    return Explanations((error, *explanations)) if error is not None else explanations


def _frozen(
    context: Context, explained: Collection[str], names: Mapping[str, str]
) -> Iterator[Explanation]:
    """The tensors, other than copies, that the program froze before they got a gradient.

    One that was created frozen is among them if an optimizer holds it, with how to train it.
    """
    nodes: dict[str, NodeData] = dict(context.graph.nodes(data=True))
    for key in (context.held - nodes.keys()) & names.keys():
        nodes[key] = {"kind": NodeKind.UNTRACKED, "name": names[key]}
    for key, data in nodes.items() if context.passes else ():
        switched = context.happened_to(key, EventKind.REQUIRES_GRAD)
        is_off = bool(switched) and switched[-1].action is Action.REQUIRES_GRAD_OFF
        is_new = key not in explained and not context.copies.get(key)
        is_new = is_new and not context.happened_to(key, EventKind.ACCUMULATE)
        name, is_held = data.get("name", ""), key in context.held and not switched
        if (is_off or is_held) and is_new and "op" not in data and name:
            question = Question(name, key, data, is_parameter=is_held)
            evidence = frozen.match(context, question)
            if evidence is not None and (is_off or evidence.locations):
                row = explanation_of(frozen, evidence, context, question)
                yield replace(row, verdict=Verdict.UNTRAINED, fix=row.fix if is_held else "")


def _with_unreachable(
    context: Context, questions: Sequence[Question]
) -> tuple[Context, list[Question]]:
    """The same context, with a node for each explained tensor that is not in the graph."""
    if all(question.key in context.graph for question in questions):
        return context, list(questions)
    graph, found = context.graph.copy(), list[Question]()
    longer: dict[str, list[str]] = {}
    for name in graph.graph.get("unreached", ()):
        parts = name.split(".")
        for at in range(1, len(parts)):
            longer.setdefault(".".join(parts[at:]), []).append(name)
    for number, question in enumerate(questions):
        key = question.key or f"n{_UNREACHABLE + number}"
        if key not in graph:
            data: Any = {k: v for k, v in question.data.items() if k != "root"}
            # A parameter of a module that is asked for has another name in the picture.
            names = longer.get(data.get("name", ""), ())
            graph.add_node(key, **{**data, "name": names[0]} if len(names) == 1 else data)
        found.append(replace(question, key=key))
    leave_out_drawn(graph)
    return replace(context, graph=graph), found


def _answers(
    questions: Sequence[Question],
    context: Context,
    is_many: bool,
    is_overview: bool = False,
    is_early: bool = False,
) -> Explanation | Explanations:
    context, questions = _with_unreachable(context, questions)
    rows, older = list[tuple[Question, Explanation]](), set[str]()
    for question, its in _of_their_passes(context, questions):
        each = _unless_trained(explain_tensor(question, its), question, its)
        if is_overview:
            row = ListedAnswer(each, question, its, explain_tensor)
            each = in_overview(row)
            each = as_so_far(replace(row, each=each)) if is_early else each
            is_named = question.data.get("name") or question.kind is NodeKind.PARAMETER
            if each.verdict is Verdict.UNTRAINED and not is_named and len(questions) > 1:
                continue  # such as the memory in which a stage of a pipeline receives
            if each.verdict is Verdict.NOT_TRAINED:  # that answer is about both
                older |= {older_that_is_held(context, question), *_replaced_by(its, question)}
        rows.append((question, each))
    given = (e for q, e in rows if q.key not in older or e.verdict.group is not Group.NO_GRADIENT)
    return Explanations(tuple(given)) if is_many else rows[0][1]


def _unless_trained(each: Explanation, question: Question, context: Context) -> Explanation:
    """The answer; nothing is wrong with zeros if passes before trained a loss until it is 0.

    That is known of squares and distances, whose least value is 0, where what they are taken of is
    a difference or a sum: zeros from a mask or from an activation may be a fault.
    """
    graph, added = each.graph, context.happened_to(question.key, EventKind.ACCUMULATE)
    after = [getattr(event.details, "after", None) for event in added]
    has_trained = any(grad is not None and not is_wrong(grad) for grad in after)
    is_cut = bool((context.lost or {}).get(question.key))  # the target may be the prediction
    if each.verdict is not Verdict.ZERO or graph is None or not has_trained or is_cut:
        return each
    known = [graph.nodes[key] for key in each.nodes if key != question.key and key in graph]
    origin: NodeData = graph.nodes[each.culprit] if each.culprit in graph else {}
    losses = [graph.nodes[root].get("value") for root in graph.roots]
    is_least = bool(known) and all(map(_is_distance, known)) and None not in losses
    is_least &= _is_distance(origin) or origin.get("op") in _SUMS
    if not is_least or not losses or not all(map(is_all_zero, losses)):
        return each
    reason = "its gradient is 0, as the loss is, which is its least value"
    return replace(each, verdict=Verdict.FINE, reason=reason, fix="")


_DISTANCES = ("abs", "norm", "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
_SUMS = ("add", "addmm", "rsub", "sub")


def _is_distance(data: NodeData) -> bool:
    exponent = number_of(data.get("options", {}).get("exponent"))
    is_even = data.get("op") == "pow" and exponent is not None and exponent % 2 == 0
    return is_even or data.get("op") in _DISTANCES


def _replaced_by(context: Context, question: Question) -> Iterator[str]:
    """The keys of leaves without a name that an optimizer holds, and whose values a leaf has."""
    lost = (context.lost or {}).items()
    cut = [key for key, cuts in lost if question.key in {cut.target for cut in cuts}]
    for key in context.held.intersection({*cut, *context.copies.get(question.key, ())}):
        is_new = context.is_made_anew(question.key)  # the row of such a leaf names the line
        if not is_new and not (context.node_in_a_frame(key) or {"name": ""}).get("name"):
            yield key


def _of_their_passes(
    latest: Context, questions: Sequence[Question]
) -> Iterator[tuple[Question, Context]]:
    """The questions, each with the context of the pass that was to train it.

    Where losses have optimizers of their own, the latest pass may be that of another loss.
    """
    last = latest.passes[-1].source if latest.passes else ""
    rows = [(each, _pass_of_its_step(latest, each)) for each in questions]
    lines = {event.source: event for _, event in rows if event and event.source != last}
    found = {line: latest.of_pass(event) for line, event in lines.items()}
    for line, context in found.items():
        if context is not None:
            own = [question for question, event in rows if event and event.source == line]
            found[line], _ = _with_unreachable(context, own)
    for question, event in rows:
        yield question, (found.get(event.source) if event else None) or latest


def _pass_of_its_step(context: Context, question: Question) -> Event | None:
    """The last pass before the last step of its optimizer, if no pass gave a leaf a gradient."""
    if context.is_of_roots or context.happened_to(question.key, EventKind.ACCUMULATE):
        return None
    steps = context.steps_with(question.key)
    before = [e for e in context.passes if steps and e.number < steps[-1][0].number]
    return before[-1] if before and context.reach_of(question) is Reach.UNREACHABLE else None


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
