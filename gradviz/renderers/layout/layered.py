"""The layered layout of gradviz, used without Graphviz or where Graphviz would take too long.

The steps are Sugiyama's: rows, an order within each row, coordinates, curves. All of it is
iterative and deterministic: a graph of any depth can be drawn, and the same graph gets the same
picture on every machine. Parts of a graph that no link joins are laid out separately and packed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

from gradviz.renderers.layout.coordinates import place_in_rows
from gradviz.renderers.layout.geometry import (
    Box,
    Link,
    Point,
    Route,
    Run,
    curve,
    tracks,
    turning_heights,
)
from gradviz.renderers.layout.routing import PARALLEL, Router, self_loop
from gradviz.renderers.layout.rows import (
    Pair,
    Rows,
    acyclic,
    add_lanes,
    cut_into_rows,
    order_rows,
    rank,
)

__all__ = ["PackedPart", "components", "layered", "pack"]

_ROW_GAP, _MORE_ROW_GAP = 28.0, 20.0  # Points between rows; the more, the farther links go.
_TRACK, _MOST_ROW_GAP = 6.0, 60.0  # And the more, the more of them go the same way.
_TOLD_APART = 5_000  # Links up to which those that go the same way between rows are told apart.


@dataclass(frozen=True)
class _Sheet:
    width: float
    height: float
    centers: list[Point]
    routes: list[Route]


def layered(boxes: Sequence[Box], links: Sequence[Link]) -> tuple[dict[str, Point], list[Route]]:
    """Place boxes in rows and route the links between them.

    Args:
        boxes: to be placed.
        links: between them; a cycle or a link from a box to itself does no harm.

    Returns:
        The middle of each box by key, and one route per link, as in `Layout`.

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
            points = sheet.routes.pop()  # two copies of all of them would be too much
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
    if len(pairs) <= _TOLD_APART:
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
    """The upright runs of each link."""
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
    """Give each row its top and bottom: as high as its highest box."""
    bands: list[Point] = []
    top = 0.0
    for row in rows.rows:
        bottom = top + max((boxes[v].height for v in row if v < rows.boxes), default=0.0)
        bands.append((top, bottom))
        far = max((abs(xs[v] - xs[below]) for v in row for below in rows.down[v]), default=0.0)
        more = min(_MORE_ROW_GAP, max(0.0, far - 60) * 0.1)
        if far > 60 and len(rows.rank) <= _TOLD_APART:
            hops = [(xs[v], xs[below]) for v in row for below in rows.down[v]]
            more += _TRACK * max(tracks(hops).values(), default=0)
        top = bottom + _ROW_GAP + min(more, _MOST_ROW_GAP)
    return bands


_GAP = 24.0
_ASPECT = 1.6


@dataclass
class PackedPart:
    """Nodes that links join, directly or not.

    Args:
        nodes: their numbers in the whole graph, ascending.
        links: numbers of the links between them, ascending.
        pairs: the ends of those links, as places in ``nodes``.
    """

    nodes: list[int] = field(default_factory=list)
    links: list[int] = field(default_factory=list)
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
    """Set rectangles in columns, tops aligned; a column is as high as the highest rectangle.

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
