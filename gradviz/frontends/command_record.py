"""``gradviz record``: a whole script, run unchanged, and what autograd did in it."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from gradviz.errors import UsageError
from gradviz.frontends.command import (
    Outputs,
    WithArguments,
    arguments,
    common_options,
    one_line_errors,
    output_options,
    scale_option,
    theme_option,
    title_option,
    transparent_option,
)
from gradviz.frontends.frames import chosen, parse_numbers
from gradviz.frontends.streams import aside, stage

if TYPE_CHECKING:
    from gradviz.frontends.script import ProgramRun
    from gradviz.renderers.theme import Theme

__all__ = ["record"]

_EXAMPLES = """\b
Examples:
  gradviz record train.py                              what happened, line by line
  gradviz record train.py -o story.html                moment by moment, as a page
  gradviz record train.py -o strip.svg --frames 1,3,5  some moments, side by side
  gradviz record train.py --until loss -o loss.svg     the script ends once there is a loss
  gradviz record train.py -o story.html -- --epochs 3
"""


@dataclass(frozen=True)
class _RecordRequest:
    """The options of ``gradviz record``."""

    script: str
    outputs: tuple[str, ...]
    fmt: str | None
    until: str
    frames: str
    max_events: int
    title: str
    theme: Theme
    transparent: bool
    scale: float | None
    quiet: bool
    debug: bool


@click.command(cls=WithArguments, epilog=_EXAMPLES)
@click.argument("script", metavar="SCRIPT [-- SCRIPT ARGUMENTS]")
@output_options("the events and the last moment, as text on standard output")
@click.option(
    "--until",
    metavar="NAME",
    default="",
    help="End the script as soon as its top-level variable NAME first has a value.",
)
@click.option(
    "--frames", metavar="NUMBERS", default="", help="Only these moments, counted from 1: 1,3,5."
)
@click.option(
    "--max-events",
    type=click.IntRange(min=0),
    default=10_000,
    show_default=True,
    help="Of more events, keep the first and the last.",
)
@title_option
@theme_option
@transparent_option
@scale_option
@common_options
@click.pass_context
def record(ctx: click.Context, /, **options: Any) -> None:
    """Run a script, and draw what autograd did in it, moment by moment.

    The script is run as Python would run it. A moment is kept before and after each backward
    pass, after gradients were zeroed, after an optimizer's step and at the end. A script that
    fails is drawn as far as it came, and the exit code is 1. Operations in threads that it
    starts are not seen.
    """
    request = _RecordRequest(**options)
    with one_line_errors(request.debug):
        run = _record(request, arguments(ctx))
        if run.failed:
            if request.debug:
                traceback.print_exception(run.error)
            said = f"Warning: {request.script} failed: {run.ending}; drawn as far as it came"
            aside(said, warning=True)
            ctx.exit(1)


def _record(request: _RecordRequest, argv: Sequence[str]) -> ProgramRun:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.script import Reached, leave_fork, run_script
    from gradviz.frontends.target import check_file

    outputs = Outputs(request.outputs, request.fmt, request.scale)
    numbers = parse_numbers(request.frames, "--frames")
    _check(request)
    check_file(request.script)
    from gradviz.recording.api import (
        record as recording_of,  # only now: it needs torch
    )

    recording = recording_of(max_events=request.max_events)
    with outputs.quieted(), stage(f"running {request.script}", spinner=False):
        run = run_script(request.script, argv, within=recording, until=request.until)
    leave_fork(run)
    if request.until and not run.failed and not isinstance(run.error, Reached):
        said = f"no line at the top level of {request.script} gave {request.until} a value"
        aside(f"Warning: {said}; recorded to its end", warning=True)
    story, missing = chosen(recording.story, numbers, "--frames")
    if missing:
        aside(f"Warning: {missing}", warning=True)
    drawing = Drawing(
        story, theme=request.theme, title=request.title, transparent=request.transparent
    )

    def render(fmt: str, **size: float) -> bytes:
        if request.outputs or fmt != "txt":
            return drawing.render(fmt, **size)
        events = "".join(f"{event}\n" for event in recording.events)
        last = Drawing(story[-1:], title=request.title).text
        return f"{events}\n{last}".encode("utf-8", "backslashreplace")

    outputs.write(render, request.quiet)
    return run


def _check(request: _RecordRequest) -> None:
    script, colon, name = request.script.partition(".py:")
    if colon:
        raise UsageError(
            f"record runs a whole script: gradviz record {script}.py --until {name}; to draw "
            f"{name} alone: gradviz draw {request.script}"
        )
    if not script.lower().endswith(".py"):
        raise UsageError(f"record takes a script, like train.py; not {request.script!r}")
    if request.until and not request.until.isidentifier():
        raise UsageError(f"--until takes the name of a variable, like loss; not {request.until!r}")
