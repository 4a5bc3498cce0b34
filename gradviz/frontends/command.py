"""Shared parts of the commands: errors, options, and outputs."""

from __future__ import annotations

import contextlib
import copy
import functools
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click
import click.shell_completion
from click.core import ParameterSource

from gradviz.errors import GradvizError, SubjectError, TargetError, UsageError
from gradviz.frontends.files import (
    FORMATS,
    LAID_OUT,
    STDOUT,
    Staged,
    aside,
    check_folder,
    format_of,
    of_rank,
    of_this_rank,
    output_on_stderr,
    stage,
    wrapped,
)
from gradviz.frontends.option_values import chosen, frame_numbers
from gradviz.frontends.options import OPTIONS, Option, Picture

if TYPE_CHECKING:
    from gradviz.frontends.drawing import Drawing
    from gradviz.frontends.option_values import Extent
    from gradviz.frontends.target import Loaded, Target
    from gradviz.graph import GradGraph
    from gradviz.story import Frame, Story

    Subject = GradGraph | Frame | Story

_MISUSE = (UsageError, TargetError, SubjectError)
_ARGUMENTS = "gradviz.arguments"
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Fault(click.ClickException):
    """One line on standard error, and an exit code."""

    def show(self, file: Any = None) -> None:
        aside(f"Error: {self.format_message()}")


class _MisuseFault(_Fault):
    exit_code = 2


@contextlib.contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Convert gradviz's errors to one line and an exit code, and Ctrl-C to 130."""
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


class WithExamples(click.Command):
    """A command whose help ends with examples and their meaning, wrapped to the terminal."""

    def format_epilog(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as two columns."""
        lines = (line.strip() for line in (self.epilog or "").splitlines() if line[:1] == " ")
        with formatter.section("Examples"):
            rows = [tuple(part.strip() for part in line.partition("  ")[::2]) for line in lines]
            formatter.write_dl(rows, col_max=44)  # type: ignore[arg-type]


class WithArguments(WithExamples):
    """A command that passes the words after ``--`` to the script that it runs."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remove the words after ``--`` before click parses the others."""
        if "--" in args:
            cut = args.index("--")
            ctx.meta[_ARGUMENTS] = args[cut + 1 :]
            args = args[:cut]
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = "the script's own options go after --"
            raise click.UsageError(f"{error.format_message().rstrip('.')} ({hint})", ctx) from error


def common_options(command: _Command) -> _Command:
    """``--quiet`` and ``--debug``."""
    command = click.option("--debug", is_flag=True, help="Show the traceback of an error.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Say only what went wrong.")(command)


def complete_files(
    _: click.Context, __: click.Parameter, incomplete: str
) -> list[click.shell_completion.CompletionItem]:
    """Complete the name of a file in the shell."""
    return [click.shell_completion.CompletionItem(incomplete, type="file")]


def output_options(
    default: str, formats: Sequence[str] = FORMATS
) -> Callable[[_Command], _Command]:
    """``--output`` and ``--format``.

    Args:
        default: what comes without them.
        formats: that can be written.
    """
    output = click.option(
        "-o",
        "--output",
        "outputs",
        metavar="FILE",
        multiple=True,
        shell_complete=complete_files,
        help="Where to write it; the suffix says what: "
        + " ".join(f".{name}" for name in formats)
        + f". May be given several times. '-' is standard output. Without it: {default}.",
    )
    format_ = click.option(
        "--format", "fmt", type=click.Choice(formats), help="For outputs that have no such suffix."
    )
    return lambda command: output(format_(command))


def picture_options(*names: str) -> Callable[[_Command], _Command]:
    """Options of a picture.

    Args:
        names: names from the table of options; none for all.
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
    if option.kind == "flag" and option.default:
        help = f"Do not {help[0].lower()}{help[1:]}"
        return click.option(
            f"--no-{option.word}", option.name, flag_value=False, default=None, help=help
        )
    if option.kind == "flag":
        return click.option(flag, option.name, is_flag=True, default=None, help=help)
    return click.option(
        flag, option.name, type=OptionValue(option), metavar=option.metavar or None, help=help
    )


class OptionValue(click.ParamType):  # type: ignore[type-arg]
    """The value of an option of a picture; errors have the same messages as elsewhere."""

    def __init__(self, option: Option) -> None:
        self._option = option
        self.name = option.kind

    def convert(self, value: Any, _: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; raises an error of wrong usage if it is not allowed."""
        try:
            return self._option.read(value, "--{}")
        except UsageError as error:
            raise click.UsageError(str(error), ctx) from error

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """The placeholder in the help."""
        choices = "|".join(self._option.choices)
        return f"[{choices}]" if choices else self._option.kind.upper()

    def shell_complete(
        self, _: click.Context, __: click.Parameter, incomplete: str
    ) -> list[click.shell_completion.CompletionItem]:
        """The choices that start with the incomplete text."""
        found = [word for word in self._option.choices if word.startswith(incomplete)]
        return [click.shell_completion.CompletionItem(word) for word in found]


hidden_color_option = click.option(
    "--colour-by", "colour_by", type=OptionValue(OPTIONS["color_by"]), hidden=True
)
"""The old name of ``--color-by``."""


def take_picture(options: dict[str, Any]) -> Picture:
    """Remove the options of a picture from those of a command, and check them.

    Raises:
        UsageError: if they exclude each other, or there is no view with that name.
    """
    old = options.pop("colour_by", None)
    if old is not None:
        aside("Warning: --colour-by is now called --color-by")
        options["color_by"] = old
    taken = {name: options.pop(name) for name in OPTIONS if name in options}
    return Picture.of({name: each for name, each in taken.items() if each is not None}, "--{}")


scale_option = click.option(
    "--scale",
    type=click.FloatRange(1, 8),
    help="Pixels a point of a .png (2); 4.2 is 300 dots an inch on paper.",
)


class Outputs:
    """The outputs of a command and their formats; checked before a script runs.

    Args:
        paths: files; none for text on standard output.
        fmt: the format of those whose suffix is not a format.
        scale: of a PNG among them; None for the default.
        picture: its options; one that has no effect on any of the formats is refused.
        formats: that can be written.

    Attributes:
        has_files: whether outputs were named; without any, text goes to standard output.

    Raises:
        UsageError: if the format is not known, or is not for a terminal; or if an option has no
            effect on any of the formats.
        OutputError: if a file cannot be written.
    """

    def __init__(
        self,
        paths: Sequence[str],
        fmt: str | None,
        scale: float | None = None,
        picture: Picture | None = None,
        formats: Sequence[str] = FORMATS,
    ) -> None:
        own = [of_rank(path) for path in paths] or [STDOUT]
        self._formats = [(path, _format(path, fmt, formats)) for path in own]
        if fmt is not None and fmt not in self.formats:
            path, found = self._formats[0]
            raise UsageError(f"{path} is {found} by its suffix, but --format says {fmt}")
        self.has_files, self._scale = bool(paths), scale
        self._given = paths
        if picture:
            picture.check_formats(fmt for _, fmt in self._formats)
        if scale is not None and "png" not in [fmt for _, fmt in self._formats]:
            raise UsageError("--scale is for PNG, the others have no pixels: give -o picture.png")
        for path, _ in self._formats:
            check_folder(path)

    def of_all_ranks(self) -> Outputs:
        """The same outputs, in files without the number of the rank."""
        copied = copy.copy(self)
        formats = [fmt for _, fmt in self._formats]
        copied._formats = list(zip(self._given, formats, strict=True))
        return copied

    @property
    def formats(self) -> list[str]:
        """The kind of output."""
        return [fmt for _, fmt in self._formats]

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
                    data = render(fmt, **size)
                    if path == STDOUT and fmt == "txt" and not self.has_files:
                        text = (data if isinstance(data, bytes) else b"".join(data)).decode()
                        data = wrapped(of_this_rank(text).encode())
                    files.add(path, data)
        for path, _ in self._formats:
            if path != STDOUT and not quiet:
                aside(f"wrote {path}")


def _format(path: str, wanted: str | None, formats: Sequence[str]) -> str:
    try:
        by_suffix = "" if path == STDOUT else format_of(path, formats)
    except UsageError:
        if wanted is None:
            raise
        by_suffix = ""
    found = by_suffix or wanted or "txt"
    binary = found in ("png", "pdf", "eps")
    if path == STDOUT and binary and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(f"{found} is not for a terminal: give a file, -o picture.{found}")
    return found


frames_option = click.option(
    "--frames", metavar="NUMBERS", default="", help="Only these frames, counted from 1: 1,3,5."
)


def _program_options(command: _Command) -> _Command:
    """``--step`` and ``--full``."""
    full = click.option(
        "--full", is_flag=True, help="Run the program to its end, not only its first step."
    )
    number = click.option(
        "--step",
        type=OptionValue(Option("", "integer", least=1, name="step")),
        metavar="N",
        help="Take what the N-th backward pass starts from, and end the program there.",
    )
    return number(full(command))


_OF_THE_RUN = ("-m", "--full", "--step", "--until", "--every", "--max-events")


@dataclass(frozen=True)
class Request:
    """The arguments of a command."""

    ctx: click.Context  # of the command line
    texts: tuple[str, ...]  # the targets as they were typed
    is_main: bool  # whether they are modules, run as ``python -m`` runs them
    argv: list[str]  # the program's own arguments
    extent: Extent  # how far the program runs
    picture: Picture  # how to draw
    outputs: Outputs  # where the result goes
    frames: list[int]  # of a recording, counted from 1; none for all
    quiet: bool  # say only what went wrong
    debug: bool  # show the traceback of an error

    @property
    def command(self) -> str:
        """The name of the command."""
        return self.ctx.command.name or ""

    def name(self, drawing: Drawing) -> None:
        """Tell a drawing which command makes it: target, options, arguments, frames."""
        words = ["draw" if self.command == "view" else self.command]
        for option in self.ctx.command.params:
            flag = next((each for each in option.opts if each in _OF_THE_RUN), "")
            name = str(option.name)
            if flag and self.ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
                value = "" if self.ctx.params[name] is True else str(self.ctx.params[name])
                words += filter(None, (flag, value))
        drawing.target = self.texts[0]
        given = shlex.join(["--", *self.argv] if self.argv else [])
        drawing.command = shlex.join(words), given, ",".join(map(str, self.frames))

    @property
    def targets(self) -> list[Target]:
        """What the program, or the file, is.

        Raises:
            TargetError: if a target cannot be read.
        """
        from gradviz.frontends.target import parse_target

        return [parse_target(text, self.command, self.is_main) for text in self.texts]

    @property
    def target(self) -> Target:
        """The only one."""
        return self.targets[0]

    def saved(self, target: Target, frames: Sequence[int] | None = None) -> Story:
        """The selected frames of a story that was saved as JSON.

        Args:
            target: the file.
            frames: their numbers; None for those of ``--frames``.

        Raises:
            UsageError: if arguments are given to it alone, or it has no frames of those numbers.
            TargetError: if the file cannot be read.
        """
        if self.argv and len(self.texts) == 1:
            raise UsageError(f"{target.place} is a saved graph and takes no arguments after --")
        from gradviz.serialize import load

        try:
            story = load(target.place)
        except OSError as error:
            raise TargetError(f"cannot read {target.place}: {error.strerror}") from error
        return self.chosen(story, self.frames if frames is None else frames)

    def chosen(self, story: Story, frames: Sequence[int]) -> Story:
        """The frames of those numbers; those that do not exist are reported."""
        found, missing = chosen(story, frames, "--frames")
        self.frames[:] = (each for each in self.frames if each <= len(story))
        if missing:
            aside(f"Warning: {missing}")
        return found

    def subject(self) -> tuple[Subject, Loaded | None]:
        """The subject of the target, and the program that was run for it, if any.

        Raises:
            UsageError: if a saved graph is given arguments.
            SubjectError: if there is nothing in a value that autograd could have recorded.
        """
        target = self.target
        if target.is_saved:
            return self.saved(target), None
        from gradviz.frontends.target import load_target

        loaded = load_target(target, self.argv, extent=self.extent)
        try:
            with stage("tracing"):
                subject = loaded.traced()
        except SubjectError as error:
            raise SubjectError(f"{target.place}:{','.join(target.names)}: {error}") from error
        if self.frames:
            if not isinstance(subject, Sequence):
                raise UsageError(
                    f"--frames is for a recording; {self.texts[0]} is a single graph: leave it out"
                )
            subject = self.chosen(subject, self.frames)
        return subject, loaded

    def report_ending(self, loaded: Loaded | None, done: str) -> None:
        """Report where the program was stopped; exit with 1 if it failed after the values existed.

        Args:
            loaded: the program, if one was run.
            done: what was done with its values.
        """
        if loaded is not None and loaded.ended and not self.quiet:
            aside(f"gradviz: {loaded.ended}")
        if loaded is None or not loaded.failure:
            return
        if self.debug and not loaded.run.was_interrupted:
            traceback.print_exception(loaded.run.error)
        aside(f"Warning: {loaded.failure}; {done} as it was then")
        self.ctx.exit(130 if loaded.run.was_interrupted else 1)


def target_command(
    *arguments: str,
    epilog: str,
    output: str = "text on standard output",
    formats: Sequence[str] = FORMATS,
    stops: bool = True,
    makes: str | None = None,
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command that takes programs or saved graphs and writes a result.

    Args:
        arguments: names of its targets.
        epilog: examples, for its help.
        output: what comes without ``-o``.
        formats: that can be written; a command that can write a picture has all options of one;
            none for a command that writes nothing.
        stops: whether it ends a program after its first step.
        makes: the format of what a command without outputs makes; it has all options of a picture.

    Returns:
        A decorator of a function that is called with a `Request` and the command's own options.
    """
    is_picture = "svg" in formats or makes is not None

    def make(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def call(ctx: click.Context, /, **options: Any) -> None:
            with one_line_errors(options["debug"]):
                picture = take_picture(options) if is_picture else Picture.of({})
                options.setdefault("fmt", makes)
                request = _request(ctx, arguments, options, formats, picture)
                function(request, **options)

        command: Any = click.pass_context(call)
        for add in (
            common_options,
            *([hidden_color_option, picture_options()] if is_picture else []),
            *([scale_option] if "png" in formats else []),
            *([_program_options] if stops else []),
            click.option(
                "-m", "is_main", is_flag=True, help="It is a module, run as python -m runs it."
            ),
            *([output_options(output, formats)] if formats else []),
        ):
            command = add(command)
        for name in reversed(arguments):
            is_last = name == arguments[-1]
            metavar = f"{name.upper()} [-- SCRIPT ARGUMENTS]" if is_last else None
            command = click.argument(name, metavar=metavar, shell_complete=complete_files)(command)
        made: click.Command = click.command(cls=WithArguments, epilog=epilog)(command)
        return made

    return make


def _request(
    ctx: click.Context,
    names: Sequence[str],
    options: dict[str, Any],
    formats: Sequence[str],
    picture: Picture,
) -> Request:
    """Take what every command has out of the options of a command, and check it."""
    from gradviz.frontends.option_values import Extent

    scale, frames = options.pop("scale", None), options.pop("frames", "")
    paths, fmt = options.pop("outputs", ()), options.pop("fmt", None)
    outputs = Outputs(paths, fmt, scale, picture, formats)
    extent = Extent(options.pop("step"), options.pop("full")) if "full" in options else Extent()
    return Request(
        ctx=ctx,
        texts=tuple(options.pop(name) for name in names),
        is_main=options.pop("is_main"),
        argv=ctx.meta.get(_ARGUMENTS, []),
        extent=extent,
        picture=picture,
        outputs=outputs,
        frames=frame_numbers(frames, "--frames"),
        quiet=options.pop("quiet"),
        debug=options.pop("debug"),
    )
