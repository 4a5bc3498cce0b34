"""The node that holds a graph in a document, and its drawing for the builder at hand."""

from __future__ import annotations

import functools
import hashlib
import re
import struct
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

from gradviz import __version__
from gradviz.errors import GradvizError
from gradviz.frontends.display import alt_text
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.files import write_atomically
from gradviz.serialize import loads

__all__ = ["draw_pictures", "picture", "skip"]

_log = logging.getLogger(__name__)
_MIME = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}
_LANGUAGES = {"json": "json"}
_BOTH = ("light", "dark")


class picture(nodes.General, nodes.Element):  # noqa: N801  (as docutils names its nodes)
    """A story as JSON, with the options of its drawing; no builder gets to see it."""


def skip(*_: Any) -> None:
    """What a builder does with a picture that was not replaced."""
    raise nodes.SkipNode


def draw_pictures(app: Sphinx, document: nodes.document, docname: str) -> None:
    """Replace each picture by images, or by text where a builder shows none.

    What is drawn goes to a file whose name is a hash of all that is in it, next to the documents
    that Sphinx keeps, so that each picture is drawn once for all builds and builders.

    Args:
        app: tells the builder.
        document: ready to be written.
        docname: its name.
    """
    artist = _Artist(app, docname)
    for node in list(document.findall(picture)):
        drawn = artist.drawn(node)
        for name in ("ids", "names", "classes"):
            drawn[name] += node[name]
        drawn.source, drawn.line = node.source, node.line
        node.replace_self(drawn)
        if app.builder.format == "man" and isinstance(drawn.parent, nodes.figure):
            _flatten(drawn.parent)


class _Artist:
    """Draws the pictures of a document for the builder at hand."""

    def __init__(self, app: Sphinx, docname: str) -> None:
        self._builder, self._docname = app.builder, docname
        self._theme = app.config.gradviz_theme
        self._folder = Path(app.doctreedir) / "gradviz"

    def drawn(self, node: picture) -> nodes.Element:
        """What to put in the place of a picture."""
        fmt = self._format(node)
        if fmt not in _MIME:
            return _text(node, fmt)
        themes = themes_of(self._builder, node.get("theme", self._theme))
        try:
            images = [self._image(node, theme, fmt) for theme in themes]
        except GradvizError as error:
            _log.warning("%s; shown as text", error, type="gradviz", location=node)
            return _text(node, "txt")
        return images[0] if len(images) == 1 else _switched(node, images)

    def _format(self, node: picture) -> str:
        wanted = str(node.get("format", "svg"))
        if wanted not in _MIME:
            return wanted
        possible = self._builder.supported_image_types
        order = ("png", "svg", "pdf") if wanted == "png" else ("svg", "pdf", "png")
        return next((fmt for fmt in order if _MIME[fmt] in possible), "txt")

    def _image(self, node: picture, theme: str, fmt: str) -> nodes.image:
        path = self._file(node, theme, fmt)
        image = nodes.image("", uri=str(path), candidates={"*": str(path)}, alt=_alt(node))
        image["classes"] += ["gradviz"]  # for the style sheets of a site
        if "width" in node:
            image["width"] = node["width"]
        elif self._builder.format == "html":
            # Sphinx links an image that has a width to its file, where it is seen whole, and
            # pointing at its parts tells more of them.
            image["width"] = f"{_natural_width(path)}px"
        if "align" in node:
            image["align"] = node["align"]
        self._builder.env.images.add_file(self._docname, str(path))
        return image

    def _file(self, node: picture, theme: str, fmt: str) -> Path:
        """The file of a drawing; drawn, unless it is there."""
        facts = (__version__, theme, node["shown"], node["story"])
        name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        path = self._folder / f"gradviz-{name}.{fmt}"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _drawing(node, theme).render(fmt))
        return path


def _drawing(node: picture, theme: Any = "auto") -> Drawing:
    return Drawing(loads(node["story"]), node["shown"].with_theme(theme))


def _text(node: picture, fmt: str) -> nodes.Element:
    text = _drawing(node).render(fmt).decode().rstrip("\n")
    return nodes.literal_block(text, text, language=_LANGUAGES.get(fmt, "none"))


def _switched(node: picture, images: list[nodes.image]) -> nodes.Element:
    """A light and a dark image, of which the site shows one, each with its link."""
    outer = nodes.container()
    for image, theme in zip(images, ("light", "dark"), strict=True):
        # By this class pydata's theme leaves the colours of an image alone.
        image["classes"] += ["dark-light"]
        outer += nodes.container("", image, classes=[f"only-{theme}"])
    if "align" in node:
        outer["classes"] += [f"align-{node['align']}"]
    return outer


def _flatten(figure: nodes.figure) -> None:
    """A figure as its parts, for manual pages: Sphinx's writer spoils the line after a caption."""
    for caption in figure.findall(nodes.caption):
        caption.replace_self(nodes.paragraph(caption.rawsource, "", *caption.children))
    first, *rest = figure.children
    if isinstance(first, nodes.Element):
        first["ids"] += figure["ids"]
    figure.replace_self([first, *rest])


def _alt(node: picture) -> str:
    return str(node["alt"]) if "alt" in node else alt_text(_drawing(node).text)


def _natural_width(path: Path) -> int:
    """The width of a picture of ours in CSS pixels."""
    head = path.read_bytes()[:400]
    if path.suffix == ".png":
        return int(struct.unpack(">I", head[16:20])[0]) // 2  # it is drawn at twice its size
    found = re.search(rb' width="([\d.]+)"', head)
    return round(float(found[1])) if found else 0


def themes_of(builder: Any, wanted: str) -> tuple[str, ...]:
    """The themes in which to draw a picture.

    An ``<img>`` follows the reader's system, not the button of a site. Where the site's style
    sheets know the classes ``only-light`` and ``only-dark`` both pictures are there, and the
    site shows one. Where they know dark at all, one picture follows the system; elsewhere the
    page stays light, and so does the picture.

    Args:
        builder: of Sphinx.
        wanted: ``"site"`` for the above; ``"both"``, ``"auto"``, ``"light"`` or ``"dark"``.

    Returns:
        One theme of `gradviz.draw`, or a light and a dark one.
    """
    if builder.format != "html" or builder.name == "epub":
        return ("dark",) if wanted == "dark" else ("light",)  # there the page is paper
    if wanted == "site":
        theme = getattr(builder, "theme", None)
        folders = [str(folder) for folder in theme.get_theme_dirs()] if theme else []
        folders += [str(Path(builder.confdir, each)) for each in builder.config.html_static_path]
        wanted = _by_style(tuple(folders))
    return _BOTH if wanted == "both" else (wanted,)


@functools.lru_cache(maxsize=8)
def _by_style(folders: tuple[str, ...]) -> str:
    """What the style sheets of a site know of: both, auto (they follow the system), or light."""
    found = "light"
    for folder in folders:
        for sheet in sorted(Path(folder).rglob("*.css*")):
            text = sheet.read_text(encoding="utf-8", errors="replace")
            if ".only-dark" in text:
                return "both"
            if "prefers-color-scheme" in text:
                found = "auto"
    return found
