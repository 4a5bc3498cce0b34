"""Convert a story to one HTML file: the interactive viewer, and still pictures for no scripts.

The file works from disk, without a network, and in a sandbox: a content security policy forbids
loading anything and allows only the script in the file. Names, titles and code are escaped.
Without scripts, and in print, it shows all frames, one below the other.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files as package_files

from gradviz.renderers.compose import compose_each
from gradviz.renderers.island import Answer, island, island_json
from gradviz.renderers.labels import clean
from gradviz.renderers.svg import to_svg
from gradviz.renderers.theme import FONT, Theme
from gradviz.story import Frame, Story
from gradviz.views import apply

__all__ = ["to_html"]

_MOST_STILL = 3_000  # nodes in all still pictures; with more, the default picture is shown


def to_html(
    frames: Story,
    shown: Story,
    theme: Theme = "auto",
    *,
    target: str = "",
    answers: Sequence[Answer] = (),
    files: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Convert a story to the text of an HTML file.

    Args:
        frames: as they were recorded, with what changed marked.
        shown: the same frames through views, under `gradviz.views.groups.keep_inside`.
        theme: as for `to_svg`; it holds for the page as well.
        target: what the command line calls the subject; "" when that is not known.
        answers: of `explain`, which the page lists.
        files: lines of the program by the name of their file, shown beside the run.

    Example:
        >>> from gradviz.graph import GradGraph
        >>> story = Story((Frame("before", GradGraph()), Frame("after", GradGraph())))
        >>> page = to_html(story, story)
        >>> page.count("<figure"), "default-src 'none'" in page
        (2, True)
    """
    data = island(frames, shown, theme=theme, target=target, answers=answers, files=files)
    script = _built("viewer.js")
    title = escape(clean(shown.title) or clean(target) or "What autograd recorded")
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en" data-theme="{theme}"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_policy(script)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_colors(data['palette'])}{_built('theme.css')}</style></head><body>",
            '<div id="gradviz-viewer" hidden></div>',
            f'<div id="still">{_still(shown, title, theme)}</div>',
            f'<script type="application/json" id="gradviz-data">{island_json(data)}</script>',
            f"<script>{script}</script>",
            "</body></html>\n",
        ]
    )


@cache
def _built(name: str) -> str:
    """A file that is shipped with the package."""
    return (package_files("gradviz.viewer") / name).read_text(encoding="utf-8")


@cache
def _policy(script: str) -> str:
    """No network, no plug-ins, no forms, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _still(shown: Story, title: str, theme: Theme) -> str:
    """All frames as pictures, one under the other, with links to each."""
    if sum(frame.graph.number_of_nodes() for frame in shown) > _MOST_STILL:
        folded = (Frame(frame.title, apply(frame.graph), frame.caption) for frame in shown)
        shown = Story(folded, shown.title, shown.notes)
    pictures = [to_svg(scene, theme) for scene in compose_each(shown)]
    figures = "".join(
        _figure(number, frame, picture)
        for number, (frame, picture) in enumerate(zip(shown, pictures, strict=True), 1)
    )
    links = "".join(
        f'<li><a href="#frame-{number}">{escape(clean(frame.title) or f"frame {number}")}</a></li>'
        for number, frame in enumerate(shown, 1)
    )
    steps = f'<nav aria-label="frames"><ol>{links}</ol></nav>' if len(shown) > 1 else ""
    notes = "".join(f"<p>{escape(clean(note))}</p>" for note in shown.notes)
    return f"<h1>{title}</h1>{steps}{figures}{notes}"


def _figure(number: int, frame: Frame, picture: str) -> str:
    caption = f"<figcaption>{escape(clean(frame.caption))}</figcaption>" if frame.caption else ""
    return f'<figure id="frame-{number}"><div>{picture}</div>{caption}</figure>\n'


def _colors(palette: Mapping[str, tuple[str, str]]) -> str:
    """The colors of the pictures: as variables of the page, and as classes of its shapes."""
    light, dark = (
        " ".join(f"--{token}: {colors[scheme]};" for token, colors in palette.items())
        for scheme in (0, 1)
    )
    classes = " ".join(
        f".f-{token} {{ fill: var(--{token}); }} .e-{token} {{ stroke: var(--{token}); }}"
        for token in palette
    )
    return f"""
:root {{ color-scheme: light dark; {light} font-family: {FONT}; }}
:root[data-theme="light"] {{ color-scheme: light; }}
:root[data-theme="dark"] {{ color-scheme: dark; {dark} }}
@media (prefers-color-scheme: dark) {{ :root[data-theme="auto"] {{ {dark} }} }}
{classes}
"""
