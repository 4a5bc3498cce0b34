"""Which output of an operation an edge leads on: [0], [1], ... where its edge begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gradviz.graph import GradGraph
from gradviz.renderers.cards import line_width, set_line
from gradviz.renderers.labels import Line, Role, TextSpan
from gradviz.renderers.layout.geometry import Point, Route
from gradviz.renderers.scene import Text

__all__ = ["output_numbers"]

_APART = 4.0
_DOWN = 11.0
_MOST_ROWS = 4
_NEAR = 8  # neighbours that a number may meet


def output_numbers(
    graph: GradGraph, centers: Mapping[str, Point], routes: Mapping[object, Route]
) -> dict[object, Text]:
    """The numbers of outputs where an operation has several, by edge.

    A number stands beside the beginning of its edge: where the edge does not turn to, on the
    other side where that is taken, and farther down where both are.

    Args:
        graph: as it is drawn.
        centers: the middle of each node.
        routes: by edge, as (source, target, number).
    """
    found: dict[object, Text] = {}
    for source, data in graph.nodes(data=True):
        if data.get("outputs", 1) > 1:
            edges = graph.out_edges(source, keys=True, data="output", default=0)
            starts = [
                (output, (source, target, number), routes[source, target, number])
                for _, target, number, output in edges
            ]
            found |= _beside(starts, centers[source][0])
    return found


def _beside(
    starts: Iterable[tuple[int, tuple[str, str, int], Route]], middle: float
) -> dict[object, Text]:
    """The numbers of one operation, whose edges begin with these routes."""
    starts = sorted(starts, key=lambda start: start[2][0])
    lines = [route[0][0] for _, _, route in starts]
    taken: list[tuple[float, float, float]] = []
    found: dict[object, Text] = {}
    for at, (output, edge, route) in enumerate(starts):
        (x, y), turned = route[0], route[:7][-1][0] - route[0][0]
        near, before = lines[max(0, at - _NEAR) : at + _NEAR], taken[-_NEAR:]
        label: Line = (TextSpan(f"[{output}]", Role.FACT),)
        width = line_width(label)
        sides = [x - _APART - width, x + _APART]
        if turned < -1 or (turned <= 1 and x >= middle - 1):
            sides.reverse()
        left, foot = sides[0], y
        for row, left in ((row, left) for row in range(_MOST_ROWS) for left in sides):
            right, foot = left + width, y + _DOWN * (row + 1)
            free = not any(
                low < right and left < high and abs(foot - other) < _DOWN - 1
                for low, high, other in before
            )
            # Farther down the edges have parted: how far, nobody can tell from where they begin.
            if free and (row or not any(left - 1 < line < right + 1 for line in near)):
                break
        taken.append((left, left + width, foot))
        found[edge] = set_line(label, left, foot)
    return found
