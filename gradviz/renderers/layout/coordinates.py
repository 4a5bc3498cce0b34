"""Fourth step of the layered layout: where on its row each box stands.

After Brandes and Köpf, "Fast and Simple Horizontal Coordinate Assignment" (2001): vertices are
aligned with a median neighbour into straight blocks, which are packed as close as they go; this
is done from all four corners, and the mean of the two middle places is taken. Long links come
out straight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from gradviz.renderers.layout.rows import Rows

__all__ = ["place_in_rows"]

_BOX_GAP, _MIXED_GAP, _BEND_GAP = 22.0, 14.0, 11.0
_FOUR = 30_000  # Boxes and bends up to which there is time for all four corners, not two.


def place_in_rows(rows: Rows, widths: Sequence[float]) -> list[float]:
    """Give each vertex an x, such that none overlap and links are straight where they can be.

    Args:
        rows: boxes and bends in their final order.
        widths: of each vertex, in points.

    Returns:
        The x of each vertex's middle, in points; the leftmost box or bend begins at 0.
    """
    gaps = _gaps(rows, widths)
    upper, lower = _straight(rows)
    corners = [(True, True), (True, False), (False, True), (False, False)]
    if len(widths) > _FOUR:
        corners = corners[::3]
    packed = []
    for downwards, rightwards in corners:
        blocks = _align(rows, upper if downwards else lower, downwards, rightwards)
        packed.append(_pack(rows, blocks, gaps, rightwards))
    found, halves = np.array(packed), np.array(widths) / 2
    lefts, rights = (found - halves).min(axis=1), (found + halves).max(axis=1)
    narrowest = int((rights - lefts).argmin())
    for number, (_, rightwards) in enumerate(corners):
        edges = lefts if rightwards else rights
        found[number] += edges[narrowest] - edges[number]
    found.sort(axis=0)
    half = len(corners) // 2
    middle = ((found[half - 1] + found[half]) / 2).tolist()
    free = [not (above or below) for above, below in zip(upper, lower, strict=True)]
    _centre_free(rows, free, middle, gaps)
    moved = np.array(middle)
    xs: list[float] = (moved - (moved - halves).min()).tolist()
    return xs


def _gaps(rows: Rows, widths: Sequence[float]) -> list[float]:
    """Say how far each vertex's middle stays from that of its left neighbour."""
    gaps = [0.0] * len(widths)
    between = (_BOX_GAP, _MIXED_GAP, _BEND_GAP)
    for row in rows.rows:
        for left, right in pairwise(row):
            bends = (left >= rows.boxes) + (right >= rows.boxes)
            gaps[right] = (widths[left] + widths[right]) / 2 + between[bends]
    return gaps


def _straight(rows: Rows) -> tuple[list[list[int]], list[list[int]]]:
    """Pick for each vertex the neighbours above and below with which it may be aligned.

    Both ends of a link must prefer it. Links that cross a trunk give way to it.
    """
    place = [0] * len(rows.rank)
    for row in rows.rows:
        for at, vertex in enumerate(row):
            place[vertex] = at
    count = len(rows.rank)
    behind = _chain_lengths(rows, rows.rows, rows.up)
    ahead = _chain_lengths(rows, rows.rows[::-1], rows.down)
    upwards = {up * count + v for v in range(count) for up in _preferred(rows, v, rows.up, behind)}
    middle = [_middle_input(rows, v, place) for v in range(count)]
    upper: list[list[int]] = [[] for _ in range(count)]
    lower: list[list[int]] = [[] for _ in range(count)]
    for v in range(count):
        for down in _preferred(rows, v, rows.down, ahead):
            if v * count + down not in upwards:
                continue
            if rows.up[v] or middle[down] == v:
                lower[v].append(down)
                upper[down].append(v)
    for chosen in (upper, lower):
        for near in chosen:
            if len(near) > 1:
                near.sort(key=place.__getitem__)
        for row in rows.rows:
            _give_way(rows, row, chosen, place)
    return upper, lower


def _chain_lengths(
    rows: Rows, order: Iterable[list[int]], neighbours: list[list[int]]
) -> list[int]:
    """Count the boxes on the longest way to each vertex from where nothing leads on."""
    lengths = [0] * len(rows.rank)
    for row in order:
        for vertex in row:
            near = neighbours[vertex]
            longest = max(map(lengths.__getitem__, near)) if near else 0
            lengths[vertex] = longest + (vertex < rows.boxes)
    return lengths


def _preferred(
    rows: Rows, vertex: int, neighbours: list[list[int]], lengths: list[int]
) -> list[int]:
    """A bend goes on with its trunk, a box with the longest chain."""
    near = neighbours[vertex]
    if len(near) < 2:
        return near
    if vertex >= rows.boxes:
        return [other for other in near if other >= rows.boxes] or near
    longest = max(map(lengths.__getitem__, near))
    return [other for other in near if lengths[other] == longest]


def _middle_input(rows: Rows, target: int, place: list[int]) -> int | None:
    """The source that a target stands right below, where no chain leads to any."""
    if any(rows.up[vertex] for vertex in rows.up[target]):
        return None
    above = sorted(rows.up[target], key=place.__getitem__)
    return above[(len(above) - 1) // 2] if above else None


def _give_way(rows: Rows, row: list[int], chosen: list[list[int]], place: list[int]) -> None:
    """Drop from ``chosen`` the links of a row that cross a trunk."""
    ends = {
        at: place[chosen[vertex][0]]
        for at, vertex in enumerate(row)
        if vertex >= rows.boxes and chosen[vertex] and chosen[vertex][0] >= rows.boxes
    }
    if not ends or len(row) == 1:
        return
    highest = -1
    before: list[int] = []  # the rightmost end of the trunks to the left of each vertex
    after = [len(place)] * len(row)
    lowest = len(place)
    for at in range(len(row)):
        before.append(highest)
        highest = max(highest, ends.get(at, -1))
    for at in reversed(range(len(row))):
        after[at] = lowest
        lowest = min(lowest, ends.get(at, lowest))
    for at, vertex in enumerate(row):
        if at not in ends and chosen[vertex]:
            chosen[vertex] = [n for n in chosen[vertex] if before[at] < place[n] < after[at]]


def _align(rows: Rows, chosen: list[list[int]], downwards: bool, rightwards: bool) -> list[int]:
    """Join vertices with a median neighbour into blocks; returns the first vertex of each's."""
    root = list(range(len(rows.rank)))
    place = [0] * len(rows.rank)
    for row in rows.rows:
        for at, vertex in enumerate(row):
            place[vertex] = at if rightwards else -at
    for row in rows.rows if downwards else reversed(rows.rows):
        taken = -len(rows.rank) - 1
        for vertex in row if rightwards else reversed(row):
            near = chosen[vertex]
            if not near:
                continue
            if len(near) == 1:
                if taken < place[near[0]]:
                    root[vertex] = root[near[0]]
                    taken = place[near[0]]
                continue
            middle = (len(near) - 1) // 2, len(near) // 2
            for index in middle if rightwards else reversed(middle):
                other = near[index]
                if taken < place[other]:
                    root[vertex] = root[other]
                    taken = place[other]
                    break
    return root


def _pack(rows: Rows, root: list[int], gaps: list[float], rightwards: bool) -> list[float]:
    """Push the blocks to the left (or right) as far as they go, then back towards the others."""
    sign = 1.0 if rightwards else -1.0
    following: list[list[tuple[int, float]]] = [[] for _ in root]
    waiting = [0] * len(root)
    for row in rows.rows:
        for left, right in pairwise(row):
            first, second = (left, right) if rightwards else (right, left)
            following[root[first]].append((root[second], gaps[right]))
            waiting[root[second]] += 1
    order = [vertex for vertex, top in enumerate(root) if vertex == top and not waiting[vertex]]
    xs = [0.0] * len(root)
    for block in order:
        for other, gap in following[block]:
            xs[other] = max(xs[other], xs[block] + gap)
            waiting[other] -= 1
            if not waiting[other]:
                order.append(other)
    for block in reversed(order):
        if following[block]:
            xs[block] = max(xs[block], min(xs[other] - gap for other, gap in following[block]))
    return [sign * xs[top] for top in root]


def _centre_free(rows: Rows, free: Sequence[bool], xs: list[float], gaps: Sequence[float]) -> None:
    """Move vertices that are aligned with nothing towards their neighbours, as far as they can."""
    for row in rows.rows:
        for at, vertex in enumerate(row):
            near = rows.up[vertex] + rows.down[vertex]
            if not free[vertex] or not near:
                continue
            wish = sum(xs[other] for other in near) / len(near)
            if at:
                wish = max(wish, xs[row[at - 1]] + gaps[vertex])
            if at + 1 < len(row):
                wish = min(wish, xs[row[at + 1]] - gaps[row[at + 1]])
            xs[vertex] = wish
