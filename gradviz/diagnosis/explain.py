"""`explain`: a question about a gradient or an error in, the answer out."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gradviz.diagnosis.answers import Explanation, Explanations
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.error_rules import explain_error
from gradviz.diagnosis.missing import explain_missing
from gradviz.diagnosis.norms import compare_norms
from gradviz.diagnosis.present import explain_present, is_wrong
from gradviz.diagnosis.subjects import Asked
from gradviz.diagnosis.ways import below, is_data
from gradviz.graph import NodeKind
from gradviz.story import recorded_in

if TYPE_CHECKING:
    from gradviz.capture.tensors.names import Names

__all__ = ["answer", "explain"]


def explain(*subjects: object, names: object = None) -> Explanation | Explanations:
    """Say why a gradient is what it is, or what an error of autograd means.

    What cannot be known without a recording is said to be so: no cause is guessed.

    Args:
        subjects: a tensor, whose ``.grad`` is explained: ``explain(w)``; the result that backward
            starts from may follow: ``explain(w, loss)``, else it is found among the caller's
            variables. A loss with ``names=model``, or ``explain(model, loss)``: every parameter. A
            `Recording`, alone or with tensors. An exception, alone or with tensors or a recording.
        names: an ``nn.Module`` or a dict from which the tensors get their names; None for the
            variables of the calling code.

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
    return answer(subjects, found, names)


def answer(subjects: Sequence[object], found: Names, names: object) -> Explanation | Explanations:
    """The same, for names that were found already.

    Args:
        subjects: as for `explain`.
        found: what to call the tensors.
        names: as for `explain`; the parameters of a module are asked about.
    """
    from gradviz.capture.autograd.tensors import quietly

    with quietly():
        return _answer_to(Asked.of(subjects, names), found)


def _answer_to(asked: Asked, found: Names) -> Explanation | Explanations:
    if asked.modules:
        from gradviz.capture.tensors.names import Names

        own = [named for module in asked.modules for named in Names.of(module, None)]
        found = Names([*own, *found])
    if asked.error is not None:
        return _of_error(asked, found)
    if asked.recording is not None:
        return _of_recording(asked, found)
    from gradviz.diagnosis.live import look

    moment, questions = look(asked, found)
    told = _answers(questions, moment, asked.is_many)
    if isinstance(told, Explanation) and (part := below(moment.graph, [questions[0].key], is_data)):
        is_result = moment.graph.nodes[questions[0].key]["kind"] is NodeKind.RESULT
        told = replace(told, kept=moment.graph.subgraph(part).copy()) if is_result else told
    return told


def _of_error(asked: Asked, found: Names) -> Explanation:
    def why(tensor: Any) -> Explanation:
        told = _answer_to(Asked(tensors=[tensor], recording=asked.recording), found)
        assert isinstance(told, Explanation)
        return told

    return explain_error(asked, found, why)


def _of_recording(asked: Asked, found: Names) -> Explanation | Explanations:
    from gradviz.diagnosis.recorded import moment_of, questions_of, with_values

    recorded_in(asked.recording)  # raises while there is no moment to explain
    moment = moment_of(asked.recording, asked.roots)
    questions = questions_of(asked, moment, found)
    if any(is_wrong(question.data.get("grad")) for question in questions):
        moment = with_values(moment, asked.recording, found)
    if asked.tensors and not asked.is_many:
        return _answers(questions, moment, False)
    explanations = _answers(questions, moment, True)
    assert isinstance(explanations, Explanations)
    error = _of_error(asked, found) if asked.has_failed else None
    return Explanations((error, *explanations)) if error is not None else explanations


def _answers(
    questions: Sequence[Question], moment: Context, is_many: bool
) -> Explanation | Explanations:
    moment, questions = moment.with_strangers(questions)
    told = [_answer(question, moment) for question in questions]
    if not is_many:
        return told[0]
    far = compare_norms(questions, moment)
    return Explanations(
        tuple(
            far.get(question.key, each) if each.verdict.value == "fine" else each
            for question, each in zip(questions, told, strict=True)
        )
    )


def _answer(question: Question, moment: Context) -> Explanation:
    grad: Any = question.data.get("grad")
    if grad is None:
        return explain_missing(question, moment)
    return explain_present(question, moment, grad)
