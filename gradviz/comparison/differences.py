"""What is different about two nodes that are the same: attributes, and where their data is from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gradviz.comparison.sides import Side, SideLink, is_tracked, sort_of
from gradviz.comparison.words import value_words, word_of
from gradviz.graph import Buffers, Cause, EdgeKind, NodeData
from gradviz.wording import problem_text

__all__ = ["Change", "differences", "is_equal", "is_out_of_sight"]


@dataclass(frozen=True)
class Change:
    """One thing that is different about a node that is in both graphs.

    Args:
        before_key: the node in the graph before.
        after_key: the node in the graph after.
        attribute: as in `NodeData`: ``"grad"``, ``"shape"``; or ``"input 1"``: the edge into it.
        old: what it was, in a few words.
        new: what it is.
    """

    before_key: str
    after_key: str
    attribute: str
    old: str
    new: str


_Words = tuple[str, str, str]  # attribute, old, new

_FACTS = (
    "kind",
    "op",
    "name",
    "aliases",
    "shape",
    "dtype",
    "device",
    "options",
    "outputs",
    "opaque",
    "inference",
    "retains_grad",
    "hooks",
    "buffers",
    "problem",
    "verdict",
)
_NUMBERS = ("value", "accumulations", "version")


def differences(
    before: Side, after: Side, mate: Mapping[str, str], values: bool
) -> Iterator[Change]:
    """The differences between the nodes of each pair, in the order of the pairs.

    Args:
        before: the first graph.
        after: the second.
        mate: the key after, by the key before.
        values: compare numbers too: values of tensors and gradients, versions, accumulations.
    """
    edges = _Edges(before, after, mate)
    for here, there in mate.items():
        old, new = before.data[here], after.data[there]
        moved = list(edges.into(here, there))
        facts = _FACTS + (_NUMBERS if values else ())
        words = [*_facts(old, new, facts), *_gradient(old, new, values), *moved]
        if not moved and not _is_freed_in_one(old, new):
            # An edge that is gone says the same, and more.
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
            continue  # A root is what was asked for, whatever it was called.
        elif name == "buffers" and {was, now} & {None, Buffers.UNKNOWN}:
            continue
        else:
            yield name, value_words(name, was), value_words(name, now)


def _is_freed_in_one(old: NodeData, new: NodeData) -> bool:
    """Whether an operation has its saved tensors in one graph alone.

    A number or a constant may be known only from what the operation saved for backward: that it
    is seen no more, once that was freed, is no difference.
    """
    return {old.get("buffers"), new.get("buffers")} == {Buffers.HELD, Buffers.FREED}


def _common(data: NodeData, other: NodeData) -> dict[str, str]:
    """The options of a node that the other has too."""
    names = other.get("options", {})
    return {name: text for name, text in data.get("options", {}).items() if name in names}


def is_out_of_sight(side: Side, other: Side, mate: Mapping[str, str], key: str) -> bool:
    """Whether a node is missing in the other graph for no reason but freed buffers.

    Args:
        side: the graph that has it.
        other: the graph that has not.
        mate: the key in ``other``, by the key in ``side``.
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
    """Whether two values are the same; NaN is the same as NaN, unlike for ``==``."""
    return bool(old == new) or repr(old) == repr(new)


class _Edges:
    """The edges into both of a pair, as far as added and removed nodes do not explain them."""

    def __init__(self, before: Side, after: Side, mate: Mapping[str, str]) -> None:
        self.before, self.after = before, after
        self.same = ({here: here for here in mate}, {there: here for here, there in mate.items()})
        self.reached: tuple[dict[str, frozenset[str]], ...] = ({}, {})

    def into(self, here: str, there: str) -> Iterator[_Words]:
        """Each input that is another one, or carries a gradient in one of the graphs alone."""
        mine, others = _by_place(self.before.inputs[here]), _by_place(self.after.inputs[there])
        old_data, new_data = self.before.data[here], self.after.data[there]
        is_other_kind = sort_of(old_data) != sort_of(new_data)
        is_freed = _is_freed_in_one(old_data, new_data)
        more = new_data.get("untracked_inputs", 0) - old_data.get("untracked_inputs", 0)
        for place in sorted(mine.keys() | others.keys()):
            old, new = mine.get(place), others.get(place)
            if old is None or new is None:
                # A result that is detached has no inputs to speak of.
                if is_other_kind or (is_freed and _is_cut(old or new)):
                    continue
            elif not self._is_other(old, new):
                continue
            was = _link_words(self.before, old) or ("no gradient" if more < 0 else "none")
            now = _link_words(self.after, new) or ("no gradient" if more > 0 else "none")
            yield f"input {place[0]}", was, now

    def _is_other(self, old: SideLink, new: SideLink) -> bool:
        if old.edge.get("kind") != new.edge.get("kind") or _causes_differ(old, new):
            return True
        from_old, from_new = self.same[0].get(old.key), self.same[1].get(new.key)
        if from_old is not None and from_old == from_new:
            ways = [(link.output, link.edge.get("through")) for link in (old, new)]
            return ways[0] != ways[1]
        ends = self._ends(0, old.key), self._ends(1, new.key)
        return ends[0] != ends[1] and not ends[0] & ends[1]

    def _ends(self, which: int, key: str) -> frozenset[str]:
        """The nearest nodes from ``key`` back that are in both graphs, by their key before."""
        side, same, reached = (
            (self.before, self.after)[which],
            self.same[which],
            self.reached[which],
        )
        stack = [key]
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


def _by_place(links: list[SideLink]) -> dict[tuple[int, int], SideLink]:
    """Each link by its position, and a number where several share one, as into a group."""
    found: dict[tuple[int, int], SideLink] = {}
    for link in links:
        number = 0
        while (link.position, number) in found:
            number += 1
        found[link.position, number] = link
    return found


def _is_cut(link: SideLink | None) -> bool:
    return link is not None and link.edge.get("kind") is EdgeKind.CUT


def _causes_differ(old: SideLink, new: SideLink) -> bool:
    """Whether both are known to be cut, each for another cause."""
    causes = {old.edge.get("cause"), new.edge.get("cause")}
    return len(causes - {None, Cause.NOT_RECORDED}) == 2


def _link_words(side: Side, link: SideLink | None) -> str:
    if link is None:
        return ""
    word = word_of(side.data[link.key])
    if not _is_cut(link):
        return word
    cause = link.edge.get("cause", Cause.NOT_RECORDED)
    return f"{word}, no gradient" + ("" if cause is Cause.NOT_RECORDED else f" ({cause.value})")
