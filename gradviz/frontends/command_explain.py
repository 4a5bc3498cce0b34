"""``gradviz explain`` and ``gradviz run``: why a gradient is so, and what an error means."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from gradviz.errors import SubjectError, TargetError, UsageError
from gradviz.frontends.command import (
    Outputs,
    WithArguments,
    arguments,
    common_options,
    one_line_errors,
    output_options,
    theme_option,
    title_option,
)
from gradviz.frontends.streams import aside, stage

if TYPE_CHECKING:
    from gradviz.diagnosis import Explanation, Explanations
    from gradviz.frontends.script import ProgramRun
    from gradviz.frontends.target import Loaded
    from gradviz.renderers.theme import Theme

__all__ = ["explain", "run"]

_EXAMPLES = """\b
Examples:
  gradviz explain train.py:model                which parameters get no gradient, and why
  gradviz explain train.py:loss                 the same, for every leaf at top level
  gradviz explain train.py:w                    one tensor
  gradviz explain train.py:w,loss               one tensor, for one result
  gradviz explain train.py:model -o why.svg     the picture, with the culprits marked
  gradviz explain train.py:model -- --epochs 3
"""


@dataclass(frozen=True)
class _ExplainRequest:
    """The options of ``gradviz explain``."""

    target: str
    outputs: tuple[str, ...]
    fmt: str | None
    title: str
    theme: Theme
    quiet: bool
    debug: bool


@click.command(cls=WithArguments, epilog=_EXAMPLES)
@click.argument("target", metavar="TARGET [-- SCRIPT ARGUMENTS]")
@output_options("text on standard output")
@title_option
@theme_option
@common_options
@click.pass_context
def explain(ctx: click.Context, /, **options: Any) -> None:
    """Say why gradients are None, zero, added up or NaN: of a model, a tensor, or all leaves.

    The script is run as Python would run it, and recorded, so that causes have lines.
    """
    request = _ExplainRequest(**options)
    with one_line_errors(request.debug):
        loaded = _explain(request, arguments(ctx))
        if loaded.failure:
            if request.debug:
                traceback.print_exception(loaded.run.error)
            aside(f"Warning: {loaded.failure}; explained as it was then", warning=True)
            ctx.exit(1)


def _explain(request: _ExplainRequest, argv: Sequence[str]) -> Loaded:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.target import load_target, parse_target

    outputs = Outputs(request.outputs, request.fmt)
    target = parse_target(request.target, "explain")
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
        return Drawing(told.story, theme=request.theme, title=request.title).render(fmt)

    outputs.write(render, request.quiet)
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
    from gradviz.frontends.script import run_script, traceback_text
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
