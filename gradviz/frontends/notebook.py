"""The IPython extension: ``%gradviz loss``, and ``%%gradviz`` over a cell to be recorded."""

from __future__ import annotations

import ast
import inspect
from argparse import SUPPRESS
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from IPython.core.error import UsageError as ShellError
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics, line_cell_magic, magics_class
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from gradviz.errors import GradvizError, UsageError
from gradviz.frontends.drawing import Drawing
from gradviz.frontends.files import aside
from gradviz.frontends.option_values import chosen, frame_numbers
from gradviz.frontends.options import OPTIONS, Picture
from gradviz.frontends.target import parse_names, traced
from gradviz.frontends.variables import did_you_mean, evaluated
from gradviz.story import Story

_PACKAGE = Path(__file__).parent.parent

# The frame of these lines has the user's variables: code that searches the variables of its
# callers, as the recording does at its end, finds those of the notebook.
_WITHIN = """
with __context:
    exec(__body, globals())
    if __last is not None:
        __result.append(eval(__last, globals()))
"""


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%load_ext gradviz``: adds ``%%gradviz``."""
    shell.register_magics(GradvizMagics)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Called by ``%unload_ext gradviz``: removes ``%gradviz`` and ``%%gradviz``."""
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("gradviz", None)


def _picture_arguments(function: Any) -> Any:
    """The options of a picture, for ``%%gradviz``; their values are parsed later, as text."""
    for option in reversed(OPTIONS.values()):
        kind: dict[str, Any] = {}
        word = option.called("--{}")
        if option.kind == "flag":
            kind = {"action": "store_const", "const": not option.default, "dest": option.name}
        choices = f" ({', '.join(option.choices)})" if option.choices else ""
        # argparse treats % as a format character
        help = f"{option.help}{choices}".replace("%", "%%")
        function = argument(f"--{word}", default=None, help=help, **kind)(function)
    return argument("--colour-by", dest="color_by", default=None, help=SUPPRESS)(function)


_USES = (
    "%gradviz loss --depth 2 draws a variable, %%gradviz above a cell records it; a file: "
    "gradviz.draw(loss).save('loss.svg'); an explanation: gradviz.explain(model, loss)"
)


@magics_class
class GradvizMagics(Magics):
    """The magic command."""

    @magic_arguments()
    @argument("name", nargs="?", default="", help="draw this variable alone, at its last frame")
    @argument("--frames", default="", help="only these frames, counted from 1: 1,3")
    @_picture_arguments
    @argument("--into", metavar="NAME", default="", help="keep the recording in this variable")
    @line_cell_magic
    def gradviz(self, line: str, cell: str | None = None) -> None:
        """Draw a variable: %gradviz loss. Or record a cell, and draw it frame by frame: %%gradviz.

        The cell runs as it would without the command. If it fails, its traceback is shown as
        usual, and the picture shows what was recorded before.
        """
        __tracebackhide__ = True  # IPython leaves this frame out of tracebacks
        try:
            asked = _Asked.of(parse_argstring(self.gradviz, line))
        except ShellError as error:
            raise ShellError(f"{error}; {_USES}") from error
        except GradvizError as error:
            raise ShellError(str(error)) from error
        shell = self.shell
        assert shell is not None
        if cell is None:
            _draw_variable(shell.user_ns, asked)
            return
        from gradviz.recording.api import record  # only now: it needs torch

        recording = record()
        code = _checked(shell, cell)
        try:
            values = _run(shell, code, recording)
        except BaseException as error:
            _forget_our_frames(error)
            raise
        finally:
            if asked.into:
                shell.user_ns[asked.into] = recording
            _show(recording.story, asked)
        if not cell.rstrip().endswith(";"):
            for value in values:
                shell.displayhook(value)


def _draw_variable(variables: dict[str, Any], asked: _Asked) -> None:
    """Draw the value of an expression of names, attributes and indices."""
    try:
        if not asked.name:
            raise UsageError(f"%gradviz needs the name of a variable: {_USES}")
        if asked.into:
            raise UsageError("--into is for a recorded cell: write %%gradviz above the cell")
        (name,) = parse_names(asked.name)
        subject = traced([name], [evaluated(name, variables)], variables)
        if asked.frames and isinstance(subject, Story):
            subject, missing = chosen(subject, asked.frames, "--frames")
            if missing:
                aside(missing)
        drawing = Drawing(subject, asked.picture)
    except GradvizError as error:
        raise ShellError(str(error)) from error
    except (NameError, KeyError, AttributeError, IndexError, TypeError) as error:
        near = did_you_mean(asked.name, variables)
        is_file = asked.name.endswith((".py", ".json"))
        hint = f"; in a cell: !gradviz draw {asked.name}" if is_file else near
        said = f"there is no {asked.name}: {type(error).__name__}: {error}{hint}"
        raise ShellError(said) from error
    display(drawing)


@dataclass(frozen=True)
class _Asked:
    """The options of ``%%gradviz``."""

    name: str
    frames: Sequence[int]
    into: str
    picture: Picture

    @staticmethod
    def of(options: Any) -> _Asked:
        """Check the options before the cell runs."""
        frames = frame_numbers(options.frames, "--frames")
        if options.into and not options.into.isidentifier():
            raise UsageError(f"--into must be the name of a variable, got {options.into!r}")
        given = {}
        for name, option in OPTIONS.items():
            value = getattr(options, name)
            if value is not None:
                is_text = isinstance(value, str)
                given[name] = option.read(_unquoted(value), "--{}") if is_text else value
        return _Asked(options.name, frames, options.into, Picture.of(given, "--{}"))


def _unquoted(text: str) -> str:
    """A value without the quotes that IPython keeps around it."""
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if is_quoted else text


def _run(shell: InteractiveShell, code: _Code, recording: Any) -> list[Any]:
    """Run the code of a cell in the notebook; returns the value of its last expression, if any."""
    __tracebackhide__ = True
    result: list[Any] = []
    given = {"__context": recording, "__result": result, "__tracebackhide__": True}
    outer = compile(_WITHIN, code.filename, "exec", dont_inherit=True)
    exec(outer, shell.user_ns, {**given, "__body": code.body, "__last": code.last})
    return result


def _forget_our_frames(error: BaseException) -> None:
    """Remove the recording's frames from a traceback; each call of torch passes through them."""
    trace = error.__traceback__
    while trace:
        below = trace.tb_next
        while below and Path(below.tb_frame.f_code.co_filename).is_relative_to(_PACKAGE):
            below = below.tb_next
        trace.tb_next = below
        trace = below


@dataclass(frozen=True)
class _Code:
    filename: str
    body: CodeType
    last: CodeType | None


class CellSyntaxError(Exception):
    """A cell has a syntax error; displayed like that of a cell without a magic command.

    Args:
        error: the error of Python.
        shown: the lines to display.
    """

    def __init__(self, error: SyntaxError, shown: list[str]) -> None:
        super().__init__(str(error))
        self._shown = shown

    def _render_traceback_(self) -> list[str]:
        """The lines to display, without the frames of IPython and gradviz."""
        return self._shown


def _checked(shell: InteractiveShell, cell: str) -> _Code:
    """The compiled code of a cell, or an error why it cannot run here."""
    try:
        return _compiled(shell, cell)
    except SyntaxError as error:
        if _awaits(shell, cell):
            raise ShellError(
                "%%gradviz cannot await at the top level of a cell: take the command away, put "
                "the lines below 'with gradviz.record() as run:', and end the cell with run"
            ) from error
        printer: Any = shell.SyntaxTB
        shown = printer.structured_traceback(type(error), error, [])
        raise CellSyntaxError(error, shown) from None


def _awaits(shell: InteractiveShell, cell: str) -> bool:
    flags = shell.compile.flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        code = compile(shell.transform_cell(cell), "<cell>", "exec", flags, True)
    except SyntaxError:
        return False
    return bool(code.co_flags & inspect.CO_COROUTINE)


def _compiled(shell: InteractiveShell, cell: str) -> _Code:
    """The compiled code of a cell, with line numbers in which the magic command is line 1."""
    source = "\n" + shell.transform_cell(cell)
    compiler: Any = shell.compile
    filename = compiler.cache(source, shell.displayhook.prompt_count)
    tree: Any = shell.transform_ast(compiler.ast_parse(source, filename=filename))
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        expression = ast.Expression(tree.body.pop().value)
        last = compiler(expression, filename, "eval")
    return _Code(filename, compiler(tree, filename, "exec"), last)


def _show(story: Story, asked: _Asked) -> None:
    """Display the recording; an error is displayed as one line."""
    try:
        story, missing = chosen(story, asked.frames, "--frames")
        if missing:
            aside(missing)
        if asked.name:
            story = _of_name(story, asked.name)
        if not any(frame.graph for frame in story):
            raise UsageError("autograd recorded nothing in this cell")
        display(Drawing(story, asked.picture))
    except GradvizError as error:
        display({"text/plain": f"gradviz: {error}"}, raw=True)


def _of_name(story: Story, name: str) -> Story:
    """The last frame that contains a variable."""
    for number in reversed(range(len(story))):
        if any(data.get("name") == name for _, data in story[number].graph.nodes(data=True)):
            return chosen(story, [number + 1], "")[0]
    raise UsageError(f"no frame of this cell shows a tensor {name}; without a name all are shown")
