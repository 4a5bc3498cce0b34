"""Third step of the layered layout: in which order boxes and bends stand in their row."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import chain

import numpy as np

from gradviz.renderers.layout.rows import Rows

__all__ = ["count_crossings", "order_rows"]

_CAREFUL = 6_000  # Boxes and bends (or half the links) with time for the careful order.
_WORK = 500_000  # How many of them may be looked at above that, in all sweeps together.
_AT_ONCE = 1_000  # From how many on numpy counts faster.


def order_rows(rows: Rows) -> None:
    """Order the vertices within their rows, so that few links cross.

    From two first orders: up to a size with care, that is with up to 24 sweeps and swaps of
    neighbours. Above it the sweeps get fewer as the graph grows, down to none: the work is
    counted, not timed, so that every machine comes to the same order, and soon.
    """
    size = _size(rows)
    careful = size <= _CAREFUL
    sweeps = 24 if careful else min(4, _WORK // size)
    rows.rows = _walk_up(rows)
    crossings = _improve(rows, sweeps, careful) if sweeps else 0
    if crossings and sweeps > 3:
        best, rows.rows = rows.rows, _walk_down(rows)
        if _improve(rows, sweeps, careful) >= crossings:
            rows.rows = best


def _size(rows: Rows) -> int:
    return max(len(rows.rank), sum(map(len, rows.down)) // 2)


def _walk_up(rows: Rows) -> list[list[int]]:
    """Walk from the results to their inputs in order: a tree comes out without crossings."""
    results = [vertex for vertex, below in enumerate(rows.down) if not below]
    results.sort(key=lambda vertex: -rows.rank[vertex])
    return _walk(rows, results, rows.up)


def _walk_down(rows: Rows) -> list[list[int]]:
    """Walk from the sources to what uses them, long links first: they come to stand outside."""
    sources = [vertex for vertex, above in enumerate(rows.up) if not above]
    sources.sort(key=lambda vertex: rows.rank[vertex])
    return _walk(
        rows,
        sources,
        [sorted(below, key=lambda vertex: vertex < rows.boxes) for below in rows.down],
    )


def _walk(rows: Rows, starts: list[int], neighbours: list[list[int]]) -> list[list[int]]:
    order: list[list[int]] = [[] for _ in range(max(rows.rank, default=-1) + 1)]
    seen = [False] * len(rows.rank)
    for start in starts:
        stack = [start]
        while stack:
            vertex = stack.pop()
            if not seen[vertex]:
                seen[vertex] = True
                order[rows.rank[vertex]].append(vertex)
                stack += reversed(neighbours[vertex])
    return order


def _improve(rows: Rows, sweeps: int, careful: bool) -> int:
    """Sweep up and down, and keep the best order found; returns its number of crossings."""
    place = [0] * len(rows.rank)
    for row in rows.rows:
        _number(row, place)
    best, fewest = [row.copy() for row in rows.rows], count_crossings(rows)
    idle = 0
    for sweep in range(sweeps):
        if not fewest or idle > 6:
            break
        _sweep(rows, place, downwards=sweep % 2 == 1)
        if careful:
            _swap_neighbours(rows, place)
        crossings = count_crossings(rows)
        idle += 1
        if crossings < fewest:
            best, fewest, idle = [row.copy() for row in rows.rows], crossings, 0
    rows.rows = best
    return fewest


def count_crossings(rows: Rows) -> int:
    """Count how often links cross, in all rows."""
    place = [0] * len(rows.rank)
    for row in rows.rows:
        _number(row, place)
    if _size(rows) >= _AT_ONCE:
        return _count_at_once(rows, place)
    total = 0
    for row in rows.rows:
        ends: list[int] = []
        for vertex in row:
            found = sorted(place[below] for below in rows.down[vertex])
            for end in found:
                total += len(ends) - bisect_right(ends, end)
            for end in found:
                insort(ends, end)
    return total


def _count_at_once(rows: Rows, place: list[int]) -> int:
    """The same for many rows: bit by bit of the places where the links of a row end.

    Of two links the first differing bit tells which ends farther left. So links are counted
    that end in the left half of a group, and begin to the right of others that end in its right
    half; then each half is a group of its own.
    """
    links = [len(below) for below in rows.down]
    places, ranks = np.array(place), np.array(rows.rank)
    begin = np.repeat(np.arange(len(links)), links)
    end = places[np.fromiter(chain.from_iterable(rows.down), np.intp, sum(links))]
    order = np.lexsort((end, places[begin], ranks[begin]))
    end, group = end[order], ranks[begin][order]
    total = 0
    for bit in reversed(range(int(end.max(initial=0)).bit_length())):
        first = np.searchsorted(group, group)
        right = end >> bit & 1
        before = np.cumsum(right) - right
        before -= before[first]
        total += int(before[right == 0].sum())
        group = group * 2 + right
        order = np.argsort(group, kind="stable")
        end, group = end[order], group[order]
    return total


def _sweep(rows: Rows, place: list[int], *, downwards: bool) -> None:
    """Sort each row by the mean place of the neighbours in the row before it."""
    neighbours = rows.up if downwards else rows.down
    place_of = place.__getitem__
    for row in rows.rows if downwards else reversed(rows.rows):
        mean: dict[int, float] = {}
        for vertex in row:
            near = neighbours[vertex]
            if len(near) == 1:
                mean[vertex] = place[near[0]]
            elif near:
                mean[vertex] = sum(map(place_of, near)) / len(near)
        if len(mean) > 1:
            following = iter(sorted(mean, key=mean.__getitem__))
            row[:] = [next(following) if vertex in mean else vertex for vertex in row]
        _number(row, place)


def _swap_neighbours(rows: Rows, place: list[int]) -> None:
    """Swap vertices that stand side by side as long as that removes crossings."""
    for _ in range(4):
        swapped = False
        for row in rows.rows:
            for at in range(len(row) - 1):
                left, right = row[at], row[at + 1]
                gain = _gain(rows.up, left, right, place) + _gain(rows.down, left, right, place)
                if gain > 0:
                    row[at], row[at + 1] = right, left
                    place[right], place[left] = at, at + 1
                    swapped = True
        if not swapped:
            break


def _gain(near: list[list[int]], left: int, right: int, place: list[int]) -> int:
    """Count the crossings that are gone when two vertices change places, on one side."""
    if not near[left] or not near[right]:
        return 0
    if len(near[left]) == 1 and len(near[right]) == 1:
        first, second = place[near[left][0]], place[near[right][0]]
        return (first > second) - (first < second)
    others = sorted(place[vertex] for vertex in near[right])
    gain = 0
    for vertex in near[left]:
        at = place[vertex]
        gain += bisect_left(others, at) - (len(others) - bisect_right(others, at))
    return gain


def _number(row: list[int], place: list[int]) -> None:
    for at, vertex in enumerate(row):
        place[vertex] = at
