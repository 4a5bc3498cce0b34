"""``gradviz record``, ``explain`` and ``run``: run a whole program unchanged and record it."""

from __future__ import annotations

import contextlib
import functools
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import click

from gradviz.errors import ScriptError, SubjectError, TargetError, UnknownNameError, UsageError
from gradviz.facts import FrameKind, RankState
from gradviz.frontends.command import OptionValue, Request, frames_option, target_command
from gradviz.frontends.files import (
    aside,
    check_folder,
    columns,
    echo,
    format_of,
    rank_text,
    stage,
    styled,
)
from gradviz.frontends.options import Option
from gradviz.wording import rank_state_text

if TYPE_CHECKING:
    from gradviz.capture.autograd.collectives import EndRequest
    from gradviz.diagnosis import Explanation, Explanations
    from gradviz.frontends.program import ProgramRun
    from gradviz.frontends.target import Loaded, Target
    from gradviz.story import GradientNorms

_ALL = b"all"
_OF_NORMS = ("svg", "png", "pdf", "eps", "txt")
_FOR_ANSWER = 10.0  # seconds for which the other ranks wait longer than rank 0

_RECORD_EXAMPLES = """Examples:
  gradviz record train.py                              what happened, line by line
  gradviz record train.py -o story.html                moment by moment, as a page
  gradviz record train.py -o strip.svg --frames 1,3,5  some moments, side by side
  gradviz record train.py --every 100 --norms norms.svg  a long run: some steps, all norms
  gradviz record train.py --until loss -o loss.svg     the script ends once there is a loss
  gradviz record train.py -o story.html -- --epochs 3
  gradviz record -m package.train -- --epochs 3        as python -m package.train --epochs 3
  torchrun --nproc-per-node 4 -m gradviz record train.py -o ranks.svg    all ranks, one picture
"""


@target_command(
    "script",
    epilog=_RECORD_EXAMPLES,
    output="the events and the last frame, as text on standard output",
    stops=False,
)
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
@frames_option
@click.option(
    "--max-events",
    type=OptionValue(Option("", "integer", least=0, name="max_events")),
    default="10000",
    show_default=True,
    help="Of more events, keep the first and the last.",
)
@click.option(
    "--every",
    type=OptionValue(Option("", "integer", least=2, name="every")),
    metavar="N",
    help="Record each N-th step of the optimizer; of all steps show the gradient norms.",
)
@click.option(
    "--norms",
    metavar="FILE",
    default="",
    help="With --every: draw the gradient norms into this file, .svg, .png, .pdf or .txt.",
)
@click.option("--no-gather", is_flag=True, help="With torchrun: write a file for each rank.")
@click.option(
    "--wait",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="With torchrun: how long rank 0 waits for the others at the end.",
)
def record(
    request: Request,
    until: str,
    step: int | None,
    max_events: int,
    every: int | None,
    norms: str,
    no_gather: bool,
    wait: float,
) -> None:
    """Run a program, and draw what autograd did in it, frame by frame.

    The program is run as Python would run it. A frame is kept before and after each backward
    pass, after gradients were zeroed, after an optimizer's step and at the end. A script that
    fails is drawn as far as it came, and the exit code is 1. A program that trains in a thread is
    drawn as that thread ran. With torchrun, rank 0 writes one file about all ranks.
    """
    target = request.target
    _check(target)
    if norms and every is None:
        raise UsageError("--norms needs --every: gradviz record train.py --every 100 --norms n.svg")
    if norms:
        format_of(norms, _OF_NORMS)
        check_folder(norms)
    from gradviz.capture.autograd.collectives import EndRequest  # only now: it needs torch
    from gradviz.frontends.program import Watch
    from gradviz.frontends.target import record_program
    from gradviz.recording.api import record_a_program

    is_rank = bool(rank_text())
    with EndRequest(raises=True) if is_rank else contextlib.nullcontext() as end:
        make = functools.partial(record_a_program, max_events=max_events, every=every)
        if end is not None:
            recording = make()
            watch = Watch(lambda: end.within(recording), follows=False)
        else:
            watch = Watch(make)
        progress = stage(f"running {target.place}", False, lambda: watch.passes)
        with request.outputs.quieted(), progress:
            run, said, is_reached = record_program(target, request.argv, watch, until, step)
        if end is None:
            _, recording = watch.chosen
        if said and not (is_reached and request.quiet):
            aside(said)
        if watch.about and not request.quiet:
            aside(f"gradviz: {watch.about}")
        is_all = False
        if end is not None and not no_gather and not request.frames:
            is_all = _write_gathered(request, recording, run, wait, end)
        if not is_all:
            _write_recording(request, recording, run)
        if every is not None:
            _write_norms(request, recording.gradient_norms, norms)
    _report_failure(request, run)
    if not is_reached:
        request.ctx.exit(1)


def _write_norms(request: Request, norms: GradientNorms, file: str) -> None:
    if file:
        path = norms.save(file)
        if not request.quiet:
            aside(f"wrote {path}")
    elif not request.outputs.has_files:
        echo(f"\n{norms}")


def _report_failure(request: Request, run: ProgramRun) -> None:
    from gradviz.capture.autograd.collectives import Terminated

    if not run.failed:
        return
    place = request.texts[0]
    if request.debug and not run.was_interrupted:
        traceback.print_exception(run.error)
    said = f"failed: {run.ending}"
    if run.was_interrupted:
        said = f"was stopped by {'SIGTERM' if isinstance(run.error, Terminated) else 'Ctrl-C'}"
    aside(f"Warning: {place} {said}; drawn as far as it came")
    request.ctx.exit(130 if run.was_interrupted else 1)


def _write_gathered(
    request: Request, recording: Any, run: ProgramRun, wait: float, end: EndRequest
) -> bool:
    """Write the story of all ranks, on rank 0.

    Returns:
        Whether all ranks are in it; if not, each rank writes its own file too.
    """
    if not request.outputs.has_files:
        return False
    from gradviz.capture.tensors.names import Names
    from gradviz.comparison.ranks import gathered
    from gradviz.frontends.drawing import Drawing

    names = Names.of_namespace(run.namespace)
    story, exchange = gathered(recording, names, wait, end.is_over)
    if exchange is None:
        return False
    if story is None:
        until = time.monotonic() + wait + _FOR_ANSWER
        return exchange.receive(f"answer {exchange.rank}", until, end.is_over) == _ALL
    absent = (RankState.NO_ANSWER, RankState.STOPPED)
    missing = [each for each in story.ranks if each.state in absent]
    for rank in range(1, exchange.size):
        exchange.send(f"answer {rank}", b"some" if missing else _ALL)
    for each in missing:
        aside(f"Warning: rank {each.rank} {rank_state_text(each)}")
    drawing = Drawing(story, request.picture).about(story)
    request.outputs.of_all_ranks().write(drawing.render, request.quiet)
    return not missing


def _write_recording(request: Request, recording: Any, run: ProgramRun) -> None:
    from gradviz.frontends.drawing import Drawing
    from gradviz.renderers.text import events_text

    outputs, picture = request.outputs, request.picture
    story = request.chosen(recording.story, request.frames)
    rank = rank_text()
    if rank and outputs.has_files:  # the text on standard output begins with it
        story = replace(story, title=" · ".join(filter(None, (rank, story.title))))
    if {"json", "html"} & {*outputs.formats}:
        from gradviz.capture.tensors.names import Names
        from gradviz.diagnosis.explain import with_verdicts

        names = Names.of_namespace(run.namespace)
        story = with_verdicts(story, recording, names)
    drawing = Drawing(story, picture)
    request.name(drawing)

    def render(fmt: str, **size: float) -> bytes:
        if outputs.has_files or fmt != "txt":
            return drawing.render(fmt, **size)
        which = picture["events"] or "few"
        listing = events_text(story, which)
        if which == "few" and listing.count("\n") + 1 < len(story.events):
            listing += f"\n({len(story.events):,} events; --events all lists each)"
        results = story.frames[0].kind is FrameKind.RESULT if story.frames else False
        shown = story if results or len(story) < 2 else story[-1:]
        if shown is not story:
            note = f"the last of {len(story)} moments; -o story.txt or story.svg shows each"
            shown = replace(shown, notes=(note, *story.notes))
        last = Drawing(shown, picture.without("events"))
        text = last.terminal_text(columns(), styled())
        listing = f"{listing}\n\n" if listing else ""
        return f"{listing}{text}".encode("utf-8", "backslashreplace")

    outputs.write(render, request.quiet)


def _check(target: Target) -> None:
    if target.names and (target.is_script or target.is_main):
        name = target.names[0]
        raise UsageError(
            f"record runs a whole program: gradviz record {target.place} --until {name}; to draw "
            f"{name} alone: gradviz draw {target.place}:{name}"
        )
    if target.is_saved:
        raise UsageError(f"{target.place} is a saved graph; record runs a program, like train.py")


_RUN_EXAMPLES = """Examples:
  gradviz run train.py -- --epochs 3
  gradviz run -m package.train
  torchrun --nproc-per-node 2 -m gradviz run train.py
"""

_EXPLAIN_EXAMPLES = """Examples:
  gradviz explain train.py:model                which parameters get no gradient, and why
  gradviz explain train.py:loss                 the same, for every leaf at top level
  gradviz explain train.py:w                    one tensor
  gradviz explain train.py:w,loss               one tensor, for one result
  gradviz explain train.py:model -o why.svg     the picture, with the culprits marked
  gradviz explain train.py:model -- --epochs 3
  gradviz explain story.json                    the answers that were saved with a recording
"""


@target_command("target", epilog=_EXPLAIN_EXAMPLES)
def explain(request: Request) -> None:
    """Explain why gradients are None, zero, accumulated or NaN: of a model, tensor, or all leaves.

    Without a name: every parameter of the modules that took part. The program is run as Python
    would run it, and recorded, so that causes have lines. It ends after 100 backward passes; if
    they are slow, with those of its second step, where a gradient left over from the first one
    shows. A saved recording has the answers in it.
    """
    from gradviz.frontends.drawing import Drawing

    target = request.target
    if target.is_saved:
        explanation, loaded = _of_saved(request, target), None
    else:
        explanation, loaded = _of_program(request, target)

    def render(fmt: str, **size: float) -> bytes:
        if fmt == "txt":
            return f"{explanation}\n".encode("utf-8", "backslashreplace")
        drawing = Drawing(explanation.story, request.picture).about(explanation)
        request.name(drawing)
        return drawing.render(fmt, **size)

    request.outputs.write(render, request.quiet)
    request.report_ending(loaded, "explained")


def _of_program(request: Request, target: Target) -> tuple[Explanation | Explanations, Loaded]:
    from gradviz.frontends.program import Watch
    from gradviz.frontends.target import load_target, no_name
    from gradviz.recording.api import record_a_program  # only now: it needs torch

    watch = Watch(record_a_program)
    try:
        with request.outputs.quieted():
            extent = replace(request.extent, next_step=True)
            loaded = load_target(target, request.argv, watch, extent, trace=False)
    except ScriptError as failed:  # before a backward pass ended
        error, (_, recording) = failed.__cause__, watch.chosen
        if error is not None and (text := _of_error(error, recording, _variables_at(error))):
            echo(text)
        raise
    _, recording = watch.chosen
    has_pass = any(event.kind.value in ("step", "backward") for event in recording.events)
    if not (loaded.names or loaded.values or has_pass or recording._leaves()):
        raise no_name(target, loaded.run)
    return _explained(loaded, recording), loaded


def _variables_at(error: BaseException) -> dict[str, Any]:
    """The variables of the program at the line that raised an error."""
    found: dict[str, Any] = {}
    for frame, _ in walk_tb(error.__traceback__):
        if frame.f_globals.get("__name__") == "__main__":
            found = {**frame.f_globals, **frame.f_locals}
    return found


def _of_saved(request: Request, target: Target) -> Explanation | Explanations:
    """The answers that were saved with a recording."""
    from gradviz.diagnosis.answers import saved_explanations

    found = saved_explanations(request.saved(target))
    if found is None:
        raise UsageError(
            f"{target.place} has no answers in it: explain the program, or record it again with "
            f"gradviz record train.py -o {target.place}"
        )
    if not target.names:
        return found
    try:
        return found.of(target.names[0])
    except UnknownNameError as error:
        raise TargetError(f"{target.place}: {error}") from error


def _explained(loaded: Loaded, recording: Any) -> Explanation | Explanations:
    from gradviz.capture.tensors.names import Names
    from gradviz.diagnosis.explain import answer

    names = Names.of_namespace({**loaded.run.namespace, **loaded.variables})
    subjects: list[Any] = list(loaded.values) if loaded.names else []
    is_overview = False
    if not loaded.names:
        recording._snapshots.know(loaded.variables)
    elif len(subjects) == 1 and getattr(subjects[0], "grad_fn", None) is not None:
        leaves = [n.tensor for n in names if n.tensor.is_leaf and n.tensor.requires_grad]
        known = {id(leaf) for leaf in leaves}
        met = [each for each in recording._leaves() if id(each.tensor) not in known]
        leaves += [each.tensor for each in met]
        names = Names([*names, *met])
        if leaves:
            subjects, is_overview = [leaves, subjects[0]], True
    asked = ",".join(loaded.names)
    try:
        every = [*subjects, recording]
        return answer(every, names, None, raised=loaded.run.error, is_overview=is_overview)
    except SubjectError as error:
        raise SubjectError(f"{asked}: {error}") from error


@target_command("script", epilog=_RUN_EXAMPLES, formats=(), stops=False)
def run(request: Request) -> None:
    """Run a program, recorded; when autograd raises an error, explain it under the traceback.

    The exit code is that of the program.
    """
    request.ctx.exit(_run(request, request.target))


def _run(request: Request, target: Target) -> int:
    from gradviz.frontends.program import Watch, traceback_text
    from gradviz.frontends.target import start_program

    if target.is_saved:
        raise TargetError(f"run takes a program, like train.py; {target.place} is a saved graph")
    from gradviz.recording.api import record_a_program  # only now: it needs torch

    watch = Watch(record_a_program, fails_with_threads=False)
    done = start_program(target, request.argv, watch)
    _, recording = watch.chosen
    if watch.ending is not None and done.error is None:
        _explain_error(request, watch.ending, recording, done)  # Python has reported it
    if isinstance(done.error, SystemExit):
        return _exit_code(done.error)
    if done.error is None:
        return 0
    aside(traceback_text(done.error).rstrip("\n"), is_own=False)
    if done.was_interrupted:
        return 130
    _explain_error(request, done.error, recording, done)
    return 1


def _explain_error(request: Request, error: BaseException, recording: Any, run: ProgramRun) -> None:
    if not request.quiet and (explanation := _of_error(error, recording, run.namespace)):
        aside(f"\n{explanation}")


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return error.code or 0
    aside(str(error.code), is_own=False)
    return 1


def _of_error(error: BaseException, recording: Any, variables: Mapping[str, Any]) -> str:
    """The explanation of an error of autograd, or of another one with a fix; "" for the rest."""
    from gradviz.capture.tensors.names import Names
    from gradviz.diagnosis import Verdict
    from gradviz.diagnosis.explain import answer
    from gradviz.diagnosis.plain_errors import UNKNOWN_OF_AUTOGRAD

    names = Names.of_namespace(variables)
    explanation: Any = answer([error, recording], names, None)
    is_other = explanation.verdict is Verdict.OTHER_ERROR and not explanation.fix
    return "" if is_other and explanation.rule != UNKNOWN_OF_AUTOGRAD else str(explanation)
