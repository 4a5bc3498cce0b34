"""The commands about graphs: ``gradviz draw``, ``summary``, ``memory`` and ``compare``."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradviz.errors import UsageError
from gradviz.frontends.command import OptionValue, Request, frames_option, target_command
from gradviz.frontends.files import TABLES, aside, columns, echo, output_on_stderr, stage, styled
from gradviz.frontends.options import OPTIONS, Option
from gradviz.graph import GradGraph
from gradviz.story import Frame, Story

if TYPE_CHECKING:
    from gradviz.comparison import Comparison
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.summary import Summary
    from gradviz.frontends.target import Loaded, Target
    from gradviz.graph import GradGraph
    from gradviz.reports.memory import SavedTable

    Subject = GradGraph | Frame | Story

_DRAW_EXAMPLES = """Examples:
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
"""Nodes and edges that are laid out and written per second, measured for graphs of 10,000 and
100,000 nodes of several shapes: 9,400 to 15,000 on one core. The work is counted and limited."""


@target_command("target", epilog=_DRAW_EXAMPLES)
@frames_option
def draw(request: Request) -> None:
    """Draw a variable of a program, or a saved graph.

    Without a name it is what the last backward pass of the first step starts from. The program
    is run as Python would run it, and ends when its first step is over. What it prints is passed
    through (to standard error, when the drawing itself goes to standard output). A large graph
    is folded until it fits a page; --depth, --focus and --all choose another way.
    """
    from gradviz.frontends.drawing import Drawing

    with request.outputs.quieted():
        subject, loaded = request.subject()
    drawing = Drawing(subject, request.picture)
    request.name(drawing)
    if not request.quiet and request.outputs.are_pictures:
        _warn_of_size(drawing)
    width = columns()

    def pieces(fmt: str, **size: float) -> Iterable[bytes]:
        if fmt != "txt" or not width or request.outputs.has_files:
            return drawing.pieces(fmt, **size)
        return [drawing.terminal_text(width, styled()).encode("utf-8", "backslashreplace")]

    request.outputs.write(pieces, request.quiet)
    request.report_ending(loaded, "drawn")


def _warn_of_size(drawing: Drawing) -> None:
    """Warn before a long layout: its estimated time, and faster alternatives."""
    graphs = [frame.graph for frame in drawing.shown]
    count = sum(graph.number_of_nodes() for graph in graphs)
    if count > _LARGE:
        work = count + sum(graph.number_of_edges() for graph in graphs)
        seconds = max(1, round(work / _PER_SECOND))
        aside(
            f"Warning: {count:,} nodes to draw, which may take about {seconds:,} s; "
            "--depth 2 draws modules as boxes, --focus NAME a part"
        )


_VIEW_EXAMPLES = """Examples:
  gradviz view train.py:loss                 opens the viewer in the browser
  gradviz view graph.json --no-open          prints the path of its page; needs no torch
  gradviz view train.py:loss --color-by grad_norm -- --epochs 3
"""


@target_command("target", epilog=_VIEW_EXAMPLES, formats=(), makes="html")
@click.option("--no-open", is_flag=True, help="Only print the path of the page.")
@frames_option
def view(request: Request, no_open: bool) -> None:
    """Explore a graph in the browser: search it, open its groups, step through a recording.

    TARGET is as for gradviz draw: a variable of a program, or a saved graph or recording. The page
    is one file without network; its path is printed. gradviz draw TARGET -o x.html keeps it.
    """
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.viewing import open_page

    with output_on_stderr():
        subject, loaded = request.subject()
    drawing = Drawing(subject, request.picture)
    request.name(drawing)
    click.echo(open_page(drawing.html, drawing.target, show=not no_open))
    request.report_ending(loaded, "shown")


_SUMMARY_EXAMPLES = """Examples:
  gradviz summary train.py:loss              modules, as deep as 40 rows allow
  gradviz summary train.py:loss --depth 1    the largest modules only
  gradviz summary graph.json                 of a saved graph; needs no torch
  gradviz summary train.py:loss -- --epochs 3
"""


@target_command(
    "target", epilog=_SUMMARY_EXAMPLES, output="a table on standard output", formats=TABLES
)
@click.option(
    "--depth",
    type=OptionValue(OPTIONS["depth"]),
    help="How many levels of modules get a row of their own.",
)
@frames_option
def summary(request: Request, depth: int | None) -> None:
    """Sum up a graph, a row for each module: operations, parameters, memory, gradients.

    The script is run as Python would run it. Of a saved recording the last frame counts. Saved
    tensors are counted before a backward pass frees them.
    """
    from gradviz.frontends.summary import Summary

    before = replace(request, extent=replace(request.extent, before=True))
    with output_on_stderr():
        subject, loaded = before.subject()
    if loaded and loaded.before and isinstance(subject, GradGraph):
        subject = Story([Frame("before", loaded.before), Frame("after", subject)])
    with stage("summing up"):
        table = Summary(subject, depth=depth)
    if not request.outputs.has_files and request.outputs.formats == ["txt"]:
        _show(table)
    else:
        total = {**dataclasses.asdict(table.total), "module": "total"}
        rows = [*map(dataclasses.asdict, table.rows), total]
        request.outputs.write(_writer(total, rows, lambda: table.text), request.quiet)
    request.report_ending(loaded, "summed up")


def _show(table: Summary) -> None:
    """Print with colors on a terminal, as plain text of any width elsewhere."""
    if sys.stdout is not None and sys.stdout.isatty():
        from rich.console import Console

        Console().print(table)
    else:
        echo(table.text)


def _writer(
    columns: Iterable[str], rows: Sequence[dict[str, Any]], text: Callable[[], str]
) -> Callable[[str], bytes]:
    """Writes a table in one of the formats of tables."""

    def render(format: str) -> bytes:
        if format == "txt":
            return f"{text()}\n".encode("utf-8", "backslashreplace")
        if format == "json":
            return f"{json.dumps(rows, ensure_ascii=False, indent=1)}\n".encode()
        file = io.StringIO()
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = {k: " ".join(e) if isinstance(e, tuple) else e for k, e in row.items()}
            writer.writerow(cells)
        return file.getvalue().encode("utf-8", "backslashreplace")

    return render


_MEMORY_EXAMPLES = """Examples:
  gradviz memory train.py                  what the first step keeps, when it keeps most
  gradviz memory train.py:loss             what the graph of loss keeps, largest first
  gradviz memory train.py:loss -n 20       the 20 largest
  gradviz memory graph.json                of a saved graph or recording; needs no torch
  gradviz memory train.py:loss -- --epochs 3
"""


@target_command(
    "target", epilog=_MEMORY_EXAMPLES, output="a table on standard output", formats=TABLES
)
@click.option("-n", "--most", type=OptionValue(_MOST), help="How many tensors to list.")
@frames_option
def memory(request: Request, most: int | None) -> None:
    """List the tensors that are kept for backward: of a variable of a script, or of a file.

    The script is run as Python would run it, and recorded: what a backward pass has freed at its
    end is shown as it was when most was kept.
    """
    target = request.target
    if target.is_saved:
        table, loaded = _largest(request.saved(target), target.place), None
    else:
        table, loaded = _of_program(request)
    columns = ("tensor", "bytes", "what", "name", "source", "module", "savers")
    rows = [{name: getattr(row, name) for name in columns} for row in table.rows[:most]]
    request.outputs.write(_writer(columns, rows, lambda: table.text(most)), request.quiet)
    request.report_ending(loaded, "listed")


def _largest(subject: GradGraph | Frame | Story, place: str) -> SavedTable:
    """The table of a graph; of several frames, the one with the most saved bytes."""
    from gradviz.reports.memory import memory

    if isinstance(subject, Story) and not subject:
        raise UsageError(f"{place} holds no graph")
    return memory(subject)


def _of_program(request: Request) -> tuple[SavedTable, Loaded]:
    from gradviz.frontends.program import Watch
    from gradviz.frontends.target import load_target
    from gradviz.recording.api import record_a_program  # imported here: it needs torch
    from gradviz.reports.memory import saved_at_most

    target, watch = request.target, Watch(record_a_program)
    with output_on_stderr():
        loaded = load_target(target, request.argv, watch, request.extent)
    _, recording = watch.chosen
    name, *others = target.names or [""]
    found = None if others else saved_at_most(recording.frames, name)
    now = _largest(loaded.traced(), target.place)
    if found and found[1].total >= now.total:
        moment, table = found
        if not request.quiet and now.total < table.total:
            aside(f"in the frame: {moment}")
        return table, loaded
    return now, loaded


_EXAMPLES = """Examples:
  gradviz compare before.json after.json               what is different, as text
  gradviz compare before.json after.json -o diff.svg   both, with what is different marked
  gradviz compare old/train.py:loss new/train.py:loss -- --epochs 3
  gradviz compare story.json story.json --frames 2,4   two frames of one recording
  gradviz compare -m package.old package.new           modules, run as python -m runs them
  gradviz compare reference.json train.py:loss --exit-code    for a CI job
"""


@target_command("before", "after", epilog=_EXAMPLES)
@click.option("--values", is_flag=True, help="Compare numbers too, not only what is there.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there is a difference.")
@frames_option
def compare(request: Request, values: bool, exit_code: bool) -> None:
    """Say what is different between two graphs: saved ones, or variables of scripts.

    Nodes are matched by name, place, module and source line. Operations, names, shapes, types,
    cuts, whether there are gradients and saved tensors: all count. Numbers do with --values.
    """
    from gradviz.frontends.drawing import Drawing

    comparison, failed = _compare(request, values)

    def render(fmt: str, **size: float) -> bytes:
        if fmt == "txt":
            return f"{comparison}\n".encode("utf-8", "backslashreplace")
        return Drawing(comparison.story, request.picture).render(fmt, **size)

    request.outputs.write(render, request.quiet)
    for loaded in failed:
        if request.debug:
            traceback.print_exception(loaded.run.error)
        aside(f"Warning: {loaded.failure}; compared as it was then")
    if failed or (exit_code and not comparison.same):
        request.ctx.exit(1)


def _compare(request: Request, values: bool) -> tuple[Comparison, list[Loaded]]:
    """Do what was asked; returns what was found, and the programs that failed."""
    from gradviz.comparison import compare as compared

    if len(request.frames) > 2:
        raise UsageError("--frames takes one number for both, or two: --frames 2,4")
    targets = request.targets
    if request.argv and all(target.is_saved for target in targets):
        raise UsageError("saved graphs take no arguments after --")
    with request.outputs.quieted():
        (before, after), failed = _subjects(request, targets)
    return compared(before, after, values=values), failed


def _subjects(request: Request, targets: list[Target]) -> tuple[list[Subject], list[Loaded]]:
    is_one = targets[0].place == targets[1].place and not targets[0].is_saved
    if is_one and all(target.names for target in targets):
        return _of_one_run(request, targets)
    subjects: list[Subject] = []
    failed: list[Loaded] = []
    for at, target in enumerate(targets):
        if target.is_saved:
            subjects.append(_one_frame(request, target, request.frames[at:] or request.frames))
            continue
        from gradviz.capture.isolation import modules_forgotten  # imported here: it needs torch
        from gradviz.frontends.target import load_target

        # The second script imports its own ``model.py``, not that of the first.
        with modules_forgotten(Path(target.place).resolve().parent):
            loaded = load_target(target, request.argv)
            subjects.append(loaded.traced())
        failed += [loaded] if loaded.failure else []
    return subjects, failed


def _one_frame(request: Request, target: Target, numbers: list[int]) -> Frame:
    """The frame of a saved story that is compared."""
    story = request.saved(target, numbers[:1])
    is_recorded = any(frame.pass_number for frame in story)
    if len(story) > 1 and is_recorded and len(set(request.texts)) > 1 and not numbers:
        from gradviz.comparison.ranks import latest_backward

        frame = latest_backward(story)
        if not request.quiet:
            aside(f"gradviz: of {target.place}, frame {story.index(frame) + 1}: {frame.title}")
        return frame
    if len(story) != 1:
        raise UsageError(
            f"{target.place} holds {len(story)} frames, and one is compared: choose one with "
            "--frames 2, or one of each with --frames 2,4"
        )
    return story[0]


def _of_one_run(request: Request, targets: list[Target]) -> tuple[list[Subject], list[Loaded]]:
    """Two variables of one script, which is run once."""
    from gradviz.frontends.target import load_target

    both = replace(targets[0], names=targets[0].names + targets[1].names)
    loaded = load_target(both, request.argv)
    cut = len(targets[0].names)
    parts = (
        replace(loaded, names=loaded.names[part], values=loaded.values[part])
        for part in (slice(cut), slice(cut, None))
    )
    return [part.traced() for part in parts], [loaded] if loaded.failure else []
