"""What a layout is made of: boxes and links go in, places and curves come out, in points."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Box", "Layout", "Link", "Point", "Route"]

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
