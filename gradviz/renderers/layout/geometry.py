"""Boxes, links, layouts, and curves through gaps between rows; lengths in points.

Curves of the layered layout are vertical runs through the rows, joined by bows in the gaps between
rows. Bows that overlap in a gap get *tracks*, different heights at which they turn, so that they
do not lie on each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = [
    "Box",
    "Hop",
    "Layout",
    "Link",
    "Point",
    "Route",
    "Run",
    "curve",
    "hops",
    "tracks",
    "turning_heights",
]

Point = tuple[float, float]
Route = tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Box:
    """A node to be placed.

    Args:
        key: its name; unique.
        width: in points.
        height: in points.
    """

    key: str
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Link:
    """An edge to be routed from one box to another; several may join the same two.

    Args:
        source: key of the box where it starts.
        target: key of the box where it ends.
    """

    source: str
    target: str


@dataclass(frozen=True)
class Layout:
    """Where everything goes, in points, from the top left corner, y downwards.

    Args:
        width: of the sheet.
        height: of the sheet.
        centers: the middle of each box, by key.
        routes: one per link, in the order of the links: the 3k+1 control points of k joined
            cubic Bezier curves, from the border of the source to the border of the target,
            where the tip of the arrow is.
        engine: what placed them, and why when it was not the first choice.
    """

    width: float
    height: float
    centers: dict[str, Point]
    routes: list[Route]
    engine: str


Run = tuple[float, float, float]  # x, top, bottom
Hop = tuple[float, float]  # x above the gap, x below it
_Gap = tuple[float, float]  # its top and bottom

_MOST = 60  # Bows to one side in one gap; there is no room to tell more of them apart.


def hops(runs: Sequence[Run]) -> list[tuple[_Gap, Hop]]:
    """The bows of a link, each with the gap between rows where it is.

    Example:
        >>> hops([(10, 0, 5), (10, 20, 30), (50, 60, 70)])
        [((30, 60), (10, 50))]
    """
    joined = _joined(runs)
    return [((above[2], below[1]), (above[0], below[0])) for above, below in pairwise(joined)]


def tracks(found: Iterable[Hop]) -> dict[Hop, int]:
    """Number the bows of one gap by the order in which they turn aside, the highest first.

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
    """At which height each bow goes aside."""
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
    """Join upright runs by S-shaped bows, at the middle of a gap where no height is given."""
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
    """Runs that go straight on are one."""
    joined = [runs[0]]
    for x, top, bottom in runs[1:]:
        if abs(x - joined[-1][0]) < 0.5:
            joined[-1] = (joined[-1][0], joined[-1][1], bottom)
        else:
            joined.append((x, top, bottom))
    return joined
