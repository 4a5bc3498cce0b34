"""`draw`: draw tensors in one call; and `Drawing`, the picture to show or save."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO, overload

from gradviz import serialize
from gradviz.errors import GradvizError, OutputError, UsageError
from gradviz.frontends.display import output, preformatted, shown_in_notebook, waiting
from gradviz.frontends.files import (
    FORMATS,
    check_folder,
    format_of,
    program_files,
    stage,
    write_atomically,
)
from gradviz.frontends.options import Picture, PictureOptions, with_options
from gradviz.graph import GradGraph
from gradviz.graph.text import must_be
from gradviz.renderers.caption import caption_of
from gradviz.renderers.compose import compose, size_of
from gradviz.renderers.moments import (
    finest_foldings,
    heatmap,
    heatmap_text,
    moments_of,
    outline_of,
    results_apart,
    runs_of_frames,
)
from gradviz.renderers.scene import (
    NARROW,
    Scene,
    SheetStyle,
    excess,
    fits_a_page,
    is_better,
    is_readable,
)
from gradviz.renderers.scene_files import iter_svg, to_eps, to_pdf, to_png
from gradviz.renderers.text import events_text, to_text
from gradviz.renderers.theme import Theme
from gradviz.shown import Shown
from gradviz.story import Frame, GradientNorms, Story, recorded_in, story_of, with_graphs
from gradviz.views import DEFAULT, apply, dock_leaves, through_views
from gradviz.views.colors import highlight_edges
from gradviz.views.groups import keep_inside
from gradviz.views.page import MOST_PAGES, PageSize, fit_pages, narrow_sizes, smaller_pages
from gradviz.views.siblings import dock_alike

if TYPE_CHECKING:
    import graphviz
    from typing_extensions import Unpack

    from gradviz.diagnosis import Explanation

_CARD = 280.0  # points: the widest node where there is little room
_NEARLY = 1.25  # how many times too large a picture may be for nodes that are only made narrower
_PDF_SECONDS = 10  # the time limit in a notebook for the PDF, which only LaTeX uses


@with_options
def draw(*subjects: object, names: object = None, **options: Unpack[PictureOptions]) -> Drawing:
    """Draw what autograd recorded for some tensors.

    Args:
        subjects: tensors, or lists, tuples, dicts and dataclasses of them; or one `GradGraph`,
            `Frame`, `Story`, recording or `GradientNorms`.
        names: the names of tensors: an ``nn.Module`` (its tensors by their paths in it, all
            others by their variables), a dict of name to tensor, ``{}`` or False for no names;
            None for the variables of the calling code.
        options: of the picture, see `PictureOptions`: depth, focus, color_by, title, ...

    Returns:
        The picture: a notebook displays it, ``.save("loss.svg")`` writes it, ``str()`` is text.

    Raises:
        SubjectError: if autograd recorded nothing about a subject.
        UsageError: if an option has a value that is not allowed, or a recording has no frame
            yet.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> loss = (x * 3).sum()
        >>> print(draw(loss))
        loss  f32[]  =  9
        ← sum  f32[]
        ← mul  ×3
        ← x  f32[2]  leaf  now  1 2  .grad  None
        <BLANKLINE>
        2 operations from 1 leaf to loss. x.grad is None.
    """
    return drawn(subjects, names, options, sys._getframe(1))


def drawn(
    subjects: tuple[object, ...], names: object, options: PictureOptions, caller: FrameType
) -> Drawing:
    """Draw subjects with the names of the caller.

    Args:
        subjects: as for `draw`.
        names: as for `draw`.
        options: as for `draw`.
        caller: the frame whose variables name the tensors.
    """
    picture = Picture.of(options)  # checked before a large graph is traced
    if len(subjects) == 1 and isinstance(subjects[0], GradientNorms):
        return _NormsDrawing(subjects[0], picture)
    story = recorded_in(subjects[0]) if len(subjects) == 1 else None
    if story is not None:
        if picture.has_tensors:
            picture = picture.named(_names_by_tensor(names, caller))
        return Drawing(story, picture).about(subjects[0])
    from gradviz.capture.tensors.names import Names
    from gradviz.capture.tracer import trace_subjects

    named = Names.of(names, caller)
    if picture.has_tensors:
        picture = picture.named({id(each.tensor): each.name for each in named})
    with stage("tracing"):
        graph = trace_subjects(subjects, named)
    return Drawing(graph, picture)


def _names_by_tensor(names: object, frame: FrameType) -> dict[int, str]:
    from gradviz.capture.tensors.names import Names

    return {id(each.tensor): each.name for each in Names.of(names, frame)}


class Drawing:
    """A picture of one or several graphs; it is laid out when it is first shown or saved.

    Args:
        story: the story; a graph or a frame is a story of one frame.
        picture: checked options; None to use ``options``.
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
        self.options = (Picture.of(options) if picture is None else picture).named({})
        self.story = story_of(story, self.options["title"])
        self.target, self.command = "", ("draw", "", "")
        """For the viewer: the command line's name of the subject; command, arguments, frames."""
        self._answer: Any = None
        self._views = self.options.views()

    def about(self, answer: object) -> Drawing:
        """Add what `explain` says, for the viewer's list and for JSON; returns the same drawing.

        Args:
            answer: an explanation, explanations, or a recording; other values add nothing to
                what is saved in the story.
        """
        if isinstance(answer, Shown) and not isinstance(answer, (Frame, Story)):
            self._answer = answer
        return self

    def __getstate__(self) -> dict[str, Any]:
        """The drawing without the recording, which refers to the program that runs."""
        story = self._answered
        return {**self.__dict__, "story": story, "_answered": story, "_answer": None}

    @cached_property
    def _answered(self) -> Story:
        """The story with what `explain` says about it."""
        if self._answer is None:
            return self.story
        from gradviz.diagnosis.explain import with_verdicts

        return with_verdicts(self.story, self._answer)

    @property
    def _answers(self) -> tuple[Explanation, ...]:
        if self._answered.verdicts is None:
            return ()
        from gradviz.diagnosis.answers import saved_explanations

        found = saved_explanations(self._answered)
        return () if found is None else found.all

    @property
    def theme(self) -> Theme:
        """``"auto"``, ``"light"`` or ``"dark"``."""
        theme: Theme = self.options["theme"]
        return theme

    @property
    def transparent(self) -> bool:
        """Whether the picture has no background."""
        return bool(self.options["transparent"])

    @property
    def graph(self) -> GradGraph:
        """The recorded graph, before any view; of a story, that of the first frame."""
        return self.story[0].graph if self.story else GradGraph()

    @cached_property
    def _marked(self) -> Story:
        """The story before any view, with changes from frame to frame marked."""
        if not self.story:  # its picture says that there is nothing to draw
            return replace(self.story, frames=(Frame("", GradGraph()),))
        if self.story.ranks:
            from gradviz.comparison.ranks import mark_ranks  # it loads the diagnosis

            return mark_ranks(self.story)
        if len(self.story) == 1:
            return results_apart(self.story)
        from gradviz.comparison import mark_changes  # here, as that above and pages of HTML:

        return mark_changes(self.story)  # the first picture of a process needs none of them

    @cached_property
    def shown(self) -> Story:
        """The story as it is drawn: after the views, with a caption for each frame."""
        return self._through_views()

    @cached_property
    def _painted(self) -> list[GradGraph]:
        """The graphs before any view, with the colors and marks of the options."""
        return through_views([frame.graph for frame in self._marked], self.options.marks())

    def _through_views(self) -> Story:
        whole, frames = [frame.graph for frame in self._marked], []
        with stage("folding"):
            seen = [apply(graph, self._views) for graph in self._painted]
            seen = dock_alike(seen, runs_of_frames(whole))
        called = through_views(whole, self.options.relabel())
        for at, frame in enumerate(self._marked):
            text = caption_of(replace(frame, graph=called[at]), at > 0 and not self.story.ranks)
            frames.append(replace(frame, graph=self._relabeled(seen[at]), caption=text))
        return replace(self._marked, frames=tuple(frames))

    def _relabeled(self, seen: GradGraph) -> GradGraph:
        if "highlight" in seen.graph:
            seen = highlight_edges(seen)
        for each in self.options.relabel():
            with contextlib.suppress(UsageError):  # it is folded, or in another frame
                seen = each(seen)
        return seen

    @property
    def html(self) -> str:
        """The viewer, as the text of a self-contained file."""
        with keep_inside():
            shown = self._through_views()
        whole = self._marked
        if hasattr(self._answer, "whole_graph") and len(whole) == 1:
            # The still picture shows the relevant paths; in the viewer the rest can be reached.
            frame = replace(self.story[0], graph=self._answer.whole_graph)
            whole = results_apart(replace(self.story, frames=(frame,)))
        if changes := [*self.options.marks(), *self.options.relabel()]:
            whole = with_graphs(whole, through_views([frame.graph for frame in whole], changes))
        from gradviz.renderers.html import ViewerPage, to_html

        with stage("layout"):
            files, style = program_files(self.story), self.options.style()
            rest = self.theme, self.target, self._answers, files, style, self.command
            return to_html(ViewerPage(whole, shown, *rest))

    @cached_property
    def _drawn(self) -> tuple[Story, Scene]:
        """The story as it is drawn, perhaps folded further than `shown`, and its picture."""
        style, runs = self.options.style(), runs_of_frames([each.graph for each in self._marked])
        with stage("layout"):
            story, scene = self.shown, compose(self.shown, style, runs=runs)
        tried, whole = {outline_of(story): story}, scene
        for tries, smaller in enumerate(self._smaller(story, runs)):
            if fits_a_page(scene) and (scene.width <= NARROW or tries >= 4):  # rather wide
                break
            if (outline := outline_of(smaller)) not in tried:
                tried[outline] = smaller
                with stage("layout"):
                    other = compose(smaller, style, runs=runs)
                story, scene = (smaller, other) if is_better(other, scene) else (story, scene)
        largest = [max(len(frame.graph) for frame in each) for each in (story, self.shown)]
        is_high = whole.width <= NARROW and excess(whole) <= _NEARLY
        is_poor = is_high and 2 * largest[0] < largest[1]
        readable = self._readable(list(tried.values()), runs)
        while (is_poor or not is_readable(scene)) and (found := next(readable, None)):
            with stage("layout"):
                other = compose(*found, runs=runs)
            if is_readable(other) or (not is_poor and excess(other) < excess(scene)):
                story, scene = found[0], other
            is_poor = False
        return story, scene

    def _smaller(self, shown: Story, runs: Sequence[int]) -> Iterator[Story]:
        """The story with parameters in boxes, then folded as if pages were smaller."""
        seen = [frame.graph for frame in shown]
        if self._is_default:
            yield with_graphs(shown, list(map(dock_leaves, seen)))
            if len(seen) == 1:
                yield with_graphs(shown, fit_pages(seen[0], [(30, 1)]))
            drawn = len(moments_of(shown, runs))
            pages = [min(n, MOST_PAGES) for n in (drawn, 2 * drawn)[len(shown) == 1 :]]
            sizes = [*((60, n) for n in pages), (30, 1), (12, 1)]
            with stage("folding"):
                ways: list[Any] = [fit_pages(graph, sizes) for graph in self._painted]
        else:
            near = self.options["focus"], self.options["radius"]
            rows = zip(seen, self._painted, strict=True) if self._is_chosen else []
            ways = [smaller_pages(graph, whole, *near) for graph, whole in rows]
        for graphs in zip(*ways, strict=True):
            yield with_graphs(shown, list(map(self._relabeled, graphs)))

    def _readable(
        self, tried: list[Story], runs: Sequence[int]
    ) -> Iterator[tuple[Story, SheetStyle]]:
        """Stories and styles for text that is large enough on half a page, the finest first."""
        style = self.options.style()
        if style.sideways or not (self._is_default or self._is_chosen):
            return
        narrow = replace(style, card_width=_CARD)
        yield tried[0], narrow
        is_open = self.options["focus"] is not None  # what is in focus
        pages = len(moments_of(tried[0], runs)) if len(runs) > 1 else 1
        sizes = [] if is_open else narrow_sizes(pages)

        @cache
        def fold(at: int, some: tuple[PageSize, ...]) -> list[GradGraph]:
            with stage("folding"):
                return list(map(self._relabeled, fit_pages(self._painted[at], some)))

        # Of one graph, more of it in narrow nodes is better than less in wide ones.
        for like in (narrow, style) if len(runs) == 1 else (style, narrow):
            size = partial(size_of, style=like, is_alone=len(runs) == 1)
            for mixed in finest_foldings(tried, runs, sizes, fold, size):
                yield mixed, like

    @property
    def _is_default(self) -> bool:
        return tuple(self._views) == DEFAULT

    @property
    def _is_chosen(self) -> bool:
        return self.options["depth"] is not None or self.options["focus"] is not None

    @cached_property
    def svg(self) -> str:
        """The picture as SVG text, for light and dark."""
        return "".join(iter_svg(self._drawn[1], self.theme, self.transparent))

    @property
    def digraph(self) -> graphviz.Digraph:
        """The picture as a ``graphviz.Digraph``, to change or to draw with other settings."""
        from gradviz.renderers.markup import to_digraph

        return to_digraph(self.shown, self.theme, self.transparent, self.options.style())

    dot = digraph
    """The same as `digraph`."""

    def _mermaid(self) -> str:
        from gradviz.renderers.markup import to_mermaid

        return to_mermaid(self.shown, self.theme, self.options.style())

    @property
    def text(self) -> str:
        """The graph as plain text."""
        events = self.options["events"]
        events_part = "" if events is None else f"{events_text(self.story, events)}\n\n"
        return events_part + to_text(self.shown)

    def terminal_text(self, columns: int, styled: bool = False) -> str:
        """The graph as text for a terminal.

        Args:
            columns: of the terminal; longer lines are wrapped.
            styled: bold and colored.
        """
        return to_text(self.shown, width=columns, styled=styled)

    def render(self, format: str, *, scale: float | None = None) -> bytes:
        """Convert the picture to one of the formats, as the bytes of a file.

        Args:
            format: ``svg``, ``png``, ``pdf``, ``eps``, ``html`` (the viewer), ``dot``,
                ``json``, ``mmd`` (Mermaid) or ``txt``. JSON contains the recorded graph, before
                any view.
            scale: pixels per point of a PNG, from 1 to 8; by default 2, or less if too large.
                At 4.2, a picture printed in its own size has 300 dots per inch.

        Raises:
            UsageError: if the format or the scale is not allowed.
            TooLargeError: if the picture exceeds a limit of the format.
            LayoutError: if no Graphviz works, for PNG or PDF.
        """
        if format not in self._renderers:
            raise UsageError(f"cannot draw as {format!r}: formats are {', '.join(FORMATS)}")
        if scale is not None:
            if format != "png":
                raise UsageError(f"scale={scale!r} is for PNG; {format} has no pixels")
            return to_png(self._drawn[1], self.theme, self.transparent, scale)
        data = self._renderers[format]()
        return data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace")

    def pieces(self, format: str, *, scale: float | None = None) -> Iterator[bytes]:
        """The bytes of `render` in pieces, to save memory for a large graph.

        Args:
            format: as for `render`; ``json`` and ``svg`` come in pieces, the others as a whole.
            scale: as for `render`.

        Raises:
            UsageError: as for `render`, which also lists further errors.

        Example:
            >>> drawing = Drawing(GradGraph())
            >>> b"".join(drawing.pieces("svg")) == drawing.render("svg")
            True
        """
        if scale is None and format == "json":
            texts = serialize.iter_json(self._answered)
        elif scale is None and format == "svg" and "svg" not in self.__dict__:
            texts = iter_svg(self._drawn[1], self.theme, self.transparent)
        else:
            return iter([self.render(format, scale=scale)])
        return (text.encode("utf-8", "backslashreplace") for text in texts)

    @property
    def _renderers(self) -> dict[str, Callable[[], str | bytes]]:
        return {
            "svg": lambda: self.svg,
            "png": lambda: to_png(self._drawn[1], self.theme, self.transparent),
            "pdf": lambda: to_pdf(self._drawn[1], self.theme, self.transparent),
            "eps": lambda: to_eps(self._drawn[1], self.theme, self.transparent),
            "dot": lambda: str(self.digraph.source),
            "json": lambda: serialize.to_json(self._answered),
            "html": lambda: self.html,
            "mmd": self._mermaid,
            "txt": lambda: self.text,
        }

    @overload
    def save(
        self, path: str | Path, *, format: str | None = None, scale: float | None = None
    ) -> Path: ...
    @overload
    def save(
        self, path: BinaryIO, *, format: str | None = None, scale: float | None = None
    ) -> BinaryIO: ...
    def save(
        self, path: str | Path | BinaryIO, *, format: str | None = None, scale: float | None = None
    ) -> Path | BinaryIO:
        """Write the picture to a file, in the format that its suffix names.

        Args:
            path: ends in one of ``.svg .png .pdf .eps .html .dot .json .mmd .txt``; a file that is
                there is replaced, and nothing is left half-written. Or a file object that takes
                bytes, such as ``io.BytesIO()``.
            format: one of those of `render`; None for that of the suffix. A file object needs it.
            scale: of a PNG, as for `render`.

        Returns:
            The path, or the file object.

        Raises:
            UsageError: if the suffix or the format is none of these, an option or the scale has
                no effect on it, or a file object takes no bytes.
            OutputError: if the file cannot be written.

        Example:
            >>> import io
            >>> Drawing(GradGraph()).save(io.BytesIO(), format="svg").getvalue()[:5]
            b'<svg '
        """
        if isinstance(path, (str, Path)):
            wanted = self._format(format_of(path) if format is None else format)
            if Path(path).suffix[1:].lower() in {*FORMATS} - {wanted}:
                raise UsageError(f"the suffix of {path} is of another format than {wanted!r}")
            check_folder(path)
            write_atomically(path, self.pieces(wanted, scale=scale))
            return Path(path)
        if not hasattr(path, "write"):
            raise UsageError(must_be("path", "a path or a file object", path))
        if format is None:
            raise UsageError(f"a file object needs a format: format='svg'; got {path!r}")
        pieces = self.pieces(self._format(format), scale=scale)
        try:
            path.writelines(pieces)
        except (TypeError, AttributeError, ValueError) as error:
            raise UsageError(
                f"cannot write bytes to {path!r}: pass a path, or a file that is open in mode 'wb'"
            ) from error
        return path

    def _format(self, format: str) -> str:
        if format not in FORMATS:
            raise UsageError(must_be("format", f"one of {', '.join(FORMATS)}", format))
        # One drawing may be saved as a picture and as JSON, which always holds the whole graph.
        self.options.without("views").check_formats([format])
        return format

    def show(self) -> None:
        """Open the picture in the browser; in a notebook display it.

        Raises:
            OutputError: if there is no browser.
        """
        if shown_in_notebook(self):
            return
        name = "picture.svg" if self.transparent else "picture.html"
        page = self.save(Path(tempfile.mkdtemp(prefix="gradviz-")) / name)
        if not webbrowser.open(page.as_uri()):
            raise OutputError(
                f"there is no browser to show {page}; write a file: draw(loss).save('loss.svg')"
            )

    def __str__(self) -> str:
        return self.text.rstrip("\n")

    def __repr__(self) -> str:
        graphs = ", ".join(repr(frame.graph) for frame in self.story)
        return f"Drawing({graphs})"

    def _repr_html_(self) -> str:
        """The picture as an image, which untrusted notebooks display too."""
        count = sum(frame.graph.number_of_nodes() for frame in self.story)
        try:
            with waiting(f"drawing {count:,} nodes"):
                return output(self.svg, self._drawn[1].description)
        except GradvizError as error:
            # A display hook must not raise: show the text and the reason instead.
            return preformatted(f"{self.text}\n{error}")

    def _repr_svg_(self) -> str | None:
        """For programs that show no HTML; None without a PDF, because LaTeX would need Inkscape."""
        return None if self._repr_pdf_() is None else self.svg

    def _repr_pdf_(self) -> bytes | None:
        """For LaTeX."""
        return self._pdf

    @cached_property
    def _pdf(self) -> bytes | None:
        try:
            with waiting("drawing it as PDF too"):
                return to_pdf(self._drawn[1], self.theme, self.transparent, _PDF_SECONDS)
        except GradvizError:
            return None

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        printer.text(str(self))


class _NormsDrawing(Drawing):
    """The picture of gradient norms, which has no graph."""

    def __init__(self, norms: GradientNorms, picture: Picture) -> None:
        super().__init__(Story(), picture)
        self.norms = norms

    @cached_property
    def _drawn(self) -> tuple[Story, Scene]:
        return self.story, heatmap(self.norms, self.options["title"])

    @property
    def text(self) -> str:
        """The norms as text."""
        return heatmap_text(self.norms)

    @property
    def _renderers(self) -> dict[str, Callable[[], str | bytes]]:
        found = super()._renderers
        return {name: found[name] for name in ("svg", "png", "pdf", "eps", "txt")}

    def _format(self, format: str) -> str:
        if format not in self._renderers:
            raise UsageError(must_be("format", f"one of {', '.join(self._renderers)}", format))
        return super()._format(format)

    def __repr__(self) -> str:
        return f"Drawing of {len(self.norms.names)} gradients at {len(self.norms.steps)} steps"
