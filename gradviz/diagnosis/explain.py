"""`explain`: a question about a gradient or an error in, the answer out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis.answers import Explanation, Explanations, Verdict
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.error_rules import explain_error
from gradviz.diagnosis.registry import rules
from gradviz.diagnosis.rule import first_answer
from gradviz.diagnosis.subjects import Asked
from gradviz.diagnosis.training import unused_by_steps
from gradviz.diagnosis.values import is_wrong
from gradviz.errors import DamagedFileError, GradvizError
from gradviz.facts import SavedVerdict
from gradviz.graph import GradGraph, NodeKind
from gradviz.graph.algorithms import ancestors, is_data
from gradviz.story import Story, recorded_in

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

__all__ = ["answer", "explain", "saved_explanations", "with_verdicts"]


def explain(
    *subjects: object, loss: object = None, names: object = None
) -> Explanation | Explanations:
    """Say why a gradient is what it is, or what an error of autograd means.

    What cannot be known without a recording is said to be so: no cause is guessed.

    Args:
        subjects: tensors, whose ``.grad`` is explained: ``explain(w)``, ``explain(w, b)``. A
            module: each of its parameters. A `Recording`, alone or with tensors. An exception,
            alone or with tensors or a recording. The result that backward starts from may come
            last, when it has a ``grad_fn`` and the others have none: ``explain(w, loss)``.
        loss: the result that backward starts from, or several; None to find it among the last
            subject, what the recording saw, or the variables of the caller.
        names: an ``nn.Module`` or a dict from which the tensors get their names; None for the
            variables of the calling code. ``explain(loss, names=model)`` explains every parameter.

    Returns:
        One `Explanation` for one tensor or error; `Explanations` for a model or a recording.
        ``print`` shows them, ``gradviz.draw`` draws them.

    Raises:
        SubjectError: if there is nothing in ``subjects`` that could be explained.
        UsageError: if ``names`` is none of the above, there are two recordings or errors, or a
            recording holds no moment yet.

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
    from gradviz.capture.autograd.tensors import quietly
    from gradviz.capture.tensors.names import Names

    with quietly():
        found = Names.of(None, sys._getframe(1))
        if names is not None:
            found = Names([*Names.of(names, None), *found])
    return answer(subjects, found, names, loss)


def answer(
    subjects: Sequence[object], found: Names, names: object, loss: object = None
) -> Explanation | Explanations:
    """The same, for names that were found already.

    Args:
        subjects: as for `explain`.
        found: what to call the tensors.
        names: as for `explain`; the parameters of a module are asked about.
        loss: as for `explain`.
    """
    from gradviz.capture.autograd.tensors import quietly

    with quietly():
        return _answer_to(Asked.of(subjects, names, loss), found)


def _answer_to(asked: Asked, found: Names) -> Explanation | Explanations:
    if asked.modules:
        from gradviz.capture.tensors.names import Names

        own = [named for module in asked.modules for named in Names.of(module, None)]
        found = Names([*own, *found])
    if asked.error is not None:
        return _of_error(asked, found)
    if asked.recording is not None:
        return _of_recording(asked, found)
    from gradviz.diagnosis.reading import look

    context, questions = look(asked, found)
    told = _answers(questions, context, asked.is_many)
    if isinstance(told, Explanation):
        graph, key = context.graph, questions[0].key
        part = ancestors(graph, [key], is_data)
        if part and graph.nodes[key]["kind"] is NodeKind.RESULT:
            return replace(told, kept=graph.subgraph(part).copy())
    return told


def _of_error(asked: Asked, found: Names) -> Explanation:
    from gradviz.capture.tensors.names import Named, Names

    def why(tensor: Any, name: str) -> Explanation:
        named = Names([Named(tensor, name, ()), *found])
        told = _answer_to(Asked(tensors=[tensor], recording=asked.recording), named)
        assert isinstance(told, Explanation)
        return told

    return explain_error(asked, found, why)


def _of_recording(asked: Asked, found: Names) -> Explanation | Explanations:
    from gradviz.diagnosis.reading import (
        context_at_end,
        context_of,
        look_at_live,
        questions_of,
        with_values,
    )

    recorded_in(asked.recording)  # raises while there is no moment to explain
    context = context_of(asked.recording, asked.roots)
    context = look_at_live(asked, context)
    questions = questions_of(asked, context, found)
    if not asked.roots:
        context = replace(context, later=context_at_end(asked.recording, context))
    if any(is_wrong(question.data.get("grad")) for question in questions):
        context = with_values(context, asked.recording, found)
    if asked.tensors and not asked.is_many:
        return _answers(questions, context, False)
    explanations = _answers(questions, context, True)
    assert isinstance(explanations, Explanations)
    if not asked.tensors:
        explanations = Explanations((*explanations, *unused_by_steps(context)))
    error = _of_error(asked, found) if asked.has_failed else None
    return Explanations((error, *explanations)) if error is not None else explanations


def _answers(
    questions: Sequence[Question], context: Context, is_many: bool
) -> Explanation | Explanations:
    context, questions = context.with_unreachable(questions)
    told = [explain_tensor(question, context) for question in questions]
    return Explanations(tuple(told)) if is_many else told[0]


def explain_tensor(question: Question, context: Context) -> Explanation:
    """Try the rules in order; the last one of each group always answers."""
    told = first_answer(rules(question.group), context, question)
    assert told is not None
    if told.verdict is Verdict.NOT_CONNECTED and context.later is not None:
        # It may be used by a result that no backward pass has started from.
        later = first_answer(rules(question.group), context.later, question)
        if later is not None and later.verdict in (Verdict.CUT, Verdict.NOT_RUN):
            return later
    return told


def with_verdicts(story: Story, recording: Any, names: Names) -> Story:
    """A story with what `explain` says about the recording that it comes from.

    Args:
        story: all or some frames of the recording.
        recording: the recording, which is over.
        names: what to call the tensors.
    """
    try:
        told = answer([recording], names, None)
    except GradvizError:  # there is nothing to explain
        return story
    explanations = [told] if isinstance(told, Explanation) else told
    frames = {id(frame.graph): number for number, frame in enumerate(story)}
    verdicts = tuple(
        SavedVerdict(
            each.verdict.value,
            each.name,
            each.reason,
            each.fix,
            each.nodes,
            each.locations,
            each.culprit,
            frames.get(id(each.graph), -1),
            each.rule,
        )
        for each in explanations
    )
    return replace(story, verdicts=verdicts)


def saved_explanations(story: Story) -> Explanations | None:
    """The explanations that were saved with a story; None if there are none.

    Example:
        >>> saved = SavedVerdict("frozen", "w", "requires_grad is False")
        >>> print(saved_explanations(Story(verdicts=[saved])))
        w  no gradient  requires_grad is False
    """
    if story.verdicts is None:
        return None
    nothing = GradGraph()
    return Explanations(
        tuple(
            Explanation(
                _verdict(each.verdict),
                each.name,
                each.reason,
                each.fix,
                each.nodes,
                each.locations,
                story[each.frame].graph if 0 <= each.frame < len(story) else nothing,
                each.culprit,
                rule=each.rule,
            )
            for each in story.verdicts
        )
    )


def _verdict(value: str) -> Verdict:
    found = next((each for each in Verdict if each.value == value), None)
    if found is None:
        raise DamagedFileError(f"the verdict {value!r} is not one of this version of gradviz")
    return found
