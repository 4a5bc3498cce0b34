"""Convert a scene to SVG, PNG, PDF or EPS.

An SVG is one file for light and dark, with tooltips, print and screen readers. Colors are plain
attributes, so that every program shows the light picture; classes in
``@media (prefers-color-scheme: dark)`` override them if the reader prefers dark. There is no
script, no external font and no ``foreignObject``. Ids and classes contain a hash of the drawing,
so that one page can contain several drawings.

For the others, Graphviz draws shapes in its xdot language
(https://graphviz.org/docs/outputs/canon/#xdot) as the background of a graph
(https://graphviz.org/docs/attrs/background/). So PNG and PDF show the same shapes as the SVG, and
need no other program.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from html import escape
from itertools import chain

from gradviz.errors import TooLargeError, UsageError
from gradviz.renderers.layout.engines import engines, run_graphviz
from gradviz.renderers.scene import (
    Curve,
    Point,
    Polygon,
    Rectangle,
    Scene,
    Shape,
    ShapeGroup,
    Text,
)
from gradviz.renderers.theme import FONT, PALETTE, Theme, color

_TOKEN = re.compile(r"(?<=@-[fe]-)[\w-]+")
_SCALE = 2.0  # pixels per point, the unit of a drawing
_SCALES = (1, 8)
_FEWEST_DOTS = 36
_BOLD = 0.975  # cairo draws bold text wider than the metrics of Helvetica
_LONGEST_PIECE = 4_000  # characters, each of up to four bytes
_MOST_PIXELS = 32_000
"""Just under the 32,767 pixels that cairo can draw on a side."""

# The distance of a quarter circle's control points from its ends, as a fraction of the radius.
_ROUND = 4 / 3 * (math.sqrt(2) - 1)


def to_svg(scene: Scene, theme: Theme = "auto", transparent: bool = False) -> str:
    """Convert a scene to the text of an SVG file.

    Args:
        scene: the scene.
        theme: ``"auto"`` follows the reader's color scheme; ``"light"`` and ``"dark"`` do not.
        transparent: leave out the background, so that the page behind the picture is visible.

    Example:
        >>> svg = to_svg(Scene(10, 10, title="x"))
        >>> svg.startswith("<svg "), "prefers-color-scheme" in svg
        (True, True)
    """
    return "".join(iter_svg(scene, theme, transparent))


def iter_svg(scene: Scene, theme: Theme = "auto", transparent: bool = False) -> Iterator[str]:
    """The text of `to_svg` in pieces, so that a large picture need not be in memory as a whole.

    Args:
        scene: as for `to_svg`.
        theme: as for `to_svg`.
        transparent: as for `to_svg`.
    """
    writer = _Writer(theme)
    facts = (theme, transparent, scene.width, scene.height, scene.title, scene.description)
    digest, used = hashlib.sha256(f"{facts}{scene.zoom or ''}".encode()), {"page"}
    body: list[str] = []
    for group in scene.groups:
        text = writer.group(group)
        digest.update(f"\n{text}".encode() if body else text.encode())
        used.update(_TOKEN.findall(text))
        body.append(f"{text}\n")
    mark = "gv" + digest.hexdigest()[:8]
    # User text can contain an @ too, so it is inserted after the marks are replaced.
    for piece in chain(_head(scene, theme, used, transparent), body, ["</svg>\n"]):
        yield piece.replace("@-", f"{mark}-").replace("\0", "@")


def _head(scene: Scene, theme: Theme, used: set[str], transparent: bool) -> Iterator[str]:
    """The lines before the groups."""
    page = Rectangle(0, 0, scene.width, scene.height, "page")
    zoom, unit = (scene.zoom, "pt") if scene.zoom else (1.0, "")  # without a unit it is pixels
    size = f'width="{_n(scene.width * zoom)}{unit}" height="{_n(scene.height * zoom)}{unit}"'
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'viewBox="0 0 {_n(scene.width)} {_n(scene.height)}" role="img" '
        f'aria-labelledby="@-title @-desc" font-family="{FONT}" style="max-width:100%">\n'
    )
    yield f'<title id="@-title">{_text(scene.title)}</title>\n'
    yield f'<desc id="@-desc">{_text(scene.description)}</desc>\n'
    if theme == "auto":
        yield f"{_dark_style(used)}\n"
    if not transparent:
        yield f"{_Writer(theme).shape(page)}\n"


def _dark_style(used: set[str]) -> str:
    """The dark color of each used token."""
    rules = " ".join(
        f".@-f-{token}{{fill:{dark}}} .@-e-{token}{{stroke:{dark}}}"
        for token in (*PALETTE, *sorted(used - {*PALETTE}))
        if token in used
        for dark in (color(token, "dark"),)
    )
    return f"<style>@media (prefers-color-scheme: dark) {{ {rules} }}</style>"


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _text(text: str) -> str:
    if not text.replace("\n", "").isprintable():
        text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    return escape(text, quote=True).replace("@", "\0")


class _Writer:
    def __init__(self, theme: Theme) -> None:
        self.theme = theme

    def group(self, group: ShapeGroup) -> str:
        title = f"<title>{_text(group.tooltip)}</title>" if group.tooltip else ""
        shapes = "\n".join(self.shape(shape) for shape in group.shapes)
        kinds = " ".join(f"@-{kind}" for kind in group.kind.split())
        return f'<g id="@-{_text(group.key)}" class="{kinds}">{title}\n{shapes}\n</g>'

    def shape(self, shape: Shape) -> str:
        if isinstance(shape, Text):
            return self._text_line(shape)
        if isinstance(shape, Rectangle):
            radius = f' rx="{_n(shape.radius)}"' if shape.radius else ""
            return (
                f'<rect x="{_n(shape.x)}" y="{_n(shape.y)}" width="{_n(shape.width)}" '
                f'height="{_n(shape.height)}"{radius}'
                f"{self._paint(shape.fill, shape.edge, shape.line, shape.dashed)}/>"
            )
        if isinstance(shape, Curve):
            return (
                f'<path d="{_path(shape.points)}"'
                f"{self._paint(None, shape.edge, shape.line, shape.dashed)}/>"
            )
        points = " ".join(f"{_n(x)},{_n(y)}" for x, y in shape.points)
        return f'<polygon points="{points}"{self._paint(shape.fill, shape.edge, 1, False)}/>'

    def _paint(self, fill: str | None, edge: str | None, line: float, dashed: bool) -> str:
        return "".join(self._paints(fill, edge, line, dashed))

    def _paints(
        self, fill: str | None, edge: str | None, line: float, dashed: bool
    ) -> Iterator[str]:
        yield f' fill="{color(fill, self.theme) if fill else "none"}"'
        if edge:
            yield f' stroke="{color(edge, self.theme)}" stroke-width="{_n(line)}"'
        if dashed:
            yield ' stroke-dasharray="5 3"'
        yield self._classes(("f", fill), ("e", edge))

    def _classes(self, *tokens: tuple[str, str | None]) -> str:
        if self.theme != "auto":
            return ""
        return f' class="{" ".join(f"@-{what}-{token}" for what, token in tokens if token)}"'

    def _text_line(self, line: Text) -> str:
        spans = []
        x = line.x
        for words in line.words:
            bold = ' font-weight="bold"' if words.bold else ""
            spans.append(
                f'<tspan x="{_n(x)}" font-size="{_n(words.size)}"{bold} '
                f'fill="{color(words.color, self.theme)}"{self._classes(("f", words.color))}>'
                f"{_text(words.text)}</tspan>"
            )
            x += words.width + line.gap
        return f'<text y="{_n(line.y)}" xml:space="preserve">{"".join(spans)}</text>'


def _path(points: Iterable[tuple[float, float]]) -> str:
    first, *rest = [f"{_n(x)},{_n(y)}" for x, y in points]
    return f"M{first} C{' '.join(rest)}"


# PNG, PDF and EPS.


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
