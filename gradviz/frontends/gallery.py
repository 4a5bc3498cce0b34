"""The gallery: runs the worked examples, draws each and puts them on one page."""

from __future__ import annotations

import ast
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradviz
from gradviz.errors import GradvizError, OutputError, TargetError
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.files import write_atomically
from gradviz.frontends.gallery_page import Lesson, page
from gradviz.frontends.script import ProgramRun, run_script
from gradviz.frontends.streams import stage
from gradviz.frontends.target import Loaded
from gradviz.renderers.caption import caption

__all__ = ["draw_gallery"]


def draw_gallery(folder: str, say: Callable[[str], Any] | None = None) -> list[str]:
    """Draw every worked example into a folder: pictures, texts, pages and ``index.html``.

    Args:
        folder: where to; made when missing. Files of other names in it are left alone.
        say: is given a line for each example that was drawn; None for silence.

    Returns:
        What went wrong, a line per example; the others are drawn all the same.

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
    with contextlib.redirect_stdout(printed), _inside(path.parent):
        run = run_script(path.name)
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


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder, so that the lines of its files are told by the names of the files."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _draw(run: ProgramRun) -> Drawing:
    """The drawing of an example's ``story``, else of its ``loss``."""
    for name in ("story", "loss"):
        if name in run.namespace:
            subject = Loaded((name,), (run.namespace[name],), run).traced()
            return Drawing(subject)
    raise TargetError("the example defines neither story nor loss")


def _alt(drawing: Drawing) -> str:
    """The picture in a sentence per frame, for those who cannot see it."""
    said = ((frame.title, frame.caption or caption(frame.graph)) for frame in drawing.story)
    return " ".join(": ".join(filter(None, pair)) for pair in said)


def _without_docstring(source: str) -> str:
    body = ast.parse(source).body
    if body and isinstance(body[0], ast.Expr) and ast.get_docstring(ast.parse(source)) is not None:
        source = "".join(source.splitlines(keepends=True)[body[0].end_lineno :])
    return source.strip() + "\n"
