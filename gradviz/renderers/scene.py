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
        card_width: of the widest node, in points: longer text is wrapped; None for any.
    """

    sideways: bool = False
    legend: bool = True
    width: float | None = None
    font_size: float | None = None
    card_width: float | None = None


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


NARROW = 1_100.0  # points: then text of 11 points is 7 pixels high at a width of 700 pixels
PAGE_WIDTH, PAGE_HEIGHT = 1_400, 2_000
_SMALLEST_SCALE = 9 / 11  # text of 11 points is to have 9 pixels on a page
_CLEARLY = 0.8  # of its width, for which a picture gives up single leaves


def fits_a_page(scene: Scene) -> bool:
    """Whether the text is large enough and the page not too high, shown `PAGE_WIDTH` wide.

    Example:
        >>> fits_a_page(Scene(1_000, 1_900)), fits_a_page(Scene(2_000, 500))
        (True, False)
    """
    return excess(scene, PAGE_WIDTH / _SMALLEST_SCALE) <= 1


def is_readable(scene: Scene) -> bool:
    """Whether it fits a page, and its text is large enough on half a page, 700 pixels wide.

    Example:
        >>> is_readable(Scene(1_000, 1_900)), is_readable(Scene(1_200, 500))
        (True, False)
    """
    return excess(scene) <= 1


def excess(scene: Scene, widest: float = NARROW) -> float:
    """How many times wider a picture is than ``widest`` points, or too high for a page."""
    scale = min(1.0, PAGE_WIDTH / scene.width)
    return max(scene.width / widest, scene.height * scale / PAGE_HEIGHT)


def is_better(other: Scene, scene: Scene) -> bool:
    """Whether another picture of the same fits better, and keeps a third or half of its boxes."""
    if not fits_a_page(scene):
        page = PAGE_WIDTH / _SMALLEST_SCALE
        return excess(other, page) < excess(scene, page)
    boxes, all_boxes = (sum(g.kind.startswith("node") for g in s.groups) for s in (other, scene))
    is_narrower = other.width <= max(NARROW, _CLEARLY * scene.width)
    share = 3 if other.width <= NARROW else 2
    return fits_a_page(other) and is_narrower and share * boxes >= all_boxes
