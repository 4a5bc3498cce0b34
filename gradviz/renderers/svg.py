"""Convert a scene to SVG: one file for light and dark, with tooltips, print and screen readers.

Colors are plain attributes, so that every program shows the light picture; classes in
``@media (prefers-color-scheme: dark)`` override them if the reader prefers dark. There is no
script, no external font and no ``foreignObject``. Ids and classes contain a hash of the drawing,
so that one page can contain several drawings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from html import escape
from itertools import chain

from gradviz.renderers.scene import Curve, Rectangle, Scene, Shape, ShapeGroup, Text
from gradviz.renderers.theme import FONT, PALETTE, Theme, color

_TOKEN = re.compile(r"(?<=@-[fe]-)[\w-]+")


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
