"""The differences between two matched nodes, and the changes from frame to frame."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gradviz.comparison.matching import (
    GraphIndex,
    IndexLink,
    is_tracked,
    sort_of,
    value_words,
    word_of,
)
from gradviz.facts import BackwardDetails, FrameKind, LeafGradient
from gradviz.graph import (
    Buffers,
    Cause,
    EdgeKind,
    GradGraph,
    NodeData,
    NodeKind,
    TensorSummary,
    ancestors,
    leaf_of_node,
    leaf_uses,
)
from gradviz.graph.text import number_text
from gradviz.story import Frame, Story
from gradviz.wording import problem_text


@dataclass(frozen=True)
class Change:
    """One difference of a node that is in both graphs.

    Args:
        before_key: the node in the first graph.
        after_key: the node in the second graph.
        attribute: as in `NodeData`: ``"grad"``, ``"shape"``; or ``"input 1"``: the edge into it.
        old: the value in the first graph, as short text.
        new: the value in the second graph.
    """

    before_key: str
    after_key: str
    attribute: str
    old: str
    new: str


_Words = tuple[str, str, str]  # attribute, old, new

_FACTS = (
    *("kind", "op", "name", "aliases", "shape", "dtype", "device", "options", "outputs", "opaque"),
    *("inference", "retains_grad", "hooks", "buffers", "problem", "verdict"),
)
_NUMBERS = ("value", "accumulations", "version")


def differences(
    before: GraphIndex, after: GraphIndex, mate: Mapping[str, str], values: bool
) -> Iterator[Change]:
    """The differences between the nodes of each pair, in the order of the pairs.

    Args:
        before: the first graph.
        after: the second graph.
        mate: keys in the second graph, by the key in the first.
        values: also compare values of tensors and gradients, versions and accumulations.
    """
    edges = _Edges(before, after, mate)
    for here, there in mate.items():
        old, new = before.data[here], after.data[there]
        moved = list(edges.into(here, there))
        facts = _FACTS + (_NUMBERS if values else ())
        words = [*_facts(old, new, facts), *_gradient(old, new, values), *moved]
        if not moved and not _is_freed_in_one(old, new):
            # The change of the edge already implies this one.
            words += _facts(old, new, ("untracked_inputs",))
        for attribute, was, now in words:
            yield Change(here, there, attribute, was, now)


def _facts(old: NodeData, new: NodeData, names: tuple[str, ...]) -> Iterator[_Words]:
    tracked = is_tracked(old), is_tracked(new)
    for name in names:
        was, now = old.get(name), new.get(name)
        if name == "options" and _is_freed_in_one(old, new):
            was, now = _common(old, new), _common(new, old)
        if name == "problem":
            problems: list[Any] = [each.get(name) for each in (old, new)]
            was, now = (problem_text(each) if each else None for each in problems)
        if is_equal(was, now):
            continue
        if name == "kind" and tracked[0] != tracked[1]:
            yield "requires_grad", str(tracked[0]), str(tracked[1])
        elif name == "name" and "root" in old and "root" in new:
            continue  # A root may have another name in each graph.
        elif name == "buffers" and {was, now} & {None, Buffers.UNKNOWN}:
            continue
        else:
            yield name, value_words(name, was), value_words(name, now)


def _is_freed_in_one(old: NodeData, new: NodeData) -> bool:
    """Whether an operation has saved tensors in only one of the graphs.

    Some numbers and constants are known only from saved tensors. If they are missing because the
    saved tensors were freed, that is not a difference.
    """
    return {old.get("buffers"), new.get("buffers")} == {Buffers.HELD, Buffers.FREED}


def _common(data: NodeData, other: NodeData) -> dict[str, str]:
    """The options of a node that the other node has too."""
    names = other.get("options", {})
    return {name: text for name, text in data.get("options", {}).items() if name in names}


def is_out_of_sight(side: GraphIndex, other: GraphIndex, mate: Mapping[str, str], key: str) -> bool:
    """Whether a node is missing in the other graph only because saved tensors were freed.

    Args:
        side: the graph that contains the node.
        other: the graph that does not.
        mate: keys in ``other``, by the key in ``side``.
        key: the node.
    """
    users = [link.key for link in side.users[key]]
    return not is_tracked(side.data[key]) and all(
        user in mate and _is_freed_in_one(side.data[user], other.data[mate[user]])
        for user in users or ("",)
    )


def _gradient(old: NodeData, new: NodeData, values: bool) -> Iterator[_Words]:
    if "grad" in old and "grad" in new:
        was, now = old["grad"], new["grad"]
        if (was is None) != (now is None) or (values and not is_equal(was, now)):
            yield "grad", value_words("grad", was), value_words("grad", now)


def is_equal(old: Any, new: Any) -> bool:
    """Whether two values are equal; unlike for ``==``, NaN equals NaN.

    What was not read equals each tensor of its shape.
    """
    is_read = [each.is_read for each in (old, new) if isinstance(each, TensorSummary)]
    if len(is_read) == 2 and not all(is_read):
        return bool((old.shape, old.dtype) == (new.shape, new.dtype))
    return bool(old == new) or repr(old) == repr(new)


class _Edges:
    """Differences of incoming edges that added and removed nodes do not explain."""

    def __init__(self, before: GraphIndex, after: GraphIndex, mate: Mapping[str, str]) -> None:
        self.before, self.after = before, after
        self.same = ({here: here for here in mate}, {there: here for here, there in mate.items()})
        self.reached: tuple[dict[str, frozenset[str]], ...] = ({}, {})

    def into(self, here: str, there: str) -> Iterator[_Words]:
        """Each input that comes from another node, or has a gradient in only one of the graphs."""
        mine, others = _by_place(self.before.inputs[here]), _by_place(self.after.inputs[there])
        old_data, new_data = self.before.data[here], self.after.data[there]
        is_other_kind = sort_of(old_data) != sort_of(new_data)
        is_freed = _is_freed_in_one(old_data, new_data)
        more = new_data.get("untracked_inputs", 0) - old_data.get("untracked_inputs", 0)
        for place in sorted(mine.keys() | others.keys()):
            old, new = mine.get(place), others.get(place)
            if old is None or new is None:
                # A detached result has no inputs.
                if is_other_kind or (is_freed and _is_cut(old or new)):
                    continue
            elif not self._is_other(old, new):
                continue
            was = _link_words(self.before, old) or ("no gradient" if more < 0 else "none")
            now = _link_words(self.after, new) or ("no gradient" if more > 0 else "none")
            yield f"input {place[0]}", was, now

    def _is_other(self, old: IndexLink, new: IndexLink) -> bool:
        if old.edge.get("kind") != new.edge.get("kind") or _causes_differ(old, new):
            return True
        from_old, from_new = self.same[0].get(old.key), self.same[1].get(new.key)
        if from_old is not None and from_old == from_new:
            ways = [(link.output, link.edge.get("through")) for link in (old, new)]
            return ways[0] != ways[1]
        ends = self._ends(0, old.key), self._ends(1, new.key)
        return ends[0] != ends[1] and not ends[0] & ends[1]

    def _ends(self, which: int, key: str) -> frozenset[str]:
        """The nearest nodes before ``key`` that are in both graphs, by their key in the first."""
        side = (self.before, self.after)[which]
        same, reached, stack = self.same[which], self.reached[which], [key]
        while stack:
            top = stack.pop()
            inputs = [link.key for link in side.inputs[top]]
            if top in same:
                reached[top] = frozenset({same[top]})
            elif all(end in reached for end in inputs):
                reached[top] = frozenset().union(*(reached[end] for end in inputs))
            else:
                stack += [top, *(end for end in inputs if end not in reached)]
        return reached[key]


def _by_place(links: list[IndexLink]) -> dict[tuple[int, int], IndexLink]:
    """Each link by its position; links into a group that share one are numbered."""
    found: dict[tuple[int, int], IndexLink] = {}
    for link in links:
        number = 0
        while (link.position, number) in found:
            number += 1
        found[link.position, number] = link
    return found


def _is_cut(link: IndexLink | None) -> bool:
    return link is not None and link.edge.get("kind") is EdgeKind.CUT


def _causes_differ(old: IndexLink, new: IndexLink) -> bool:
    """Whether both links are cut, with different known causes."""
    causes = {old.edge.get("cause"), new.edge.get("cause")}
    return len(causes - {None, Cause.NOT_RECORDED}) == 2


def _link_words(side: GraphIndex, link: IndexLink | None) -> str:
    if link is None:
        return ""
    word = word_of(side.data[link.key])
    if not _is_cut(link):
        return word
    cause = link.edge.get("cause", Cause.NOT_RECORDED)
    return f"{word}, no gradient" + ("" if cause is Cause.NOT_RECORDED else f" ({cause.value})")


_FEW = 3
_OPERATIONS = (NodeKind.OPERATION, NodeKind.GROUP)


def mark_changes(story: Story) -> Story:
    """Mark in each frame what happened to its nodes, so that the picture highlights it.

    Nodes with the same key are the same if the frames share operations, like the frames of one
    recording. Frames that share none, like two steps of a training loop, are matched by the names
    of their leaves, and their operations are not marked as new.

    Args:
        story: is not modified.

    Returns:
        A story in which nodes have ``changes``: what changed since the previous frame. A frame
        that has changes already keeps them. In a recording, leaves that were changed in place
        after the operations of the frame used them have ``stale`` and ``used_value``, and the edges
        out of a leaf have what each use added to its ``.grad``. Each graph has its frame number
        (``graph.graph["frame"]``), and how many there are (``"frames"``).

    Example:
        >>> frames = []
        >>> for grad in (None, TensorSummary((1,), "float32", "cpu", values=(3.0,))):
        ...     graph = GradGraph()
        ...     graph.add_node("n0", kind=NodeKind.LEAF, name="x", grad=grad)
        ...     frames.append(Frame("", graph))
        >>> mark_changes(Story(frames))[1].graph.nodes["n0"]["changes"]
        {'grad': 'new'}
    """
    found = [replace(frame, graph=frame.graph.copy()) for frame in story]
    for number, frame in enumerate(story):
        found[number].graph.graph.update(frame=number, frames=len(story))
        if number and not any("changes" in data for _, data in frame.graph.nodes(data=True)):
            changes = _frame_changes(story[number - 1].graph, frame.graph, frame.kind)
            _add_marks(found[number].graph, changes)
    _mark_stale_leaves(story, found)
    _mark_freed(found)
    _mark_shares(story, found)
    return replace(story, frames=tuple(found))


def _frame_changes(
    before: GradGraph, after: GradGraph, kind: FrameKind
) -> dict[str, dict[str, str]]:
    shared = _shared_operations(before, after)
    if shared or kind is not FrameKind.SNAPSHOT:  # in a recording, each tensor has a key of its own
        common = (key for key in after if key in before)
        pairs = {key: key for key in common if _is_same(before.nodes[key], after.nodes[key])}
    else:
        pairs = dict(_same_leaves(before, after))
    changes = {
        key: dict(_of_node(before.nodes[old], after.nodes[key])) for key, old in pairs.items()
    }
    operations = [key for key, data in after.nodes(data=True) if data["kind"] in _OPERATIONS]
    # autograd.grad adds to a graph, in which there may be fewer operations before.
    if 2 * len(shared) > len(operations) or (shared and kind is FrameKind.AFTER_AUTOGRAD_GRAD):
        changes.update({key: {"node": "new"} for key in operations if key not in before})
    return changes


def _shared_operations(before: GradGraph, after: GradGraph) -> set[str]:
    """The keys of operations in both graphs; none if a key is a different operation in each."""
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
    """Whether two nodes with the same key can be the same node."""
    return sort_of(old) == sort_of(new) and all(
        old.get(name) == new.get(name) for name in ("op", "name", "sequence_nr")
    )


def _same_leaves(before: GradGraph, after: GradGraph) -> Iterator[tuple[str, str]]:
    """Each leaf and its previous key: the same key if possible, else the key of the same name."""
    names = GraphIndex(before).unique(("tensor",), "name")
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
    if old.get("version", 0) < new.get("version", 0):  # a tensor that is gone has none
        yield "version", f"{old.get('version', 0)} → {new.get('version', 0)}"
    tracked = is_tracked(old), is_tracked(new)
    if tracked[0] != tracked[1]:
        yield "requires_grad", f"{tracked[0]} → {tracked[1]}"


def marks_of_change(change: Change, old: NodeData, new: NodeData) -> str:
    """The text for a `Change` on a node that shows its new value."""
    if change.attribute == "grad":
        return _of_gradient(old, new)
    if change.attribute == "buffers":
        return change.new
    return f"{change.old} → {change.new}"


def _of_gradient(old: NodeData, new: NodeData) -> str:
    """``"new"``, ``"cleared"``, ``"zeroed"``, ``"+3, pass 2"``; "" if nothing changed."""
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


Marks = Mapping[str, dict[str, str]]
"""``changes`` of a node, by its key."""


def side_by_side(
    sides: tuple[GraphIndex, GraphIndex],
    mate: Mapping[str, str],
    marks: tuple[Marks, Marks],
    title: str,
) -> Story:
    """A story of two frames, ``before`` and ``after``.

    Args:
        sides: the two graphs; they are not modified.
        mate: keys in the second graph, by the key in the first.
        marks: the changes to show in each graph, by its keys.
        title: of the story.
    """
    before, after = sides
    old, new = marked(before.graph, marks[0]), marked(after.graph, marks[1])
    new = _renamed(new, _shared_keys(before, after, mate))
    return Story((Frame("before", old), Frame("after", new)), title)


def marked(graph: GradGraph, marks: Marks) -> GradGraph:
    """Copy the graph, with ``marks`` as the ``changes`` of its nodes."""
    copy: GradGraph = graph.copy()
    _add_marks(copy, marks)
    return copy


def _add_marks(graph: GradGraph, marks: Marks) -> None:
    for key, changes in marks.items():
        if changes:
            graph.nodes[key]["changes"] = {**graph.nodes[key].get("changes", {}), **changes}


def _mark_stale_leaves(story: Story, found: Sequence[Frame]) -> None:
    """Mark each leaf that was changed in place after the operations of a frame used it.

    An operation that is in an earlier frame of a recording was created before that frame, so it
    used the version that the leaf had then. Nothing is added to frames that the user put together:
    there, the same key may stand for another tensor.
    """
    used: dict[tuple[object, ...], NodeData] = {}
    for frame, copy in zip(story, found, strict=True):
        graph = copy.graph
        tracked = ancestors(graph, graph.roots)
        for key in graph.leaves if frame.kind is not FrameKind.SNAPSHOT else ():
            uses = dict.fromkeys(
                (key, user, graph.nodes[user].get("op"))  # in a recording keys are unique
                for user, _ in leaf_uses(graph, key)
                if graph.nodes[user]["kind"] is NodeKind.OPERATION
            )
            # What an operation behind a cut used does not matter if one of the result uses it, too.
            uses = {use: None for use in uses if use[1] in tracked} or uses
            first = next((used[use] for use in uses if use in used), None)
            if first is not None:
                graph.nodes[key].update(_since_used(first, graph.nodes[key]))
            for use in uses:
                used.setdefault(use, frame.graph.nodes[key])


def _mark_freed(found: Sequence[Frame]) -> None:
    """Mark operations behind a cut, of which only the record is left, that were freed before."""
    freed: set[tuple[str, object]] = set()  # in a recording keys are unique
    for frame in found:
        rows = frame.graph.nodes(data=True) if frame.kind is not FrameKind.SNAPSHOT else ()
        for key, data in rows:
            if data.get("buffers") is Buffers.FREED:
                freed.add((key, data.get("op")))
            elif "buffers" not in data and (key, data.get("op")) in freed:
                data["buffers"] = Buffers.FREED


def _since_used(first: NodeData, leaf: NodeData) -> NodeData:
    """Whether a leaf has changed since the first frame with an operation that uses it."""
    if first.get("stale"):
        return {"stale": True}
    is_stale = first.get("version", 0) != leaf.get("version", 0)
    is_stale = is_stale or not is_equal(first.get("value"), leaf.get("value"))
    if is_stale and "value" in first:
        return {"stale": True, "used_value": first["value"]}
    return {"stale": is_stale}


def _mark_shares(story: Story, found: Sequence[Frame]) -> None:
    """Add to the edges out of a leaf what each use added to its ``.grad``, where recorded."""
    details = (event.details for event in story.events)
    passes = [each for each in details if isinstance(each, BackwardDetails) and each.shares]
    for frame in found if passes else ():
        latest = frame.pass_number - (frame.kind in _BEFORE_THE_END)
        for each in passes:
            for share in each.shares if each.pass_number <= latest else ():
                _mark_share(frame.graph, share)


_BEFORE_THE_END = (FrameKind.FORWARD, FrameKind.FAILED_BACKWARD, FrameKind.REFUSED_BACKWARD)


def _mark_share(graph: GradGraph, share: LeafGradient) -> None:
    for source, edge in graph.inputs(share.node) if share.node in graph else ():
        leaf = graph.nodes[leaf_of_node(graph, source)]
        if edge["input"] == share.input and (grad := leaf.get("grad")) is not None:
            norm = share.norm if math.isfinite(share.norm) else None
            edge["grad"] = TensorSummary(grad.shape, grad.dtype, grad.device, norm=norm)


def _shared_keys(before: GraphIndex, after: GraphIndex, mate: Mapping[str, str]) -> dict[str, str]:
    """A key for each node of the second graph: its partner's, else an unused one."""
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


def _by_original(side: GraphIndex) -> dict[str, list[str]]:
    """For each node, the nodes that stand for it: its ``AccumulateGrad``, its copies."""
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
