"""``gradviz compare``: what is different between two graphs, saved or of scripts."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
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
    saved,
    scale_option,
    theme_option,
    title_option,
    transparent_option,
)
from gradviz.frontends.script import modules_forgotten
from gradviz.frontends.streams import aside, stage

if TYPE_CHECKING:
    from gradviz.comparison import Comparison
    from gradviz.frontends.target import Loaded, Target
    from gradviz.graph import GradGraph
    from gradviz.renderers.theme import Theme
    from gradviz.story import Frame, Story

    Subject = GradGraph | Frame | Story

__all__ = ["compare"]

_EXAMPLES = """\b
Examples:
  gradviz compare before.json after.json               what is different, as text
  gradviz compare before.json after.json -o diff.svg   both, with what is different marked
  gradviz compare old/train.py:loss new/train.py:loss -- --epochs 3
  gradviz compare reference.json train.py:loss --exit-code    for a CI job
"""


@dataclass(frozen=True)
class _CompareRequest:
    """The options of ``gradviz compare``."""

    before: str
    after: str
    outputs: tuple[str, ...]
    fmt: str | None
    title: str
    theme: Theme
    transparent: bool
    scale: float | None
    values: bool
    exit_code: bool
    quiet: bool
    debug: bool


@click.command(cls=WithArguments, epilog=_EXAMPLES)
@click.argument("before")
@click.argument("after", metavar="AFTER [-- SCRIPT ARGUMENTS]")
@output_options("text on standard output")
@click.option("--values", is_flag=True, help="Compare numbers too, not only what is there.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there is a difference.")
@title_option
@theme_option
@transparent_option
@scale_option
@common_options
@click.pass_context
def compare(ctx: click.Context, /, **options: Any) -> None:
    """Say what is different between two graphs: saved ones, or variables of scripts.

    Nodes are told by name, place, module and source line. Operations, names, shapes, types, cuts,
    whether there are gradients and saved tensors: all count. Numbers do with --values.
    """
    request = _CompareRequest(**options)
    with one_line_errors(request.debug):
        comparison, failed = _compare(request, arguments(ctx))
        for loaded in failed:
            if request.debug:
                traceback.print_exception(loaded.run.error)
            aside(f"Warning: {loaded.failure}; compared as it was then", warning=True)
        if failed or (request.exit_code and not comparison.same):
            ctx.exit(1)


def _compare(request: _CompareRequest, argv: Sequence[str]) -> tuple[Comparison, list[Loaded]]:
    """Do what was asked; returns what was found, and the programs that failed."""
    from gradviz.comparison import compare as compared
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.target import parse_target

    outputs = Outputs(request.outputs, request.fmt, request.scale)
    targets = parse_target(request.before, "compare"), parse_target(request.after, "compare")
    if argv and all(target.is_saved for target in targets):
        raise UsageError("saved graphs take no arguments after --")
    with outputs.quieted():
        (before, after), failed = _subjects(targets, argv)
    comparison = compared(before, after, values=request.values)

    def render(fmt: str, **size: float) -> bytes:
        if fmt == "txt":
            return f"{comparison}\n".encode("utf-8", "backslashreplace")
        drawing = Drawing(
            comparison.story,
            theme=request.theme,
            title=request.title,
            transparent=request.transparent,
        )
        return drawing.render(fmt, **size)

    outputs.write(render, request.quiet)
    return comparison, failed


def _subjects(
    targets: tuple[Target, Target], argv: Sequence[str]
) -> tuple[list[Subject], list[Loaded]]:
    is_one = targets[0].place == targets[1].place and not targets[0].is_saved
    if is_one and all(target.names for target in targets):
        return _of_one_run(targets, argv)
    subjects: list[Subject] = []
    failed: list[Loaded] = []
    for target in targets:
        if target.is_saved:
            subjects.append(_one_frame(saved(target.place), target.place))
        else:
            # The second script imports its own ``model.py``, not that of the first.
            with modules_forgotten(Path(target.place).resolve().parent):
                loaded = _of_script(target, argv)
                subjects.append(loaded.traced())
            failed += [loaded] if loaded.failure else []
    return subjects, failed


def _one_frame(story: Story, place: str) -> Frame:
    if len(story) != 1:
        raise UsageError(
            f"{place} holds {len(story)} frames, and one is compared: save one, as with "
            "gradviz record train.py --frames 2 -o one.json"
        )
    return story[0]


def _of_script(target: Target, argv: Sequence[str]) -> Loaded:
    from gradviz.frontends.target import load_target

    with stage(f"running {target.place}", spinner=False):
        return load_target(target, argv)


def _of_one_run(
    targets: tuple[Target, Target], argv: Sequence[str]
) -> tuple[list[Subject], list[Loaded]]:
    """Two variables of one script, which is run once."""
    loaded = _of_script(replace(targets[0], names=targets[0].names + targets[1].names), argv)
    cut = len(targets[0].names)
    parts = (
        replace(loaded, names=loaded.names[part], values=loaded.values[part])
        for part in (slice(cut), slice(cut, None))
    )
    return [part.traced() for part in parts], [loaded] if loaded.failure else []
