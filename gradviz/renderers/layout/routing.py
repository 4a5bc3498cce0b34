"""Last step of the layered layout: the curves of the links; lengths are in points.

A curve consists of vertical runs through the rows, joined by bows in the gaps between rows. Bows
that overlap in a gap get different heights, called *tracks*, so that they do not coincide.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from gradviz.renderers.layout.rows import Pair, Rows

PARALLEL = 14.0  # Points between parallel links.
_STEP = 10.0  # Points between links that end side by side at a box.
_CORNER = 8.0  # Minimal distance of links from the corners of a box, in points.


class Router:
    """Routes the links of one graph whose vertices have positions.

    Args:
        rows: boxes and bends.
        boxes: the boxes.
        xs: center of each vertex, in points.
        bands: top and bottom of each row, in points.
        copies: number of links between each pair of boxes.
    """

    def __init__(
        self,
        rows: Rows,
        boxes: Sequence[Box],
        xs: Sequence[float],
        bands: Sequence[Point],
        copies: Mapping[Pair, int],
    ) -> None:
        self._rows, self._boxes, self._xs, self._bands = rows, boxes, xs, bands
        self._strands: dict[Pair, int] = {}
        for pair, many in copies.items():
            for hop in self._hops(pair):
                self._strands[hop] = max(self._strands.get(hop, 1), many)
        self._leaves_at: dict[Pair, float] = {}
        self._arrives_at: dict[Pair, float] = {}
        for box in range(rows.boxes):
            self._set_ports(box, rows.down[box], self._leaves_at)
            self._set_ports(box, rows.up[box], self._arrives_at)
        self._straighten()
        self._turns: dict[int, list[int]] = {}

    def runs(self, pair: Pair, copy: int, copies: int) -> list[Run]:
        """The vertical runs of one of the links between a pair of boxes, from top to bottom."""
        first, last = self._hops(pair)
        shift = (copy - (copies - 1) / 2) * PARALLEL
        source, target = pair
        runs = [self._run_of_box(source, self._leaves_at[first] + shift, below=True)]
        for x, top, bottom in self._bends(pair):
            runs.append((x + shift, top, bottom))
        runs.append(self._run_of_box(target, self._arrives_at[last[::-1]] + shift, below=False))
        return runs

    def _hops(self, pair: Pair) -> tuple[Pair, Pair]:
        """The first and the last step of a link."""
        if pair not in self._rows.trunks:
            return pair, pair
        trunk, first, stop = self._rows.trunks[pair]
        return (pair[0], trunk[first]), (trunk[stop - 1], pair[1])

    def _run_of_box(self, box: int, x: float, *, below: bool) -> Run:
        """A vertical run through a row that is higher than the box."""
        top, bottom = self._bands[self._rows.rank[box]]
        middle, half = (top + bottom) / 2, self._boxes[box].height / 2
        reach = max(0.0, self._boxes[box].width / 2 - 1)
        x = min(max(x, self._xs[box] - reach), self._xs[box] + reach)
        return (x, middle + half, bottom) if below else (x, top, middle - half)

    def _bends(self, pair: Pair) -> Iterator[Run]:
        """Follow a trunk, from one change of direction to the next."""
        if pair not in self._rows.trunks:
            return
        trunk, first, stop = self._rows.trunks[pair]
        if pair in self._rows.lanes:
            above, below = self._rows.rank[pair[0]], self._rows.rank[pair[1]]
            yield self._xs[trunk[0]], self._bands[above + 1][0], self._bands[below - 1][1]
            return
        turns = self._turns.get(trunk[0])
        if turns is None:
            xs = [self._xs[box] for box in trunk]
            turns = [i for i in range(1, len(xs)) if abs(xs[i - 1] - xs[i]) > 0.5]
            self._turns[trunk[0]] = turns
        at = bisect_right(turns, first)
        while first < stop:
            end = min(stop, turns[at]) if at < len(turns) else stop
            rank = self._rows.rank
            top, bottom = self._bands[rank[trunk[first]]][0], self._bands[rank[trunk[end - 1]]][1]
            yield self._xs[trunk[first]], top, bottom
            first, at = end, at + 1

    def _set_ports(self, box: int, near: Sequence[int], ports: dict[Pair, float]) -> None:
        """Choose where links touch the border of a box, so that they do not coincide."""
        if not near:
            return
        middle, half = self._xs[box], self._boxes[box].width / 2
        reach = max(0.0, half - _CORNER)
        order = sorted(near, key=self._xs.__getitem__) if len(near) > 1 else near
        places = [self._wish(box, other) for other in order]
        downwards = near is self._rows.down[box]
        many = [
            self._strands.get((box, other) if downwards else (other, box), 1) for other in order
        ]
        step = min(PARALLEL if max(many) > 1 else _STEP, 2 * reach / max(1, sum(many) - 1))
        for i in range(len(places)):
            low = places[i - 1] + step * (many[i - 1] + many[i]) / 2 if i else -1e9
            places[i] = max(places[i], low, middle - reach + step * (many[i] - 1) / 2)
        for i in reversed(range(len(places))):
            high = places[i + 1] - step * (many[i] + many[i + 1]) / 2 if i + 1 < len(many) else 1e9
            places[i] = min(places[i], high, middle + reach - step * (many[i] - 1) / 2)
        for place, other in zip(places, order, strict=True):
            ports[box, other] = place

    def _straighten(self) -> None:
        """Let a link that is alone at one end of a step follow the other end, if that is near."""
        for (box, other), x in list(self._leaves_at.items()):
            end = self._arrives_at.get((other, box), self._xs[other])
            if not 0 < abs(x - end) <= _STEP or self._strands.get((box, other), 1) > 1:
                continue
            if len(self._rows.down[box]) == 1 and self._reaches(box, end):
                self._leaves_at[box, other] = end
            elif len(self._rows.up[other]) == 1 and self._reaches(other, x):
                self._arrives_at[other, box] = x

    def _reaches(self, vertex: int, x: float) -> bool:
        return vertex < self._rows.boxes and (
            abs(x - self._xs[vertex]) <= self._boxes[vertex].width / 2 - _CORNER
        )

    def _wish(self, box: int, other: int) -> float:
        """Where a link would touch a box if it were the only one: straight down, if possible."""
        x, reach = self._xs[box], max(0.0, self._boxes[box].width / 2 - _CORNER)
        other_x, other_reach = self._xs[other], 0.0
        if other < self._rows.boxes:
            other_reach = max(0.0, self._boxes[other].width / 2 - _CORNER)
        low, high = max(x - reach, other_x - other_reach), min(x + reach, other_x + other_reach)
        if low <= high:
            return min(max((x + other_x) / 2, low), high)
        return x + (0.5 if other_x > x else -0.5) * reach


def self_loop(box: Box, center: Point) -> Route:
    """Route a link from a box to itself, at its right side."""
    x, y = center[0] + box.width / 2, center[1]
    quarter = box.height / 4
    return (
        (x, y + quarter),
        (x + 24, y + 2 * quarter),
        (x + 24, y - 2 * quarter),
        (x, y - quarter),
    )


Point = tuple[float, float]
Route = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A node to place."""

    key: str  # its name; unique
    width: float  # in points
    height: float  # in points


@dataclass(frozen=True, slots=True)
class Link:
    """An edge to route from one box to another; several may connect the same two boxes."""

    source: str  # key of its source box
    target: str  # key of its target box


@dataclass(frozen=True)
class Layout:
    """All positions in points, from the top left corner, with y downwards."""

    width: float  # of the sheet
    height: float  # of the sheet
    centers: dict[str, Point]  # the center of each box, by key
    # one per link, in the order of the links: the 3k+1 control points of k joined cubic
    # Bezier curves, from the border of the source to the border of the target, where the
    # tip of the arrow is
    routes: list[Route]
    engine: str  # the name of the engine, and the reason if it was not the first choice
    # the number of the column of each box, if the layout was split into columns
    columns: Mapping[str, int] = field(default_factory=dict)

    def transposed(self) -> Layout:
        """The same with x and y exchanged: the data flows from left to right."""
        return Layout(
            self.height,
            self.width,
            {key: (y, x) for key, (x, y) in self.centers.items()},
            [tuple((y, x) for x, y in route) for route in self.routes],
            self.engine,
        )


Run = tuple[float, float, float]  # x, top, bottom
Hop = tuple[float, float]  # x above the gap, x below it
_Gap = tuple[float, float]  # its top and bottom

_MOST = 60  # Tracks for bows in one direction in a gap; there is no room for more.


def hops(runs: Sequence[Run]) -> list[tuple[_Gap, Hop]]:
    """The bows of a link, each with its gap between rows.

    Example:
        >>> hops([(10, 0, 5), (10, 20, 30), (50, 60, 70)])
        [((30, 60), (10, 50))]
    """
    joined = _joined(runs)
    return [((above[2], below[1]), (above[0], below[0])) for above, below in pairwise(joined)]


def tracks(found: Iterable[Hop]) -> dict[Hop, int]:
    """Number the bows of one gap by the order in which they turn, the highest first.

    Example:
        >>> tracks([(0, 90), (10, 100), (200, 220)])
        {(200, 220): 0, (10, 100): 0, (0, 90): 1}
    """
    numbers: dict[Hop, int] = {}
    unique = dict.fromkeys(found)
    for sign in (1, -1):
        side = [(sign * above, sign * below) for above, below in unique]
        side = sorted((hop for hop in side if hop[0] < hop[1]), reverse=True)
        if len(side) > _MOST:
            continue
        for at, (begin, end) in enumerate(side):
            overlapping = (hop for hop in side[:at] if hop[0] <= end)
            number = max((numbers[sign * a, sign * b] + 1 for a, b in overlapping), default=0)
            numbers[sign * begin, sign * end] = number
    return numbers


def turning_heights(links: Iterable[Sequence[Run]]) -> dict[tuple[_Gap, Hop], float]:
    """The height at which each bow turns."""
    gaps: dict[_Gap, list[Hop]] = {}
    for runs in links:
        for gap, hop in hops(runs):
            gaps.setdefault(gap, []).append(hop)
    heights = {}
    for gap, found in gaps.items():
        numbers = tracks(found)
        count = max(numbers.values(), default=0) + 1
        for hop, number in numbers.items():
            heights[gap, hop] = gap[0] + (gap[1] - gap[0]) * (number + 1) / (count + 1)
    return heights


def curve(runs: Sequence[Run], heights: Mapping[tuple[_Gap, Hop], float]) -> Route:
    """Join vertical runs with S-shaped bows, in the middle of a gap if no height is given."""
    joined = _joined(runs)
    points: list[Point] = [joined[0][:2]]
    for at, (x, top, bottom) in enumerate(joined):
        if at:
            above, begin = joined[at - 1][0], joined[at - 1][2]
            middle = (begin + top) / 2
            height = heights.get(((begin, top), (above, x)), middle) if heights else middle
            points += [(above, height), (x, height), (x, top)]
        if bottom - top > 0.01:
            points += [(x, top + (bottom - top) / 3), (x, bottom - (bottom - top) / 3), (x, bottom)]
    return tuple(points)


def _joined(runs: Sequence[Run]) -> list[Run]:
    """Merge consecutive runs with the same x."""
    joined = [runs[0]]
    for x, top, bottom in runs[1:]:
        if abs(x - joined[-1][0]) < 0.5:
            joined[-1] = (joined[-1][0], joined[-1][1], bottom)
        else:
            joined.append((x, top, bottom))
    return joined
