"""The gallery's page: one HTML file with no script, no font and nothing from the network."""

from __future__ import annotations

import io
import keyword
import re
import token
import tokenize
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from gradviz import __version__

__all__ = ["Lesson", "page"]

_SIDES = ("width", "height")
_PIXELS_PER_POINT = 4 / 3
_LARGEST, _SMALLEST = 1.3, 0.9  # how far a picture follows the page before it scrolls instead


@dataclass(frozen=True)
class Lesson:
    """A worked example, run and drawn.

    Args:
        name: of its file, without the suffix.
        title: one line.
        lesson: what it teaches, in paragraphs.
        code: its source, without the lesson.
        printed: what it printed.
        picture: its SVG.
        text: the same as text.
        alt: the same in a sentence, for those who cannot see it.
        steps: a page that steps through the frames; empty when there is one frame.
    """

    name: str
    title: str
    lesson: str
    code: str
    printed: str
    picture: bytes
    text: str
    alt: str
    steps: bytes = b""

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the picture, in CSS pixels."""
        head = self.picture[:2000].decode(errors="replace")
        sizes = [re.search(rf'<svg[^>]*\s{side}="([\d.]+)(pt|px|)"', head) for side in _SIDES]
        width, height = (
            float(found[1]) * (_PIXELS_PER_POINT if found[2] == "pt" else 1.0) if found else 600.0
            for found in sizes
        )
        return width, height


def page(lessons: Sequence[Lesson]) -> str:
    """The page that shows them, in order.

    Args:
        lessons: their pictures lie beside the page as ``<name>.svg``, and the pages that step
            through them as ``<name>.html``. The first picture is shown on top as well.

    Returns:
        The HTML document.
    """
    contents = "\n".join(
        f'<li><a href="#{escape(each.name)}">{escape(each.title)}</a></li>' for each in lessons
    )
    articles = "\n".join(_article(number, each) for number, each in enumerate(lessons, 1))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>What autograd recorded: worked examples</title>
<style>
{_style()}
</style>
</head>
<body>
<header>
<p class="brand">gradviz</p>
<h1>What autograd recorded</h1>
<p class="lead">Worked examples, each a short program with the graph that PyTorch built while it
ran: what has a gradient, what has none, and why.</p>
{_front(lessons[0]) if lessons else ""}
<nav aria-label="Examples"><ol>
{contents}
</ol></nav>
</header>
<main>
{articles}
</main>
<footer>Drawn by gradviz {escape(__version__)}. Any of the pictures can be drawn again with
<code>gradviz draw</code>.</footer>
</body>
</html>
"""


def _style() -> str:
    return Path(__file__).with_name("gallery.css").read_text(encoding="utf-8").strip()


def _article(number: int, lesson: Lesson) -> str:
    name, title = escape(lesson.name), escape(lesson.title)
    paragraphs = "\n".join(_paragraph(text) for text in re.split(r"\n\s*\n", lesson.lesson) if text)
    return f"""<article id="{name}">
<h2><a href="#{name}"><span class="number">{number}</span> {title}</a></h2>
<div class="lesson">
{paragraphs}
</div>
<figure>
{_picture(lesson)}
<figcaption>{_links(lesson)}</figcaption>
</figure>
<div class="program">
<section><h3>{name}.py</h3>
{_scrolling("code", f"Code of {title}")}<pre><code>{_highlight(lesson.code)}</code></pre></div>
</section>
{_printed(lesson)}
</div>
<details><summary>The picture as text</summary>
{_scrolling("code", f"Text of {title}")}<pre>{escape(lesson.text)}</pre></div></details>
</article>"""


def _front(lesson: Lesson) -> str:
    link = f'<a href="#{escape(lesson.name)}">{escape(lesson.title)}</a>'
    return f"""<figure class="front">
{_picture(lesson, "On top")}
<figcaption>{link}</figcaption>
</figure>"""


def _picture(lesson: Lesson, label: str = "Picture") -> str:
    width, height = lesson.size
    return f"""{_scrolling("picture", f"{label}: {escape(lesson.title)}")}\
<img src="{escape(lesson.name)}.svg" alt="{escape(lesson.alt)}"
 width="{width:.0f}" height="{height:.0f}" loading="lazy"
 style="max-width:{width * _LARGEST:.0f}px;min-width:{width * _SMALLEST:.0f}px"></div>"""


def _links(lesson: Lesson) -> str:
    name = escape(lesson.name)
    alone = f'<a href="{name}.svg">the picture alone</a>'
    return f'<a href="{name}.html">step through</a> · {alone}' if lesson.steps else alone


def _printed(lesson: Lesson) -> str:
    if not lesson.printed.strip():
        return ""
    return (
        f"<section><h3>prints</h3>\n{_scrolling('code', f'Output of {escape(lesson.title)}')}"
        f"<pre><samp>{escape(lesson.printed)}</samp></pre></div></section>"
    )


def _scrolling(kind: str, label: str) -> str:
    # A region that scrolls has to be reachable by keyboard, and then needs a name.
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{label}">'


def _paragraph(text: str) -> str:
    return "<p>" + re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(text, quote=False)) + "</p>"


def _highlight(code: str) -> str:
    """Python source as HTML with comments, strings, keywords and numbers marked."""
    lines = code.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    pieces: list[str] = []
    done = 0
    for kind, begin, end in _marked(code):
        first, last = starts[begin[0] - 1] + begin[1], starts[end[0] - 1] + end[1]
        pieces += escape(code[done:first], quote=False), f'<span class="{kind}">'
        pieces += escape(code[first:last], quote=False), "</span>"
        done = last
    return "".join([*pieces, escape(code[done:], quote=False)])


def _marked(code: str) -> Iterable[tuple[str, tuple[int, int], tuple[int, int]]]:
    for found in tokenize.generate_tokens(io.StringIO(code).readline):
        # From Python 3.12 on an f-string is several tokens.
        if found.type == token.STRING or token.tok_name[found.type].startswith("FSTRING"):
            kind = "s"
        elif found.type == tokenize.COMMENT:
            kind = "c"
        elif found.type == token.NUMBER:
            kind = "n"
        elif found.type == token.NAME and keyword.iskeyword(found.string):
            kind = "k"
        else:
            continue
        yield kind, found.start, found.end
