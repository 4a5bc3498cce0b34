"""`view`: a picture to explore, and its page's data; answers as HTML."""

from __future__ import annotations

import sys
import tempfile
import webbrowser
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradviz.errors import GradvizError, UsageError
from gradviz.frontends.display import VIEWER_HEIGHT, interactive, output, preformatted, waiting
from gradviz.frontends.drawing import Drawing, drawn
from gradviz.frontends.files import write_atomically
from gradviz.frontends.options import PictureOptions, with_options
from gradviz.graph.text import must_be
from gradviz.story import Frame, GradientNorms, Story

if TYPE_CHECKING:
    from typing_extensions import Unpack

_LEAST_HEIGHT = 200


@with_options
def view(
    *subjects: object,
    names: object = None,
    height: int = VIEWER_HEIGHT,
    **options: Unpack[PictureOptions],
) -> View:
    """Explore what autograd recorded: search, open groups, step through a run.

    A notebook displays the viewer in the output of the cell, or the still picture if scripts are
    not allowed. ``open()`` displays it in the browser.

    Args:
        subjects: as for `draw`: tensors, a `GradGraph`, a `Story`, a recording, an explanation.
        names: as for `draw`.
        height: of the viewer in a notebook, in pixels; 200 or more.
        options: as for `draw`: the initial state of the viewer.

    Returns:
        The viewer: a notebook displays it, ``save("x.html")`` writes its page.

    Raises:
        SubjectError: if autograd recorded nothing about a subject.
        UsageError: if an option has a value that is not allowed.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> view((x * 3).sum()).html.startswith("<!doctype html>")
        True
    """
    if type(height) is not int or height < _LEAST_HEIGHT:
        raise UsageError(must_be("height", f"an integer >= {_LEAST_HEIGHT}", height))
    return View(drawn(subjects, names, options, sys._getframe(1)), height)


class View:
    """A picture to explore.

    Args:
        drawing: the initial picture of the viewer.
        height: in a notebook, in pixels.

    Example:
        >>> from gradviz.graph import GradGraph
        >>> "sandbox" in View(Drawing(GradGraph()))._repr_html_()
        True
    """

    def __init__(self, drawing: Drawing, height: int = VIEWER_HEIGHT) -> None:
        self.drawing = drawing
        self.height = height

    @cached_property
    def html(self) -> str:
        """The page, as the text of a self-contained file."""
        return self.drawing.html

    def save(self, path: str | Path) -> Path:
        """Write the page, or a picture, to a file; the suffix is the format, as for `Drawing.save`.

        Args:
            path: ends in ``.html``, or in another suffix that `Drawing.save` takes.

        Returns:
            The path.
        """
        return self.drawing.save(path)

    def open(self) -> Path:
        """Show the page in the default browser.

        Returns:
            The temporary file that was written for it.
        """
        return open_page(self.html, self.drawing.target or "graph", show=True)

    def __str__(self) -> str:
        return str(self.drawing)

    def __repr__(self) -> str:
        return f"View({self.drawing!r})"

    def _repr_html_(self) -> str:
        """The still picture, covered by the viewer in a trusted notebook."""
        drawing = self.drawing
        try:
            with waiting("making the viewer"):
                still = output(drawing.svg, str(drawing).splitlines()[-1] if str(drawing) else "")
                return interactive(still, self.html, self.height)
        except GradvizError as error:
            return preformatted(f"{drawing.text}\n{error}")

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))


def open_page(page: str, name: str, *, show: bool) -> Path:
    """Write a page to a temporary file, and show it in the default browser.

    Args:
        page: its text.
        name: of the subject, for the name of the file.
        show: False to only write it.

    Returns:
        The file.
    """
    folder = Path(tempfile.mkdtemp(prefix="gradviz-"))
    path = folder / f"{_file_name(name)}.html"
    write_atomically(path, page.encode("utf-8", "backslashreplace"))
    if show:
        webbrowser.open(path.as_uri())
    return path


def _file_name(name: str) -> str:
    """The letters and digits of a name, for a valid file name on every system."""
    kept = "".join(char if char.isalnum() else "-" for char in name)
    words: Sequence[str] = [word for word in kept.split("-") if word]
    return "-".join(words)[:60] or "graph"


def answer_html(answer: Any) -> str:
    """An answer as HTML: its text, and the picture of its story.

    A story and a recording are only pictures; an explanation, a comparison or a check has text and
    a picture.

    Args:
        answer: a frame, a story, or anything that has a ``story``.
    """
    if isinstance(answer, GradientNorms):
        return str(answer.draw()._repr_html_())
    words = preformatted(str(answer)) if "__str__" in vars(type(answer)) else ""
    story = answer if isinstance(answer, (Frame, Story)) else answer.story
    if isinstance(story, Story) and not story:
        return words or preformatted("\n".join(story.notes) or "nothing was recorded")
    return words + Drawing(story)._repr_html_()
