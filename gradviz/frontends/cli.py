"""The command line: ``gradviz draw train.py:loss -o loss.svg``, ``gradviz record train.py``.

Exit codes: 0 success, 1 failure (also of the script), 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import copy
import importlib.metadata
import traceback
from collections.abc import Sequence

import click

from gradviz import __version__
from gradviz.frontends.command import WithExamples, common_options, one_line_errors
from gradviz.frontends.command_graph import compare, draw, memory, summary, view
from gradviz.frontends.command_run import explain, record, run
from gradviz.frontends.files import aside, stdout_fault


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    try:
        cli.main(args=None if args is None else list(args), prog_name="gradviz")
    except OSError as error:
        frames = traceback.walk_tb(error.__traceback__)
        if not any(frame.f_code is click.echo.__code__ for frame, _ in frames):
            raise
        # Printing a table or a help page failed, for example because the disk is full.
        aside(f"Error: {stdout_fault(error)}")
        raise SystemExit(1) from error


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from gradviz.renderers.layout.engines import engine_name, engines

    try:
        torch = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        torch = "not installed (saved graphs can be drawn without it)"
    with one_line_errors(debug=False):
        found = [engine_name(engine) for engine in engines() if engine != "layered"]
    layout = ", ".join([*found, "gradviz's own"])
    click.echo(f"gradviz {__version__}\ntorch {torch}\nlayout: {layout}")
    ctx.exit()


_EXAMPLES = """Examples:
  gradviz draw train.py:loss                 the graph as text
  gradviz draw train.py:loss -o loss.svg     the graph as a picture
  gradviz view train.py:loss                 the graph in the browser, to explore
  gradviz summary train.py:loss              its modules, as a table
  gradviz record train.py -o story.html      what a whole run did, moment by moment
  gradviz compare old.json new.json          what is different
  gradviz explain train.py:model             which parameters get no gradient, and why
  gradviz run train.py                       explains the error, if autograd raises one
  gradviz memory train.py:loss -n 20         what is kept in memory for backward
  gradviz gallery gallery/                   worked examples, as a page
"""


class _Commands(WithExamples, click.Group):
    """All commands."""


@click.group(
    cls=_Commands,
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


for _command in (draw, view, summary, record, compare, explain, run, memory):
    cli.add_command(_command)
# The old name of memory: still accepted, not listed.
_saved = copy.copy(memory)
_saved.hidden = True
cli.add_command(_saved, "saved")


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
