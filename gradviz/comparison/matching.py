"""Match the nodes of two graphs by their names and their connections."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

from gradviz.graph import TENSORS, EdgeData, GradGraph, NodeData, NodeKind, TensorSummary
from gradviz.graph.text import clean, number_text, shape_text


def align(
    before: Sequence[Hashable], after: Sequence[Hashable], most: int = 400
) -> Iterator[tuple[int, int]]:
    """Pair equal elements of two sequences, in order, with the fewest elements left over.

    Args:
        before: one sequence.
        after: the other.
        most: the number of unpaired elements at which the search stops; the run time is
            proportional to the length times the difference.

    Returns:
        Pairs of indices, from the last to the first; none when more elements differ.

    Note:
        The algorithm is that of E. W. Myers, "An O(ND) difference algorithm and its
        variations", Algorithmica 1 (1986).

    Example:
        >>> list(align("abcd", "abxcd"))
        [(3, 4), (2, 3), (1, 1), (0, 0)]
    """
    furthest = {1: 0}  # by diagonal, the largest index in ``before`` that was reached
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
    """Whether the best path to a diagonal skips an element of ``after``."""
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
_LEVELS = ((*_IDENTITY, *_STATE), _IDENTITY, ("op", "name", "module", "options"), ("op",))
"""The attributes that must be equal for two nodes to match: first all, then fewer."""

_ROUNDS = 4  # Each starts from the previous matches; the second seldom finds more.
_LOOKS = 8  # The number of equal nodes that are tried before one is chosen.

Keys = tuple[Mapping[str, Hashable], Mapping[str, Hashable]]
"""The value to compare for each node, of the first graph and of the second."""


def match(before: GraphIndex, after: GraphIndex) -> dict[str, str]:
    """The key in ``after`` of each node of ``before`` that is in both, inputs before users.

    The result does not depend on the order of the graphs, on keys, or on the order in which the
    nodes are stored.
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
    """The pairs found so far; ``pairs`` gives both nodes of a pair the same number."""

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
        """Match nodes with equal attributes and equal connections."""
        labels = self.before.facts(facts), self.after.facts(facts)
        for _ in range(_ROUNDS):
            if self._is_done():
                return
            count = len(self.mate)
            colors = self._colors(labels)
            for keys in colors:
                self._match_equal(keys)
            self._spread(list(self.mate.items()), labels)
            if len(self.mate) == count:
                self._match_equal(colors[0], any_will_do=True)
            if len(self.mate) == count:
                break

    def _is_done(self) -> bool:
        """Whether all nodes of one of the graphs are matched."""
        return len(self.mate) == min(len(self.before.data), len(self.after.data))

    def _pair(self, here: str, there: str) -> None:
        self.pairs[0][here] = self.pairs[1][there] = len(self.mate)
        self.mate[here] = there

    def _are_open(self, here: str, there: str) -> bool:
        return here not in self.pairs[0] and there not in self.pairs[1]

    def _match_names(self) -> None:
        """Match tensors by name, and roots by name or else by number."""
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

    def _colors(self, labels: Keys) -> list[Keys]:
        """Per graph, a color for each node: by inputs and users, by inputs, and by users."""
        interned: dict[Hashable, int] = {}
        both: list[dict[str, Hashable]] = []
        ups: list[dict[str, Hashable]] = []
        downs: list[dict[str, Hashable]] = []
        for side, label, pairs in zip((self.before, self.after), labels, self.pairs, strict=True):
            up = _sweep(side.order, side.inputs, label, pairs, interned)
            down = _sweep(side.order[::-1], side.users, label, pairs, interned)
            both.append({key: (up[key], down[key]) for key in up})
            # Colored by its inputs alone, an unnamed tensor equals any other.
            ups.append({key: up[key] for key in up if side.inputs[key]})
            downs.append({key: down[key] for key in down if side.users[key]})
        return [(both[0], both[1]), (ups[0], ups[1]), (downs[0], downs[1])]

    def _match_equal(self, keys: Keys, any_will_do: bool = False) -> None:
        """Match nodes with equal keys; of several, one whose matched neighbors are the same.

        Args:
            keys: the keys to compare.
            any_will_do: match one of several also when none of its neighbors is matched.
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
        """Whether both are unmatched, and not tensors to which the user gave different names."""
        if not self._are_open(here, there):
            return False
        old, new = self.before.data[here], self.after.data[there]
        if sort_of(old) != "tensor" or old.get("name", "") == new.get("name", ""):
            return True
        return old.get("shape") == new.get("shape") and is_tracked(old) == is_tracked(new)

    def _near(self, which: int, key: str) -> list[list[tuple[int, int, int]]]:
        """The matched inputs and users of a node, by number of the pair."""
        side, pairs = (self.before, self.after)[which], self.pairs[which]
        return [
            sorted((at, output, pairs[end]) for at, output, end, _ in links if end in pairs)
            for links in (side.inputs[key], side.users[key])
        ]

    def _spread(self, found: list[tuple[str, str]], keys: Keys) -> None:
        """Match the inputs and users of a pair that have the same position and equal keys."""
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
        """Match the remaining nodes of one kind between the same two matched nodes."""
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
    """A color for each node, from its label and the colors of its neighbors."""
    color: dict[str, int] = {}
    for key in order:
        facts: Hashable = pairs.get(key)
        if facts is None:
            near = sorted((at, output, color[end]) for at, output, end, _ in links[key])
            facts = (label[key], *near)
        color[key] = interned.setdefault(facts, len(interned))
    return color


def _by_place(
    links: list[IndexLink], keys: Mapping[str, Hashable], pairs: Mapping[str, int]
) -> dict[Hashable, list[str]]:
    """The unmatched nodes at the other ends, by the position of the link and their key."""
    found: dict[Hashable, list[str]] = {}
    for position, output, end, _ in links:
        if end not in pairs and end in keys:
            found.setdefault((position, output, keys[end]), []).append(end)
    return found


_MOST_VALUES = 6

_WHEN_ABSENT = {
    "grad": "None",
    "outputs": "1",
    **dict.fromkeys(("accumulations", "hooks", "untracked_inputs", "version"), "0"),
    **dict.fromkeys(("inference", "requires_grad", "retains_grad"), "False"),
}


def word_of(data: NodeData) -> str:
    """The name of a node in a sentence: ``w``, ``mul``, ``addmm h``.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> word_of({"kind": NodeKind.OPERATION, "op": "mul", "name": "h"})
        'mul h'
        >>> word_of({"kind": NodeKind.LEAF})
        'leaf'
    """
    words = " ".join(filter(None, (data.get("op"), data.get("name"))))
    return clean(words or data["kind"].value)


def value_words(attribute: str, value: Any) -> str:
    """The value of an attribute as text; ``value`` is None where it is left out.

    Example:
        >>> value_words("shape", (3, 4)), value_words("grad", None), value_words("hooks", None)
        ('[3,4]', 'None', '0')
        >>> value_words("grad", TensorSummary((2,), "float32", "cpu", values=(3.0, 0.25)))
        '3 0.25'
    """
    if value is None:
        return _WHEN_ABSENT.get(attribute, "none")
    if attribute == "shape":
        return shape_text(value)
    if isinstance(value, TensorSummary):
        return _summary_words(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, dict):
        value = tuple(f"{name}={text}" for name, text in value.items())
    return clean(" ".join(value) if isinstance(value, tuple) else str(value))


def _summary_words(summary: TensorSummary) -> str:
    if summary.values is not None and len(summary.values) <= _MOST_VALUES:
        return " ".join(map(number_text, summary.values)) or "no elements"
    if not summary.is_finite:
        return f"{summary.nan} NaN, {summary.inf} infinite"
    if summary.norm is not None:
        return f"norm {number_text(summary.norm)}"
    if summary.values is not None:
        return f"{' '.join(map(number_text, summary.values[:_MOST_VALUES]))} …"
    return summary.note or "not read"


class IndexLink(NamedTuple):
    """An input or a user of a node."""

    position: int  # which input of the user it is
    output: int  # which output of the source it is
    key: str  # the node at the other end
    edge: EdgeData  # the attributes


class GraphIndex:
    """An index of one of two graphs that are compared.

    Nodes that stand for another node are left out: copies of a leaf, and the ``AccumulateGrad``
    between a leaf and its users. Their edges become edges of the leaf.

    Args:
        graph: its arrows may have either direction; it is not modified.
    """

    def __init__(self, graph: GradGraph) -> None:
        self.graph = graph
        self.stands_for = _stand_ins(graph)
        self.data: dict[str, NodeData] = {
            key: data for key, data in graph.nodes(data=True) if key not in self.stands_for
        }
        self.inputs: dict[str, list[IndexLink]] = {key: [] for key in self.data}
        self.users: dict[str, list[IndexLink]] = {key: [] for key in self.data}
        for key in self.data:
            for end, edge in graph.inputs(key):
                source = self.stands_for.get(end, end)
                ends = edge.get("input", 0), edge.get("output", 0)
                self.inputs[key].append(IndexLink(*ends, source, edge))
                self.users[source].append(IndexLink(*ends, key, edge))
        self.order = list(self._inputs_first())

    def _inputs_first(self) -> Iterator[str]:
        """Every node after its inputs, branch by branch, so that an edit moves few other nodes."""
        roots = sorted(
            (key for key in self.data if not self.users[key]),
            key=lambda key: self.data[key].get("root", len(self.data)),
        )
        done: set[str] = set()
        stack = [(key, False) for key in reversed(roots)]
        while stack:
            key, is_ready = stack.pop()
            if is_ready:
                yield key
            elif key not in done:
                done.add(key)
                stack.append((key, True))
                stack += [(link.key, False) for link in reversed(self.inputs[key])]

    def facts(self, names: tuple[str, ...]) -> dict[str, Hashable]:
        """For each node, its sort and the attributes of those names, to compare."""
        return {
            key: (sort_of(data), *(_hashable(data.get(name)) for name in names))
            for key, data in self.data.items()
        }

    def unique(self, sorts: tuple[str, ...], attribute: str) -> dict[Any, str]:
        """Keys by attribute, for nodes of those sorts whose value is unique."""
        found: dict[Any, list[str]] = {}
        for key, data in self.data.items():
            if sort_of(data) in sorts and data.get(attribute) not in (None, ""):
                found.setdefault(data.get(attribute), []).append(key)
        return {value: keys[0] for value, keys in found.items() if len(keys) == 1}


def _stand_ins(graph: GradGraph) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, data in graph.nodes(data=True):
        if data.get("clone_of") in graph:
            found[key] = data["clone_of"]
    for key, data in graph.nodes(data=True):
        if data["kind"] is NodeKind.ACCUMULATE:
            sources = [source for source, _ in graph.inputs(key)]
            if len(sources) == 1:
                found[key] = found.get(sources[0], sources[0])
    return found


def sort_of(data: NodeData) -> str:
    """``"tensor"`` for a node that is not the result of an operation, else its kind."""
    return "tensor" if data["kind"] in TENSORS else data["kind"].value


def is_tracked(data: NodeData) -> bool:
    """Whether a gradient can flow to a tensor or operation."""
    return data["kind"] is not NodeKind.UNTRACKED


def _hashable(value: Any) -> Hashable:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value
