"""gradviz in Sphinx: the directive ``gradviz``, its output for each builder, and its registration.

A page's code runs when the page is read; its graph is stored as JSON in the document, and is drawn
for each builder when needed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import struct
import textwrap
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.config import ENUM, Config
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from gradviz import __version__
from gradviz.errors import GradvizError, UsageError
from gradviz.frontends.display import VIEWER_HEIGHT, alt_text, interactive_parts
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.files import write_atomically
from gradviz.frontends.option_values import frame_numbers
from gradviz.frontends.options import OPTIONS, Option, Picture
from gradviz.frontends.pages import (
    BlockOutcome,
    CodeError,
    Namespace,
    PagePlace,
    Wanted,
    at_home,
    run_block,
    run_target,
    versions,
)
from gradviz.serialize import loads

_log = logging.getLogger(__name__)
_NAMESPACE = "gradviz_namespace"
_ERROR_WIDTH = 80
_DRAWN_LATER = ("alt", "format", "interactive", "theme", "width")
_NODES = 4  # increase it when the content of a picture node changes: all pages are read again
_READ_ALONE = 5  # the number of pages that Sphinx reads without forking
_PRE_CODE = "import torch\nimport gradviz\n"
_FORMATS = ("svg", "png", "txt", "dot", "mmd", "json")  # all but the first two are shown as text
_THEMES = ("site", "both", *OPTIONS["theme"].choices)


def _one_of(*values: str) -> Callable[[str | None], str]:
    return lambda text: directives.choice(text or "", values)


def _context(text: str | None) -> str:
    return directives.choice(text, ("reset", "close")) if text else "keep"


def _numbers(text: str | None) -> list[int]:
    numbers = frame_numbers(text or "", ":frames:")
    if not numbers:
        raise ValueError("it must be integers >= 1, as in 1,3,5")
    return numbers


def _read(option: Option) -> Callable[[str | None], Any]:
    """Parse an option of a picture; the names of views are checked too."""

    def read(text: str | None) -> Any:
        if option.kind != "flag" and text is None:
            raise ValueError("argument required but none supplied")
        value = option.read(" ".join((text or "").split()), ":{}:")
        if option.kind == "views":
            Picture.of({option.name: value}, ":{}:")
        return value

    return read


_PICTURE = {name: each for name, each in OPTIONS.items() if name not in ("theme", "width")}

_SPEC: dict[str, Callable[..., Any]] = {
    **{option.word: _read(option) for option in _PICTURE.values()},
    "colour-by": _read(OPTIONS["color_by"]),
    "alt": directives.unchanged,
    "align": _one_of("left", "center", "right"),
    "caption": directives.unchanged_required,
    "class": directives.class_option,
    "context": _context,
    "format": _one_of(*_FORMATS),
    "frames": _numbers,
    "hide-code": directives.flag,
    "interactive": directives.flag,
    "name": directives.unchanged,
    "raises": directives.unchanged_required,
    "theme": _one_of(*_THEMES),
    "width": directives.length_or_percentage_or_unitless,
}


def _picture_of(options: dict[str, Any]) -> Picture:
    """The options of a directive that are options of a picture.

    Raises:
        UsageError: if two of them exclude each other.
    """
    if "colour-by" in options:
        options = {"color-by": options["colour-by"], **options}
    given = {name: options[each.word] for name, each in _PICTURE.items() if each.word in options}
    return Picture.of(given, ":{}:")


class GradvizDirective(SphinxDirective):
    """Draws the graph of the code in its body, or of a file."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[Any] = _SPEC

    def run(self) -> list[nodes.Node]:
        """The code, unless it is hidden, and the picture, or a box with the error."""
        shown: list[nodes.Node] = []
        try:
            if self.content or "context" in self.options:
                outcome = self._run_block(shown)
            else:
                outcome = self._run_target(shown)
            for warning in outcome.warnings:
                self._warn(warning)
            return [*shown, *self._ending(outcome), self._figure(outcome)]
        except CodeError as error:
            return [*shown, self._failed(str(error), error.line)]
        except GradvizError as error:
            return [*shown, self._failed(str(error))]
        except Exception as error:  # an error in gradviz must not end a build
            _log.debug("gradviz failed", exc_info=True)
            return [*shown, self._failed(f"{type(error).__name__}: {error} (a fault of gradviz)")]

    def _run_block(self, shown: list[nodes.Node]) -> BlockOutcome:
        """Show and run the code in the body."""
        code = "\n".join(self.content)
        shown += self._code(code)
        with self._namespace() as namespace, self._at_home(self._folder):
            return run_block(namespace, code, self._wanted)

    def _run_target(self, shown: list[nodes.Node]) -> BlockOutcome:
        """Show and run a file or module."""
        if not self.arguments:
            raise UsageError("there is nothing to draw: give code, or a target like train.py:loss")
        if "raises" in self.options:
            raise UsageError(":raises: is for code on the page; a file has to reach its end")
        top = Path(self.env.srcdir)
        with self._at_home(top):
            place = PagePlace.of(self._argument, self._folder, top)
            if place.source:
                self.env.note_dependency(place.source)
            place.check()
            if not place.target.is_saved:
                shown += self._code(place.code())
        with self._at_home(place.home):
            return run_target(place.target, self._wanted)

    @property
    def _argument(self) -> str:
        return " ".join(self.arguments)

    @property
    def _folder(self) -> Path:
        return Path(self.env.doc2path(self.env.docname)).parent

    @property
    def _wanted(self) -> Wanted:
        frames, raises = self.options.get("frames", ()), self.options.get("raises", "")
        return Wanted(self._argument, frames, raises, _picture_of(self.options))

    @contextlib.contextmanager
    def _at_home(self, folder: Path) -> Iterator[None]:
        """Run code in ``folder``; the page depends on the modules of the docs that it imports."""
        files: list[str] = []
        try:
            with at_home(folder, folder, Path(self.env.srcdir)) as files:
                yield
        finally:
            for file in files:
                self.env.note_dependency(file)

    @contextlib.contextmanager
    def _namespace(self) -> Iterator[Namespace]:
        """The variables of the block: its own, or those that blocks of the page share."""
        context, page = self.options.get("context"), self.env.temp_data
        if context in ("keep", "close") and _NAMESPACE in page:
            namespace = page[_NAMESPACE]
        else:
            namespace = Namespace(self.config.gradviz_pre_code)
        if context:
            page[_NAMESPACE] = namespace
        try:
            yield namespace
        finally:
            if context == "close":
                del page[_NAMESPACE]

    def _code(self, code: str) -> list[nodes.Node]:
        if not code.strip() or "hide-code" in self.options:
            return []
        return [self._literal(code, "python")]

    def _ending(self, outcome: BlockOutcome) -> list[nodes.Node]:
        """The expected error that ended the code."""
        lines = textwrap.fill(outcome.error, _ERROR_WIDTH)  # torch's messages are long
        return [self._literal(lines, "none")] if lines else []

    def _literal(self, text: str, language: str) -> nodes.Node:
        block = nodes.literal_block(text, text, language=language)
        self.set_source_info(block)
        return block

    def _figure(self, outcome: BlockOutcome) -> nodes.Node:
        """The picture, in a figure if it has a caption."""
        kept = {key: self.options[key] for key in _DRAWN_LATER if key in self.options}
        shown = _picture_of(self.options)
        outer: nodes.Element = picture("", story=outcome.story, shown=shown, **kept)
        self.set_source_info(outer)
        if text := self.options.get("caption"):
            words, messages = self.parse_inline(text, lineno=self.lineno)
            caption = nodes.caption(text, "", *words)
            outer = nodes.figure("", outer, caption, *messages)
            self.set_source_info(caption)
            self.set_source_info(outer)
        if "align" in self.options:
            outer["align"] = self.options["align"]
        outer["classes"] += self.options.get("class", [])
        self.add_name(outer)
        return outer

    def _failed(self, message: str, line: int = 0) -> nodes.Node:
        """A box in place of the picture; the page is read again in the next build."""
        self._warn(message, line)
        self.env.note_reread()
        said = f"gradviz: {message}{f' (line {line})' if line else ''}"
        box = nodes.error("", nodes.paragraph(said, said))
        self.set_source_info(box)
        self.add_name(box)
        return box

    def _warn(self, message: str, line: int = 0) -> None:
        place = f"{self.get_source_info()[0]}:{self.get_source_info()[1]}"
        if line and self.content:
            place = self._place_of(line)
        _log.warning("%s", message, type="gradviz", location=place)

    def _place_of(self, line: int) -> str:
        """``path:line`` in the page's file for a line of the code, counted from 1."""
        if type(self.state).__module__.startswith("myst_parser"):
            # In this case the lines of the content are counted from its start.
            source, first = self.get_source_info()[0], self.lineno + self.content_offset
            return f"{source}:{first + line}"
        source, offset = self.content.info(min(line, len(self.content)) - 1)
        return f"{source}:{(offset or 0) + 1}"


def register(app: Sphinx) -> dict[str, Any]:
    """Register everything; returns the metadata of the extension."""
    app.add_config_value("gradviz_theme", "site", "html", ENUM(*_THEMES))
    app.add_config_value("gradviz_pre_code", _PRE_CODE, "env", (str,))
    # Before other listeners, so that they find images instead of picture nodes.
    app.connect("doctree-resolved", draw_pictures, priority=100)
    skipped: Any = dict.fromkeys(("html", "latex", "text", "man", "texinfo"), (skip, None))
    app.add_config_value("gradviz_versions", "", "env", (str,))
    app.connect("config-inited", _note_versions)
    app.connect("env-before-read-docs", _load_torch)
    app.add_node(picture, **skipped)
    app.add_directive("gradviz", GradvizDirective)
    safe = {"parallel_read_safe": True, "parallel_write_safe": True}
    return {"version": __version__, "env_version": _NODES, **safe}


def _note_versions(_: Sphinx, config: Config) -> None:
    """Store the versions as a setting: if one of them changes, every page is read again."""
    config["gradviz_versions"] = versions()


def _load_torch(app: Sphinx, _: object, docnames: list[str]) -> None:
    """Load torch before Sphinx forks, because each child would need a second or two for it."""
    if app.parallel > 1 and len(docnames) > _READ_ALONE:
        with contextlib.suppress(ImportError):  # a page that needs it reports the error
            import_module("gradviz.capture.tracer")


_MIME = {"svg": "image/svg+xml", "pdf": "application/pdf", "png": "image/png"}
_BOTH = ("light", "dark")


class picture(nodes.General, nodes.Element):  # noqa: N801  (as docutils names its nodes)
    """A story as JSON, with the options of its drawing; it is replaced before builders see it."""


def skip(*_: Any) -> None:
    """A visitor that ignores a picture that was not replaced."""
    raise nodes.SkipNode


def draw_pictures(app: Sphinx, document: nodes.document, docname: str) -> None:
    """Replace each picture by images, or by text if the builder shows no images.

    A drawing is stored in a file whose name is a hash of its content, in the folder of Sphinx's
    doctrees, so that each picture is drawn once for all builds and builders.

    Args:
        app: has the builder.
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
    """Draws the pictures of a document for one builder."""

    def __init__(self, app: Sphinx, docname: str) -> None:
        self._builder, self._docname = app.builder, docname
        self._theme = app.config.gradviz_theme
        self._folder = Path(app.doctreedir) / "gradviz"

    def drawn(self, node: picture) -> nodes.Element:
        """The replacement of a picture."""
        fmt = self._format(node)
        if fmt not in _MIME:
            return _text(node, fmt)
        themes = themes_of(self._builder, node.get("theme", self._theme))
        try:
            images = [self._image(node, theme, fmt) for theme in themes]
        except GradvizError as error:
            _log.warning("%s; shown as text", error, type="gradviz", location=node)
            return _text(node, "txt")
        still = images[0] if len(images) == 1 else _switched(node, images)
        if "interactive" in node and self._builder.format == "html":
            return self._explorable(node, still, themes[0] if len(themes) == 1 else "auto")
        return still

    def _explorable(self, node: picture, still: nodes.Element, theme: str) -> nodes.Element:
        """The picture covered by the viewer, which is visible if the browser runs scripts."""
        page = self._file(node, theme, "html").read_text(encoding="utf-8")
        before, after = interactive_parts(page, VIEWER_HEIGHT)
        raws = [nodes.raw("", text, format="html") for text in (before, after)]
        return nodes.container("", raws[0], still, raws[1])

    def _format(self, node: picture) -> str:
        wanted = str(node.get("format", "svg"))
        if wanted not in _MIME:
            return wanted
        possible = self._builder.supported_image_types
        order = ("png", "svg", "pdf") if wanted == "png" else ("svg", "pdf", "png")
        return next((fmt for fmt in order if _MIME[fmt] in possible), "txt")

    def _image(self, node: picture, theme: str, fmt: str) -> nodes.image:
        path = self._file(node, theme, fmt)
        alt = str(node["alt"]) if "alt" in node else alt_text(_drawing(node).text)
        image = nodes.image("", uri=str(path), candidates={"*": str(path)}, alt=alt)
        image["classes"] += ["gradviz"]  # for the style sheets of a site
        if "width" in node:
            image["width"] = node["width"]
        elif self._builder.format == "html":
            # Sphinx links an image that has a width to its file, where the whole picture and its
            # tooltips are visible.
            image["width"] = f"{_natural_width(path)}px"
        if "align" in node:
            image["align"] = node["align"]
        self._builder.env.images.add_file(self._docname, str(path))
        return image

    def _file(self, node: picture, theme: str, fmt: str) -> Path:
        """The file of a drawing, which is drawn if it does not exist."""
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
    return nodes.literal_block(text, text, language="json" if fmt == "json" else "none")


def _switched(node: picture, images: list[nodes.image]) -> nodes.Element:
    """A light and a dark image with links, of which the site shows one."""
    outer = nodes.container()
    for image, theme in zip(images, _BOTH, strict=True):
        # With this class pydata's theme does not change the colors of an image.
        image["classes"] += ["dark-light"]
        outer += nodes.container("", image, classes=[f"only-{theme}"])
    if "align" in node:
        outer["classes"] += [f"align-{node['align']}"]
    return outer


def _flatten(figure: nodes.figure) -> None:
    """The parts of a figure, for manual pages: Sphinx's writer damages the line after a caption."""
    for caption in figure.findall(nodes.caption):
        caption.replace_self(nodes.paragraph(caption.rawsource, "", *caption.children))
    first, *rest = figure.children
    if isinstance(first, nodes.Element):
        first["ids"] += figure["ids"]
    figure.replace_self([first, *rest])


def _natural_width(path: Path) -> int:
    """The width of a picture in CSS pixels."""
    head = path.read_bytes()[:400]
    if path.suffix == ".png":
        return int(struct.unpack(">I", head[16:20])[0]) // 2  # it is drawn at twice its size
    found = re.search(rb' width="([\d.]+)"', head)
    return round(float(found[1])) if found else 0


def themes_of(builder: Any, wanted: str) -> tuple[str, ...]:
    """The themes in which to draw a picture.

    An ``<img>`` follows the reader's system, not the theme button of a site. If the style sheets
    of the site have the classes ``only-light`` and ``only-dark``, both pictures are included, and
    the site shows one. If they support dark mode at all, one picture follows the system; otherwise
    the page stays light, and so does the picture.

    Args:
        builder: of Sphinx.
        wanted: ``"site"`` for the above; ``"both"``, ``"auto"``, ``"light"`` or ``"dark"``.

    Returns:
        One theme of `gradviz.draw`, or a light and a dark one.
    """
    if builder.format != "html" or builder.name == "epub":
        return ("dark",) if wanted == "dark" else ("light",)  # for builders of printed pages
    if wanted == "site":
        theme = getattr(builder, "theme", None)
        folders = [str(folder) for folder in theme.get_theme_dirs()] if theme else []
        folders += [str(Path(builder.confdir, each)) for each in builder.config.html_static_path]
        wanted = _by_style(tuple(folders))
    return _BOTH if wanted == "both" else (wanted,)


@functools.lru_cache(maxsize=8)
def _by_style(folders: tuple[str, ...]) -> str:
    """How a site's style sheets support dark mode: both, auto (follow the system), or light."""
    found = "light"
    for folder in folders:
        for sheet in sorted(Path(folder).rglob("*.css*")):
            text = sheet.read_text(encoding="utf-8", errors="replace")
            if ".only-dark" in text:
                return "both"
            if "prefers-color-scheme" in text:
                found = "auto"
    return found
