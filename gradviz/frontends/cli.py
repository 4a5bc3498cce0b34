"""The command line: ``gradviz draw train.py:loss -o loss.svg`` and ``gradviz gallery out/``.

Exit codes: 0 done, 1 it failed (or the script did), 2 misuse, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gradviz import __version__
from gradviz.errors import GradvizError, SubjectError, TargetError, UsageError
from gradviz.frontends.files import FORMATS, STDOUT, check_folder, format_of, write_atomically
from gradviz.frontends.streams import aside, coloured, output_on_stderr, stage

if TYPE_CHECKING:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.target import Loaded, Target
    from gradviz.graph import GradGraph
    from gradviz.renderers.theme import Theme
    from gradviz.story import Frame, Story
    from gradviz.views import View

    Subject = GradGraph | Frame | Story

__all__ = ["cli", "main"]

_MISUSE = (UsageError, TargetError, SubjectError)
_ARGUMENTS = "gradviz.arguments"
_Command = TypeVar("_Command", bound=Callable[..., Any])


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    cli.main(args=None if args is None else list(args), prog_name="gradviz")


class _Fault(click.ClickException):
    """One clear line on standard error, and an exit code."""

    def show(self, file: Any = None) -> None:
        label = click.style("Error:", fg="red", bold=True) if coloured() else "Error:"
        aside(f"{label} {self.format_message()}")


class _MisuseFault(_Fault):
    exit_code = 2


@contextlib.contextmanager
def _one_line_errors(debug: bool) -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as error:
        aside("\ngradviz: stopped; nothing was left half-written")
        raise click.exceptions.Exit(130) from error
    except GradvizError as error:
        if debug:
            traceback.print_exc()
        kind = _MisuseFault if isinstance(error, _MISUSE) else _Fault
        raise kind(str(error)) from error


class _WithArguments(click.Command):
    """A command whose words after ``--`` belong to the script that it runs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            cut = args.index("--")
            ctx.meta[_ARGUMENTS] = args[cut + 1 :]
            args = args[:cut]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = "the script's own options go after --"
            raise click.UsageError(f"{error.format_message().rstrip('.')} ({hint})", ctx) from error


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from gradviz.renderers.graphviz_process import engine_name, engines

    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "not installed (saved graphs can be drawn without it)"
    with _one_line_errors(debug=False):
        found = [engine_name(engine) for engine in engines() if engine != "layered"]
    layout = ", ".join([*found, "gradviz's own"])
    click.echo(f"gradviz {__version__}\ntorch {torch}\nlayout: {layout}")
    ctx.exit()


# \b keeps click from filling the lines.
_EXAMPLES = """\b
Examples:
  gradviz draw train.py:loss                 the graph as text
  gradviz draw train.py:loss -o loss.svg     the graph as a picture
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


def _common(command: _Command) -> _Command:
    command = click.option("--debug", is_flag=True, help="Show the traceback of an error.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")(command)


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


@cli.command(cls=_WithArguments, epilog=_DRAW_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]")
@click.option(
    "-o",
    "--output",
    "outputs",
    metavar="FILE",
    multiple=True,
    help="Where to write it; the suffix says what: "
    + " ".join(f".{name}" for name in FORMATS)
    + ". May be given several times. '-' is standard output. Without it: text on standard output.",
)
@click.option(
    "--format", "fmt", type=click.Choice(FORMATS), help="For outputs that have no such suffix."
)
@click.option("--title", default="", help="A line above the picture.")
@click.option(
    "--theme", type=click.Choice(["auto", "light", "dark"]), default="auto", show_default=True
)
@click.option("--views", metavar="NAMES", help="Which views to apply, in order; 'none' shows all.")
@click.option(
    "--direction",
    type=click.Choice(["data", "gradient"]),
    default="data",
    show_default=True,
    help="Where the arrows point: with the data, or with the gradient.",
)
@_common
@click.pass_context
def draw(ctx: click.Context, /, **options: Any) -> None:
    """Draw a variable of a script, of a module, or a saved graph.

    The script is run as Python would run it. What it prints is passed through (to standard
    error, when the drawing itself goes to standard output).
    """
    request = _Request(**options)
    with _one_line_errors(request.debug):
        loaded = _draw(request, ctx.meta.get(_ARGUMENTS, []))
        if loaded and loaded.failure:
            if request.debug:
                traceback.print_exception(loaded.run.error)
            aside(f"Warning: {loaded.failure}; drawn as it was then", warning=True)
            ctx.exit(1)


def _draw(request: _Request, argv: Sequence[str]) -> Loaded | None:
    """Do what was asked; returns what the program gave, if one was run."""
    from gradviz.frontends.target import parse_target

    outputs = [(path, _format(path, request.fmt)) for path in request.outputs or (STDOUT,)]
    views = _views(request)
    target = parse_target(request.target)
    for path, _ in outputs:
        check_folder(path)  # before the script runs, which may take hours
    aside_output = any(path == STDOUT for path, _ in outputs)
    with output_on_stderr() if aside_output else contextlib.nullcontext():
        subject, loaded = _subject(target, argv)
    drawing = _drawing(subject, request, views)
    pictures = []
    for path, fmt in outputs:
        with stage(f"drawing {fmt}"):
            pictures.append((path, drawing.render(fmt)))
    for path, picture in pictures:
        write_atomically(path, picture)
        if path != STDOUT and not request.quiet:
            aside(f"wrote {path}")
    return loaded


def _format(path: str, wanted: str | None) -> str:
    try:
        told = "" if path == STDOUT else format_of(path)
    except UsageError:
        if wanted is None:
            raise
        told = ""
    if told and wanted and told != wanted:
        raise UsageError(f"{path} is {told} by its suffix, but --format says {wanted}")
    found = told or wanted or "txt"
    binary = found in ("png", "pdf")
    if path == STDOUT and binary and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(f"{found} is not for a terminal: give a file, -o picture.{found}")
    return found


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
        return _saved(target.place), None
    from gradviz.frontends.target import load_target

    with stage(f"running {target.place}", spinner=False):
        loaded = load_target(target, argv)
    try:
        with stage("tracing"):
            return loaded.traced(), loaded
    except SubjectError as error:
        raise SubjectError(f"{target.place}:{','.join(target.names)}: {error}") from error


def _saved(path: str) -> Story:
    from gradviz.serialize import load

    try:
        return load(path)
    except OSError as error:
        raise TargetError(f"cannot read {path}: {error.strerror}") from error


def _drawing(subject: Subject, request: _Request, views: list[View]) -> Drawing:
    from gradviz.frontends.drawing import Drawing

    return Drawing(subject, views=views, theme=request.theme, title=request.title)


@cli.command(short_help="Draw the worked examples, with a page that shows them.")
@click.argument("folder", default="gallery")
@_common
def gallery(folder: str, quiet: bool, debug: bool) -> None:
    """Draw the worked examples into FOLDER, with a page that shows them: index.html.

    Other files in the folder are left alone. FOLDER is made when it is missing.
    """
    from gradviz.frontends.gallery import draw_gallery

    with _one_line_errors(debug):
        failures = draw_gallery(folder, say=None if quiet else click.echo)
        for failure in failures:
            aside(f"Error: {failure}")
        if failures:
            raise click.exceptions.Exit(1)
