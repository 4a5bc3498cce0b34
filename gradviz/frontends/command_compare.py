"""``gradviz compare``: what is different between two graphs, saved or of scripts."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradviz.errors import UsageError
from gradviz.frontends.command import (
    Outputs,
    WithArguments,
    arguments,
    common_options,
    complete_files,
    one_line_errors,
    output_options,
    picture_options,
    saved,
    scale_option,
    take_picture,
)
from gradviz.frontends.program import modules_forgotten
from gradviz.frontends.streams import aside, columns, stage
from gradviz.renderers.text import in_columns

if TYPE_CHECKING:
    from gradviz.comparison import Comparison
    from gradviz.frontends.target import Loaded, Target
    from gradviz.graph import GradGraph
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


@click.command(cls=WithArguments, epilog=_EXAMPLES)
@click.argument("before", shell_complete=complete_files)
@click.argument("after", metavar="AFTER [-- SCRIPT ARGUMENTS]", shell_complete=complete_files)
@output_options("text on standard output")
@click.option("--values", is_flag=True, help="Compare numbers too, not only what is there.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there is a difference.")
@picture_options()
@scale_option
@common_options
@click.pass_context
def compare(
    ctx: click.Context,
    /,
    before: str,
    after: str,
    outputs: tuple[str, ...],
    fmt: str | None,
    scale: float | None,
    values: bool,
    exit_code: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> None:
    """Say what is different between two graphs: saved ones, or variables of scripts.

    Nodes are matched by name, place, module and source line. Operations, names, shapes, types,
    cuts, whether there are gradients and saved tensors: all count. Numbers do with --values.
    """
    with one_line_errors(debug):
        picture = take_picture(options)
        files = Outputs(outputs, fmt, scale, picture)
        comparison, failed = _compare((before, after), arguments(ctx), files, values)

        def render(fmt: str, **size: float) -> bytes:
            from gradviz.frontends.drawing import Drawing

            if fmt == "txt":
                text = str(comparison).split("\n")
                lines = [part for line in text for part in in_columns(line, columns())]
                return "\n".join([*lines, ""]).encode("utf-8", "backslashreplace")
            return Drawing(comparison.story, picture).render(fmt, **size)

        files.write(render, quiet)
        for loaded in failed:
            if debug:
                traceback.print_exception(loaded.run.error)
            aside(f"Warning: {loaded.failure}; compared as it was then", warning=True)
        if failed or (exit_code and not comparison.same):
            ctx.exit(1)


def _compare(
    texts: tuple[str, str], argv: Sequence[str], outputs: Outputs, values: bool
) -> tuple[Comparison, list[Loaded]]:
    """Do what was asked; returns what was found, and the programs that failed."""
    from gradviz.comparison import compare as compared
    from gradviz.frontends.target import parse_target

    targets = parse_target(texts[0], "compare"), parse_target(texts[1], "compare")
    if argv and all(target.is_saved for target in targets):
        raise UsageError("saved graphs take no arguments after --")
    with outputs.quieted():
        (before, after), failed = _subjects(targets, argv)
    return compared(before, after, values=values), failed


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
