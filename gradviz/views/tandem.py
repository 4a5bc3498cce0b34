"""Finds what repeats in a row of numbers: ``abcabcabc`` is ``abc`` three times.

Words of 1, 2, 4, 8, ... numbers get a name each (Karp, Miller and Rosenberg 1972). Where the
same word comes again and again at one distance, that distance is a period.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["TandemRun", "runs"]

Ints = NDArray[np.int64]


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
