"""What the commands share: their errors, their options, and where their result goes."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click
import click.shell_completion

from gradviz.errors import GradvizError, SubjectError, TargetError, UsageError
from gradviz.frontends.files import (
    FORMATS,
    LAID_OUT,
    STDOUT,
    Staged,
    check_folder,
    format_of,
)
from gradviz.frontends.options import OPTIONS, Option, Picture
from gradviz.frontends.streams import aside, colored, output_on_stderr, stage

if TYPE_CHECKING:
    from gradviz.frontends.target import Extent, Loaded, Target
    from gradviz.graph import GradGraph
    from gradviz.story import Frame, Story

    Subject = GradGraph | Frame | Story

__all__ = [
    "OptionValue",
    "Outputs",
    "WithArguments",
    "arguments",
    "common_options",
    "complete_files",
    "hidden_color_option",
    "main_option",
    "one_line_errors",
    "output_options",
    "picture_options",
    "program_options",
    "saved",
    "scale_option",
    "subject_of",
    "take_picture",
    "report_ending",
]

_MISUSE = (UsageError, TargetError, SubjectError)
_ARGUMENTS = "gradviz.arguments"
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Fault(click.ClickException):
    """One clear line on standard error, and an exit code."""

    def show(self, file: Any = None) -> None:
        label = click.style("Error:", fg="red", bold=True) if colored() else "Error:"
        aside(f"{label} {self.format_message()}")


class _MisuseFault(_Fault):
    exit_code = 2


@contextlib.contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Turn what gradviz raises into one line and an exit code, and Ctrl-C into 130."""
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


class WithArguments(click.Command):
    """A command whose words after ``--`` belong to the script that it runs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the words after ``--`` away before click looks at the rest."""
        if "--" in args:
            cut = args.index("--")
            ctx.meta[_ARGUMENTS] = args[cut + 1 :]
            args = args[:cut]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = "the script's own options go after --"
            raise click.UsageError(f"{error.format_message().rstrip('.')} ({hint})", ctx) from error


def arguments(ctx: click.Context) -> list[str]:
    """The words after ``--``."""
    found: list[str] = ctx.meta.get(_ARGUMENTS, [])
    return found


def common_options(command: _Command) -> _Command:
    """``--quiet`` and ``--debug``."""
    command = click.option("--debug", is_flag=True, help="Show the traceback of an error.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")(command)


def complete_files(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[click.shell_completion.CompletionItem]:
    """Let the shell complete the name of a file."""
    return [click.shell_completion.CompletionItem(incomplete, type="file")]


def output_options(default: str) -> Callable[[_Command], _Command]:
    """``--output`` and ``--format``; ``default`` says what comes without them."""
    output = click.option(
        "-o",
        "--output",
        "outputs",
        metavar="FILE",
        multiple=True,
        shell_complete=complete_files,
        help="Where to write it; the suffix says what: "
        + " ".join(f".{name}" for name in FORMATS)
        + f". May be given several times. '-' is standard output. Without it: {default}.",
    )
    format_ = click.option(
        "--format", "fmt", type=click.Choice(FORMATS), help="For outputs that have no such suffix."
    )
    return lambda command: output(format_(command))


def picture_options(*names: str) -> Callable[[_Command], _Command]:
    """Options of a picture.

    Args:
        names: which of the table; none for all.
    """
    chosen = [OPTIONS[name] for name in names or OPTIONS]

    def add(command: _Command) -> _Command:
        for option in reversed(chosen):
            command = _click_option(option)(command)
        return command

    return add


def _click_option(option: Option) -> Callable[[_Command], _Command]:
    help, flag = option.help, f"--{option.word}"
    if option.kind == "choice" and option.default is not None:
        help = f"{help.rstrip('.')} ({option.default} without it)."
    if option.kind == "flag":
        return click.option(flag, option.name, is_flag=True, default=None, help=help)
    return click.option(
        flag, option.name, type=OptionValue(option), metavar=option.metavar or None, help=help
    )


class OptionValue(click.ParamType):  # type: ignore[type-arg]
    """The value of an option of a picture; what is wrong with it is said as everywhere."""

    def __init__(self, option: Option) -> None:
        self._option = option
        self.name = option.kind

    def convert(self, value: Any, _: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, or an error of misuse."""
        try:
            return self._option.read(value, "--{}")
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What the help calls it."""
        choices = "|".join(self._option.choices)
        return f"[{choices}]" if choices else self._option.kind.upper()

    def shell_complete(
        self, _: click.Context, __: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """The choices that begin so."""
        found = [word for word in self._option.choices if word.startswith(incomplete)]
        return [click.shell_completion.CompletionItem(word) for word in found]


hidden_color_option = click.option(
    "--colour-by", "colour_by", type=OptionValue(OPTIONS["color_by"]), hidden=True
)
"""The old name of ``--color-by``."""


def take_picture(options: dict[str, Any]) -> Picture:
    """Take the options of a picture out of those of a command, and check them.

    Raises:
        UsageError: if they exclude each other, or there is no view of a name.
    """
    old = options.pop("colour_by", None)
    if old is not None:
        aside("Warning: --colour-by is now called --color-by", warning=True)
        options["color_by"] = old
    taken = {name: options.pop(name) for name in OPTIONS if name in options}
    return Picture.of({name: each for name, each in taken.items() if each is not None}, "--{}")


scale_option = click.option(
    "--scale",
    type=click.FloatRange(1, 8),
    help="Pixels a point of a .png (2); 4.2 is 300 dots an inch on paper.",
)


class Outputs:
    """Where a result goes, and in which formats; checked before a script runs for hours.

    Args:
        paths: files; none for text on standard output.
        fmt: the format of those whose suffix does not name one.
        scale: of the PNG among them; None for the usual.
        picture: its options; one that has no effect on any of the formats is refused.

    Raises:
        UsageError: if the format is not known, or is not for a terminal; or if an option has no
            effect on any of the formats.
        OutputError: if there is no place for a file.
    """

    def __init__(
        self,
        paths: Sequence[str],
        fmt: str | None,
        scale: float | None = None,
        picture: Picture | None = None,
    ) -> None:
        self._formats = [(path, _format(path, fmt)) for path in paths or (STDOUT,)]
        self._has_files, self._scale = bool(paths), scale
        if picture:
            picture.check_formats(fmt for _, fmt in self._formats)
        if scale is not None and "png" not in [fmt for _, fmt in self._formats]:
            raise UsageError("--scale is for PNG, the others have no pixels: give -o picture.png")
        for path, _ in self._formats:
            check_folder(path)

    @property
    def has_files(self) -> bool:
        """Whether outputs were named; without any, text goes to standard output."""
        return self._has_files

    @property
    def use_stdout(self) -> bool:
        """Whether a result goes to standard output."""
        return any(path == STDOUT for path, _ in self._formats)

    @property
    def are_pictures(self) -> bool:
        """Whether anything has to be laid out."""
        return any(fmt in LAID_OUT for _, fmt in self._formats)

    def quieted(self) -> contextlib.AbstractContextManager[None]:
        """While a script runs: keep what it prints out of a result on standard output."""
        return output_on_stderr() if self.use_stdout else contextlib.nullcontext()

    def write(self, render: Callable[..., bytes | Iterable[bytes]], quiet: bool) -> None:
        """Write in each format: no file is there before all of them are whole."""
        with Staged() as files:
            for path, fmt in self._formats:
                with stage(f"drawing {fmt}"):
                    size = {"scale": self._scale} if fmt == "png" and self._scale else {}
                    files.add(path, render(fmt, **size))
        for path, _ in self._formats:
            if path != STDOUT and not quiet:
                aside(f"wrote {path}")


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


def saved(path: str) -> Story:
    """A story that was saved as JSON."""
    from gradviz.serialize import load

    try:
        return load(path)
    except OSError as error:
        raise TargetError(f"cannot read {path}: {error.strerror}") from error


main_option = click.option(
    "-m", "is_main", is_flag=True, help="The target is a module, run as python -m runs it."
)


def program_options(command: _Command) -> _Command:
    """``-m``, ``--step`` and ``--full``."""
    full = click.option(
        "--full", is_flag=True, help="Run the program to its end, not only its first step."
    )
    number = click.option(
        "--step",
        type=OptionValue(Option("", "integer", least=1, name="step")),
        metavar="N",
        help="Take what the N-th backward pass starts from, and end the program there.",
    )
    return main_option(number(full(command)))


def subject_of(
    target: Target, argv: Sequence[str], extent: Extent | None = None
) -> tuple[Subject, Loaded | None]:
    """What a target stands for, and the program that it comes from, if one was run.

    Args:
        target: a saved graph, or a script or module with the names to take.
        argv: the program's own arguments.
        extent: how far the program runs.

    Raises:
        UsageError: if a saved graph is given arguments.
        SubjectError: if there is nothing in a value that autograd could have recorded.
    """
    if target.is_saved:
        if argv:
            raise UsageError(f"{target.place} is a saved graph and takes no arguments after --")
        return saved(target.place), None
    from gradviz.frontends.target import load_target

    with stage(f"running {target.place}", spinner=False):
        loaded = load_target(target, argv, extent=extent)
    try:
        with stage("tracing"):
            return loaded.traced(), loaded
    except SubjectError as error:
        raise SubjectError(f"{target.place}:{','.join(target.names)}: {error}") from error


def report_ending(
    ctx: click.Context, loaded: Loaded | None, done: str, quiet: bool, debug: bool
) -> None:
    """Say where the program was stopped; exit with 1 if it failed after the values were there."""
    if loaded is not None and loaded.ended and not quiet:
        aside(f"gradviz: {loaded.ended}")
    if loaded is None or not loaded.failure:
        return
    if debug:
        traceback.print_exception(loaded.run.error)
    aside(f"Warning: {loaded.failure}; {done} as it was then", warning=True)
    ctx.exit(1)
