"""Fourth step of the layered layout: where on its row each box stands.

After Brandes and Köpf, "Fast and Simple Horizontal Coordinate Assignment" (2001): vertices are
aligned with a median neighbour into straight blocks, which are packed as close as they go; this
is done from all four corners, and the mean of the two middle places is taken. Long links come
out straight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

from gradviz.renderers.layout.rows import Rows

__all__ = ["place_in_rows"]

_BOX_GAP, _MIXED_GAP, _BEND_GAP = 22.0, 14.0, 11.0


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
    found = []
    for downwards in (True, False):
        for rightwards in (True, False):
            blocks = _align(rows, upper if downwards else lower, downwards, rightwards)
            found.append(_pack(rows, blocks, gaps, rightwards))
    halves = [width / 2 for width in widths]
    spans = [
        (min(map(float.__sub__, xs, halves)), max(map(float.__add__, xs, halves))) for xs in found
    ]
    left, right = min(spans, key=lambda span: span[1] - span[0])
    for number, (xs, span) in enumerate(zip(found, spans, strict=True)):
        shift = left - span[0] if number % 2 == 0 else right - span[1]
        found[number] = [x + shift for x in xs]
    middle = [sum(sorted(four)[1:3]) / 2 for four in zip(*found, strict=True)]
    free = [not (above or below) for above, below in zip(upper, lower, strict=True)]
    _centre_free(rows, free, middle, gaps)
    start = min(map(float.__sub__, middle, halves))
    return [x - start for x in middle]


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
    vertices = range(len(rows.rank))
    behind = _chain_lengths(rows, rows.rows, rows.up)
    ahead = _chain_lengths(rows, rows.rows[::-1], rows.down)
    upwards = {(up, v) for v in vertices for up in _preferred(rows, v, rows.up[v], behind)}
    both = [
        (v, down)
        for v in vertices
        for down in _preferred(rows, v, rows.down[v], ahead)
        if (v, down) in upwards and (rows.up[v] or _is_middle_input(rows, v, down, place))
    ]
    result = []
    for pairs in ([(below, above) for above, below in both], both):
        chosen: list[list[int]] = [[] for _ in vertices]
        for vertex, other in pairs:
            chosen[vertex].append(other)
        for near in chosen:
            near.sort(key=place.__getitem__)
        for row in rows.rows:
            _give_way(rows, row, chosen, place)
        result.append(chosen)
    return result[0], result[1]


def _chain_lengths(
    rows: Rows, order: Iterable[list[int]], neighbours: list[list[int]]
) -> list[int]:
    """Count the boxes on the longest way to each vertex from where nothing leads on."""
    lengths = [0] * len(rows.rank)
    for row in order:
        for vertex in row:
            longest = max((lengths[other] for other in neighbours[vertex]), default=0)
            lengths[vertex] = longest + (vertex < rows.boxes)
    return lengths


def _preferred(rows: Rows, vertex: int, near: list[int], lengths: list[int]) -> list[int]:
    """A bend goes on with its trunk, a box with the longest chain."""
    if vertex >= rows.boxes:
        return [other for other in near if other >= rows.boxes] or near
    longest = max((lengths[other] for other in near), default=0)
    return [other for other in near if lengths[other] == longest]


def _is_middle_input(rows: Rows, source: int, target: int, place: list[int]) -> bool:
    """Say whether a target stands right below this source: no chain leads there."""
    above = sorted(rows.up[target], key=place.__getitem__)
    return above[(len(above) - 1) // 2] == source and not any(rows.up[vertex] for vertex in above)


def _give_way(rows: Rows, row: list[int], chosen: list[list[int]], place: list[int]) -> None:
    """Drop from ``chosen`` the links of a row that cross a trunk."""
    fixed = [
        (at, place[chosen[vertex][0]])
        for at, vertex in enumerate(row)
        if _is_trunk(rows, vertex, chosen)
    ]
    if not fixed:
        return
    highest = -1
    before: list[int] = []  # the rightmost end of the trunks to the left of each vertex
    after = [len(place)] * len(row)
    lowest = len(place)
    ends = dict(fixed)
    for at in range(len(row)):
        before.append(highest)
        highest = max(highest, ends.get(at, -1))
    for at in reversed(range(len(row))):
        after[at] = lowest
        lowest = min(lowest, ends.get(at, lowest))
    for at, vertex in enumerate(row):
        if not _is_trunk(rows, vertex, chosen):
            chosen[vertex] = [n for n in chosen[vertex] if before[at] < place[n] < after[at]]


def _is_trunk(rows: Rows, vertex: int, chosen: list[list[int]]) -> bool:
    near = chosen[vertex]
    return vertex >= rows.boxes and bool(near) and near[0] >= rows.boxes


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
