"""Convert a scene to PNG, PDF or EPS with Graphviz.

Graphviz draws shapes in its xdot language (https://graphviz.org/docs/outputs/canon/#xdot) as the
background of a graph (https://graphviz.org/docs/attrs/background/). So PNG and PDF show the same
shapes as the SVG, and need no other program.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator

from gradviz.errors import TooLargeError, UsageError
from gradviz.renderers.layout.engines import engines, run_graphviz
from gradviz.renderers.scene import Curve, Point, Polygon, Rectangle, Scene, Shape, Text
from gradviz.renderers.theme import FONT, Theme, color

_SCALE = 2.0  # pixels per point, the unit of a drawing
_SCALES = (1, 8)
_FEWEST_DOTS = 36
_BOLD = 0.975  # cairo draws bold text wider than the metrics of Helvetica
_LONGEST_PIECE = 4_000  # characters, each of up to four bytes
_MOST_PIXELS = 32_000
"""Just under the 32,767 pixels that cairo can draw on a side."""

# The distance of a quarter circle's control points from its ends, as a fraction of the radius.
_ROUND = 4 / 3 * (math.sqrt(2) - 1)


def to_png(
    scene: Scene, theme: Theme = "auto", transparent: bool = False, scale: float | None = None
) -> bytes:
    """Convert a scene to a PNG of twice its size in points, or smaller if that is too large.

    Args:
        scene: the scene.
        theme: ``"dark"``; light for other values.
        transparent: as for the SVG.
        scale: pixels per point, from 1 to 8; the picture must fit at it. None for 2, or less.

    Raises:
        UsageError: if the scale is not allowed.
        TooLargeError: if the picture has too many pixels at that scale, or even at half its size.
        LayoutError: if no Graphviz works.
    """
    if scale is not None and not _SCALES[0] <= scale <= _SCALES[1]:
        raise UsageError(f"scale cannot be {scale!r}: pass a number from 1 to 8")
    zoom = scene.zoom or 1.0
    longest = max(scene.width * zoom, scene.height * zoom, 1)
    most = int(_MOST_PIXELS * 72 / longest)
    width, height = scene.width * zoom, scene.height * zoom
    size = f"the picture is {width:,.0f} × {height:,.0f} points, too large for a PNG"
    if most < _FEWEST_DOTS:
        raise TooLargeError(f"{size}; save it as .svg or .pdf")
    if scale is not None and round(scale * 72) > most:
        raise TooLargeError(
            f"{size} at scale {scale:g}: it fits up to {most // 7.2 / 10:g}; or save it as .svg "
            "or .pdf, which need no scale"
        )
    arguments = [f"-Gdpi={min(round((scale or _SCALE) * 72), most)}"]
    source = _source(scene, theme, transparent)
    return run_graphviz(source, program="nop2", arguments=arguments, format="png", limit=60)


def to_pdf(
    scene: Scene, theme: Theme = "auto", transparent: bool = False, limit: float = 60.0
) -> bytes:
    """Convert a scene to a single PDF page of its size.

    Args:
        scene: the scene.
        theme: ``"dark"``; light for other values.
        transparent: as for the SVG.
        limit: time limit for Graphviz, in seconds.

    Raises:
        LayoutError: if no Graphviz works.
    """
    source = _source(scene, theme, transparent)
    return run_graphviz(source, program="nop2", arguments=[], format="pdf", limit=limit)


def to_eps(scene: Scene, theme: Theme = "auto", transparent: bool = False) -> bytes:
    """The scene as Encapsulated PostScript; same arguments as `to_pdf`.

    Raises:
        LayoutError: if there is no Graphviz that works.
    """
    source = _source(scene, theme, transparent)
    # The other EPS writer of Graphviz has the letters of Latin-1 only.
    return run_graphviz(source, program="nop2", arguments=[], format="eps:cairo", limit=60)


def _source(scene: Scene, theme: Theme, transparent: bool) -> str:
    """An empty graph of the right size with the drawing as its background."""
    page = Rectangle(0, 0, scene.width, scene.height, "page")
    shapes = [shape for group in scene.groups for shape in group.shapes]
    if not transparent:
        shapes.insert(0, page)
    zoom = scene.zoom or 1.0
    pen = _Pen(scene.height, theme, _lift(tuple(engines())), zoom)
    background = _quoted(op for shape in shapes for op in pen.draw(shape))
    return (
        f"digraph {{ graph [pad=0, margin=0, bgcolor=transparent, _background={background}]\n"
        'node [style=invis, shape=point, width=0.001, height=0.001, label=""]\n'
        f'a [pos="0,0"]; b [pos="{scene.width * zoom:.2f},{scene.height * zoom:.2f}"] }}\n'
    )


@functools.cache
def _lift(engines: tuple[str, ...]) -> float:
    """The offset of text above its baseline in Graphviz, in font sizes: 0.2 or 0.05, by version."""
    source = (
        'digraph { graph [_background="F 100 5 -Arial T 0 0 -1 50 1 -x "] '
        'a [style=invis, label="", pos="0,0"] }'
    )
    picture = run_graphviz(source, program="nop2", arguments=[], format="svg", limit=20)
    found = re.search(rb'<text [^>]*?y="(-?[\d.]+)"', picture)
    return -float(found[1]) / 100 if found else 0.0


def _quoted(operations: Iterable[str]) -> str:
    """The operations as a DOT string, split because its scanner reads 16,384 bytes at a time."""
    pieces = [""]
    for operation in operations:
        if len(pieces[-1]) + len(operation) > _LONGEST_PIECE:
            pieces.append("")
        pieces[-1] += f"{operation} "
    return " + ".join(f'"{piece}"' for piece in pieces)


def _string(text: str) -> str:
    # A quotation mark would end the attribute; it cannot be escaped after a backslash.
    text = "".join(char if char.isprintable() else " " for char in text).replace('"', "”")
    return f"{len(text.encode())} -{text}"


class _Pen:
    """Converts shapes to xdot, whose y axis points upwards."""

    def __init__(self, height: float, theme: Theme, lift: float, zoom: float) -> None:
        self.height = height
        self.theme = theme
        self.lift = lift
        self.zoom = zoom

    def draw(self, shape: Shape) -> Iterator[str]:
        if isinstance(shape, Text):
            yield from self._text(shape)
            return
        fill = None if isinstance(shape, Curve) else shape.fill
        line = 1.0 if isinstance(shape, Polygon) else shape.line
        dashed = not isinstance(shape, Polygon) and shape.dashed
        yield f"S {_string('dashed' if dashed else 'solid')}"
        yield f"S {_string(f'setlinewidth({line * self.zoom:.2f})')}"
        if fill:
            yield f"C {_string(color(fill, self.theme))}"
        # Filling also draws the outline; without an outline, draw it in the fill color.
        yield f"c {_string(color(shape.edge or fill or 'page', self.theme))}"
        if isinstance(shape, Curve):
            yield self._points("B", shape.points)
        elif isinstance(shape, Polygon):
            yield self._points("P" if fill else "p", shape.points)
        elif shape.radius:
            yield self._points("b" if fill else "B", _rounded(shape))
        else:
            yield self._points("P" if fill else "p", _corners(shape))

    def _points(self, operation: str, points: tuple[Point, ...]) -> str:
        flipped = " ".join(
            f"{x * self.zoom:.2f} {(self.height - y) * self.zoom:.2f}" for x, y in points
        )
        return f"{operation} {len(points)} {flipped}"

    def _text(self, line: Text) -> Iterator[str]:
        x, zoom = line.x, self.zoom
        for words in line.words:
            yield f"c {_string(color(words.color, self.theme))}"
            size = words.size * (_BOLD if words.bold else 1.0)
            yield f"F {size * zoom:.2f} {_string(FONT)}"
            yield f"t {int(words.bold)}"
            y = self.height - line.y - self.lift * words.size
            width = words.width * zoom
            yield f"T {x * zoom:.2f} {y * zoom:.2f} -1 {width:.2f} {_string(words.text)}"
            x += words.width + line.gap


def _corners(box: Rectangle) -> tuple[Point, ...]:
    right, bottom = box.x + box.width, box.y + box.height
    return ((box.x, box.y), (right, box.y), (right, bottom), (box.x, bottom))


def _rounded(box: Rectangle) -> tuple[Point, ...]:
    """The outline of a rounded box as Bezier segments, clockwise from the top left corner."""
    radius = min(box.radius, box.width / 2, box.height / 2)
    corners = _corners(box)
    points: list[Point] = []
    for index, (x, y) in enumerate(corners):
        before, after = corners[index - 1], corners[(index + 1) % 4]
        enter = _towards((x, y), before, radius)
        leave = _towards((x, y), after, radius)
        if points:
            points += [points[-1], enter]
        points += [
            enter,
            _towards(enter, (x, y), radius * _ROUND),
            _towards(leave, (x, y), radius * _ROUND),
            leave,
        ]
    return (*points, points[-1], points[0], points[0])


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = math.dist(start, end) or 1.0
    share = distance / length
    return (start[0] + (end[0] - start[0]) * share, start[1] + (end[1] - start[1]) * share)
