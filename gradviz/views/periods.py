"""Where a graph repeats itself: the steps of a loop, stacked layers, loops within loops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from gradviz.graph import NodeKind
from gradviz.graph.module_paths import Path
from gradviz.views.tandem import TandemRun, runs
from gradviz.views.units import Ints, Units

__all__ = ["Period", "is_led_up_to", "periods_of", "stack_of"]

_FEWEST = 3  # times that something comes before it is called a repetition
_WORTH_FOLDING = 4  # operations that a loop must save
_MOST_CUTS = 64


@dataclass(frozen=True, order=True)
class Period:
    """Units from ``start`` to before ``stop``: the same ``length`` units again and again.

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


def periods_of(units: Units, paths: Sequence[Path]) -> list[Period]:
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


def is_led_up_to(units: Units, period: Period) -> bool:
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

    def __init__(self, units: Units, paths: Sequence[Path]) -> None:
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


def _rows(units: Units, paths: Sequence[Path]) -> tuple[Ints, dict[object, int]]:
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
