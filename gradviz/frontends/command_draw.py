"""``gradviz draw``: a variable of a script, or a saved graph, as a picture or as text."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

from gradviz.frontends.command import (
    Outputs,
    WithArguments,
    arguments,
    common_options,
    one_line_errors,
    output_options,
    scale_option,
    subject_of,
    theme_option,
    title_option,
    transparent_option,
)
from gradviz.frontends.streams import aside
from gradviz.frontends.view_names import COLOURS, DIRECTIONS, ViewOptions

if TYPE_CHECKING:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.target import Loaded
    from gradviz.renderers.theme import Theme

__all__ = ["draw"]

_EXAMPLES = """\b
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
  gradviz draw train.py:loss --colour-by grad_norm -o flow.svg
  gradviz draw train.py:loss --all -o everything.svg   nothing folded
"""
_LARGE = 1_000
"""So many nodes fit no page and no screen."""
_PER_SECOND = 10_000
"""Nodes and edges that are laid out and written in a second, as measured for graphs of 10,000 and
100,000 nodes of several shapes: 9,400 to 15,000 on one core. The work is counted, so it ends."""


@dataclass(frozen=True)
class _DrawRequest:
    """The options of ``gradviz draw``."""

    target: str
    outputs: tuple[str, ...]
    fmt: str | None
    title: str
    theme: Theme
    transparent: bool
    scale: float | None
    shown: ViewOptions
    quiet: bool
    debug: bool


@click.command(cls=WithArguments, epilog=_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]")
@output_options("text on standard output")
@title_option
@theme_option
@transparent_option
@scale_option
@click.option(
    "--depth",
    type=click.IntRange(min=1),
    help="Draw each module as one box, so many levels deep.",
)
@click.option(
    "--focus",
    metavar="NAME",
    help="Draw a module, tensor or operation with what is around it; * stands for anything.",
)
@click.option(
    "--radius",
    type=click.IntRange(min=0),
    help="How many steps around --focus are drawn (2).",
)
@click.option("--all", is_flag=True, help="Fold nothing, however large the picture gets.")
@click.option(
    "--views",
    metavar="NAMES",
    help="Which views to apply, in order: top,only_paths_to:fc.weight; 'none' shows all.",
)
@click.option(
    "--colour-by",
    "--color-by",
    "colour_by",
    type=click.Choice(COLOURS),
    help="Show it on each box and arrow, with a scale.",
)
@click.option(
    "--direction",
    type=click.Choice(DIRECTIONS),
    default="data",
    show_default=True,
    help="Where the arrows point: with the data, or with the gradient.",
)
@common_options
@click.pass_context
def draw(ctx: click.Context, /, **options: Any) -> None:
    """Draw a variable of a script, of a module, or a saved graph.

    The script is run as Python would run it. What it prints is passed through (to standard
    error, when the drawing itself goes to standard output). A large graph is folded until it
    fits a page; --depth, --focus and --all choose another way.
    """
    shown = {each.name: options.pop(each.name) for each in fields(ViewOptions)}
    request = _DrawRequest(**options, shown=ViewOptions(**shown))
    with one_line_errors(request.debug):
        loaded = _draw(request, arguments(ctx))
        if loaded and loaded.failure:
            if request.debug:
                traceback.print_exception(loaded.run.error)
            aside(f"Warning: {loaded.failure}; drawn as it was then", warning=True)
            ctx.exit(1)


def _draw(request: _DrawRequest, argv: Sequence[str]) -> Loaded | None:
    """Do what was asked; returns what the program gave, if one was run."""
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.target import parse_target

    outputs = Outputs(request.outputs, request.fmt, request.scale)
    views = request.shown.chosen()
    target = parse_target(request.target, "draw")
    with outputs.quieted():
        subject, loaded = subject_of(target, argv)
    drawing = Drawing(
        subject,
        views=views,
        theme=request.theme,
        title=request.title,
        transparent=request.transparent,
    )
    if not request.quiet and outputs.are_pictures:
        _warn_of_size(drawing)
    outputs.write(drawing.pieces, request.quiet)
    return loaded


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
