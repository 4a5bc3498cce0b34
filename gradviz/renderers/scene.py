"""A drawing as shapes, which the SVG writer and the Graphviz canvas draw.

Lengths are points, y points down. Colors are tokens of the palette, so that one scene can be drawn
light, dark, or both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

Point = tuple[float, float]


class Rectangle(NamedTuple):
    """A box with corners rounded by ``radius``; no fill or edge if that is None."""

    x: float
    y: float
    width: float
    height: float
    fill: str | None = None
    edge: str | None = None
    line: float = 1.0
    radius: float = 0.0
    dashed: bool = False


class Curve(NamedTuple):
    """Cubic Bezier segments (3k + 1 points)."""

    points: tuple[Point, ...]
    edge: str
    line: float = 1.2
    dashed: bool = False


class Polygon(NamedTuple):
    """A filled polygon: arrow heads and small marks."""

    points: tuple[Point, ...]
    fill: str
    edge: str | None = None


class Words(NamedTuple):
    """Words in one style; ``width`` is their measured width."""

    text: str
    color: str
    size: float
    bold: bool
    width: float


class Text(NamedTuple):
    """A line of text on a baseline: words with ``gap`` between them, from ``x`` to the right."""

    x: float
    y: float
    words: tuple[Words, ...]
    gap: float = 6.0


Shape = Rectangle | Curve | Polygon | Text


def extent(shape: Shape) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a shape."""
    if isinstance(shape, Rectangle):
        return shape.x, shape.y, shape.x + shape.width, shape.y + shape.height
    if isinstance(shape, Text):
        width = sum(words.width for words in shape.words) + shape.gap * (len(shape.words) - 1)
        size = max(words.size for words in shape.words)
        return shape.x, shape.y - 0.75 * size, shape.x + width, shape.y + 0.25 * size
    return around(shape.points)


def around(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


class ShapeGroup(NamedTuple):
    """Shapes that belong together: a node, an edge, the legend."""

    key: str
    kind: str
    shapes: tuple[Shape, ...]
    tooltip: str = ""


class GroupChain:
    """Groups from several iterables, one after the other.

    Example:
        >>> groups = GroupChain([[ShapeGroup("n0", "node", ())], [ShapeGroup("n1", "node", ())]])
        >>> [group.key for group in groups] == [group.key for group in groups] == ["n0", "n1"]
        True
    """

    def __init__(self, parts: Sequence[Iterable[ShapeGroup]]) -> None:
        self._parts = parts

    def __iter__(self) -> Iterator[ShapeGroup]:
        return chain.from_iterable(self._parts)


class Shifted:
    """Groups moved by an offset.

    Args:
        groups: the groups.
        dx: offset to the right.
        dy: offset down.
        prefix: prepended to each key, to distinguish panels.
    """

    def __init__(
        self, groups: Iterable[ShapeGroup], dx: float, dy: float, prefix: str = ""
    ) -> None:
        self._groups, self._dx, self._dy, self._prefix = groups, dx, dy, prefix

    def __iter__(self) -> Iterator[ShapeGroup]:
        for key, kind, shapes, tooltip in self._groups:
            moved = tuple([self._moved(shape) for shape in shapes])
            yield ShapeGroup(self._prefix + key, kind, moved, tooltip)

    def _moved(self, shape: Shape) -> Shape:
        dx, dy = self._dx, self._dy
        if isinstance(shape, (Curve, Polygon)):
            return shape._replace(points=tuple([(x + dx, y + dy) for x, y in shape.points]))
        return shape._replace(x=shape.x + dx, y=shape.y + dy)


@dataclass(frozen=True)
class SheetStyle:
    """How a sheet is arranged; the default is what most pictures have.

    Args:
        sideways: the data flows from left to right, not from top to bottom.
        legend: draw the legend.
        width: of the picture, in points; None for its own.
        font_size: of names on nodes, in points, all else in proportion; None for its own.
    """

    sideways: bool = False
    legend: bool = True
    width: float | None = None
    font_size: float | None = None


@dataclass(frozen=True)
class Scene:
    """A whole drawing. ``description`` is for screen readers.

    The shapes of a large drawing are created at each iteration over ``groups``, to save memory.
    ``zoom`` is the size of a unit of the drawing in points, where a caller has chosen it.
    """

    width: float
    height: float
    groups: Iterable[ShapeGroup] = ()
    title: str = ""
    description: str = ""
    zoom: float | None = None
