"""``gradviz summary``: the modules of a graph as a table, with memory and gradients."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING

import click

from gradviz.frontends.command import (
    WithArguments,
    arguments,
    common_options,
    one_line_errors,
    subject_of,
)
from gradviz.frontends.streams import aside, output_on_stderr, stage

if TYPE_CHECKING:
    from gradviz.frontends.summary import Summary

__all__ = ["summary"]

_EXAMPLES = """\b
Examples:
  gradviz summary train.py:loss              modules, as deep as 40 rows allow
  gradviz summary train.py:loss --depth 1    the largest modules only
  gradviz summary graph.json                 of a saved graph; needs no torch
  gradviz summary train.py:loss -- --epochs 3
"""


@click.command(cls=WithArguments, epilog=_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]")
@click.option(
    "--depth", type=click.IntRange(min=1), help="How many levels of modules get a row of their own."
)
@common_options
@click.pass_context
def summary(
    ctx: click.Context, /, target: str, depth: int | None, quiet: bool, debug: bool
) -> None:
    """Sum up a graph, a row for each module: operations, parameters, memory, gradients.

    The script is run as Python would run it. Of a saved recording the last moment counts.
    """
    with one_line_errors(debug):
        from gradviz.frontends.summary import Summary
        from gradviz.frontends.target import parse_target

        place = parse_target(target, "summary")
        with output_on_stderr():
            subject, loaded = subject_of(place, arguments(ctx))
        with stage("summing up"):
            table = Summary(subject, depth=depth)
        _show(table)
        if loaded and loaded.failure:
            if debug:
                traceback.print_exception(loaded.run.error)
            aside(f"Warning: {loaded.failure}; summed up as it was then", warning=True)
            ctx.exit(1)


def _show(table: Summary) -> None:
    """With colours on a terminal; as plain text, however wide, anywhere else."""
    if sys.stdout is not None and sys.stdout.isatty():
        from rich.console import Console

        Console().print(table)
    else:
        click.echo(table.text)
