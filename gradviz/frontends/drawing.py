"""`draw`: from tensors to a picture in one call, and `Drawing`, the picture to show or save."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from gradviz import serialize
from gradviz.comparison import mark_changes, mark_stale_leaves
from gradviz.errors import GradvizError, UsageError
from gradviz.frontends.display import output, preformatted, waiting
from gradviz.frontends.files import FORMATS, check_folder, format_of, write_atomically
from gradviz.frontends.options import Picture, PictureOptions, with_options
from gradviz.frontends.streams import stage
from gradviz.graph import GradGraph
from gradviz.renderers.canvas import to_pdf, to_png
from gradviz.renderers.caption import caption_of
from gradviz.renderers.compose import compose, fits_a_page, runs_of_frames
from gradviz.renderers.html import to_html
from gradviz.renderers.island import Answer
from gradviz.renderers.mermaid import to_mermaid
from gradviz.renderers.moments import moments_of
from gradviz.renderers.scene import Scene
from gradviz.renderers.svg import iter_svg
from gradviz.renderers.text import to_text
from gradviz.renderers.theme import Theme
from gradviz.story import Frame, Story, recorded_in
from gradviz.views import DEFAULT, View, apply, fit_page
from gradviz.views.groups import keep_inside

if TYPE_CHECKING:
    import graphviz
    from typing_extensions import Unpack

    from gradviz.diagnosis import Explanation

__all__ = ["Drawing", "answer_html", "draw", "drawn"]

_MOST_PAGES = 5  # graphs of a story on one page
_MOST_FILES, _MOST_LINES = 8, 5_000
"""Of the program, that the viewer shows."""
_PDF_SECONDS = 10  # that a notebook waits for what only LaTeX will ask for


@with_options
def draw(*subjects: object, names: object = None, **options: Unpack[PictureOptions]) -> Drawing:
    """Draw what autograd recorded for some tensors.

    Args:
        subjects: tensors, or lists, tuples, dicts and dataclasses of them; or one `GradGraph`,
            `Frame`, `Story` or recording.
        names: what to call the tensors: an ``nn.Module`` (its tensors by their paths in it, all
            others by their variables), a dict of name to tensor, ``{}`` or False for no names;
            None for the variables of the calling code.
        options: of the picture, as `PictureOptions` lists them: depth, focus, color_by, title, ...

    Returns:
        The picture: a notebook shows it, ``.save("loss.svg")`` writes it, ``str()`` is text.

    Raises:
        SubjectError: if there is nothing in a subject that autograd could have recorded.
        UsageError: if an option has a value that is not allowed, or a recording holds no moment
            yet.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> loss = (x * 3).sum()
        >>> print(draw(loss))
        loss  f32[]  =  9
        ← sum  f32[]
        ← mul  ×3
        ← x  f32[2]  leaf  =  1 2  .grad  None
        <BLANKLINE>
        2 operations from 1 leaf to loss. x.grad is None.
    """
    return drawn(subjects, names, options, sys._getframe(1))


def drawn(
    subjects: tuple[object, ...], names: object, options: PictureOptions, caller: FrameType
) -> Drawing:
    """The picture of some subjects.

    Args:
        subjects: as for `draw`.
        names: as for `draw`.
        options: as for `draw`.
        caller: whose variables give the tensors their names.
    """
    picture = Picture.of(options)  # before a large graph is traced
    story = recorded_in(subjects[0]) if len(subjects) == 1 else None
    if story is not None:
        return Drawing(story, picture).about(subjects[0])
    from gradviz.capture.tensors.names import Names
    from gradviz.capture.tracing.tracer import trace_subjects

    named = Names.of(names, caller)
    with stage("tracing"):
        graph = trace_subjects(subjects, named)
    return Drawing(graph, picture)


class Drawing:
    """A picture of one graph or of several; it is laid out when it is first shown or saved.

    Args:
        story: what to draw; a graph or a frame is a story of one.
        picture: options that were checked before; None for those that follow.
        options: as for `draw`.

    Example:
        >>> drawing = Drawing(GradGraph(), title="nothing yet")
        >>> drawing.graph
        GradGraph(0 edges)
        >>> drawing.svg.startswith("<svg ")
        True
    """

    def __init__(
        self,
        story: GradGraph | Frame | Story,
        picture: Picture | None = None,
        **options: Unpack[PictureOptions],
    ) -> None:
        self.options = Picture.of(options) if picture is None else picture
        self.story = _story(story, self.options["title"])
        self.target = ""
        """What the command line calls the subject, for the viewer's commands; "" if not known."""
        self._answers: tuple[Answer, ...] = ()
        self._views = self.options.views()

    def about(self, answer: object) -> Drawing:
        """Let the viewer list what an explanation says; returns the same drawing.

        Args:
            answer: an `Explanation` or `Explanations`; anything else adds nothing.
        """
        from gradviz.diagnosis import Explanation, Explanations  # not every picture needs it

        if isinstance(answer, Explanation):
            self._answers = (_answer(answer),)
        elif isinstance(answer, Explanations):
            self._answers = tuple(map(_answer, answer.all))
        return self

    @property
    def theme(self) -> Theme:
        """``"auto"``, ``"light"`` or ``"dark"``."""
        theme: Theme = self.options["theme"]
        return theme

    @property
    def transparent(self) -> bool:
        """Whether there is no page behind the picture."""
        return bool(self.options["transparent"])

    @property
    def graph(self) -> GradGraph:
        """The graph as it was recorded, before any view; of a story, that of the first frame."""
        return self.story[0].graph if self.story else GradGraph()

    @cached_property
    def _marked(self) -> Story:
        """The story before any view, with what changed from frame to frame."""
        if len(self.story) == 1:
            return self.story
        return mark_stale_leaves(mark_changes(self.story))

    @cached_property
    def shown(self) -> Story:
        """The story as it is drawn: through the views, with a sentence under each frame."""
        return self._through_views()

    def _through_views(self, views: Sequence[View] | None = None) -> Story:
        frames = []
        with stage("folding"):
            for number, frame in enumerate(self._marked):
                graph = apply(frame.graph, self._views if views is None else views)
                text = caption_of(frame, is_later=number > 0)
                frames.append(replace(frame, graph=graph, caption=text))
        return replace(self._marked, frames=tuple(frames))

    @property
    def html(self) -> str:
        """The viewer, as the text of a file that needs nothing else."""
        with keep_inside():
            shown = self._through_views()
        with stage("layout"):
            return to_html(
                self._marked,
                shown,
                self.theme,
                target=self.target,
                answers=self._answers,
                files=_program_files(self.story),
            )

    @cached_property
    def _scene(self) -> Scene:
        shown = self.shown
        with stage("layout"):
            runs = runs_of_frames([frame.graph for frame in self._marked])
            scene = compose(shown, runs=runs)
        if fits_a_page(scene) or len(shown) < 2 or tuple(self._views) != DEFAULT:
            return scene
        drawn = len(moments_of(shown, runs))
        for pages in (drawn, 2 * drawn):
            shown = self._through_views([fit_page(pages=min(pages, _MOST_PAGES))])
            with stage("layout"):
                smaller = compose(shown, runs=runs)
            scene = min(scene, smaller, key=lambda each: each.height)
            if fits_a_page(scene):
                break
        return scene

    @cached_property
    def svg(self) -> str:
        """The picture as SVG text, light and dark in one."""
        return "".join(iter_svg(self._scene, self.theme, self.transparent))

    @property
    def digraph(self) -> graphviz.Digraph:
        """The picture as a ``graphviz.Digraph``, to change or to draw with other settings."""
        from gradviz.renderers.dot import to_digraph

        return to_digraph(self.shown, self.theme, self.transparent)

    dot = digraph
    """The same as `digraph`."""

    @property
    def text(self) -> str:
        """The graph as plain text."""
        return to_text(self.shown)

    def render(self, format: str, *, scale: float | None = None) -> bytes:
        """The picture in one of the formats, as the bytes of a file.

        Args:
            format: ``svg``, ``png``, ``pdf``, ``html`` (frame by frame), ``dot``, ``json``,
                ``mmd`` (Mermaid) or ``txt``. JSON holds the graph as it was recorded, before any
                view.
            scale: pixels a point of a PNG, from 1 to 8; 2 without it, or fewer where it would not
                fit. A picture that is printed in its own size has 300 dots an inch at 4.2.

        Raises:
            UsageError: if the format is none of these, or the scale is not for it.
            TooLargeError: if the picture does not fit the format.
            LayoutError: if a PNG or PDF is asked for and no Graphviz works.
        """
        if format not in self._renderers:
            raise UsageError(f"cannot draw as {format!r}: formats are {', '.join(FORMATS)}")
        if scale is not None:
            if format != "png":
                raise UsageError(f"scale={scale!r} is for PNG; {format} has no pixels")
            return to_png(self._scene, self.theme, self.transparent, scale)
        data = self._renderers[format]()
        return data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace")

    def pieces(self, format: str, *, scale: float | None = None) -> Iterator[bytes]:
        """The same bytes as `render`, piece by piece: those of a large graph need much memory.

        Args:
            format: as for `render`; ``json`` and ``svg`` come in pieces, the others whole.
            scale: as for `render`.

        Raises:
            UsageError: as for `render`, and the others too.

        Example:
            >>> drawing = Drawing(GradGraph())
            >>> b"".join(drawing.pieces("svg")) == drawing.render("svg")
            True
        """
        if scale is None and format == "json":
            texts = serialize.iter_json(self.story)
        elif scale is None and format == "svg" and "svg" not in self.__dict__:
            texts = iter_svg(self._scene, self.theme, self.transparent)
        else:
            return iter([self.render(format, scale=scale)])
        return (text.encode("utf-8", "backslashreplace") for text in texts)

    @property
    def _renderers(self) -> dict[str, Callable[[], str | bytes]]:
        return {
            "svg": lambda: self.svg,
            "png": lambda: to_png(self._scene, self.theme, self.transparent),
            "pdf": lambda: to_pdf(self._scene, self.theme, self.transparent),
            "dot": lambda: str(self.digraph.source),
            "json": lambda: serialize.to_json(self.story),
            "html": lambda: self.html,
            "mmd": lambda: to_mermaid(self.shown, self.theme),
            "txt": lambda: self.text,
        }

    def save(self, path: str | Path, *, scale: float | None = None) -> Path:
        """Write the picture to a file, in the format that its suffix names.

        Args:
            path: ends in one of ``.svg .png .pdf .html .dot .json .mmd .txt``. A file that is there
                is replaced; nothing is left half-written.
            scale: of a PNG, as for `render`.

        Returns:
            The path.

        Raises:
            UsageError: if the suffix is none of these, or the scale is not for it.
            OutputError: if the file cannot be written.
        """
        format = format_of(path)
        check_folder(path)
        write_atomically(path, self.pieces(format, scale=scale))
        return Path(path)

    def __str__(self) -> str:
        return self.text.rstrip("\n")

    def __repr__(self) -> str:
        graphs = ", ".join(repr(frame.graph) for frame in self.story)
        return f"Drawing({graphs})"

    def _repr_html_(self) -> str:
        """The picture as an image: notebooks that are not trusted show it as well."""
        count = sum(frame.graph.number_of_nodes() for frame in self.story)
        try:
            with waiting(f"drawing {count:,} nodes"):
                return output(self.svg, self._scene.description)
        except GradvizError as error:
            # A display hook must not raise: the reader gets the text and the reason instead.
            return preformatted(f"{self.text}\n{error}")

    def _repr_svg_(self) -> str | None:
        """For programs that show no HTML; without a PDF none, as LaTeX would call for Inkscape."""
        return None if self._repr_pdf_() is None else self.svg

    def _repr_pdf_(self) -> bytes | None:
        """For LaTeX."""
        return self._pdf

    @cached_property
    def _pdf(self) -> bytes | None:
        try:
            with waiting("drawing it as PDF too"):
                return to_pdf(self._scene, self.theme, self.transparent, _PDF_SECONDS)
        except GradvizError:
            return None

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))


def _story(story: GradGraph | Frame | Story, title: str) -> Story:
    if isinstance(story, GradGraph):
        story = Frame("", story)
    if isinstance(story, Frame):
        story = Story((story,), "")
    return replace(story, title=title or story.title)


def _answer(told: Explanation) -> Answer:
    from gradviz.diagnosis import Verdict

    return Answer(
        told.name,
        told.verdict.value,
        told.verdict.state,
        told.reason,
        told.fix,
        told.nodes,
        told.culprit,
        told.lines,
        told.verdict is Verdict.FINE,
    )


def _program_files(story: Story) -> dict[str, list[str]]:
    """The lines of the program's files, as far as they are still those that ran."""
    texts: dict[str, dict[int, str]] = {}
    for event in story.events:
        place = event.location
        if place.line and place.text:
            texts.setdefault(place.file, {})[place.line] = place.text.strip()
    found = {}
    for name, known in list(texts.items())[:_MOST_FILES]:
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or path.suffix != ".py":
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            continue
        same = all(
            line <= len(lines) and lines[line - 1].strip() == text for line, text in known.items()
        )
        if same and len(lines) <= _MOST_LINES:
            found[name] = lines
    return found


def answer_html(answer: Any) -> str:
    """An answer as HTML: its words, and the picture of its story.

    A story and a recording are their pictures; an explanation, a comparison or a check says in
    words what its picture then shows.

    Args:
        answer: a frame, a story, or anything that has a ``story``.
    """
    has_words = "__str__" in vars(type(answer))
    words = preformatted(str(answer)) if has_words else ""
    story = answer if isinstance(answer, (Frame, Story)) else answer.story
    if isinstance(story, Story) and not story:
        return words or preformatted("\n".join(story.notes) or "nothing was recorded")
    return words + Drawing(story)._repr_html_()
