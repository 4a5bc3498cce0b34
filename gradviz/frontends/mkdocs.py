"""gradviz in MkDocs: a fence for Python-Markdown; its code is run and drawn.

``pymdownx.superfences`` calls `markdown_options` with the options of a fence, and then
`markdown_fence` with its code.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from gradviz.errors import GradvizError, UsageError
from gradviz.frontends.display import VIEWER_HEIGHT, alt_text, image, interactive
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.option_values import frame_numbers
from gradviz.frontends.options import OPTIONS, Picture
from gradviz.frontends.pages import (
    BlockOutcome,
    Cache,
    CachedPage,
    CodeError,
    Namespace,
    PagePlace,
    Wanted,
    at_home,
    run_block,
    run_target,
)
from gradviz.serialize import loads

# With ``mkdocs build --strict``, MkDocs counts warnings of loggers below its own name.
_log = logging.getLogger("mkdocs.gradviz")


def markdown_options(
    language: str, inputs: dict[str, str], options: dict[str, str], attrs: dict[str, str], md: Any
) -> bool:
    """Accept all options of a fence; errors in them are shown on the page.

    Args:
        language: of the fence.
        inputs: the options in its header.
        options: receives the options for `markdown_fence`.
        attrs: not changed.
        md: the ``Markdown`` that parses the page.

    Returns:
        True.

    Example:
        >>> options = {}
        >>> markdown_options("gradviz", {"draw": "loss", "hide_code": "true"}, options, {}, None)
        True
        >>> options
        {'draw': 'loss', 'hide-code': 'true'}
    """
    for name, value in inputs.items():  # a bare word has itself as its value, or None
        is_bare = value is None or value == name
        options[name.replace("_", "-")] = "true" if is_bare else str(value)
    return True


def markdown_fence(
    source: str, language: str, class_name: str, options: dict[str, str], md: Any, **kwargs: Any
) -> str:
    """The HTML of a fence: its code, and the picture, or a box with the error.

    Args:
        source: the code.
        language: of the fence.
        class_name: the class from the configuration.
        options: from `markdown_options`.
        md: the ``Markdown`` that parses the page.
        kwargs: ``classes`` and ``id_value`` of the fence.
    """
    parts: list[str] = []
    try:
        asked = FenceRequest.of(options)
        outcome = _run(source, asked, parts, md)
        for warning in outcome.warnings:
            _warn(warning, source, md)
        if outcome.error:  # the expected error
            parts.append(f"<pre>{escape(outcome.error)}</pre>")
        parts.append(_figure(outcome.story, asked, Page.of(md).cache, [class_name], kwargs))
    except Exception as error:  # superfences would silently show a plain block
        parts.append(_failed(error, source, md))
    return "\n".join(parts)


def _run(source: str, asked: FenceRequest, parts: list[str], md: Any) -> BlockOutcome:
    """Show the code, unless it is hidden, and run it."""
    page = Page.of(md)
    if not asked.file:
        parts += [] if asked.hides_code else [_highlighted(source, md)]
        return page.run(source, asked)
    place = page.place(source, asked)
    if not asked.hides_code and not place.target.is_saved:
        parts.append(_highlighted(place.code(), md))
    return page.run_file(place, asked.wanted)


def _figure(
    story: str, asked: FenceRequest, cache: Cache, classes: list[str], kwargs: dict[str, Any]
) -> str:
    picture = asked.wanted.picture
    images = []
    for theme, mark in _THEMES[asked.theme]:
        drawing = Drawing(loads(story), picture.with_theme(theme))
        facts = [story, repr(picture), theme]
        svg = cache.text(facts, ".svg", partial(getattr, drawing, "svg"))
        images.append(image(svg, asked.alt or alt_text(drawing.text), mark))
    shown = "".join(images)
    if asked.is_interactive:
        theme = asked.theme if asked.theme in ("light", "dark") else "auto"
        drawing = Drawing(loads(story), picture.with_theme(theme))
        facts = [story, repr(picture), theme, "viewer"]
        page = cache.text(facts, ".html", partial(getattr, drawing, "html"))
        shown = interactive(shown, page, VIEWER_HEIGHT)
    words = escape(" ".join(filter(None, [*classes, *kwargs.get("classes", ())])))
    name = f' id="{escape(kwargs["id_value"])}"' if kwargs.get("id_value") else ""
    caption = f"<figcaption>{escape(asked.caption)}</figcaption>" if asked.caption else ""
    return f'<figure class="{words}"{name}>{shown}{caption}</figure>'


def _highlighted(source: str, md: Any) -> str:
    """The code as superfences itself highlights Python."""
    fences = md.preprocessors["fenced_code_block"]
    html: str = fences.highlight(
        src=source, language="python", options={}, md=md, classes=[], id_value="", attrs={}
    )
    return html


def _failed(error: Exception, source: str, md: Any) -> str:
    said = str(error) if isinstance(error, GradvizError) else f"{type(error).__name__}: {error}"
    line = error.line if isinstance(error, CodeError) else 0
    _warn(said, source, md, line)
    where = f" (line {line})" if line else ""
    return (
        '<div class="admonition danger"><p class="admonition-title">gradviz</p>'
        f"<p>{escape(said)}{where}</p></div>"
    )


def _warn(said: str, source: str, md: Any, line: int = 0) -> None:
    place = _place(source, md, line)
    _log.warning("gradviz: %s", f"{place}: {said}" if place else said)


def _place(source: str, md: Any, line: int) -> str:
    """``page.md:12`` of a fence, or of a line of its code; "" if the page is unknown.

    MkDocs stores the file of the page in the extension that resolves its links.
    """
    if (file := getattr(_links(md), "file", None)) is None:
        return ""
    try:
        page = Path(file.abs_src_path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, TypeError, ValueError):  # the page was generated by a plugin
        return str(file.src_uri)
    first = _first_line(page, source.splitlines())
    return f"{file.src_uri}:{first + line}" if first else str(file.src_uri)


def _first_line(page: list[str], code: list[str]) -> int:
    """The line of the fence above some code, from 1; 0 if the code is not in the page."""
    bare = [line.strip() for line in code]
    for number, line in enumerate(page, 1):
        if "gradviz" in line and line.lstrip("> \t").startswith(("```", "~~~")):
            below = [each.strip("> \t") for each in page[number : number + len(bare)]]
            if below == [each.strip("> \t") for each in bare]:
                return number
    return 0


_THEMES = {
    "auto": (("auto", ""),),
    "light": (("light", ""),),
    "dark": (("dark", ""),),
    # Material for MkDocs shows one of two images with these marks, depending on its button.
    "both": (("light", "#only-light"), ("dark", "#only-dark")),
}
"""The pictures to draw for each ``theme``: their theme, and the end of their address."""

_CODE = ("draw", "file", "frames", "raises")
_PICTURE = {option.word: option for option in OPTIONS.values() if option.name != "theme"}
_FLAGS = ("hide-code", "context", "interactive")
_ALLOWED = (*_CODE, *_PICTURE, "theme", "alt", "caption", *_FLAGS)


@dataclass(frozen=True)
class FenceRequest:
    """The options of a fence."""

    wanted: Wanted  # what to draw
    file: str  # a script, module or saved graph to run instead of code; or ""
    theme: str  # one of `_THEMES`
    alt: str  # the text alternative of the picture; "" for the default
    caption: str  # a line below the picture
    is_shared: bool  # whether the block shares variables with other blocks of the page
    hides_code: bool  # whether the code is not shown
    is_interactive: bool = False  # whether the viewer covers the picture

    @staticmethod
    def of(options: dict[str, str]) -> FenceRequest:
        """Parse the options.

        Raises:
            UsageError: if there is no such option, its value is not allowed, or two of them
                contradict each other.
        """
        unknown = [name for name in options if name not in (*_ALLOWED, "colour-by")]
        if unknown:
            raise UsageError(
                f"there is no option {unknown[0]!r}; options are {', '.join(_ALLOWED)}"
            )
        theme = options.get("theme", "auto")
        _check("theme", theme, tuple(_THEMES))
        found = FenceRequest(
            wanted=Wanted(
                names=options.get("draw", ""),
                frames=frame_numbers(options.get("frames", ""), "frames"),
                raises=options.get("raises", ""),
                picture=_picture(options),
            ),
            file=options.get("file", ""),
            theme=theme,
            alt=options.get("alt", ""),
            caption=options.get("caption", ""),
            is_shared=_is_on(options, "context"),
            hides_code=_is_on(options, "hide-code"),
            is_interactive=_is_on(options, "interactive"),
        )
        found.check()
        return found

    def check(self) -> None:
        """Refuse options that are only for code on the page if a file is run."""
        wanted = self.wanted
        for name, value in (("draw", wanted.names), ("raises", wanted.raises)):
            if self.file and value:
                hint = f': write file="{self.file}:{value}"' if name == "draw" else ""
                raise UsageError(f"{name} is for code on the page, not for a file{hint}")
        if self.file and self.is_shared:
            raise UsageError("context is for code on the page, not for a file")


def _is_on(options: dict[str, str], flag: str) -> bool:
    """Whether a flag is set: ``all``, ``all=true``."""
    word = options.get(flag, "false").lower()
    _check(flag, word, ("true", "false"))
    return word == "true"


def _picture(options: dict[str, str]) -> Picture:
    if "colour-by" in options:
        if "color-by" in options:
            raise UsageError("colour-by is the old name of color-by: write one of them")
        options = {**options, "color-by": options["colour-by"]}
    given = {each.name: each.read(options[w]) for w, each in _PICTURE.items() if w in options}
    return Picture.of(given, "{}")


def _check(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")


def _links(md: Any) -> Any:
    """The extension that resolves links, in which MkDocs stores the file of the page; or None."""
    return next((each for each in md.treeprocessors if hasattr(each, "file")), None)


class Page:
    """The shared state of the fences of a page; Markdown discards it with the page.

    Args:
        root: the folder of ``mkdocs.yml``, in which code runs and files are found.
        cache: of the site.
    """

    def __init__(self, root: Path, cache: Cache) -> None:
        self.cache = cache
        self._root = root
        self.reset()

    def reset(self) -> None:
        """Called by ``Markdown.reset`` before another page."""
        self._namespace: Namespace | None = None
        self._shared: list[tuple[str, Wanted]] = []
        self._ran = 0  # how many of these ran; the others were cached
        self._files: tuple[str, ...] = ()

    @staticmethod
    def of(md: Any) -> Page:
        """The page of a ``Markdown`` instance."""
        for known in md.registeredExtensions:
            if isinstance(known, Page):
                return known
        path = getattr(getattr(_links(md), "config", None), "config_file_path", None)
        root = Path(path).parent.absolute() if path else Path.cwd()
        page = Page(root, Cache(root / ".cache" / "gradviz" if path else None))
        md.registerExtension(page)
        return page

    def run(self, source: str, asked: FenceRequest) -> BlockOutcome:
        """The outcome of the code of a fence.

        Raises:
            GradvizError: if it fails, or there is nothing to draw.
        """
        if not asked.is_shared:
            facts = [source, repr(asked.wanted)]
            return self._known(facts, lambda: self._block(source, asked)).outcome
        self._shared.append((source, asked.wanted))
        facts = [*(code for code, _ in self._shared), repr(asked.wanted), "shared"]
        kept = self._known(facts, self._shared_block)
        self._files = kept.files
        return kept.outcome

    def place(self, source: str, asked: FenceRequest) -> PagePlace:
        """The file that a fence names.

        Raises:
            GradvizError: if there is no such file, or there is code too.
        """
        if source.strip():
            raise UsageError(f'there is code on the page, and file="{asked.file}" names another')
        with at_home(self._root):
            place = PagePlace.of(asked.file, self._root, self._root)
            place.check()
        return place

    def run_file(self, place: PagePlace, wanted: Wanted) -> BlockOutcome:
        """The outcome of a file.

        Raises:
            GradvizError: if it fails, or there is nothing to draw.
        """

        def run() -> CachedPage:
            with at_home(place.home, place.home, self._root) as files:
                outcome = run_target(place.target, wanted)
            return CachedPage(outcome, tuple(files))

        # Two files with the same name and text may import different modules beside them.
        home = os.path.relpath(place.home, self._root)
        return self._known([home, str(place.target), place.code(), repr(wanted)], run).outcome

    def _known(self, facts: Sequence[str], run: Callable[[], CachedPage]) -> CachedPage:
        kept = self.cache.find(facts)
        if kept is None:
            kept = run()
            self.cache.keep(facts, kept)
        return kept

    def _block(self, source: str, asked: FenceRequest) -> CachedPage:
        with at_home(self._root, self._root) as files:
            outcome = run_block(Namespace(""), source, asked.wanted)
        return CachedPage(outcome, tuple(files))

    def _shared_block(self) -> CachedPage:
        """Run the last of the blocks that share variables, after those that were only cached."""
        with at_home(self._root, self._root) as files:
            namespace = self._namespace = self._namespace or Namespace("")
            *before, (source, wanted) = self._shared[self._ran :]
            self._ran = len(self._shared)
            for code, known in before:
                with contextlib.suppress(CodeError):  # it was reported before
                    run_block(namespace, code, known)
            outcome = run_block(namespace, source, wanted)
        return CachedPage(outcome, tuple(dict.fromkeys([*self._files, *files])))
