"""Breaks a tall, narrow layout into columns.

A deep network is a chain with a few links beside it, ten times as high as wide. The layout is cut
where few links cross, and the parts are placed side by side; a cut link runs from the bottom of
its column up to the top of the next one.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from gradviz.renderers.layout.engines import Cluster
from gradviz.renderers.layout.layered import components
from gradviz.renderers.layout.routing import Box, Layout, Link, Point, Route

_HIGH = 900.0  # points: lower pictures are not changed
_NARROW = 2.0  # times as high as wide: wider pictures are not changed
_BEST = 0.75  # height by width of the result: a landscape page, or a screen
_WIDER = 1180.0, 1360.0, 1670.0  # points: the last is a page with text of 9 pixels
_MOST_COLUMNS = 6
# Of a picture from left to right, the longest row in points, how many links a cut may have, and
# whether a link may be cut again: a page with its margins, then one with text of 9 pixels.
_ROWS = ((1340.0, 3, False), (1640.0, 3, False), (1640.0, 6, False), (1640.0, 9, True))
_MOST_ROWS, _HIGHEST = 16, 1900.0
_MOST_CUT = 3  # links between two columns
_TURN = 14.0  # points between the boxes and a link that goes around them
_APART = 7.0  # points between two such links
_BETWEEN = 24.0  # points between parts that no link joins
_FRAME = 9.0, 23.0  # points between a frame and its content: beside it, and above it


@dataclass(frozen=True)
class _Gap:
    """A height without boxes: its middle, the links that cross it, and how many clusters do."""

    y: float
    links: tuple[int, ...]
    clusters: int = 0


def wrap(
    boxes: Sequence[Box],
    layout: Layout,
    *,
    widest: float = _WIDER[0],
    is_turned: bool = False,
    clusters: Sequence[Cluster] = (),
) -> Layout:
    """Split a layout into columns, if it is tall and can be cut; otherwise return it unchanged.

    Args:
        boxes: the boxes.
        layout: their layout, with data flowing from top to bottom.
        widest: of the columns together, in points; wider where they would be too high.
        is_turned: whether it is shown from left to right, so that columns become rows.
        clusters: boxes that get frames, for which there is to be room between the columns.

    Returns:
        A layout about as high as it is wide; of a turned one, as few rows as fit the page.

    Example:
        >>> boxes = [Box(str(n), 60, 30) for n in range(40)]
        >>> centers = {str(n): (30.0, 15.0 + 50 * n) for n in range(40)}
        >>> ends = [(30.0, 30.0 + 50 * n) for n in range(39)]
        >>> routes = [((x, y), (x, y + 7), (x, y + 13), (x, y + 20)) for x, y in ends]
        >>> tall = Layout(60, 1980, centers, routes, "by hand")
        >>> wide = wrap(boxes, tall)
        >>> wide.engine, wide.height < wide.width
        ('by hand, in 6 columns', True)
    """
    if is_turned:
        return _in_rows(boxes, layout)
    if layout.height < _HIGH or layout.height < _NARROW * layout.width:
        return layout
    gaps = _apart(clusters, layout, _gaps(boxes, layout))
    room = max((sum(one.keys <= other.keys for other in clusters) for one in clusters), default=0)
    first = widest - 2 * room * _FRAME[0]
    best = _in_columns(boxes, layout, gaps, first, room)
    best = best or (_in_columns(boxes, layout, gaps, widest, room) if room else None) or layout
    for wider in _WIDER:
        if best.height > _HIGHEST:
            best = _in_columns(boxes, layout, gaps, wider, room) or best
    return best


def parts_in_rows(
    boxes: Sequence[Box], links: Sequence[Link], layout: Layout, widest: float
) -> Layout:
    """Place parts that no link joins in rows, if side by side they are too wide.

    Args:
        boxes: the boxes.
        links: between them.
        layout: their layout, with data flowing from top to bottom.
        widest: of a row, in points.

    Example:
        >>> boxes = [Box(key, 60, 30) for key in "abcd"]
        >>> links = [Link("a", "b"), Link("c", "d")]
        >>> centers = {"a": (30.0, 15.0), "b": (30.0, 65.0), "c": (120.0, 15.0), "d": (120.0, 65.0)}
        >>> routes = [((x, 30.0), (x, 37.0), (x, 43.0), (x, 50.0)) for x in (30.0, 120.0)]
        >>> rows = parts_in_rows(boxes, links, Layout(150, 80, centers, routes, "by hand"), 100)
        >>> rows.width, rows.height, rows.centers["d"]
        (60.0, 184.0, (30.0, 169.0))
    """
    if layout.width <= widest:
        return layout
    place = {box.key: number for number, box in enumerate(boxes)}
    parts = components(len(boxes), [(place[each.source], place[each.target]) for each in links])
    part = {boxes[n].key: number for number, each in enumerate(parts) for n in each.nodes}
    places: dict[int, list[Point]] = {}
    for box in boxes:
        (x, y), half, high = layout.centers[box.key], box.width / 2, box.height / 2
        places.setdefault(part[box.key], []).extend(((x - half, y - high), (x + half, y + high)))
    for link, route in zip(links, layout.routes, strict=True):
        places[part[link.source]] += route
    moves: dict[int, Point] = {}
    left = top = width = foot = 0.0
    for number, points in sorted(places.items(), key=lambda each: min(each[1])):
        xs, ys = zip(*points, strict=True)
        wide = max(xs) - min(xs)
        if left and left + wide > widest:
            left, top = 0.0, foot + _BETWEEN
        moves[number] = left - min(xs), top - min(ys)
        width, foot = max(width, left + wide), max(foot, top + max(ys) - min(ys))
        left += wide + _BETWEEN
    centers = {
        key: _moved((center,), moves[part[key]])[0] for key, center in layout.centers.items()
    }
    ends = zip(links, layout.routes, strict=True)
    routes = [_moved(route, moves[part[link.source]]) for link, route in ends]
    return replace(layout, width=width, height=foot, centers=centers, routes=routes)


def _apart(clusters: Sequence[Cluster], layout: Layout, gaps: Sequence[_Gap]) -> list[_Gap]:
    """The gaps, with the number of clusters that each would split."""
    heights = [[layout.centers[key][1] for key in cluster.keys] for cluster in clusters]
    spans = [(min(each), max(each)) for each in heights]
    return [replace(gap, clusters=sum(a < gap.y < b for a, b in spans)) for gap in gaps]


def _in_columns(
    boxes: Sequence[Box], layout: Layout, gaps: Sequence[_Gap], widest: float, frames: int
) -> Layout | None:
    """The columns of the best shape among those that are not too wide, if there are any."""
    best: tuple[float, Layout] | None = None
    for count in range(_MOST_COLUMNS, 1, -1):
        cuts = _cuts(gaps, layout.height, count)
        if not cuts or _least_width(boxes, layout, cuts) > widest:
            continue
        made = _Columns(boxes, layout, cuts, frames).layout()
        if made is None or made.width > widest:
            continue
        badness = abs(math.log(made.height / made.width / _BEST))
        if best is None or badness <= best[0]:
            best = badness, made
        if made.height > 2 * _BEST * made.width:
            break  # with fewer columns it would be even higher
    return best[1] if best else None


def _in_rows(boxes: Sequence[Box], layout: Layout) -> Layout:
    """As few parts as are short enough for a page; the layout itself if there are none."""
    for longest, most_cut, is_cut_again in _ROWS:
        if layout.height <= longest:
            break
        gaps = _gaps(boxes, layout, most_cut)
        for count in range(2, _MOST_ROWS + 1):
            cuts = _cuts(gaps, layout.height, count, is_cut_again)
            made = _Columns(boxes, layout, cuts).layout() if cuts else None
            if made is not None and made.height <= longest and made.width <= _HIGHEST:
                return replace(made, engine=f"{layout.engine}, in {count} rows")
    return layout


def _gaps(boxes: Sequence[Box], layout: Layout, most_cut: int = _MOST_CUT) -> list[_Gap]:
    """The heights at which the picture can be cut, from top to bottom."""
    centers = layout.centers
    spans = sorted(
        (centers[box.key][1] - box.height / 2, centers[box.key][1] + box.height / 2)
        for box in boxes
    )
    middles: list[float] = []
    foot = spans[0][1]
    for top, bottom in spans[1:]:
        if top > foot:
            middles.append((foot + top) / 2)
        foot = max(foot, bottom)
    crossing = _crossing(middles, layout.routes, most_cut)
    return [_Gap(middles[place], tuple(links)) for place, links in sorted(crossing.items())]


def _crossing(heights: Sequence[float], routes: Sequence[Route], most: int) -> dict[int, list[int]]:
    """The links that cross each height, by index; heights with too many crossings are left out.

    The work is linear: crossings are counted first, from the ends of the links, and listed only
    where they are few.
    """
    spans = [
        (bisect_right(heights, min(ends)), bisect_left(heights, max(ends)))
        for ends in ((route[0][1], route[-1][1]) for route in routes)
    ]
    steps = [0] * (len(heights) + 1)
    for first, last in spans:
        if first < last:
            steps[first] += 1
            steps[last] -= 1
    few = [place for place, count in enumerate(accumulate(steps[:-1])) if count <= most]
    found: dict[int, list[int]] = {place: [] for place in few}
    for number, (first, last) in enumerate(spans):
        for place in few[bisect_left(few, first) : bisect_left(few, last)]:
            found[place].append(number)
    return found


def _cuts(
    gaps: Sequence[_Gap], height: float, count: int, is_cut_again: bool = False
) -> list[_Gap]:
    """The gaps that make columns of about equal height; none if that is impossible."""
    cuts: list[_Gap] = []
    for number in range(1, count):
        aim, reach = height * number / count, height / count / 3
        near = [gap for gap in gaps if abs(gap.y - aim) <= reach]
        if not near:
            return []
        # Cutting a link or a frame less is worth a height difference of half of the reach.
        costs = [abs(g.y - aim) / reach + 0.5 * (len(g.links) + g.clusters) for g in near]
        cuts.append(near[costs.index(min(costs))])
    crossing = [number for cut in cuts for number in cut.links]
    return cuts if is_cut_again or len(crossing) == len(set(crossing)) else []


def _least_width(boxes: Sequence[Box], layout: Layout, cuts: Sequence[_Gap]) -> float:
    """A lower bound of the width of the columns."""
    edges = [cut.y for cut in cuts]
    lefts, rights = [math.inf] * (len(cuts) + 1), [-math.inf] * (len(cuts) + 1)
    for box in boxes:
        x, y = layout.centers[box.key]
        column = bisect_left(edges, y)
        lefts[column] = min(lefts[column], x - box.width / 2)
        rights[column] = max(rights[column], x + box.width / 2)
    return sum(rights) - sum(lefts)


class _Columns:
    """The parts between the cuts, side by side, with room for frames in frames, so many deep."""

    def __init__(
        self, boxes: Sequence[Box], layout: Layout, cuts: Sequence[_Gap], frames: int = 0
    ) -> None:
        self._boxes, self._old, self._cuts = boxes, layout, cuts
        self._side, self._head = (frames * room for room in _FRAME)
        self._edges = [cut.y for cut in cuts]
        self._cut_at: dict[int, list[_Gap]] = {}
        for cut in cuts:
            for number in cut.links:
                self._cut_at.setdefault(number, []).append(cut)

    def _column(self, y: float) -> int:
        return bisect_left(self._edges, y)

    def layout(self) -> Layout | None:
        """The new layout; None if a link turns back at a cut and cannot be split."""
        old = self._old
        pieces: dict[int, list[Route]] = {}
        for number, route in enumerate(old.routes):
            pieces[number] = [route]
            for cut in self._cut_at.get(number, ()):
                if (parted := _parted(pieces[number].pop(), cut.y)) is None:
                    return None
                pieces[number] += parted
        moves, gutters = self._moves([route for parts in pieces.values() for route in parts])
        column_of = {box.key: self._column(old.centers[box.key][1]) for box in self._boxes}
        centers = {
            key: _moved((center,), moves[column_of[key]])[0] for key, center in old.centers.items()
        }
        feet = [0.0] * len(moves)
        for box in self._boxes:
            column = column_of[box.key]
            feet[column] = max(feet[column], centers[box.key][1] + box.height / 2)
        routes = []
        for number in range(len(old.routes)):
            first, *rest = pieces[number]
            begin = self._column((first[0][1] + first[-1][1]) / 2)
            route = _moved(first, moves[begin])
            for column, piece in enumerate(rest, begin):
                # From right to left, each goes around the previous one, and none cross.
                cut = self._cuts[column]
                ends = {n: pieces[n][self._cut_at[n].index(cut)][-1][0] for n in cut.links}
                place = sorted(ends, key=lambda n: -ends[n]).index(number)
                after = _moved(piece, moves[column + 1])
                foot = feet[column] + self._side
                route = _around(route, after, gutters[column], foot, place)
            routes.append(route)
        xs = [centers[box.key][0] + box.width / 2 for box in self._boxes]
        ys = [centers[box.key][1] + box.height / 2 for box in self._boxes]
        width = round(max(*xs, *(x for route in routes for x, _ in route)), 2)
        height = round(max(*ys, *(y for route in routes for _, y in route)), 2)
        engine = f"{old.engine}, in {len(self._cuts) + 1} columns"
        return Layout(width, height, centers, routes, engine, columns=column_of)

    def _moves(self, routes: Sequence[Route]) -> tuple[list[Point], list[float]]:
        """The offset of each column, and where links run up in the gutter after it."""
        count = len(self._cuts) + 1
        lefts, rights, tops = [math.inf] * count, [-math.inf] * count, [math.inf] * count
        for box in self._boxes:
            x, y = self._old.centers[box.key]
            column = self._column(y)
            lefts[column] = min(lefts[column], x - box.width / 2)
            rights[column] = max(rights[column], x + box.width / 2)
            tops[column] = min(tops[column], y - box.height / 2)
        for route in routes:
            column = self._column((route[0][1] + route[-1][1]) / 2)
            lefts[column] = min(lefts[column], *(x for x, _ in route))
            rights[column] = max(rights[column], *(x for x, _ in route))
        most = max(len(cut.links) for cut in self._cuts)
        head = 2 * _TURN + _APART * (most - 1) + self._head
        gutters: list[float] = []
        moves: list[Point] = []
        x = 0.0
        for column in range(count):
            moves.append((x - lefts[column], (head if column else 0.0) - tops[column]))
            x += rights[column] - lefts[column]
            if column < count - 1:
                lines = _APART * max(len(self._cuts[column].links) - 1, 0)
                between = 2 * (_TURN + self._side) + lines
                gutters.append(x + _TURN + self._side)
                x += between
        return moves, gutters


def _moved(points: Route, by: Point) -> Route:
    return tuple((round(x + by[0], 2), round(y + by[1], 2)) for x, y in points)


def _parted(route: Route, y: float) -> tuple[Route, Route] | None:
    """Split a route at a height, if it crosses that height once."""
    going_down = route[0][1] < route[-1][1]
    crossed = [
        start
        for start in range(0, len(route) - 1, 3)
        if (route[start][1] < y) != (route[start + 3][1] < y)
    ]
    if len(crossed) != 1 or not going_down:
        return None
    start = crossed[0]
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if _split(route[start : start + 4], middle)[0][-1][1] < y:
            low = middle
        else:
            high = middle
    before, after = _split(route[start : start + 4], low)
    # Both ends are vertical, so that the detour starts and ends without a kink.
    x = before[-1][0]
    before = (*before[:2], (x, before[2][1]), before[3])
    after = (after[0], (x, after[1][1]), *after[2:])
    return (*route[:start], *before), (*after, *route[start + 4 :])


def _split(curve: Sequence[Point], at: float) -> tuple[Route, Route]:
    """De Casteljau: a cubic curve as two, the first part up to ``at``."""
    level = list(curve)
    first, second = [level[0]], [level[-1]]
    while len(level) > 1:
        level = [(a[0] + (b[0] - a[0]) * at, a[1] + (b[1] - a[1]) * at) for a, b in pairwise(level)]
        first.append(level[0])
        second.append(level[-1])
    return tuple(first), tuple(reversed(second))


def _around(before: Route, after: Route, gutter: float, foot: float, place: int) -> Route:
    """Join both parts of a route: down to the bottom, up the gutter, and in from above."""
    (x0, y0), (x1, y1) = before[-1], after[0]
    x = gutter + place * _APART
    low = max(foot, y0) + _TURN + place * _APART
    high = _TURN / 2 + place * _APART
    corners = [(x0, low), (x, low), (x, high), (x1, high)]
    points = list(before)
    for number, corner in enumerate(corners):
        ahead = corners[number + 1] if number + 1 < len(corners) else (x1, max(y1, high + 1))
        radius = min(8.0, math.dist(points[-1], corner) / 2, math.dist(corner, ahead) / 2)
        start, end = _towards(corner, points[-1], radius), _towards(corner, ahead, radius)
        points += [*_straight(points[-1], start), _towards(corner, start, radius / 2.2)]
        points += [_towards(corner, end, radius / 2.2), end]
    points += [*_straight(points[-1], (x1, y1)), *after[1:]]
    return tuple((round(x, 2), round(y, 2)) for x, y in points)


def _towards(start: Point, end: Point, length: float) -> Point:
    whole = math.dist(start, end) or 1.0
    x, y = ((b - a) * length / whole for a, b in zip(start, end, strict=True))
    return start[0] + x, start[1] + y


def _straight(start: Point, end: Point) -> list[Point]:
    """The three points after ``start`` of a straight segment."""
    x, y = (end[0] - start[0]) / 3, (end[1] - start[1]) / 3
    return [(start[0] + x, start[1] + y), (start[0] + 2 * x, start[1] + 2 * y), end]
