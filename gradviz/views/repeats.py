"""The graph with its repetitions drawn once: found in the row of operations, and folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from gradviz.graph import GradGraph, NodeKind
from gradviz.graph.text import Path
from gradviz.views.groups import Part, contract, count_of_nodes, words_of
from gradviz.views.modules import (
    check_depth,
    contents_of,
    is_inferred,
    module_paths,
    root_of,
    shared_by,
)
from gradviz.views.op_sequence import Ints, OpSequence, op_sequence
from gradviz.views.view import along_the_data, view

__all__ = [
    "Period",
    "TandemRun",
    "fold_parts",
    "fold_repeats",
    "is_led_up_to",
    "periods_of",
    "repeat_parts",
    "runs",
    "stack_of",
]


class TandemRun(NamedTuple):
    """A stretch from ``start`` to before ``stop`` that equals itself ``period`` further on."""

    start: int
    stop: int
    period: int


def runs(row: Ints, fewest: int = 3) -> Iterator[list[TandemRun]]:
    """The stretches in which the same part comes at least ``fewest`` times, shortest part first.

    Args:
        row: numbers; equal ones stand for equal things.
        fewest: 3 or more.

    Yields:
        For the periods 1, 2, 3 to 4, 5 to 8, ...: the stretches, longest first, that do not
        overlap.

    Example:
        >>> row = np.array([9, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 7])
        >>> [found for level in runs(row) for found in level]
        [TandemRun(start=1, stop=11, period=3)]
    """
    names = np.unique(row, return_inverse=True)[1].astype(np.int64)
    length = 1
    while length * 3 <= 2 * len(row) + 2:
        distance = _distances(names)
        if not distance.any():
            return
        yield _apart(_stretches(distance, length), fewest)
        if len(names) <= length:
            return
        pairs = names[:-length] * (int(names.max()) + 1) + names[length:]
        names = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
        length *= 2


def _distances(names: Ints) -> Ints:
    """How far back each word was seen last; 0 if never."""
    order = np.argsort(names, kind="stable")
    same = names[order[1:]] == names[order[:-1]]
    distance = np.zeros(len(names), np.int64)
    distance[order[1:][same]] = (order[1:] - order[:-1])[same]
    return distance


def _stretches(distance: Ints, length: int) -> list[TandemRun]:
    """Where words of that length keep coming at one distance of about that length."""
    edges = np.flatnonzero(np.diff(distance)) + 1
    starts = np.concatenate(([0], edges))
    stops = np.concatenate((edges, [len(distance)]))
    periods = distance[starts]
    right = (periods > length // 2) & (periods <= length)
    return [
        TandemRun(start - period, stop + length - 1, period)
        for start, stop, period in zip(
            starts[right].tolist(), stops[right].tolist(), periods[right].tolist(), strict=True
        )
    ]


def _apart(found: list[TandemRun], fewest: int) -> list[TandemRun]:
    found = [run for run in found if run.stop - run.start >= fewest * run.period]
    found.sort(key=lambda run: (run.start - run.stop, run.start))
    if not found:
        return []
    taken = np.zeros(max(run.stop for run in found), bool)
    kept = []
    for run in found:
        if not taken[run.start : run.stop].any():
            taken[run.start : run.stop] = True
            kept.append(run)
    return kept


_FEWEST = 3  # times that something comes before it is called a repetition
_WORTH_FOLDING = 4  # operations that a loop must save
_MOST_CUTS = 64


@dataclass(frozen=True, order=True)
class Period:
    """OpSequence from ``start`` to before ``stop``: the same ``length`` units again and again.

    Args:
        start: the first unit.
        stop: after the last unit.
        length: units of one repetition.
        stack: whether each repetition is a module of its own, as ``layers.0``, ``layers.1``, ...
    """

    start: int
    stop: int
    length: int
    stack: bool

    @property
    def count(self) -> int:
        """How many times it comes."""
        return (self.stop - self.start) // self.length


def periods_of(units: OpSequence, paths: Sequence[Path]) -> list[Period]:
    """Find what repeats, inner loops before the loops around them.

    Args:
        units: the graph.
        paths: the module of each unit.
    """
    search = _Search(units, paths)
    while search.fold_shortest():
        pass
    return search.found


def stack_of(paths: Sequence[Path], period: Period) -> tuple[Path, str, str] | None:
    """What numbers the modules of a stack: their common path, and the first and last number.

    ``("encoder", "layers"), "0", "11"``; None if the repetitions are not modules of their own.
    """
    for place in range(period.start, period.start + period.length):
        one, next_one = paths[place], paths[place + period.length]
        if one != next_one:
            at = next(n for n, (a, b) in enumerate(zip(one, next_one, strict=True)) if a != b)
            last = paths[place + (period.count - 1) * period.length]
            return one[:at], one[at], last[at]
    return None


def is_led_up_to(units: OpSequence, period: Period) -> bool:
    """Whether the units before have the words of the repetition, if not its inputs.

    So it is when the first step of a loop begins from a constant.
    """
    first, length = period.start - period.length, period.length
    return first >= 0 and all(
        units.data[place].get("op") == units.data[place + length].get("op")
        for place in range(first, period.start)
    )


@lru_cache(maxsize=65536)
def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text)


class _Search:
    """Folds the shortest repetition, then what repeats in what is left, and so on.

    ``starts`` has the first unit of each item, ``row`` a number that equal items share. At
    first every unit is an item; what was folded is one.
    """

    def __init__(self, units: OpSequence, paths: Sequence[Path]) -> None:
        self.units, self.paths = units, paths
        self.found: list[Period] = []
        self.starts: Ints = np.arange(len(units) + 1)
        self.row, self.names = _rows(units, paths)
        self.last_use: Ints = np.arange(len(units))
        users = np.repeat(np.arange(len(units)), np.diff(units.starts))
        inside = units.sources >= 0
        np.maximum.at(self.last_use, units.sources[inside], users[inside])

    def fold_shortest(self) -> bool:
        """Fold the repetitions with the shortest part; False if nothing repeats."""
        if len(self.row) < _FEWEST:
            return False
        for level in runs(self.row, _FEWEST):
            fresh = sorted(period for run in level for period in self._periods(run))
            if fresh:
                self.found += fresh
                self._fold(fresh)
                return True
        return False

    def _fold(self, fresh: Sequence[Period]) -> None:
        rows, starts, done = [], [], 0
        for period in fresh:
            first, stop = np.searchsorted(self.starts, (period.start, period.stop)).tolist()
            length = (stop - first) // period.count
            keep = 0 if period.stack else length
            part = tuple(self.row[first : first + length].tolist())
            name = self.names.setdefault((part, period.count), len(self.names))
            rows += [self.row[done : first + keep], np.array([name])]
            starts += [self.starts[done : first + keep + 1]]
            done = stop - keep
        self.row = np.concatenate([*rows, self.row[done:]])
        self.starts = np.concatenate([*starts, self.starts[done:]])

    def _periods(self, run: TandemRun) -> Iterator[Period]:
        """The repetitions in a run that are also joined alike, each begun at its best place."""
        first, stop = int(self.starts[run.start]), int(self.starts[run.stop])
        length = int(self.starts[run.start + run.period]) - first
        for start, end in self._joined_alike(first, stop, length):
            low = int(np.searchsorted(self.starts, start))
            high = int(np.searchsorted(self.starts, end, side="right")) - 1
            begins = self.starts[low : low + run.period].tolist()
            if low + _FEWEST * run.period <= high:
                yield from self._best(begins, int(self.starts[high]), length)

    def _joined_alike(self, start: int, stop: int, length: int) -> Iterator[tuple[int, int]]:
        """The stretches in which the inputs of each unit come from the same places.

        From as far back; or from the same unit; or both from before the second repetition.
        """
        bounds, sources = self.units.starts, self.units.sources
        for _ in range(_MOST_CUTS):
            if stop - start < _FEWEST * length:
                return
            one = sources[bounds[start] : bounds[stop - length]]
            other = sources[bounds[start + length] : bounds[stop]]
            before = start + length
            alike = (other - one == length) | (other == one) | ((one < before) & (other < before))
            if alike.all():
                yield start, stop
                return
            slot = int(np.argmin(alike)) + int(bounds[start])
            unit = int(np.searchsorted(bounds, slot, side="right")) - 1
            if unit + length - start >= _FEWEST * length:
                yield start, unit + length
            start = unit + 1

    def _best(self, begins: list[int], stop: int, length: int) -> Iterator[Period]:
        """Begin where a module begins, or where the fewest values go on and parameters come in."""
        first = begins[0]
        crossing = np.zeros(2 * length + 2, np.int64)
        window = np.arange(2 * length)
        ends = np.minimum(self.last_use[first : first + 2 * length] - first, window + length)
        np.add.at(crossing, window + 1, 1)
        np.add.at(crossing, np.minimum(ends, 2 * length) + 1, -1)
        crossing = np.cumsum(crossing)
        whole = Period(first, stop, length, False)
        stack = stack_of(self.paths, whole) if self._is_stack(first, length) else None
        choices = []
        for begin in begins:
            count = (stop - begin) // length
            if count >= _FEWEST:
                inside = stack is None or not self._begins_module(begin, stack)
                across = int(crossing[begin - first + length])
                midway = not self.units.parameters(begin)
                period = Period(begin, begin + count * length, length, stack is not None)
                alone = not is_led_up_to(self.units, period)
                choices.append(((inside, across, midway, -count, alone), period))
        period = min(choices)[1]
        if stack is not None or self._is_worth(period):
            yield period

    def _is_stack(self, start: int, length: int) -> bool:
        return self.paths[start : start + length] != self.paths[start + length : start + 2 * length]

    def _begins_module(self, place: int, stack: tuple[Path, str, str]) -> bool:
        at = len(stack[0])
        own = self.paths[place][: at + 1]
        before = self.paths[place - 1][: at + 1] if place else ()
        return len(own) > at and own != before and own[:at] == stack[0]

    def _is_worth(self, period: Period) -> bool:
        """Whether a loop saves enough, and each step needs what the step before it made."""
        bounds, length = self.units.starts, period.length
        second = period.start + length
        sources = self.units.sources[bounds[second] : bounds[second + length]]
        chained = bool(((sources >= period.start) & (sources < second)).any())
        return chained and (period.count - 2) * length >= _WORTH_FOLDING


def _rows(units: OpSequence, paths: Sequence[Path]) -> tuple[Ints, dict[object, int]]:
    """A number for each unit, equal for units that do the same, and what the numbers mean."""
    leaf_names: dict[object, int] = {}
    leaves = []
    for leaf in units.leaves:
        name = _without_numbers(leaf.get("name", ""))
        kind = (leaf["kind"], leaf.get("shape"), leaf.get("dtype"), name)
        leaves.append(-1 - leaf_names.setdefault(kind, len(leaf_names)))
    names: dict[object, int] = {}
    bounds = units.starts.tolist()
    # An input is told by the kind of its leaf; what an operation has made has 0 for a kind.
    kinds = np.append(leaves, 0)[np.maximum(-1 - units.sources, -1)].tolist()
    plain = {path: tuple(map(_without_numbers, path)) for path in set(paths)}
    row = np.empty(len(units), np.int64)
    operation = NodeKind.OPERATION
    for place, data in enumerate(units.data):
        get, joined = data.get, tuple(kinds[bounds[place] : bounds[place + 1]])
        facts: tuple[object, ...]
        facts = get("op"), get("shape"), get("dtype"), plain[paths[place]], joined
        if data["kind"] is not operation:
            facts = (*facts, data.get("structure"), data.get("repeat"))
        if not units.foldable(place):
            facts = (*facts, place)
        row[place] = names.setdefault(facts, len(names))
    return row, names


_NUMBER = re.compile(r"^\D+")  # what stands before the number: the "layer" of layer4


@view
@along_the_data
def fold_repeats(graph: GradGraph, *, depth: int | None = None) -> GradGraph:
    """Draw what comes three times or more in a row, each from the one before, as one node ``×n``.

    Of a loop the first and the last step stay as they are, and those between become one node.
    Stacked layers, such as ``layers.0`` to ``layers.11``, become one node as a whole.

    Args:
        graph: found to repeat itself by its operations, their shapes and the way they are
            joined; modules help to tell where a part begins.
        depth: as for `group_by_module`; of stacked layers that lie less deep the first stays
            open, so that their inside is seen. None folds them all.

    Returns:
        A graph in which each such node has ``repeat`` and the sums of what is in it.

    Raises:
        UsageError: if ``depth`` is less than 1.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> for n in range(9): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> for n in range(8): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> folded = fold_repeats(graph)
        >>> list(folded), folded.nodes["g0"]["repeat"]
        (['n0', 'g0', 'n8'], 7)
    """
    check_depth(depth)
    units = op_sequence(graph)
    paths = module_paths(units)
    opened = 0 if depth is None else root_of(paths) + depth
    return fold_parts(graph, repeat_parts(units, paths, periods_of(units, paths), opened))


def fold_parts(graph: GradGraph, parts: Sequence[Part]) -> GradGraph:
    """Fold the parts that repeat, and say so."""
    if not parts:
        return graph.copy()  # type: ignore[no-any-return]
    count = sum(count_of_nodes([graph.nodes[key] for key in part.keys]) for part in parts)
    times = ", ".join(f"×{part.data['repeat']:,}" for part in parts[:4])
    more = ", ..." if len(parts) > 4 else ""
    return contract(graph, parts).with_note(f"{count:,} operations repeat, folded: {times}{more}")


def repeat_parts(
    units: OpSequence, paths: Sequence[Path], periods: Sequence[Period], opened: int = 0
) -> list[Part]:
    """The parts to fold.

    Args:
        units: the graph.
        paths: the module of each unit.
        periods: what repeats in it.
        opened: the first of stacked layers stays open if their paths have fewer parts than this.
    """
    parts: list[tuple[int, int, Part]] = []
    for period in reversed(periods):  # what is around others first
        stack = stack_of(paths, period) if period.stack else None
        keep = 1 if stack is None or len(stack[0]) + 1 < opened else 0
        # A first step or layer that differs a little comes before, and is seen anyway.
        if is_led_up_to(units, period) if stack is None else _has_sibling(paths, period, stack[0]):
            keep = 0
        start = period.start + keep * period.length
        stop = period.stop - (0 if stack else period.length)
        if any(first <= start < end for first, end, _ in parts):
            continue
        data: Any = {"repeat": (stop - start) // period.length}
        data.update(_name(units, paths, replace(period, start=start, stop=stop)))
        parts.append(
            (
                start,
                stop,
                Part(units.keys[start:stop], data, period.length, True, stack is not None),
            )
        )
    return [part for _, _, part in sorted(parts, key=lambda found: found[0])]


def _has_sibling(paths: Sequence[Path], period: Period, prefix: Path) -> bool:
    """Whether the unit before is in another module of the same list."""
    before = paths[period.start - 1] if period.start else ()
    return bool(prefix) and len(before) > len(prefix) and before[: len(prefix)] == prefix


def _is_whole(paths: Sequence[Path], period: Period, depth: int) -> bool:
    """Whether each repetition is in one module of a stack, and no other one has a part of it."""
    for start in range(period.start, period.stop, period.length):
        own = {path[: depth + 1] for path in paths[start : start + period.length]}
        if len(own) > 1:
            return False
    first, last = paths[period.start][: depth + 1], paths[period.stop - 1][: depth + 1]
    before = paths[period.start - 1][: depth + 1] if period.start else ()
    after = paths[period.stop][: depth + 1] if period.stop < len(paths) else ()
    return first != before and last != after


def _name(units: OpSequence, paths: Sequence[Path], period: Period) -> dict[str, Any]:
    """What to call the group: the modules it consists of, or else its operations."""
    places = range(period.start, period.start + period.length)
    data: dict[str, Any] = {**contents_of([paths[place] for place in places])}
    stack = stack_of(paths, period) if period.stack and period.count > 1 else None
    if stack:
        prefix, first, last = stack
        common: Path = prefix
        is_whole = _is_whole(paths, period, len(prefix))
        numbers = f"{first}…{_NUMBER.sub('', last)}"
        data["name"] = ".".join((*prefix, numbers) if is_whole else prefix)
        if not data["name"]:
            del data["name"]
    else:
        common = shared_by([paths[place] for place in places if paths[place]])
        if common:
            data["name"] = ".".join(common)
    if common:
        data["module"] = ".".join(common)
        if any(is_inferred(units.data[place]) for place in places):
            data["inferred"] = True
    if "name" not in data:
        data["op"] = words_of([units.data[place] for place in places])
    return data
