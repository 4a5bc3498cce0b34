"""Which nodes of two graphs are the same."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import islice

from gradviz.comparison.graph_index import GraphIndex, IndexLink, is_tracked, sort_of
from gradviz.graph import NodeKind

__all__ = ["align", "match"]


def align(
    before: Sequence[Hashable], after: Sequence[Hashable], most: int = 400
) -> Iterator[tuple[int, int]]:
    """Pair the equal elements of two sequences, in order, with as few left over as can be.

    Args:
        before: one sequence.
        after: the other.
        most: the number of elements without a partner at which it gives up: the work is the
            length times the difference.

    Returns:
        Pairs of indices, from the last to the first; none when the sequences differ in more.

    Note:
        The algorithm is that of E. W. Myers, "An O(ND) difference algorithm and its
        variations", Algorithmica 1 (1986).

    Example:
        >>> list(align("abcd", "abxcd"))
        [(3, 4), (2, 3), (1, 1), (0, 0)]
    """
    furthest = {1: 0}  # per diagonal, how far into ``before`` a path has come
    trail: list[dict[int, int]] = []
    for edits in range(min(most, len(before) + len(after)) + 1):
        trail.append(dict(furthest))
        for diagonal in range(-edits, edits + 1, 2):
            if _is_down(furthest, diagonal, edits):
                x = furthest[diagonal + 1]
            else:
                x = furthest[diagonal - 1] + 1
            y = x - diagonal
            while x < len(before) and y < len(after) and before[x] == after[y]:
                x, y = x + 1, y + 1
            furthest[diagonal] = x
            if x >= len(before) and y >= len(after):
                yield from _back(trail, x, y)
                return


def _is_down(furthest: dict[int, int], diagonal: int, edits: int) -> bool:
    """Whether the best path to a diagonal leaves out an element of ``after``."""
    if diagonal in (-edits, edits):
        return diagonal == -edits
    return furthest[diagonal - 1] < furthest[diagonal + 1]


def _back(trail: list[dict[int, int]], x: int, y: int) -> Iterator[tuple[int, int]]:
    for edits in range(len(trail) - 1, -1, -1):
        diagonal = x - y
        is_down = _is_down(trail[edits], diagonal, edits)
        begin = trail[edits][diagonal + 1] if is_down else trail[edits][diagonal - 1] + 1
        while x > begin:
            x, y = x - 1, y - 1
            yield x, y
        x, y = (x, y - 1) if is_down else (x - 1, y)


_IDENTITY = ("op", "name", "module", "source", "shape", "dtype", "options")
_STATE = ("kind", "grad", "value", "buffers", "version", "hooks", "retains_grad", "opaque")
_LEVELS = (
    (*_IDENTITY, *_STATE),
    _IDENTITY,
    ("op", "name", "module", "options"),
    ("op",),
)
"""What has to be equal for two nodes to be the same: first all, then less and less."""

_ROUNDS = 4  # Each starts from what the one before has found; the second seldom finds more.
_LOOKS = 8  # Of many nodes that are all alike, how many are looked at before one is chosen.

Keys = tuple[Mapping[str, Hashable], Mapping[str, Hashable]]
"""What is compared for equality: of each node of the graph before, and of the graph after."""


def match(before: GraphIndex, after: GraphIndex) -> dict[str, str]:
    """The key in ``after`` of each node in ``before`` that is in both, inputs before users.

    What is matched does not depend on which of the two comes first, nor on keys or on the order
    in which the nodes are stored.
    """
    if _size(after) < _size(before):
        found = {there: here for here, there in _Matching(after, before).run().items()}
    else:
        found = _Matching(before, after).run()
    return {key: found[key] for key in before.order if key in found}


def _size(side: GraphIndex) -> tuple[int, int, list[str]]:
    edges = sum(map(len, side.inputs.values()))
    return len(side.data), edges, sorted(map(repr, side.facts(_IDENTITY).values()))


class _Matching:
    """The pairs found so far; ``pairs`` gives both of a pair one number."""

    def __init__(self, before: GraphIndex, after: GraphIndex) -> None:
        self.before, self.after = before, after
        self.mate: dict[str, str] = {}
        self.pairs: tuple[dict[str, int], dict[str, int]] = ({}, {})

    def run(self) -> dict[str, str]:
        self._match_names()
        for facts in _LEVELS:
            self._match_by(facts)
        if not self._is_done():
            self._match_in_order()
        return self.mate

    def _match_by(self, facts: tuple[str, ...]) -> None:
        """Match nodes that are alike in those attributes, and stand in the same place."""
        labels = self.before.facts(facts), self.after.facts(facts)
        for _ in range(_ROUNDS):
            if self._is_done():
                return
            count = len(self.mate)
            colours = self._colours(labels)
            for keys in colours:
                self._match_equal(keys)
            self._spread(list(self.mate.items()), labels)
            if len(self.mate) == count:
                self._match_equal(colours[0], any_will_do=True)
            if len(self.mate) == count:
                break

    def _is_done(self) -> bool:
        """Whether one of the graphs has no node left without a partner."""
        return len(self.mate) == min(len(self.before.data), len(self.after.data))

    def _pair(self, here: str, there: str) -> None:
        self.pairs[0][here] = self.pairs[1][there] = len(self.mate)
        self.mate[here] = there

    def _are_open(self, here: str, there: str) -> bool:
        return here not in self.pairs[0] and there not in self.pairs[1]

    def _match_names(self) -> None:
        """Match tensors by name, and what was asked for by name, else by its number."""
        result = NodeKind.RESULT.value
        for sorts, attribute in (
            (("tensor",), "name"),
            ((result,), "name"),
            ((result,), "root"),
            (("tensor", result), "root"),
        ):
            others = self.after.unique(sorts, attribute)
            for value, here in self.before.unique(sorts, attribute).items():
                there = others.get(value)
                if there is not None and self._are_open(here, there):
                    self._pair(here, there)

    def _colours(self, labels: Keys) -> list[Keys]:
        """Per graph a colour for each node: by inputs and users both, by inputs, by users."""
        interned: dict[Hashable, int] = {}
        both: list[dict[str, Hashable]] = []
        ups: list[dict[str, Hashable]] = []
        downs: list[dict[str, Hashable]] = []
        for side, label, pairs in zip((self.before, self.after), labels, self.pairs, strict=True):
            up = _sweep(side.order, side.inputs, label, pairs, interned)
            down = _sweep(side.order[::-1], side.users, label, pairs, interned)
            both.append({key: (up[key], down[key]) for key in up})
            # By its inputs alone, a tensor without a name is like any other.
            ups.append({key: up[key] for key in up if side.inputs[key]})
            downs.append({key: down[key] for key in down if side.users[key]})
        return [(both[0], both[1]), (ups[0], ups[1]), (downs[0], downs[1])]

    def _match_equal(self, keys: Keys, any_will_do: bool = False) -> None:
        """Match nodes whose keys are equal; of several, one with the same matched neighbours.

        Args:
            keys: what has to be equal.
            any_will_do: match one of several also when no neighbour of it is matched.
        """
        mine, others = keys
        waiting: dict[Hashable, deque[str]] = {}
        for there in reversed(self.after.order):
            if there not in self.pairs[1] and there in others:
                waiting.setdefault(others[there], deque()).append(there)
        rivals = Counter(mine[here] for here in mine if here not in self.pairs[0])
        rivals.update({key: len(found) - 1 for key, found in waiting.items()})
        for here in reversed(self.before.order):
            candidates = waiting.get(mine.get(here))
            if candidates is None or here in self.pairs[0]:
                continue
            while candidates and candidates[0] in self.pairs[1]:
                candidates.popleft()
            near = None if rivals[mine[here]] == 1 else self._near(0, here)
            if near and not any(near) and not any_will_do:
                continue
            for there in islice(candidates, _LOOKS):
                if self._can_pair(here, there) and (near is None or near == self._near(1, there)):
                    self._pair(here, there)
                    self._spread([(here, there)], keys)
                    break

    def _can_pair(self, here: str, there: str) -> bool:
        """Whether both are free, and not two tensors of which the user says that they differ."""
        if not self._are_open(here, there):
            return False
        old, new = self.before.data[here], self.after.data[there]
        if sort_of(old) != "tensor" or old.get("name", "") == new.get("name", ""):
            return True
        return old.get("shape") == new.get("shape") and is_tracked(old) == is_tracked(new)

    def _near(self, which: int, key: str) -> list[list[tuple[int, int, int]]]:
        """The matched inputs and users of a node of one of the graphs, by number of the pair."""
        side, pairs = (self.before, self.after)[which], self.pairs[which]
        return [
            sorted((at, output, pairs[end]) for at, output, end, _ in links if end in pairs)
            for links in (side.inputs[key], side.users[key])
        ]

    def _spread(self, found: list[tuple[str, str]], keys: Keys) -> None:
        """Match what feeds or uses both of a pair, in the same place and with equal keys."""
        while found:
            here, there = found.pop()
            for mine, others in (
                (self.before.inputs[here], self.after.inputs[there]),
                (self.before.users[here], self.after.users[there]),
            ):
                theirs = _by_place(others, keys[1], self.pairs[1])
                for place, ends in _by_place(mine, keys[0], self.pairs[0]).items():
                    ends_there = theirs.get(place, [])
                    if len(ends) != len(ends_there):
                        continue
                    for pair in zip(ends, ends_there, strict=True):
                        if self._can_pair(*pair) and (
                            len(ends) == 1 or self._near(0, pair[0]) == self._near(1, pair[1])
                        ):
                            self._pair(*pair)
                            found.append(pair)

    def _match_in_order(self) -> None:
        """Match what is left between the same two others, and is of the same kind."""
        rows: list[list[Hashable]] = []
        for side, pairs in zip((self.before, self.after), self.pairs, strict=True):
            labels = side.facts(("op", "shape"))
            loose = side.facts(("op",))
            for key in side.data:
                if side.inputs[key]:
                    labels[key] = loose[key]
            rows.append([pairs.get(key, labels[key]) for key in side.order])
        for here, there in align(rows[0], rows[1]):
            pair = self.before.order[here], self.after.order[there]
            if self._can_pair(*pair):
                self._pair(*pair)


def _sweep(
    order: Sequence[str],
    links: Mapping[str, list[IndexLink]],
    label: Mapping[str, Hashable],
    pairs: Mapping[str, int],
    interned: dict[Hashable, int],
) -> dict[str, int]:
    """A colour for each node, from its label and the colours at the other ends of its links."""
    colour: dict[str, int] = {}
    for key in order:
        facts: Hashable = pairs.get(key)
        if facts is None:
            near = sorted((at, output, colour[end]) for at, output, end, _ in links[key])
            facts = (label[key], *near)
        colour[key] = interned.setdefault(facts, len(interned))
    return colour


def _by_place(
    links: list[IndexLink], keys: Mapping[str, Hashable], pairs: Mapping[str, int]
) -> dict[Hashable, list[str]]:
    """The nodes without a partner at the other ends, by the place of the link and their key."""
    found: dict[Hashable, list[str]] = {}
    for position, output, end, _ in links:
        if end not in pairs and end in keys:
            found.setdefault((position, output, keys[end]), []).append(end)
    return found
