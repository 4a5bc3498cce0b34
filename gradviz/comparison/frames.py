"""Two graphs as the frames of one story, in which the same node has the same key."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from gradviz.comparison.sides import Side
from gradviz.facts import FrameKind
from gradviz.graph import GradGraph, NodeData, NodeKind
from gradviz.story import Frame, Story

__all__ = ["mark_stale_leaves", "marked", "side_by_side"]

Marks = Mapping[str, dict[str, str]]
"""``changes`` of a node, by its key."""


def side_by_side(
    sides: tuple[Side, Side], mate: Mapping[str, str], marks: tuple[Marks, Marks], title: str
) -> Story:
    """A story of two frames, ``before`` and ``after``.

    Args:
        sides: the two graphs; they are not changed.
        mate: the key after, by the key before.
        marks: per graph what stands out, by the keys of that graph.
        title: of the story.
    """
    before, after = sides
    frames = (
        Frame("before", marked(before.graph, marks[0])),
        Frame("after", _renamed(marked(after.graph, marks[1]), _shared_keys(before, after, mate))),
    )
    return Story(frames, title)


def marked(graph: GradGraph, marks: Marks) -> GradGraph:
    """A copy of the graph in which ``marks`` are the ``changes`` of the nodes."""
    copy: GradGraph = graph.copy()
    for key, news in marks.items():
        if news:
            copy.nodes[key]["changes"] = {**copy.nodes[key].get("changes", {}), **news}
    return copy


def mark_stale_leaves(story: Story) -> Story:
    """Say of each leaf with which version and value the operations of a frame used it.

    An operation that an earlier frame of a recording shows too was made before that frame; the
    leaf had then the version that the earlier frame shows. Of frames that were put together by
    hand nothing is said: the same key may stand for another tensor.

    Args:
        story: it is not changed.

    Returns:
        A story in which the leaves of later frames have ``used_version`` and ``used_value``, and
        each graph knows its number (``graph.graph["frame"]``).
    """
    used: dict[tuple[object, ...], NodeData] = {}
    frames = []
    for number, frame in enumerate(story):
        graph: GradGraph = frame.graph.copy()
        graph.graph["frame"] = number
        is_recorded = frame.kind is not FrameKind.SNAPSHOT
        for key in graph.leaves if is_recorded else ():
            leaf: NodeData = graph.nodes[key]
            uses = [(key, *use) for use in _uses(graph, key)]
            first = next((used[use] for use in uses if use in used), None)
            if first is not None:
                leaf["used_version"] = first.get("version", 0)
                if "value" in first:
                    leaf["used_value"] = first["value"]
            for use in uses:
                used.setdefault(use, frame.graph.nodes[key])
        frames.append(replace(frame, graph=graph))
    return replace(story, frames=tuple(frames))


def _uses(graph: GradGraph, key: str) -> Iterator[tuple[object, ...]]:
    """The operations that use a leaf: in a recording each has a key of its own."""
    for user in graph.successors(key):
        kind = graph.nodes[user]["kind"]
        if kind is NodeKind.ACCUMULATE:
            yield from _uses(graph, user)
        elif kind is NodeKind.OPERATION:
            yield user, graph.nodes[user].get("op")


def _shared_keys(before: Side, after: Side, mate: Mapping[str, str]) -> dict[str, str]:
    """A key for each node after: that of its partner, else one that nothing else has."""
    keys = {there: here for here, there in mate.items()}
    stand_ins = _by_original(before)
    for original, others in _by_original(after).items():
        mine = stand_ins.get(keys.get(original, ""), [])
        keys.update(zip(others, mine, strict=False))
    used = {*before.graph.nodes, *after.graph.nodes}
    unused = (name for name in map("n{}".format, itertools.count()) if name not in used)
    for key in after.graph.nodes:
        if key not in keys:
            keys[key] = next(unused) if key in before.graph else key
    return keys


def _by_original(side: Side) -> dict[str, list[str]]:
    """Per node the others that stand for it: its ``AccumulateGrad``, its copies."""
    found: dict[str, list[str]] = {}
    for key, original in side.stands_for.items():
        found.setdefault(original, []).append(key)
    return found


def _renamed(graph: GradGraph, keys: Mapping[str, str]) -> GradGraph:
    renamed = GradGraph()
    renamed.graph.update(graph.graph)
    for key, data in graph.nodes(data=True):
        if "clone_of" in data:
            data = {**data, "clone_of": keys.get(data["clone_of"], data["clone_of"])}
        renamed.add_node(keys[key], **data)
    for source, target, number, data in graph.edges(keys=True, data=True):
        renamed.add_edge(keys[source], keys[target], number, **data)
    return renamed
