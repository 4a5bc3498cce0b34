"""The gallery: runs the worked examples, draws each and puts them on one page.

The page is one HTML file without scripts, fonts or network access.
"""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

import gradviz
from gradviz.errors import GradvizError, OutputError, TargetError
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.files import inside, stage, write_atomically
from gradviz.frontends.program import ProgramRun, run_script
from gradviz.frontends.target import Loaded
from gradviz.renderers.caption import caption

_SIDES = ("width", "height")
_PIXELS_PER_POINT = 4 / 3
_LARGEST, _SMALLEST = 1.3, 0.9  # the range of scaling, beyond which a picture scrolls
_WINDOW = 920.0  # pixels: pictures up to this height do not scroll


def draw_gallery(folder: str, say: Callable[[str], Any] | None = None) -> list[str]:
    """Draw every worked example into a folder: pictures, texts, pages and ``index.html``.

    Args:
        folder: the folder; created if missing. Other files in it are not changed.
        say: called with a line for each example that was drawn; None for no output.

    Returns:
        The errors, one line per example; the other examples are drawn.

    Raises:
        OutputError: if the folder cannot be written to.
        TargetError: if the examples are not installed.
    """
    place = _make(folder)
    lessons: list[Lesson] = []
    failures: list[str] = []
    for path in _examples():
        try:
            with stage(f"drawing {path.stem}"):
                lesson = _lesson(path)
        except GradvizError as error:
            failures.append(f"{path.stem}: {error}")
            continue
        write_atomically(place / f"{lesson.name}.svg", lesson.picture)
        write_atomically(place / f"{lesson.name}.txt", lesson.text.encode())
        if lesson.steps:
            write_atomically(place / f"{lesson.name}.html", lesson.steps)
        lessons.append(lesson)
        if say:
            width, height = lesson.size
            say(f"{lesson.name:<18}  {lesson.title:<66}  {width:.0f} x {height:.0f}")
    write_atomically(place / "index.html", page(lessons).encode())
    if say:
        say(f"the page: {place / 'index.html'}")
    return failures


def _make(folder: str) -> Path:
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"cannot write to {folder}: it is a file, not a folder") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise OutputError(f"cannot make the folder {folder}: {reason}") from error
    return place


def _examples() -> Iterator[Path]:
    """The example files in the order of the lessons, from the package or a source checkout."""
    package = Path(gradviz.__file__).parent
    places = (package / "examples", package.parent / "examples")
    start = next((place / "__init__.py" for place in places if place.is_dir()), None)
    if start is None:
        raise TargetError("the worked examples are not installed; install gradviz again")
    for statement in ast.parse(start.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "ORDER":
            for name in ast.literal_eval(statement.value):
                yield start.with_name(f"{name}.py")


def _lesson(path: Path) -> Lesson:
    if not path.is_file():
        raise TargetError(f"there is no file {path}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), inside(path.parent):
        run = run_script(path.name).unless_interrupted()
    if run.failed:
        raise TargetError(f"the example failed: {run.ending}")
    source = path.read_text(encoding="utf-8")
    title, _, lesson = (ast.get_docstring(ast.parse(source)) or path.stem).partition("\n")
    title = title.strip().removesuffix(".")
    drawing = _draw(run)
    steps = Drawing(drawing.story, title=title).render("html") if len(drawing.story) > 1 else b""
    return Lesson(
        name=path.stem,
        title=title,
        lesson=lesson.strip(),
        code=_without_docstring(source),
        printed=printed.getvalue(),
        picture=drawing.render("svg"),
        text=str(drawing).rstrip("\n") + "\n",
        alt=_alt(drawing),
        steps=steps,
    )


def _draw(run: ProgramRun) -> Drawing:
    """The drawing of an example's ``story``, else of its ``loss``."""
    for name in ("story", "loss"):
        if name in run.namespace:
            subject = Loaded((name,), (run.namespace[name],), run).traced()
            return Drawing(subject)
    raise TargetError("the example defines neither story nor loss")


def _alt(drawing: Drawing) -> str:
    """A text alternative for the picture: one sentence per frame."""
    said = ((frame.title, frame.caption or caption(frame.graph)) for frame in drawing.story)
    return " ".join(": ".join(filter(None, pair)) for pair in said)


def _without_docstring(source: str) -> str:
    body = ast.parse(source).body
    if body and isinstance(body[0], ast.Expr) and ast.get_docstring(ast.parse(source)) is not None:
        source = "".join(source.splitlines(keepends=True)[body[0].end_lineno :])
    return source.strip() + "\n"


@dataclass(frozen=True)
class Lesson:
    """A worked example that was run and drawn."""

    name: str  # of its file, without the suffix
    title: str  # one line
    lesson: str  # the lesson, in paragraphs
    code: str  # its source, without the lesson
    printed: str  # its output
    picture: bytes  # its SVG
    text: str  # the picture as text
    alt: str  # the text alternative of the picture
    steps: bytes = b""  # a page that steps through the frames; "" if there is only one frame

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
    """The page with all lessons, in order.

    Args:
        lessons: their pictures are beside the page as ``<name>.svg``, and the pages that step
            through them as ``<name>.html``. The first picture is also shown at the top.

    Returns:
        The HTML document.
    """
    contents = "\n".join(
        f'<li><a href="#{escape(each.name)}">{escape(each.title)}</a></li>' for each in lessons
    )
    articles = "\n".join(map(_article, itertools.count(1), lessons))
    style = Path(__file__).with_name("gallery.css").read_text(encoding="utf-8").strip()
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>What autograd recorded: worked examples</title>
<style>
{style}
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
<footer>Drawn by gradviz {escape(gradviz.__version__)}. Any of the pictures can be drawn again with
<code>gradviz draw</code>.</footer>
</body>
</html>
"""


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
{_scrolling("code", f"Code of {title}")}<pre><code>{_colored(lesson.code)}</code></pre></div>
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
    largest = width * min(_LARGEST, max(1.0, _WINDOW / height))
    return f"""{_scrolling("picture", f"{label}: {escape(lesson.title)}")}\
<img src="{escape(lesson.name)}.svg" alt="{escape(lesson.alt)}"
 width="{width:.0f}" height="{height:.0f}" loading="lazy"
 style="max-width:{largest:.0f}px;min-width:{width * _SMALLEST:.0f}px"></div>"""


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
    # A region that scrolls must be reachable by keyboard, and then needs a name.
    return f'<div class="{kind}" tabindex="0" role="region" aria-label="{label}">'


def _paragraph(text: str) -> str:
    return "<p>" + re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(text, quote=False)) + "</p>"


def _colored(code: str) -> str:
    """Python source as HTML, with a class for each token."""
    html: str = highlight(code, PythonLexer(stripnl=False), HtmlFormatter(nowrap=True))
    return html.rstrip("\n") + "\n"
