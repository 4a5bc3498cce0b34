"""``gradviz compare``: the differences between two graphs, saved or from scripts."""

from __future__ import annotations

import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradviz.errors import UsageError
from gradviz.frontends.command import Request, frames_option, target_command
from gradviz.frontends.program import modules_forgotten
from gradviz.frontends.streams import aside, stage
from gradviz.story import Frame, Story

if TYPE_CHECKING:
    from gradviz.comparison import Comparison
    from gradviz.frontends.target import Loaded, Target
    from gradviz.graph import GradGraph

    Subject = GradGraph | Frame | Story

__all__ = ["compare"]

_EXAMPLES = """\b
Examples:
  gradviz compare before.json after.json               what is different, as text
  gradviz compare before.json after.json -o diff.svg   both, with what is different marked
  gradviz compare old/train.py:loss new/train.py:loss -- --epochs 3
  gradviz compare story.json story.json --frames 2,4   two frames of one recording
  gradviz compare -m package.old package.new           modules, run as python -m runs them
  gradviz compare reference.json train.py:loss --exit-code    for a CI job
"""


@target_command("before", "after", epilog=_EXAMPLES)
@click.option("--values", is_flag=True, help="Compare numbers too, not only what is there.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there is a difference.")
@frames_option
def compare(request: Request, values: bool, exit_code: bool) -> None:
    """Say what is different between two graphs: saved ones, or variables of scripts.

    Nodes are matched by name, place, module and source line. Operations, names, shapes, types,
    cuts, whether there are gradients and saved tensors: all count. Numbers do with --values.
    """
    from gradviz.frontends.drawing import Drawing

    comparison, failed = _compare(request, values)

    def render(fmt: str, **size: float) -> bytes:
        if fmt == "txt":
            return f"{comparison}\n".encode("utf-8", "backslashreplace")
        return Drawing(comparison.story, request.picture).render(fmt, **size)

    request.outputs.write(render, request.quiet)
    for loaded in failed:
        if request.debug:
            traceback.print_exception(loaded.run.error)
        aside(f"Warning: {loaded.failure}; compared as it was then", warning=True)
    if failed or (exit_code and not comparison.same):
        request.ctx.exit(1)


def _compare(request: Request, values: bool) -> tuple[Comparison, list[Loaded]]:
    """Do what was asked; returns what was found, and the programs that failed."""
    from gradviz.comparison import compare as compared

    if len(request.frames) > 2:
        raise UsageError("--frames takes one number for both, or two: --frames 2,4")
    targets = request.targets
    if request.argv and all(target.is_saved for target in targets):
        raise UsageError("saved graphs take no arguments after --")
    with request.outputs.quieted():
        (before, after), failed = _subjects(request, targets)
    return compared(before, after, values=values), failed


def _subjects(request: Request, targets: list[Target]) -> tuple[list[Subject], list[Loaded]]:
    is_one = targets[0].place == targets[1].place and not targets[0].is_saved
    if is_one and all(target.names for target in targets):
        return _of_one_run(request, targets)
    subjects: list[Subject] = []
    failed: list[Loaded] = []
    for at, target in enumerate(targets):
        if target.is_saved:
            subjects.append(_one_frame(request, target, request.frames[at:] or request.frames))
            continue
        # The second script imports its own ``model.py``, not that of the first.
        with modules_forgotten(Path(target.place).resolve().parent):
            loaded = _of_script(request, target)
            subjects.append(loaded.traced())
        failed += [loaded] if loaded.failure else []
    return subjects, failed


def _one_frame(request: Request, target: Target, numbers: list[int]) -> Frame:
    """The frame of a saved story that is compared."""
    story = request.saved(target, numbers[:1])
    if len(story) != 1:
        raise UsageError(
            f"{target.place} holds {len(story)} frames, and one is compared: choose one with "
            "--frames 2, or one of each with --frames 2,4"
        )
    return story[0]


def _of_script(request: Request, target: Target) -> Loaded:
    from gradviz.frontends.target import load_target

    with stage(f"running {target.place}", spinner=False):
        return load_target(target, request.argv)


def _of_one_run(request: Request, targets: list[Target]) -> tuple[list[Subject], list[Loaded]]:
    """Two variables of one script, which is run once."""
    both = replace(targets[0], names=targets[0].names + targets[1].names)
    loaded = _of_script(request, both)
    cut = len(targets[0].names)
    parts = (
        replace(loaded, names=loaded.names[part], values=loaded.values[part])
        for part in (slice(cut), slice(cut, None))
    )
    return [part.traced() for part in parts], [loaded] if loaded.failure else []
