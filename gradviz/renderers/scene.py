"""A drawing as shapes: what the SVG writer and the Graphviz canvas both draw.

Lengths are points, y grows downwards. Colours are tokens of the palette, so that one scene can
be drawn light, dark, or both.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Curve", "Group", "Point", "Polygon", "Rectangle", "Scene", "Shape", "Text", "Words"]

Point = tuple[float, float]


@dataclass(frozen=True)
class Rectangle:
    """A box, its corners rounded by ``radius``; without fill or edge where that is None."""

    x: float
    y: float
    width: float
    height: float
    fill: str | None = None
    edge: str | None = None
    line: float = 1.0
    radius: float = 0.0
    dashed: bool = False


@dataclass(frozen=True)
class Curve:
    """Cubic Bezier segments (3k + 1 points)."""

    points: tuple[Point, ...]
    edge: str
    line: float = 1.2
    dashed: bool = False


@dataclass(frozen=True)
class Polygon:
    """A filled polygon: arrow heads and small marks."""

    points: tuple[Point, ...]
    fill: str
    edge: str | None = None


@dataclass(frozen=True)
class Words:
    """A run of text in one style; ``width`` is what it measures."""

    text: str
    colour: str
    size: float
    bold: bool
    width: float


@dataclass(frozen=True)
class Text:
    """A line of text on a baseline: runs with ``gap`` between them, from ``x`` to the right."""

    x: float
    y: float
    words: tuple[Words, ...]
    gap: float = 6.0


Shape = Rectangle | Curve | Polygon | Text


@dataclass(frozen=True)
class Group:
    """Shapes that are one thing to the reader: a node, an edge, the legend."""

    key: str
    kind: str
    shapes: tuple[Shape, ...]
    tooltip: str = ""


@dataclass(frozen=True)
class Scene:
    """A whole drawing. ``description`` is for readers who do not see it."""

    width: float
    height: float
    groups: tuple[Group, ...] = field(default=())
    title: str = ""
    description: str = ""
