"""gradviz's layered layout, used if there is no Graphviz or it would take too long.

The steps are Sugiyama's: rows, an order within each row, coordinates, curves. All steps are
iterative and deterministic: a graph of any depth can be drawn, and the same graph gets the same
picture on every machine. Unconnected parts of a graph are laid out separately and packed.

Coordinates are computed as in Brandes and Köpf, "Fast and Simple Horizontal Coordinate
Assignment" (2001): vertices are aligned with a median neighbor into straight blocks, which are
packed as closely as possible; this is done from all four corners, and the result is the mean of
the two middle positions. Long links become straight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import sqrt

import numpy as np

from gradviz.renderers.layout.routing import (
    PARALLEL,
    Box,
    Link,
    Point,
    Route,
    Router,
    Run,
    curve,
    self_loop,
    tracks,
    turning_heights,
)
from gradviz.renderers.layout.rows import (
    Pair,
    Rows,
    acyclic,
    add_lanes,
    cut_into_rows,
    order_rows,
    rank,
)

_ROW_GAP, _MORE_ROW_GAP = 28.0, 20.0  # Points between rows; more for longer links,
_TRACK, _MOST_ROW_GAP = 6.0, 60.0  # and more if many of them run in the same direction.
_SEPARATE_LINKS = 5_000  # The number of links up to which parallel links are drawn separately.


@dataclass(frozen=True)
class _Sheet:
    width: float
    height: float
    centers: list[Point]
    routes: list[Route]


def layered(boxes: Sequence[Box], links: Sequence[Link]) -> tuple[dict[str, Point], list[Route]]:
    """Place boxes in rows and route the links between them.

    Args:
        boxes: the boxes to place.
        links: the links between them; cycles and links from a box to itself are allowed.

    Returns:
        The center of each box by key, and one route per link, as in `Layout`.

    Example:
        >>> centers, routes = layered([Box("x", 60, 30), Box("y", 60, 30)], [Link("x", "y")])
        >>> centers
        {'x': (30.0, 15.0), 'y': (30.0, 73.0)}
        >>> routes
        [((30.0, 30.0), (30.0, 39.33), (30.0, 48.67), (30.0, 58.0))]
    """
    number = {box.key: index for index, box in enumerate(boxes)}
    pairs = [(number[link.source], number[link.target]) for link in links]
    centers: list[Point] = [(0.0, 0.0)] * len(boxes)
    routes: list[Route] = [()] * len(links)
    parts = components(len(boxes), pairs)
    sheets = [_component([boxes[n] for n in part.nodes], part.pairs) for part in parts]
    corners = pack([(sheet.width, sheet.height) for sheet in sheets])
    for part, sheet, (left, top) in zip(parts, sheets, corners, strict=True):
        for node, (x, y) in zip(part.nodes, sheet.centers, strict=True):
            centers[node] = (round(x + left, 2), round(y + top, 2))
        for link in reversed(part.links):
            points = sheet.routes.pop()  # two copies of all of them would take too much memory
            routes[link] = tuple([(round(x + left, 2), round(y + top, 2)) for x, y in points])
    return {box.key: center for box, center in zip(boxes, centers, strict=True)}, routes


def _component(boxes: Sequence[Box], pairs: Sequence[Pair]) -> _Sheet:
    """Lay out boxes that are all connected."""
    straight = [pair for pair in pairs if pair[0] != pair[1]]
    turned = iter(acyclic(len(boxes), straight))
    downward = [pair if pair[0] == pair[1] else next(turned) for pair in pairs]
    copies = Counter(pair for pair in downward if pair[0] != pair[1])
    rows = cut_into_rows(rank(len(boxes), list(copies)), list(copies))
    order_rows(rows)
    widths = _widths(rows, boxes, copies)
    xs = place_in_rows(rows, widths)
    width = max(x + half / 2 for x, half in zip(xs, widths, strict=True))
    add_lanes(rows, xs)
    left = min(0.0, *xs[len(widths) :]) if len(xs) > len(widths) else 0.0
    xs = [x - left for x in xs]
    bands = _bands(rows, boxes, xs)
    centers = [(xs[box], sum(bands[rows.rank[box]]) / 2) for box in range(len(boxes))]
    router = Router(rows, boxes, xs, bands, copies)
    upright = _upright(router, (pair for pair in downward if pair[0] != pair[1]), copies)
    heights = {}
    if len(pairs) <= _SEPARATE_LINKS:
        held = list(upright)
        upright, heights = iter(held), turning_heights(held)
    routes = []
    for given, pair in zip(pairs, downward, strict=True):
        if pair[0] == pair[1]:
            routes.append(self_loop(boxes[pair[0]], centers[pair[0]]))
            continue
        points = curve(next(upright), heights)
        routes.append(points if pair == given else points[::-1])
    return _Sheet(width - left, bands[-1][1], centers, routes)


def _upright(
    router: Router, pairs: Iterable[Pair], copies: Mapping[Pair, int]
) -> Iterator[list[Run]]:
    """The vertical runs of each link."""
    drawn: Counter[Pair] = Counter()
    for pair in pairs:
        yield router.runs(pair, drawn[pair], copies[pair])
        drawn[pair] += 1


def _widths(rows: Rows, boxes: Sequence[Box], copies: Mapping[Pair, int]) -> list[float]:
    widths = [box.width for box in boxes] + [0.0] * (len(rows.rank) - len(boxes))
    for pair, many in copies.items():
        if many > 1 and pair in rows.trunks:
            trunk, first, stop = rows.trunks[pair]
            for bend in trunk[first:stop]:
                widths[bend] = max(widths[bend], (many - 1) * PARALLEL)
    return widths


def _bands(rows: Rows, boxes: Sequence[Box], xs: Sequence[float]) -> list[Point]:
    """The top and bottom of each row, which is as high as its highest box."""
    bands: list[Point] = []
    top = 0.0
    for row in rows.rows:
        bottom = top + max((boxes[v].height for v in row if v < rows.boxes), default=0.0)
        bands.append((top, bottom))
        far = max((abs(xs[v] - xs[below]) for v in row for below in rows.down[v]), default=0.0)
        more = min(_MORE_ROW_GAP, max(0.0, far - 60) * 0.1)
        if far > 60 and len(rows.rank) <= _SEPARATE_LINKS:
            hops = [(xs[v], xs[below]) for v in row for below in rows.down[v]]
            more += _TRACK * max(tracks(hops).values(), default=0)
        top = bottom + _ROW_GAP + min(more, _MOST_ROW_GAP)
    return bands


_GAP = 24.0
_ASPECT = 1.6


@dataclass
class PackedPart:
    """A connected part of a graph."""

    nodes: list[int] = field(default_factory=list)  # their numbers in the whole graph, ascending
    links: list[int] = field(default_factory=list)  # numbers of the links between them, ascending
    # the ends of those links, as positions in ``nodes``
    pairs: list[Pair] = field(default_factory=list)


def components(count: int, pairs: Sequence[Pair]) -> list[PackedPart]:
    """Split a graph into its connected parts, in the order of their first nodes.

    Example:
        >>> [part.nodes for part in components(4, [(0, 2), (3, 1)])]
        [[0, 2], [1, 3]]
    """
    leader = list(range(count))

    def find(node: int) -> int:
        while leader[node] != node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for source, target in pairs:
        first, second = sorted((find(source), find(target)))
        leader[second] = first
    parts: dict[int, PackedPart] = {}
    place = [0] * count
    for node in range(count):
        part = parts.setdefault(find(node), PackedPart())
        place[node] = len(part.nodes)
        part.nodes.append(node)
    for index, (source, target) in enumerate(pairs):
        part = parts[find(source)]
        part.links.append(index)
        part.pairs.append((place[source], place[target]))
    return list(parts.values())


def pack(sizes: Sequence[Point]) -> list[Point]:
    """Arrange rectangles in columns, tops aligned; a column is as high as the highest rectangle.

    Args:
        sizes: (width, height) of each rectangle, in points.

    Returns:
        The top left corner of each.

    Example:
        >>> pack([(100, 300), (50, 40), (50, 40)])
        [(0.0, 0.0), (124.0, 0.0), (124.0, 64.0)]
    """
    area = sum((width + _GAP) * (height + _GAP) for width, height in sizes)
    limit = max([sqrt(area / _ASPECT), *(height for _, height in sizes)])
    corners: list[Point] = []
    left, top, widest = 0.0, 0.0, 0.0
    for width, height in sizes:
        if top > 0 and top + height > limit:
            left, top, widest = left + widest + _GAP, 0.0, 0.0
        corners.append((left, top))
        top += height + _GAP
        widest = max(widest, width)
    return corners


_BOX_GAP, _MIXED_GAP, _BEND_GAP = 22.0, 14.0, 11.0
_FOUR = 30_000  # The number of boxes and bends up to which all four corners are used, not two.


def place_in_rows(rows: Rows, widths: Sequence[float]) -> list[float]:
    """Compute an x for each vertex, such that none overlap and links are straight if possible.

    Args:
        rows: boxes and bends in their final order.
        widths: of each vertex, in points.

    Returns:
        The x of each vertex's center, in points; the leftmost box or bend starts at 0.
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
    _center_free(rows, free, middle, gaps)
    moved = np.array(middle)
    xs: list[float] = (moved - (moved - halves).min()).tolist()
    return xs


def _gaps(rows: Rows, widths: Sequence[float]) -> list[float]:
    """The distance of each vertex's center from that of its left neighbor."""
    gaps = [0.0] * len(widths)
    between = (_BOX_GAP, _MIXED_GAP, _BEND_GAP)
    for row in rows.rows:
        for left, right in pairwise(row):
            bends = (left >= rows.boxes) + (right >= rows.boxes)
            gaps[right] = (widths[left] + widths[right]) / 2 + between[bends]
    return gaps


def _straight(rows: Rows) -> tuple[list[list[int]], list[list[int]]]:
    """For each vertex, the neighbors in the rows above and below with which it may be aligned.

    Both ends of a link must prefer it. Links that cross a trunk are not aligned.
    """
    place = [0] * len(rows.rank)
    for row in rows.rows:
        for at, vertex in enumerate(row):
            place[vertex] = at
    count = len(rows.rank)
    from_above = _chain_lengths(rows, rows.rows, rows.up)
    from_below = _chain_lengths(rows, rows.rows[::-1], rows.down)
    upwards = {
        up * count + v for v in range(count) for up in _preferred(rows, v, rows.up, from_above)
    }
    middle = [_middle_input(rows, v, place) for v in range(count)]
    upper: list[list[int]] = [[] for _ in range(count)]
    lower: list[list[int]] = [[] for _ in range(count)]
    for v in range(count):
        for down in _preferred(rows, v, rows.down, from_below):
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


def _chain_lengths(rows: Rows, order: Iterable[list[int]], neighbors: list[list[int]]) -> list[int]:
    """For each vertex, the number of boxes on the longest chain that ends at it."""
    lengths = [0] * len(rows.rank)
    for row in order:
        for vertex in row:
            near = neighbors[vertex]
            longest = max(map(lengths.__getitem__, near)) if near else 0
            lengths[vertex] = longest + (vertex < rows.boxes)
    return lengths


def _preferred(
    rows: Rows, vertex: int, neighbors: list[list[int]], lengths: list[int]
) -> list[int]:
    """A bend continues its trunk, a box the longest chain."""
    near = neighbors[vertex]
    if len(near) < 2:
        return near
    if vertex >= rows.boxes:
        return [other for other in near if other >= rows.boxes] or near
    longest = max(map(lengths.__getitem__, near))
    return [other for other in near if lengths[other] == longest]


def _middle_input(rows: Rows, target: int, place: list[int]) -> int | None:
    """The source directly above a target, if no chain leads to any source."""
    if any(rows.up[vertex] for vertex in rows.up[target]):
        return None
    above = sorted(rows.up[target], key=place.__getitem__)
    return above[(len(above) - 1) // 2] if above else None


def _give_way(rows: Rows, row: list[int], chosen: list[list[int]], place: list[int]) -> None:
    """Remove from ``chosen`` the links of a row that cross a trunk."""
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
    """Join vertices with a median neighbor into blocks; returns the first vertex of each block."""
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
    """Push the blocks to the left (or right) as far as possible, then back towards the others."""
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


def _center_free(rows: Rows, free: Sequence[bool], xs: list[float], gaps: Sequence[float]) -> None:
    """Move vertices that are not aligned towards their neighbors, as far as possible."""
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
