"""Mark on a gathered story what differs between its ranks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from gradviz.facts import RankRecord, RankState
from gradviz.graph import GradGraph, RankSpread, TensorSummary
from gradviz.story import Frame, Story
from gradviz.views.groups import is_known, norm_of
from gradviz.wording import rank_notes

__all__ = ["mark_ranks"]

_EQUAL = 1e-4  # relative; norms that differ by less have the same four digits
_FAR = 4  # times the range of the others


def mark_ranks(story: Story) -> Story:
    """Mark each node whose ``.grad`` differs between ranks, and note what the ranks are.

    Only ranks whose graph was taken after the same backward pass are compared.

    Args:
        story: from `gradviz.gather`; is not modified.

    Returns:
        A story in which these nodes have ``ranks``; the same story if it has no ranks.

    Example:
        >>> mark_ranks(Story(())).ranks
        ()
    """
    if not story.ranks or not story:
        return story
    frames = []
    for number, frame in enumerate(story):
        graph: GradGraph = frame.graph.copy()
        known = [each for each in story.ranks if 0 <= each.frame < len(story)]
        records = [each for each in known if _is_compared(each, number, frame)]
        if len(records) > 1:
            tensors = {each.rank: _tensors(each, story[each.frame]) for each in records}
            for key in graph.nodes:
                spread = _spread(key, records, tensors, is_first=number == 0)
                if spread is not None:
                    graph.nodes[key]["ranks"] = spread
        graph.graph["ranks"] = len(story.ranks)
        if number == 0:
            spreads = [data["ranks"] for _, data in graph.nodes(data=True) if "ranks" in data]
            differ = sum(bool(e.norms or e.missing or e.not_finite) for e in spreads)
            graph.graph["notes"] = (*graph.notes, *rank_notes(story.ranks, differ))
        frames.append(replace(frame, graph=graph))
    return replace(story, frames=tuple(frames))


def _is_compared(record: RankRecord, number: int, frame: Frame) -> bool:
    """Whether a rank is compared in a frame: in the first one, all ranks at the same moment."""
    if record.state is not RankState.GATHERED or record.pass_number != frame.pass_number:
        return False
    return number in (0, record.frame)


_Grads = Mapping[str, TensorSummary | None]
"""``.grad`` by the key of the node."""


def _tensors(record: RankRecord, frame: Frame) -> _Grads:
    """Each ``.grad`` of a rank."""
    found: dict[str, TensorSummary | None] = {
        key: data["grad"] for key, data in frame.graph.nodes(data=True) if "grad" in data
    }
    found.update((each.node, each.grad) for each in record.tensors)
    return found


def _spread(
    key: str, records: Sequence[RankRecord], tensors: Mapping[int, _Grads], is_first: bool
) -> RankSpread | None:
    absent = tuple(each.rank for each in records if is_first and key in each.absent)
    grads = {rank: found[key] for rank, found in tensors.items() if key in found}
    present = {rank: grad for rank, grad in grads.items() if grad is not None}
    missing = tuple(rank for rank in grads if rank not in present) if present else ()
    wrong = tuple(rank for rank, grad in present.items() if not grad.is_finite)
    finite = {rank: grad for rank, grad in present.items() if rank not in wrong and is_known(grad)}
    norms = {rank: norm_of(grad) for rank, grad in finite.items()}
    least, greatest = min(norms.values(), default=0.0), max(norms.values(), default=0.0)
    differ = greatest - least > _EQUAL * greatest or _have_other_values(list(finite.values()))
    not_finite = wrong if len(wrong) < len(present) else ()
    if not (absent or missing or not_finite or differ):
        return None
    odd = _odd(norms)
    return RankSpread(
        (least, greatest) if differ else None,
        odd,
        norms.get(odd, 0.0),
        missing,
        not_finite,
        absent,
    )


def _have_other_values(grads: Sequence[TensorSummary]) -> bool:
    """Whether some extreme values differ, although the norms are equal."""
    for name in ("min", "max"):
        found = [value for each in grads if (value := getattr(each, name)) is not None]
        found = [value for value in found if math.isfinite(value)]
        if found and max(found) - min(found) > _EQUAL * max(map(abs, found)):
            return True
    return False


def _odd(norms: Mapping[int, float]) -> int:
    """The rank whose norm is far from those of all others, which are close to each other."""
    if len(norms) < 3:
        return -1
    middle = statistics.median(norms.values())
    odd = max(norms, key=lambda rank: abs(norms[rank] - middle))
    others = [norm for rank, norm in norms.items() if rank != odd]
    gap = min(abs(norms[odd] - norm) for norm in others)
    return odd if gap > _FAR * (max(others) - min(others)) else -1
