"""``gradviz record``, ``explain`` and ``run``: a whole program, run unchanged and recorded."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gradviz.errors import SubjectError, TargetError, UsageError
from gradviz.frontends.command import (
    OptionValue,
    Outputs,
    WithArguments,
    arguments,
    common_options,
    one_line_errors,
    output_options,
    picture_options,
    scale_option,
    take_picture,
    warn_of_failure,
)
from gradviz.frontends.options import Option, chosen, frame_numbers
from gradviz.frontends.streams import aside, stage

if TYPE_CHECKING:
    from gradviz.diagnosis import Explanation, Explanations
    from gradviz.frontends.options import Picture
    from gradviz.frontends.program import ProgramRun
    from gradviz.frontends.target import Loaded

__all__ = ["explain", "record", "run"]

_RECORD_EXAMPLES = """\b
Examples:
  gradviz record train.py                              what happened, line by line
  gradviz record train.py -o story.html                moment by moment, as a page
  gradviz record train.py -o strip.svg --frames 1,3,5  some moments, side by side
  gradviz record train.py --until loss -o loss.svg     the script ends once there is a loss
  gradviz record train.py -o story.html -- --epochs 3
"""


@click.command(cls=WithArguments, epilog=_RECORD_EXAMPLES)
@click.argument("script", metavar="SCRIPT [-- SCRIPT ARGUMENTS]")
@output_options("the events and the last frame, as text on standard output")
@click.option(
    "--until",
    metavar="NAME",
    default="",
    help="End the script as soon as its top-level variable NAME first has a value.",
)
@click.option(
    "--frames", metavar="NUMBERS", default="", help="Only these frames, counted from 1: 1,3,5."
)
@click.option(
    "--max-events",
    type=OptionValue(Option("", "integer", least=0, name="max_events")),
    default="10000",
    show_default=True,
    help="Of more events, keep the first and the last.",
)
@picture_options()
@scale_option
@common_options
@click.pass_context
def record(
    ctx: click.Context,
    /,
    script: str,
    outputs: tuple[str, ...],
    fmt: str | None,
    scale: float | None,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Run a script, and draw what autograd did in it, frame by frame.

    The script is run as Python would run it. A frame is kept before and after each backward
    pass, after gradients were zeroed, after an optimizer's step and at the end. A script that
    fails is drawn as far as it came, and the exit code is 1. Operations in threads that it
    starts are not seen.
    """
    with one_line_errors(debug):
        picture = take_picture(options)
        files = Outputs(outputs, fmt, scale, picture)
        run = _record(script, arguments(ctx), picture, files, quiet, **options)
        if run.failed:
            if debug:
                traceback.print_exception(run.error)
            said = f"Warning: {script} failed: {run.ending}; drawn as far as it came"
            aside(said, warning=True)
            ctx.exit(1)


def _record(
    script: str,
    argv: Sequence[str],
    picture: Picture,
    outputs: Outputs,
    quiet: bool,
    *,
    until: str,
    frames: str,
    max_events: int,
) -> ProgramRun:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.program import Reached, leave_fork, run_script
    from gradviz.frontends.target import check_file

    numbers = frame_numbers(frames, "--frames")
    _check(script, until)
    check_file(script)
    from gradviz.recording.api import record  # only now: it needs torch

    recording = record(max_events=max_events)
    with outputs.quieted(), stage(f"running {script}", spinner=False):
        run = run_script(script, argv, within=recording, until=until)
    leave_fork(run)
    if until and not run.failed and not isinstance(run.error, Reached):
        said = f"no line at the top level of {script} gave {until} a value"
        aside(f"Warning: {said}; recorded to its end", warning=True)
    story, missing = chosen(recording.story, numbers, "--frames")
    if missing:
        aside(f"Warning: {missing}", warning=True)
    drawing = Drawing(story, picture)

    def render(fmt: str, **size: float) -> bytes:
        if outputs.has_files or fmt != "txt":
            return drawing.render(fmt, **size)
        events = "".join(f"{event}\n" for event in recording.events)
        last = Drawing(story[-1:], picture).text
        return f"{events}\n{last}".encode("utf-8", "backslashreplace")

    outputs.write(render, quiet)
    return run


def _check(target: str, until: str) -> None:
    script, colon, name = target.partition(".py:")
    if colon:
        raise UsageError(
            f"record runs a whole script: gradviz record {script}.py --until {name}; to draw "
            f"{name} alone: gradviz draw {target}"
        )
    if not script.lower().endswith(".py"):
        raise UsageError(f"record takes a script, like train.py; not {target!r}")
    if until and not until.isidentifier():
        raise UsageError(f"--until takes the name of a variable, like loss; not {until!r}")


_EXPLAIN_EXAMPLES = """\b
Examples:
  gradviz explain train.py:model                which parameters get no gradient, and why
  gradviz explain train.py:loss                 the same, for every leaf at top level
  gradviz explain train.py:w                    one tensor
  gradviz explain train.py:w,loss               one tensor, for one result
  gradviz explain train.py:model -o why.svg     the picture, with the culprits marked
  gradviz explain train.py:model -- --epochs 3
"""


@click.command(cls=WithArguments, epilog=_EXPLAIN_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]")
@output_options("text on standard output")
@picture_options()
@common_options
@click.pass_context
def explain(
    ctx: click.Context,
    /,
    target: str,
    outputs: tuple[str, ...],
    fmt: str | None,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Say why gradients are None, zero, added up or NaN: of a model, a tensor, or all leaves.

    The script is run as Python would run it, and recorded, so that causes have lines.
    """
    with one_line_errors(debug):
        picture = take_picture(options)
        files = Outputs(outputs, fmt, picture=picture)
        loaded = _explain(target, arguments(ctx), picture, files, quiet)
        warn_of_failure(ctx, loaded, "explained", debug)


def _explain(
    text: str, argv: Sequence[str], picture: Picture, outputs: Outputs, quiet: bool
) -> Loaded:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.target import load_target, parse_target

    target = parse_target(text, "explain")
    if target.is_saved:
        raise UsageError(
            f"{target.place} is a saved graph; explain runs the program: "
            "gradviz explain train.py:loss"
        )
    from gradviz.recording.api import record  # only now: it needs torch

    recording = record()
    with outputs.quieted(), stage(f"running {target.place}", spinner=False):
        loaded = load_target(target, argv, recording)
    told = _told(loaded, recording)

    def render(fmt: str) -> bytes:
        if fmt == "txt":
            return f"{told}\n".encode("utf-8", "backslashreplace")
        return Drawing(told.story, picture).render(fmt)

    outputs.write(render, quiet)
    return loaded


def _told(loaded: Loaded, recording: Any) -> Explanation | Explanations:
    from gradviz.capture.tensors.names import Names
    from gradviz.diagnosis.explain import answer

    names = Names.of_namespace(loaded.run.namespace)
    subjects: list[Any] = list(loaded.values)
    if len(subjects) == 1 and getattr(subjects[0], "grad_fn", None) is not None:
        leaves = [n.tensor for n in names if n.tensor.is_leaf and n.tensor.requires_grad]
        if leaves:
            subjects = [leaves, subjects[0]]
    asked = ",".join(loaded.names)
    try:
        return answer([*subjects, recording], names, None)
    except SubjectError as error:
        raise SubjectError(f"{asked}: {error}") from error


@click.command(cls=WithArguments)
@click.argument("script", metavar="SCRIPT [-- SCRIPT ARGUMENTS]")
@common_options
@click.pass_context
def run(ctx: click.Context, /, script: str, quiet: bool, debug: bool) -> None:
    """Run a script, recorded; when autograd raises an error, explain it under the traceback.

    The exit code is that of the script.
    """
    with one_line_errors(debug):
        ctx.exit(_run(script, arguments(ctx), quiet))


def _run(script: str, argv: Sequence[str], quiet: bool) -> int:
    from gradviz.frontends.program import run_script, traceback_text
    from gradviz.frontends.target import check_file

    if not script.lower().endswith(".py"):
        raise TargetError(f"run takes a script, like train.py; not {script!r}")
    check_file(script)
    from gradviz.recording.api import record  # only now: it needs torch

    recording = record()
    done = run_script(script, argv, within=recording)
    if isinstance(done.error, SystemExit):
        return _exit_code(done.error)
    if done.error is None:
        return 0
    aside(traceback_text(done.error).rstrip("\n"))
    if not quiet and (told := _of_error(done, recording)):
        aside(f"\n{told}")
    return 1


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    aside(str(error.code))
    return 1


def _of_error(done: ProgramRun, recording: Any) -> str:
    """What an error of autograd means; "" for any other."""
    from gradviz.capture.tensors.names import Names
    from gradviz.diagnosis import Verdict
    from gradviz.diagnosis.explain import answer

    names = Names.of_namespace(done.namespace)
    told: Any = answer([done.error, recording], names, None)
    return "" if told.verdict is Verdict.OTHER_ERROR else str(told)
