"""A fence for Python-Markdown, as MkDocs uses it: code on a page, run and drawn.

``pymdownx.superfences`` calls `markdown_options` with the options of a fence, and then
`markdown_fence` with its code.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from gradviz.errors import GradvizError, UsageError
from gradviz.frontends.display import alt_text, image
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.frames import parse_numbers
from gradviz.frontends.pages.namespace import CodeError, Namespace
from gradviz.frontends.pages.running import Outcome, Wanted, run_block
from gradviz.frontends.view_names import ViewOptions
from gradviz.serialize import loads

__all__ = ["markdown_fence", "markdown_options"]

# MkDocs counts what is warned of below its own name, for ``mkdocs build --strict``.
_log = logging.getLogger("mkdocs.gradviz")

_WORDS = ("draw", "frames", "views", "depth", "theme", "alt", "caption", "raises")
_FLAGS = ("hide-code", "context")
_THEMES = {
    "auto": (("auto", ""),),
    "light": (("light", ""),),
    "dark": (("dark", ""),),
    # Material for MkDocs shows one of two images by these marks, as its button says.
    "both": (("light", "#only-light"), ("dark", "#only-dark")),
}


def markdown_options(
    language: str, inputs: dict[str, str], options: dict[str, str], attrs: dict[str, str], md: Any
) -> bool:
    """Take the options of a fence, all of them: what is wrong with them is said on the page.

    Args:
        language: of the fence.
        inputs: what its header says.
        options: takes what is meant for `markdown_fence`.
        attrs: takes nothing.
        md: the ``Markdown`` that reads the page.

    Returns:
        True.

    Example:
        >>> options = {}
        >>> markdown_options("gradviz", {"draw": "loss", "hide_code": "true"}, options, {}, None)
        True
        >>> options
        {'draw': 'loss', 'hide-code': 'true'}
    """
    options.update({name.replace("_", "-"): str(value) for name, value in inputs.items()})
    return True


def markdown_fence(
    source: str, language: str, class_name: str, options: dict[str, str], md: Any, **kwargs: Any
) -> str:
    """The HTML of a fence: its code, and the picture, or a box with the reason for none.

    Args:
        source: the code.
        language: of the fence.
        class_name: the class that the configuration gives it.
        options: from `markdown_options`.
        md: the ``Markdown`` that reads the page.
        kwargs: ``classes`` and ``id_value`` of the fence.
    """
    parts = []
    try:
        if options.get("hide-code", "false") == "false":
            parts.append(_highlighted(source, md))
        asked = _Asked.of(options)
        outcome = _run(source, asked, md)
        if outcome.error:  # which was wanted
            parts.append(f"<pre>{escape(outcome.error)}</pre>")
        parts.append(_figure(outcome.story, asked, class_name, kwargs))
    except Exception as error:  # superfences would show a plain block, and say nothing
        parts.append(_failed(error, source, md))
    return "\n".join(parts)


@dataclass(frozen=True)
class _Asked:
    """The options of a fence."""

    wanted: Wanted
    views: Any
    theme: str
    alt: str
    caption: str
    is_shared: bool

    @staticmethod
    def of(options: dict[str, str]) -> _Asked:
        allowed = (*_WORDS, *_FLAGS)
        unknown = [name for name in options if name not in allowed]
        if unknown:
            raise UsageError(f"there is no option {unknown[0]!r}; there are {', '.join(allowed)}")
        theme, depth = options.get("theme", "auto"), options.get("depth")
        if theme not in _THEMES:
            raise UsageError(f"theme cannot be {theme!r}: write {', '.join(_THEMES)}")
        if depth is not None and not (depth.isdecimal() and int(depth)):
            raise UsageError(f"depth takes a number from 1 up; not {depth!r}")
        frames = parse_numbers(options.get("frames", ""), "frames")
        return _Asked(
            wanted=Wanted(options.get("draw", ""), frames, options.get("raises", "")),
            views=ViewOptions(options.get("views"), int(depth) if depth else None).chosen("{}"),
            theme=theme,
            alt=options.get("alt", ""),
            caption=options.get("caption", ""),
            is_shared=options.get("context", "false") != "false",
        )


class _Page:
    """What the fences of a page share; Markdown forgets it with the page."""

    def __init__(self) -> None:
        self.namespace: Namespace | None = None

    def reset(self) -> None:
        """Called by ``Markdown.reset`` before another page."""
        self.namespace = None

    @staticmethod
    def of(md: Any) -> _Page:
        for known in md.registeredExtensions:
            if isinstance(known, _Page):
                return known
        page = _Page()
        md.registerExtension(page)
        return page


def _run(source: str, asked: _Asked, md: Any) -> Outcome:
    """Run the code, and pass on what its author should know."""
    page = _Page.of(md)
    namespace = Namespace("") if not asked.is_shared else page.namespace or Namespace("")
    if asked.is_shared:
        page.namespace = namespace
    outcome = run_block(namespace, source, asked.wanted)
    for warning in outcome.warnings:
        _warn(warning, source, md)
    return outcome


def _figure(story: str, asked: _Asked, class_name: str, kwargs: dict[str, Any]) -> str:
    images = []
    for theme, mark in _THEMES[asked.theme]:
        drawing = Drawing(loads(story), views=asked.views, theme=theme)  # type: ignore[arg-type]
        images.append(image(drawing.svg, asked.alt or alt_text(drawing.text), mark))
    classes = escape(" ".join(filter(None, [class_name, *kwargs.get("classes", ())])))
    name = f' id="{escape(kwargs["id_value"])}"' if kwargs.get("id_value") else ""
    caption = f"<figcaption>{escape(asked.caption)}</figcaption>" if asked.caption else ""
    return f'<figure class="{classes}"{name}>{"".join(images)}{caption}</figure>'


def _highlighted(source: str, md: Any) -> str:
    """The code as superfences itself shows Python."""
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
    """``page.md:12`` of a fence, or of a line of its code; "" where MkDocs does not tell the page.

    MkDocs gives the file of the page to the part that resolves its links.
    """
    file = next((each.file for each in md.treeprocessors if hasattr(each, "file")), None)
    if file is None:
        return ""
    try:
        page = Path(file.abs_src_path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, TypeError, ValueError):  # made by a plugin
        return str(file.src_uri)
    first = _first_line(page, source.splitlines())
    return f"{file.src_uri}:{first + line}" if first else str(file.src_uri)


def _first_line(page: list[str], code: list[str]) -> int:
    """The line of the fence over some code, from 1; 0 if it is not there as it is."""
    bare = [line.strip() for line in code]
    for number, line in enumerate(page, 1):
        if "gradviz" in line and line.lstrip("> \t").startswith(("```", "~~~")):
            below = [each.strip("> \t") for each in page[number : number + len(bare)]]
            if below == [each.strip("> \t") for each in bare]:
                return number
    return 0
