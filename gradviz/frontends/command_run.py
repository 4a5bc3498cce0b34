"""``gradviz record``, ``explain`` and ``run``: a whole program, run unchanged and recorded."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from gradviz.errors import SubjectError, TargetError, UsageError
from gradviz.frontends.command import (
    OptionValue,
    Outputs,
    WithArguments,
    arguments,
    common_options,
    complete_files,
    main_option,
    one_line_errors,
    output_options,
    picture_options,
    program_options,
    report_ending,
    scale_option,
    take_picture,
)
from gradviz.frontends.options import Option, chosen, frame_numbers
from gradviz.frontends.streams import aside, stage

if TYPE_CHECKING:
    from gradviz.diagnosis import Explanation, Explanations
    from gradviz.frontends.options import Picture
    from gradviz.frontends.program import ProgramRun
    from gradviz.frontends.target import Extent, Loaded, Target

__all__ = ["explain", "record", "run"]

_RECORD_EXAMPLES = """\b
Examples:
  gradviz record train.py                              what happened, line by line
  gradviz record train.py -o story.html                moment by moment, as a page
  gradviz record train.py -o strip.svg --frames 1,3,5  some moments, side by side
  gradviz record train.py --until loss -o loss.svg     the script ends once there is a loss
  gradviz record train.py -o story.html -- --epochs 3
  gradviz record -m package.train -- --epochs 3        as python -m package.train --epochs 3
"""


@click.command(cls=WithArguments, epilog=_RECORD_EXAMPLES)
@click.argument("script", metavar="SCRIPT [-- SCRIPT ARGUMENTS]", shell_complete=complete_files)
@output_options("the events and the last frame, as text on standard output")
@click.option(
    "--until",
    metavar="NAME",
    default="",
    help="End the program as soon as its variable NAME first has a value.",
)
@click.option(
    "--step",
    type=OptionValue(Option("", "integer", least=1, name="step")),
    metavar="N",
    help="End the program after its N-th backward pass.",
)
@main_option
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
    is_main: bool,
    outputs: tuple[str, ...],
    fmt: str | None,
    scale: float | None,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Run a program, and draw what autograd did in it, frame by frame.

    The program is run as Python would run it. A frame is kept before and after each backward
    pass, after gradients were zeroed, after an optimizer's step and at the end. A script that
    fails is drawn as far as it came, and the exit code is 1. Operations in threads that it
    starts are not seen.
    """
    with one_line_errors(debug):
        picture = take_picture(options)
        files = Outputs(outputs, fmt, scale, picture)
        from gradviz.frontends.target import parse_target

        target = parse_target(script, "record", is_main)
        run = _record(target, arguments(ctx), picture, files, quiet, **options)
        if run.failed:
            if debug and not run.was_interrupted:
                traceback.print_exception(run.error)
            said = f"Warning: {script} failed: {run.ending}; drawn as far as it came"
            if run.was_interrupted:
                said = f"Warning: {script} was stopped by Ctrl-C; drawn as far as it came"
            aside(said, warning=True)
            ctx.exit(130 if run.was_interrupted else 1)


def _record(
    target: Target,
    argv: Sequence[str],
    picture: Picture,
    outputs: Outputs,
    quiet: bool,
    *,
    until: str,
    step: int | None,
    frames: str,
    max_events: int,
) -> ProgramRun:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.target import record_program

    numbers = frame_numbers(frames, "--frames")
    _check(target)
    from gradviz.recording.api import record  # only now: it needs torch

    recording = record(max_events=max_events)
    with outputs.quieted(), stage(f"running {target.place}", spinner=False):
        run, said = record_program(target, argv, recording, until, step)
    is_warning = said.startswith("Warning")
    if said and (is_warning or not quiet):
        aside(said, warning=is_warning)
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


def _check(target: Target) -> None:
    if target.names and (target.is_script or target.is_main):
        name = target.names[0]
        raise UsageError(
            f"record runs a whole program: gradviz record {target.place} --until {name}; to draw "
            f"{name} alone: gradviz draw {target.place}:{name}"
        )
    if target.is_saved:
        raise UsageError(f"{target.place} is a saved graph; record runs a program, like train.py")


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
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]", shell_complete=complete_files)
@output_options("text on standard output")
@program_options
@picture_options()
@common_options
@click.pass_context
def explain(
    ctx: click.Context,
    /,
    target: str,
    is_main: bool,
    step: int | None,
    full: bool,
    outputs: tuple[str, ...],
    fmt: str | None,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Say why gradients are None, zero, added up or NaN: of a model, a tensor, or all leaves.

    Without a name: every parameter of the modules that took part. The program is run as Python
    would run it, and recorded, so that causes have lines. It ends with the backward passes of its
    second step, where a gradient left over from the first one shows.
    """
    with one_line_errors(debug):
        from gradviz.frontends.target import Extent, parse_target

        picture = take_picture(options)
        files = Outputs(outputs, fmt, picture=picture)
        place = parse_target(target, "explain", is_main)
        extent = Extent(step, full, next_step=True)
        loaded = _explain(place, arguments(ctx), picture, files, quiet, extent)
        report_ending(ctx, loaded, "explained", quiet, debug)


def _explain(
    target: Target,
    argv: Sequence[str],
    picture: Picture,
    outputs: Outputs,
    quiet: bool,
    extent: Extent,
) -> Loaded:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.target import load_target

    if target.is_saved:
        raise UsageError(
            f"{target.place} is a saved graph; explain runs the program: "
            "gradviz explain train.py:loss"
        )
    from gradviz.recording.api import record  # only now: it needs torch

    recording = record()
    with outputs.quieted(), stage(f"running {target.place}", spinner=False):
        loaded = load_target(target, argv, recording, extent, trace=False)
    told = _told(loaded, recording)

    def render(fmt: str) -> bytes:
        if fmt == "txt":
            return f"{told}\n".encode("utf-8", "backslashreplace")
        return Drawing(told.story, picture).about(told).render(fmt)

    outputs.write(render, quiet)
    return loaded


def _told(loaded: Loaded, recording: Any) -> Explanation | Explanations:
    from gradviz.capture.tensors.names import Names
    from gradviz.diagnosis.explain import answer

    names = Names.of_namespace(loaded.variables or loaded.run.namespace)
    subjects: list[Any] = list(loaded.values)
    if not loaded.names:
        subjects = [_parameters(loaded.variables)]
    elif len(subjects) == 1 and getattr(subjects[0], "grad_fn", None) is not None:
        leaves = [n.tensor for n in names if n.tensor.is_leaf and n.tensor.requires_grad]
        if leaves:
            subjects = [leaves, subjects[0]]
    asked = ",".join(loaded.names)
    try:
        return answer([*subjects, recording], names, None)
    except SubjectError as error:
        raise SubjectError(f"{asked}: {error}") from error


def _parameters(variables: Mapping[str, Any]) -> list[Any]:
    """The parameters of the modules among some variables, and the leaves in no module."""
    found = {}
    for value in variables.values():
        if hasattr(type(value), "named_parameters"):
            found.update({id(each): each for each in value.parameters() if each.requires_grad})
        elif hasattr(type(value), "grad_fn") and value.is_leaf and value.requires_grad:
            found[id(value)] = value
    return list(found.values())


@click.command(cls=WithArguments)
@click.argument("script", metavar="SCRIPT [-- SCRIPT ARGUMENTS]", shell_complete=complete_files)
@main_option
@common_options
@click.pass_context
def run(ctx: click.Context, /, script: str, is_main: bool, quiet: bool, debug: bool) -> None:
    """Run a program, recorded; when autograd raises an error, explain it under the traceback.

    The exit code is that of the program.
    """
    with one_line_errors(debug):
        ctx.exit(_run(script, is_main, arguments(ctx), quiet))


def _run(script: str, is_main: bool, argv: Sequence[str], quiet: bool) -> int:
    from gradviz.frontends.program import traceback_text
    from gradviz.frontends.target import parse_target, start_program

    target = parse_target(script, "run", is_main)
    if target.is_saved:
        raise TargetError(f"run takes a program, like train.py; {script} is a saved graph")
    from gradviz.recording.api import record  # only now: it needs torch

    recording = record()
    done = start_program(target, argv, recording)
    if isinstance(done.error, SystemExit):
        return _exit_code(done.error)
    if done.error is None:
        return 0
    aside(traceback_text(done.error).rstrip("\n"))
    if done.was_interrupted:
        return 130
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
