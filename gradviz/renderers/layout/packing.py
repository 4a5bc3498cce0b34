"""Parts of a graph that no link joins: finds them and sets them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import sqrt

from gradviz.renderers.layout.geometry import Point
from gradviz.renderers.layout.ranks import Pair

__all__ = ["PackedPart", "components", "pack"]

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
