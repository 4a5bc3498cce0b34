"""The command line: ``gradviz draw train.py:loss -o loss.svg``, ``gradviz record train.py``.

Exit codes: 0 done, 1 it failed (or the script did), 2 misuse, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import importlib.metadata
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from gradviz import __version__
from gradviz.errors import SubjectError, UsageError
from gradviz.frontends.command import (
    Outputs,
    WithArguments,
    arguments,
    common_options,
    one_line_errors,
    output_options,
    saved,
    theme_option,
    title_option,
)
from gradviz.frontends.command_compare import compare
from gradviz.frontends.command_explain import explain, run
from gradviz.frontends.command_record import record
from gradviz.frontends.command_saved import saved as saved_command
from gradviz.frontends.streams import aside, stage

if TYPE_CHECKING:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.target import Loaded, Target
    from gradviz.graph import GradGraph
    from gradviz.renderers.theme import Theme
    from gradviz.story import Frame, Story
    from gradviz.views import View

    Subject = GradGraph | Frame | Story

__all__ = ["cli", "main"]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    cli.main(args=None if args is None else list(args), prog_name="gradviz")


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from gradviz.renderers.layout.graphviz_process import engine_name, engines

    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "not installed (saved graphs can be drawn without it)"
    with one_line_errors(debug=False):
        found = [engine_name(engine) for engine in engines() if engine != "layered"]
    layout = ", ".join([*found, "gradviz's own"])
    click.echo(f"gradviz {__version__}\ntorch {torch}\nlayout: {layout}")
    ctx.exit()


# \b keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  gradviz draw train.py:loss                 the graph as text
  gradviz draw train.py:loss -o loss.svg     the graph as a picture
  gradviz record train.py -o story.html      what a whole run did, moment by moment
  gradviz compare old.json new.json          what is different
  gradviz explain train.py:model             which parameters get no gradient, and why
  gradviz run train.py                       explains the error, if autograd raises one
  gradviz saved train.py:loss -n 20          what is kept in memory for backward
  gradviz gallery gallery/                   worked examples, as a page
"""
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
"""


@click.group(
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of gradviz, torch and the layout engines found.",
)
def cli() -> None:
    """See what PyTorch's autograd recorded."""


cli.add_command(record)
cli.add_command(compare)
cli.add_command(explain)
cli.add_command(run)
cli.add_command(saved_command)


@dataclass(frozen=True)
class _Request:
    """The options of ``gradviz draw``."""

    target: str
    outputs: tuple[str, ...]
    fmt: str | None
    title: str
    theme: Theme
    views: str | None
    direction: str
    quiet: bool
    debug: bool


@cli.command(cls=WithArguments, epilog=_DRAW_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]")
@output_options("text on standard output")
@title_option
@theme_option
@click.option("--views", metavar="NAMES", help="Which views to apply, in order; 'none' shows all.")
@click.option(
    "--direction",
    type=click.Choice(["data", "gradient"]),
    default="data",
    show_default=True,
    help="Where the arrows point: with the data, or with the gradient.",
)
@common_options
@click.pass_context
def draw(ctx: click.Context, /, **options: Any) -> None:
    """Draw a variable of a script, of a module, or a saved graph.

    The script is run as Python would run it. What it prints is passed through (to standard
    error, when the drawing itself goes to standard output).
    """
    request = _Request(**options)
    with one_line_errors(request.debug):
        loaded = _draw(request, arguments(ctx))
        if loaded and loaded.failure:
            if request.debug:
                traceback.print_exception(loaded.run.error)
            aside(f"Warning: {loaded.failure}; drawn as it was then", warning=True)
            ctx.exit(1)


def _draw(request: _Request, argv: Sequence[str]) -> Loaded | None:
    """Do what was asked; returns what the program gave, if one was run."""
    from gradviz.frontends.target import parse_target

    outputs = Outputs(request.outputs, request.fmt)
    views = _views(request)
    target = parse_target(request.target)
    with outputs.quieted():
        subject, loaded = _subject(target, argv)
    outputs.write(_drawing(subject, request, views).render, request.quiet)
    return loaded


def _views(request: _Request) -> list[View]:
    from gradviz.views import ALL, DEFAULT

    if request.views is None:
        views = list(DEFAULT)
    elif request.views == "none":
        views = []
    else:
        names = [name.strip() for name in request.views.split(",")]
        unknown = [name for name in names if name not in ALL]
        if unknown:
            raise UsageError(f"there is no view {unknown[0]!r}; views are none, {', '.join(ALL)}")
        views = [ALL[name] for name in names]
    if request.direction == "gradient" and ALL["reverse_flow"] not in views:
        views.append(ALL["reverse_flow"])
    return views


def _subject(target: Target, argv: Sequence[str]) -> tuple[Subject, Loaded | None]:
    """What to draw, and the program that it comes from."""
    if target.is_saved:
        if argv:
            raise UsageError(f"{target.place} is a saved graph and takes no arguments after --")
        return saved(target.place), None
    from gradviz.frontends.target import load_target

    with stage(f"running {target.place}", spinner=False):
        loaded = load_target(target, argv)
    try:
        with stage("tracing"):
            return loaded.traced(), loaded
    except SubjectError as error:
        raise SubjectError(f"{target.place}:{','.join(target.names)}: {error}") from error


def _drawing(subject: Subject, request: _Request, views: list[View]) -> Drawing:
    from gradviz.frontends.drawing import Drawing

    return Drawing(subject, views=views, theme=request.theme, title=request.title)


@cli.command(short_help="Draw the worked examples, with a page that shows them.")
@click.argument("folder", default="gallery")
@common_options
def gallery(folder: str, quiet: bool, debug: bool) -> None:
    """Draw the worked examples into FOLDER, with a page that shows them: index.html.

    Other files in the folder are left alone. FOLDER is made when it is missing.
    """
    from gradviz.frontends.gallery import draw_gallery

    with one_line_errors(debug):
        failures = draw_gallery(folder, say=None if quiet else click.echo)
        for failure in failures:
            aside(f"Error: {failure}")
        if failures:
            raise click.exceptions.Exit(1)
