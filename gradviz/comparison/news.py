"""What is new in a frame against the one before it, in words for the picture of the frame."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from gradviz.comparison.differences import Change, is_equal
from gradviz.comparison.frames import marked
from gradviz.comparison.sides import Side, is_tracked, sort_of
from gradviz.graph import Buffers, GradGraph, NodeData, NodeKind, TensorSummary
from gradviz.graph.text import number_text
from gradviz.story import Story

__all__ = ["mark_changes", "news_of_change"]

_FEW = 3
_OPERATIONS = (NodeKind.OPERATION, NodeKind.GROUP)


def mark_changes(story: Story) -> Story:
    """Mark in each frame what is new against the frame before it, so that it stands out.

    A node is the same in both frames when the frames share operations, as those of one
    recording do, and its key is the same. Where they share none, as two rounds of a training
    loop do, the leaves are the same by name, and the operations are left unmarked: they are
    other operations, but no news.

    Args:
        story: it is not changed.

    Returns:
        A story in which ``changes`` of the nodes is filled in. A frame in which something is
        marked already is left as it is.

    Example:
        >>> from gradviz.story import Frame
        >>> frames = []
        >>> for grad in (None, TensorSummary((1,), "float32", "cpu", values=(3.0,))):
        ...     graph = GradGraph()
        ...     graph.add_node("n0", kind=NodeKind.LEAF, name="x", grad=grad)
        ...     frames.append(Frame("", graph))
        >>> mark_changes(Story(frames))[1].graph.nodes["n0"]["changes"]
        {'grad': 'new'}
    """
    frames = list(story[:1].frames)
    for last, frame in zip(story.frames, story.frames[1:], strict=False):
        if any("changes" in data for _, data in frame.graph.nodes(data=True)):
            frames.append(frame)
            continue
        news = _news(last.graph, frame.graph)
        frames.append(replace(frame, graph=marked(frame.graph, news)))
    return replace(story, frames=tuple(frames))


def _news(before: GradGraph, after: GradGraph) -> dict[str, dict[str, str]]:
    shared = _shared_operations(before, after)
    if shared:
        common = (key for key in after if key in before)
        pairs = {key: key for key in common if _is_same(before.nodes[key], after.nodes[key])}
    else:
        pairs = dict(_same_leaves(before, after))
    news = {key: dict(_of_node(before.nodes[old], after.nodes[key])) for key, old in pairs.items()}
    operations = [key for key, data in after.nodes(data=True) if data["kind"] in _OPERATIONS]
    if 2 * len(shared) > len(operations):
        news.update({key: {"node": "new"} for key in operations if key not in before})
    return news


def _shared_operations(before: GradGraph, after: GradGraph) -> set[str]:
    """The operations of both; none when a key is that of another operation in each."""
    shared = set()
    for key in after:
        if key not in before:
            continue
        old, new = before.nodes[key], after.nodes[key]
        if {old["kind"], new["kind"]} & {*_OPERATIONS}:
            if not _is_same(old, new):
                return set()
            shared.add(key)
    return shared


def _is_same(old: NodeData, new: NodeData) -> bool:
    """Whether two nodes of one key are one: nothing contradicts it."""
    return sort_of(old) == sort_of(new) and all(
        old.get(name) == new.get(name) for name in ("op", "name", "sequence_nr")
    )


def _same_leaves(before: GradGraph, after: GradGraph) -> Iterator[tuple[str, str]]:
    """Each leaf and its key before: by key where nothing contradicts it, else by name."""
    names = Side(before).unique(("tensor",), "name")
    for key in after.leaves:
        data = after.nodes[key]
        if key in before and _is_same(before.nodes[key], data):
            yield key, key
        elif data.get("name") in names:
            yield key, names[data["name"]]


def _of_node(old: NodeData, new: NodeData) -> Iterator[tuple[str, str]]:
    if "grad" in old and "grad" in new and (text := _of_gradient(old, new)):
        yield "grad", text
    if (old.get("buffers"), new.get("buffers")) == (Buffers.HELD, Buffers.FREED):
        yield "buffers", "freed"
    if "value" in old and "value" in new and not is_equal(old["value"], new["value"]):
        yield "value", "changed"
    if old.get("version", 0) != new.get("version", 0):
        yield "version", f"{old.get('version', 0)} → {new.get('version', 0)}"
    tracked = is_tracked(old), is_tracked(new)
    if tracked[0] != tracked[1]:
        yield "requires_grad", f"{tracked[0]} → {tracked[1]}"


def news_of_change(change: Change, old: NodeData, new: NodeData) -> str:
    """The same words for a `Change`: what is new, where the node says what it is."""
    if change.attribute == "grad":
        return _of_gradient(old, new)
    if change.attribute == "buffers":
        return change.new
    return f"{change.old} → {change.new}"


def _of_gradient(old: NodeData, new: NodeData) -> str:
    """``"new"``, ``"cleared"``, ``"zeroed"``, ``"+3, pass 2"``; empty when nothing is new."""
    was, now = old.get("grad"), new.get("grad")
    passes = new.get("accumulations", 0)
    is_added = passes > max(old.get("accumulations", 0), 1)
    if was is None or now is None:
        return "" if was is now else "new" if was is None else "cleared"
    if is_equal(was, now):
        text = "+0" if is_added else ""
    elif _is_zero(now) and not is_added:
        return "zeroed"
    else:
        text = _growth(was, now)
    return f"{text}, pass {passes}" if is_added else text


def _growth(old: TensorSummary, new: TensorSummary) -> str:
    if new.nan > old.nan:
        return f"{new.nan} NaN"
    if old.values is not None and new.values is not None and old.shape == new.shape:
        added = [f"{b - a:+.4g}" for a, b in zip(old.values, new.values, strict=True)]
        if len(set(added)) == 1 or len(added) <= _FEW:
            return added[0] if len(set(added)) == 1 else " ".join(added)
    was, now = _norm(old), _norm(new)
    if was is None or now is None or number_text(was) == number_text(now):
        return "changed"
    return f"norm {number_text(was)} → {number_text(now)}"


def _norm(summary: TensorSummary) -> float | None:
    if summary.norm is not None or summary.values is None:
        return summary.norm
    return math.sqrt(sum(abs(value) ** 2 for value in summary.values))


def _is_zero(summary: TensorSummary) -> bool:
    if summary.values is not None:
        return not any(summary.values)
    return summary.norm == 0
