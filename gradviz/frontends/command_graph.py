"""``gradviz draw``, ``summary`` and ``memory``: a graph as a picture or as a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gradviz.errors import UsageError
from gradviz.frontends.command import (
    OptionValue,
    Outputs,
    WithArguments,
    arguments,
    common_options,
    complete_files,
    hidden_color_option,
    one_line_errors,
    output_options,
    picture_options,
    program_options,
    report_ending,
    saved,
    scale_option,
    subject_of,
    take_picture,
)
from gradviz.frontends.options import OPTIONS, Option
from gradviz.frontends.streams import aside, output_on_stderr, stage
from gradviz.graph import GradGraph
from gradviz.story import Frame, Story

if TYPE_CHECKING:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.options import Picture
    from gradviz.frontends.summary import Summary
    from gradviz.frontends.target import Extent, Loaded, Target
    from gradviz.reports.memory import SavedTable

__all__ = ["draw", "memory", "summary", "view"]

_DRAW_EXAMPLES = """\b
Examples:
  gradviz draw train.py:loss                           text, on the terminal
  gradviz draw train.py:loss -o loss.svg -o loss.png   two files
  gradviz draw train.py:loss,aux -o both.svg           several roots
  gradviz draw "train.py:out['logits']" -o out.svg
  gradviz draw train.py:loss -o loss.svg -- --epochs 3
  gradviz draw package.module:loss -o loss.pdf
  gradviz draw train.py:loss -o - --format dot | dot -Tpng > loss.png
  gradviz draw graph.json -o graph.svg                 needs no torch

\b
Big models:
  gradviz draw train.py:loss --depth 2 -o model.svg    modules as boxes, two levels deep
  gradviz draw train.py:loss --focus encoder.layers.3 -o layer.svg
  gradviz draw train.py:loss --color-by grad_norm -o flow.svg
  gradviz draw train.py:loss --all -o everything.svg   nothing folded
"""
_MOST = Option("", "integer", least=1, name="most")
_LARGE = 1_000
"""So many nodes fit no page and no screen."""
_PER_SECOND = 10_000
"""Nodes and edges that are laid out and written in a second, as measured for graphs of 10,000 and
100,000 nodes of several shapes: 9,400 to 15,000 on one core. The work is counted, so it ends."""


@click.command(cls=WithArguments, epilog=_DRAW_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]", shell_complete=complete_files)
@output_options("text on standard output")
@program_options
@picture_options()
@hidden_color_option
@scale_option
@common_options
@click.pass_context
def draw(
    ctx: click.Context,
    /,
    target: str,
    is_main: bool,
    step: int | None,
    full: bool,
    outputs: tuple[str, ...],
    fmt: str | None,
    scale: float | None,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Draw a variable of a program, or a saved graph.

    Without a name it is what the last backward pass of the first step starts from. The program
    is run as Python would run it, and ends when its first step is over. What it prints is passed
    through (to standard error, when the drawing itself goes to standard output). A large graph
    is folded until it fits a page; --depth, --focus and --all choose another way.
    """
    with one_line_errors(debug):
        from gradviz.frontends.target import Extent, parse_target

        picture = take_picture(options)
        files = Outputs(outputs, fmt, scale, picture)
        place = parse_target(target, "draw", is_main)
        with files.quieted():
            subject, loaded = subject_of(place, arguments(ctx), Extent(step, full))
        _draw(subject, picture, files, quiet, target)
        report_ending(ctx, loaded, "drawn", quiet, debug)


def _draw(
    subject: GradGraph | Frame | Story,
    picture: Picture,
    outputs: Outputs,
    quiet: bool,
    target: str,
) -> None:
    from gradviz.frontends.drawing import Drawing

    drawing = Drawing(subject, picture)
    drawing.target = target
    if not quiet and outputs.are_pictures:
        _warn_of_size(drawing)
    outputs.write(drawing.pieces, quiet)


def _warn_of_size(drawing: Drawing) -> None:
    """Say before a long layout begins how long it may take, and what would be quicker."""
    graphs = [frame.graph for frame in drawing.shown]
    count = sum(graph.number_of_nodes() for graph in graphs)
    if count > _LARGE:
        work = count + sum(graph.number_of_edges() for graph in graphs)
        seconds = max(1, round(work / _PER_SECOND))
        aside(
            f"Warning: {count:,} nodes to draw, which may take about {seconds:,} s; "
            "--depth 2 draws modules as boxes, --focus NAME a part",
            warning=True,
        )


_VIEW_EXAMPLES = """\b
Examples:
  gradviz view train.py:loss                 opens the viewer in the browser
  gradviz view graph.json --no-open          prints the path of its page; needs no torch
  gradviz view train.py:loss --color-by grad_norm -- --epochs 3
"""


@click.command(cls=WithArguments, epilog=_VIEW_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]", shell_complete=complete_files)
@click.option("--no-open", is_flag=True, help="Only print the path of the page.")
@program_options
@picture_options()
@hidden_color_option
@common_options
@click.pass_context
def view(
    ctx: click.Context,
    /,
    target: str,
    no_open: bool,
    is_main: bool,
    step: int | None,
    full: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Explore a graph in the browser: search it, open its groups, step through a recording.

    TARGET is as for gradviz draw: a variable of a program, or a saved graph or recording. The page
    is one file without network; its path is printed. gradviz draw TARGET -o x.html keeps it.
    """
    with one_line_errors(debug):
        from gradviz.frontends.drawing import Drawing
        from gradviz.frontends.target import Extent, parse_target
        from gradviz.frontends.viewing import open_page

        picture = take_picture(options)
        place = parse_target(target, "view", is_main)
        with output_on_stderr():
            subject, loaded = subject_of(place, arguments(ctx), Extent(step, full))
        drawing = Drawing(subject, picture)
        drawing.target = target
        click.echo(open_page(drawing.html, target, show=not no_open))
        report_ending(ctx, loaded, "shown", quiet, debug)


_SUMMARY_EXAMPLES = """\b
Examples:
  gradviz summary train.py:loss              modules, as deep as 40 rows allow
  gradviz summary train.py:loss --depth 1    the largest modules only
  gradviz summary graph.json                 of a saved graph; needs no torch
  gradviz summary train.py:loss -- --epochs 3
"""


@click.command(cls=WithArguments, epilog=_SUMMARY_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]", shell_complete=complete_files)
@click.option(
    "--depth",
    type=OptionValue(OPTIONS["depth"]),
    help="How many levels of modules get a row of their own.",
)
@program_options
@common_options
@click.pass_context
def summary(
    ctx: click.Context,
    /,
    target: str,
    is_main: bool,
    step: int | None,
    full: bool,
    depth: int | None,
    quiet: bool,
    debug: bool,
) -> None:
    """Sum up a graph, a row for each module: operations, parameters, memory, gradients.

    The script is run as Python would run it. Of a saved recording the last frame counts.
    """
    with one_line_errors(debug):
        from gradviz.frontends.summary import Summary
        from gradviz.frontends.target import Extent, parse_target

        place = parse_target(target, "summary", is_main)
        with output_on_stderr():
            subject, loaded = subject_of(place, arguments(ctx), Extent(step, full))
        with stage("summing up"):
            table = Summary(subject, depth=depth)
        _show(table)
        report_ending(ctx, loaded, "summed up", quiet, debug)


def _show(table: Summary) -> None:
    """With colors on a terminal; as plain text, however wide, anywhere else."""
    if sys.stdout is not None and sys.stdout.isatty():
        from rich.console import Console

        Console().print(table)
    else:
        click.echo(table.text)


_MEMORY_EXAMPLES = """\b
Examples:
  gradviz memory train.py:loss             what the graph of loss keeps, largest first
  gradviz memory train.py:loss -n 20       the 20 largest
  gradviz memory graph.json                of a saved graph or recording; needs no torch
  gradviz memory train.py:loss -- --epochs 3
"""


@click.command(cls=WithArguments, epilog=_MEMORY_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]", shell_complete=complete_files)
@click.option("-n", "--most", type=OptionValue(_MOST), help="How many tensors to list.")
@program_options
@common_options
@click.pass_context
def memory(
    ctx: click.Context,
    /,
    target: str,
    is_main: bool,
    step: int | None,
    full: bool,
    most: int | None,
    quiet: bool,
    debug: bool,
) -> None:
    """List the tensors that are kept for backward: of a variable of a script, or of a file.

    The script is run as Python would run it, and recorded: what a backward pass has freed at its
    end is shown as it was when most was kept.
    """
    with one_line_errors(debug):
        from gradviz.frontends.target import Extent, parse_target

        place = parse_target(target, "memory", is_main)
        if place.is_saved:
            table, loaded = _of_file(place, arguments(ctx)), None
        else:
            table, loaded = _of_program(place, arguments(ctx), quiet, Extent(step, full))
        click.echo(table.text(most))
        report_ending(ctx, loaded, "listed", quiet, debug)


def _of_file(target: Target, argv: Sequence[str]) -> SavedTable:
    if argv:
        raise UsageError(f"{target.place} is a saved graph and takes no arguments after --")
    return _largest(saved(target.place), target.place)


def _largest(subject: GradGraph | Frame | Story, place: str) -> SavedTable:
    """The table of a graph; of several frames, that of the one that keeps most."""
    from gradviz.reports.memory import saved as saved_of

    if isinstance(subject, GradGraph):
        return saved_of(subject)
    frames = (subject,) if isinstance(subject, Frame) else subject
    tables = [saved_of(frame.graph) for frame in frames]
    if not tables:
        raise UsageError(f"{place} holds no graph")
    return max(tables, key=lambda table: table.total)


def _of_program(
    target: Target, argv: Sequence[str], quiet: bool, extent: Extent
) -> tuple[SavedTable, Loaded]:
    from gradviz.frontends.target import load_target
    from gradviz.recording.api import record  # only now: it needs torch
    from gradviz.reports.memory import saved_at_most

    recording = record()
    with output_on_stderr(), stage(f"running {target.place}", spinner=False):
        loaded = load_target(target, argv, recording, extent)
    found = saved_at_most(recording.frames, target.names[0]) if len(target.names) == 1 else None
    now = _largest(loaded.traced(), target.place)
    if found and found[1].total >= now.total:
        moment, table = found
        if not quiet and now.total < table.total:
            aside(f"in the frame: {moment}")
        return table, loaded
    return now, loaded
