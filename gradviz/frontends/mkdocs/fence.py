"""The fence itself: from its options and its code to HTML, or to a box and a warning."""

from __future__ import annotations

import logging
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from gradviz.errors import GradvizError
from gradviz.frontends.display import alt_text, image
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.mkdocs.options import THEMES, FenceRequest
from gradviz.frontends.mkdocs.page import Page, file_of
from gradviz.frontends.pages.cache import Cache
from gradviz.frontends.pages.namespace import CodeError
from gradviz.frontends.pages.running import BlockOutcome
from gradviz.serialize import loads

__all__ = ["markdown_fence", "markdown_options"]

# MkDocs counts what is warned of below its own name, for ``mkdocs build --strict``.
_log = logging.getLogger("mkdocs.gradviz")


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
    for name, value in inputs.items():  # a bare word has itself for a value, or None
        is_bare = value is None or value == name
        options[name.replace("_", "-")] = "true" if is_bare else str(value)
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
    parts: list[str] = []
    try:
        asked = FenceRequest.of(options)
        outcome = _run(source, asked, parts, md)
        for warning in outcome.warnings:
            _warn(warning, source, md)
        if outcome.error:  # which was wanted
            parts.append(f"<pre>{escape(outcome.error)}</pre>")
        parts.append(_figure(outcome.story, asked, Page.of(md).cache, [class_name], kwargs))
    except Exception as error:  # superfences would show a plain block, and say nothing
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
    views = asked.wanted.shown.chosen("{}")
    images = []
    for theme, mark in THEMES[asked.theme]:
        drawing = Drawing(loads(story), views=views, theme=theme)  # type: ignore[arg-type]
        facts = [story, repr(asked.wanted.shown), theme]
        svg = cache.text(facts, ".svg", partial(getattr, drawing, "svg"))
        images.append(image(svg, asked.alt or alt_text(drawing.text), mark))
    words = escape(" ".join(filter(None, [*classes, *kwargs.get("classes", ())])))
    name = f' id="{escape(kwargs["id_value"])}"' if kwargs.get("id_value") else ""
    caption = f"<figcaption>{escape(asked.caption)}</figcaption>" if asked.caption else ""
    return f'<figure class="{words}"{name}>{"".join(images)}{caption}</figure>'


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
    file = file_of(md)
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
