"""The node that holds a graph in a document, and its drawing for the builder at hand."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from gradviz import __version__
from gradviz.errors import GradvizError
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.files import write_atomically
from gradviz.frontends.sphinx.options import views_of
from gradviz.serialize import loads

__all__ = ["DrawPictures", "picture", "skip"]

_log = logging.getLogger(__name__)
_MIME = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}
_LANGUAGES = {"json": "json", "dot": "dot"}


class picture(nodes.General, nodes.Element):  # noqa: N801  (as docutils names its nodes)
    """A story as JSON, with the options of its drawing; no builder gets to see it."""


def skip(*_: Any) -> None:
    """A builder that resolves no documents has no picture."""
    raise nodes.SkipNode


class DrawPictures(SphinxPostTransform):
    """Replaces each picture by an image, or by text where a builder shows none."""

    default_priority = 8  # before the images are looked at

    def run(self, **_: Any) -> None:
        """Draw what is in the document."""
        for node in list(self.document.findall(picture)):
            drawn = self._drawn(node)
            drawn[0]["ids"] += node["ids"]
            drawn[0]["names"] += node["names"]
            for each in drawn:
                each["classes"] += node["classes"]
                each.source, each.line = node.source, node.line
            node.replace_self(drawn)

    def _drawn(self, node: picture) -> list[nodes.Element]:
        drawing = _drawing(node, "auto")
        fmt = self._format(node)
        if fmt not in _MIME:
            return [self._text(drawing, fmt)]
        try:
            return self._images(node, drawing, fmt)
        except GradvizError as error:
            _log.warning("%s; shown as text", error, type="gradviz", location=node)
            return [self._text(drawing, "txt")]

    def _format(self, node: picture) -> str:
        wanted = str(node.get("format", "svg"))
        if wanted not in _MIME:
            return wanted
        possible = self.app.builder.supported_image_types
        order = ("png", "svg", "pdf") if wanted == "png" else ("svg", "pdf", "png")
        return next((fmt for fmt in order if _MIME[fmt] in possible), "txt")

    def _text(self, drawing: Drawing, fmt: str) -> nodes.Element:
        text = drawing.render(fmt).decode().rstrip("\n")
        return nodes.literal_block(text, text, language=_LANGUAGES.get(fmt, "none"))

    def _images(self, node: picture, drawing: Drawing, fmt: str) -> list[nodes.Element]:
        alt = node.get("alt") or _alt(drawing)
        images: list[nodes.Element] = []
        for theme, classes in self._themes(node):
            path = self._file(node, theme, fmt)
            image = nodes.image("", uri=path, candidates={"*": path}, alt=alt, classes=classes)
            for key in ("width", "align"):
                if key in node:
                    image[key] = node[key]
            self.env.images.add_file(self.env.docname, path)
            images.append(image)
        return images

    def _themes(self, node: picture) -> list[tuple[str, list[str]]]:
        """The themes to draw, each with the classes by which a site shows and hides it."""
        wanted = node.get("theme") or self.config.gradviz_theme
        if self.app.builder.format != "html" or self.app.builder.name == "epub":
            return [("light" if wanted == "both" else wanted, [])]
        if wanted == "both" or (wanted == "auto" and _has_button(self.app.builder)):
            return [("light", ["only-light"]), ("dark", ["only-dark"])]
        return [(wanted, [])]

    def _file(self, node: picture, theme: str, fmt: str) -> str:
        """The file of a drawing, drawn unless it is there; its name says all that is in it."""
        facts = (__version__, theme, node.get("views"), node.get("depth"), node["story"])
        name = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        folder = Path(self.app.doctreedir) / "gradviz"
        path = folder / f"gradviz-{name}.{fmt}"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, _drawing(node, theme).render(fmt))
        return str(path)


def _drawing(node: picture, theme: Any) -> Drawing:
    views = views_of(node.get("views"), node.get("depth"))
    return Drawing(loads(node["story"]), views=views, theme=theme)


def _alt(drawing: Drawing, most: int = 300) -> str:
    """The first lines of the text, as many as one cares to listen to."""
    lines = [line for line in drawing.text.splitlines() if line.strip()]
    kept: list[str] = []
    for line in lines:
        if kept and sum(map(len, kept)) + len(line) > most:
            return "\n".join([*kept, "…"])
        kept.append(line)
    return "\n".join(kept)


def _has_button(builder: Any) -> bool:
    """Whether the site's theme switches between light and dark by these classes."""
    dirs = builder.theme.get_theme_dirs() if getattr(builder, "theme", None) else []
    return any(Path(folder).name in ("furo", "pydata_sphinx_theme") for folder in dirs)
