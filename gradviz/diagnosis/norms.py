"""Gradients that are far larger or smaller than that of the parameter next to the root."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from gradviz.diagnosis.answers import Explanation
from gradviz.diagnosis.context import Context, Question
from gradviz.diagnosis.verdict import Verdict
from gradviz.graph import GradGraph, NodeKind

__all__ = ["compare_norms"]

_RATIO = 1e3


def compare_norms(questions: Sequence[Question], moment: Context) -> dict[str, Explanation]:
    """Explain the gradients that are far from that of the parameter next to the root."""
    rows = []
    for question in questions:
        grad = question.data.get("grad")
        if grad is None or not grad.norm or grad.nan or grad.inf:
            continue
        if (order := _order(moment.graph, question.key)) is not None:
            rows.append((order, grad.norm, question))
    rows.sort(key=lambda row: row[0])
    if len(rows) < 2:
        return {}
    _, reference, last = rows[-1]
    found = {}
    for _, size, question in rows[:-1]:
        ratio = size / reference
        if 1 / _RATIO <= ratio <= _RATIO:
            continue
        is_large = ratio > 1
        verdict = Verdict.EXPLODING if is_large else Verdict.VANISHING
        reason = (
            f"the norm of its gradient is over {_RATIO:,.0f} times "
            f"{'larger' if is_large else 'smaller'} than that of {last.name}; {_where(rows)}"
        )
        fix = (
            "clip it: torch.nn.utils.clip_grad_norm_(parameters, 1.0)"
            if is_large
            else "let the layers between keep the scale: another initialisation, normalisation, "
            "residual connections"
        )
        evidence = [last.key]
        found[question.key] = moment.answer(question, verdict, reason, fix, evidence)
    return found


def _where(rows: Sequence[tuple[int, float, Question]]) -> str:
    steps = [
        (abs(math.log(after[1] / before[1])), before[2].name, after[2].name)
        for before, after in pairwise(rows)
    ]
    _, one, other = max(steps, key=lambda step: step[0])
    return f"it changes most between {one} and {other}"


def _order(graph: GradGraph, key: str) -> int | None:
    """When the forward pass first used a leaf."""
    if key not in graph:
        return None
    users = [
        graph.nodes[user].get("sequence_nr", 0)
        for accumulate in graph.successors(key)
        for user in (
            graph.successors(accumulate)
            if graph.nodes[accumulate]["kind"] is NodeKind.ACCUMULATE
            else [accumulate]
        )
    ]
    return min(users, default=None)
