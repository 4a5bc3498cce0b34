"""``gradviz saved``: what is kept in memory for backward, one line per tensor."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from gradviz.errors import UsageError
from gradviz.frontends.command import (
    WithArguments,
    arguments,
    common_options,
    one_line_errors,
)
from gradviz.frontends.command import (
    saved as saved_story,
)
from gradviz.frontends.streams import aside, output_on_stderr, stage
from gradviz.graph import GradGraph
from gradviz.story import Frame, Story

if TYPE_CHECKING:
    from gradviz.frontends.target import Loaded, Target
    from gradviz.reports.memory import SavedTable

__all__ = ["saved"]

_EXAMPLES = """\b
Examples:
  gradviz saved train.py:loss             what the graph of loss keeps, largest first
  gradviz saved train.py:loss -n 20       the 20 largest
  gradviz saved graph.json                of a saved graph or recording; needs no torch
  gradviz saved train.py:loss -- --epochs 3
"""


@click.command(cls=WithArguments, epilog=_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]")
@click.option("-n", "--most", type=click.IntRange(min=1), help="How many tensors to list.")
@common_options
@click.pass_context
def saved(ctx: click.Context, /, target: str, most: int | None, quiet: bool, debug: bool) -> None:
    """List the tensors that are kept for backward: of a variable of a script, or of a file.

    The script is run as Python would run it, and recorded: what a backward pass has freed at its
    end is shown as it was when most was kept.
    """
    with one_line_errors(debug):
        from gradviz.frontends.target import parse_target

        place = parse_target(target, "saved")
        if place.is_saved:
            table, loaded = _of_file(place, arguments(ctx)), None
        else:
            table, loaded = _of_program(place, arguments(ctx), quiet)
        click.echo(table.text(most))
        if loaded and loaded.failure:
            if debug:
                traceback.print_exception(loaded.run.error)
            aside(f"Warning: {loaded.failure}; told as it was then", warning=True)
            ctx.exit(1)


def _of_file(target: Target, argv: Sequence[str]) -> SavedTable:
    if argv:
        raise UsageError(f"{target.place} is a saved graph and takes no arguments after --")
    return _largest(saved_story(target.place), target.place)


def _largest(subject: GradGraph | Frame | Story, place: str) -> SavedTable:
    """The table of a graph; of several moments, that of the one that keeps most."""
    from gradviz.reports.memory import saved as saved_of

    if isinstance(subject, GradGraph):
        return saved_of(subject)
    frames = (subject,) if isinstance(subject, Frame) else subject
    tables = [saved_of(frame.graph) for frame in frames]
    if not tables:
        raise UsageError(f"{place} holds no graph")
    return max(tables, key=lambda table: table.total)


def _of_program(target: Target, argv: Sequence[str], quiet: bool) -> tuple[SavedTable, Loaded]:
    from gradviz.frontends.target import load_target
    from gradviz.recording.api import record  # only now: it needs torch
    from gradviz.reports.memory import saved_at_most

    recording = record()
    with output_on_stderr(), stage(f"running {target.place}", spinner=False):
        loaded = load_target(target, argv, recording)
    found = saved_at_most(recording.frames, target.names[0]) if len(target.names) == 1 else None
    now = _largest(loaded.traced(), target.place)
    if found and found[1].total >= now.total:
        moment, table = found
        if not quiet and now.total < table.total:
            aside(f"at the moment: {moment}")
        return table, loaded
    return now, loaded
