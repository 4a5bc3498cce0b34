"""Finds the user's line of a call, and the variable that holds its result.

While a program runs, only a code object and an offset into it are stored; lines and names are
looked up when they are read.
"""

from __future__ import annotations

import ast
import dis
import functools
import linecache
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from enum import Enum
from itertools import islice, takewhile
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

import torch

from gradviz.capture.autograd.engine import SharedInstall
from gradviz.facts import SourceLocation
from gradviz.shown import cell_name


class CodeLocation(NamedTuple):
    """A call in the user's code.

    Args:
        code: the innermost code object of the user's; None if there was none.
        offset: of the instruction in it; inverted (``~offset``) if the call reached torch through
            other code, which may have made several calls.
        caller: if the code is a library's, the call in the user's program; None if it is not a
            library's, and for plain operations of the graph, for which it is not recorded.
    """

    code: CodeType | None
    offset: int
    caller: CodeLocation | None = None


NOWHERE = CodeLocation(None, 0)


class SourceLine(NamedTuple):
    """The line of a code location."""

    location: SourceLocation  # the line of the user's program
    target: str  # the variable that it assigns or changes; "" for none
    # the line in the library that it called, if the code location is in a library
    inside: SourceLocation = SourceLocation()

    @property
    def source(self) -> str:
        """The line as text: ``"train.py:12"``; "" if unknown."""
        return str(self.location)

    def variable(self, outputs: int) -> str:
        """The variable of the result of an operation; of several variables it is one of them."""
        return self.target if outputs > 1 or ", " not in self.target else ""


NO_LINE = SourceLine(SourceLocation(), "")


_absolute = functools.lru_cache(maxsize=4_096)(os.path.realpath)


def _real(filename: str) -> str:
    """The path of a file of code; where the name does not depend on the folder, found once."""
    is_absolute = os.path.isabs(filename)  # noqa: PTH117, this is called for every frame once
    return _absolute(filename) if is_absolute else os.path.realpath(filename)


def _folder(path: str) -> str:
    return os.path.join(os.path.realpath(path), "")  # noqa: PTH118


_GRADVIZ = _folder(str(Path(__file__).parents[1]))
_OURS = (_GRADVIZ, _folder(os.path.dirname(torch.__file__)))  # noqa: PTH120
_LESSONS = _folder(_GRADVIZ + "examples")
_RECORDING = (_folder(_GRADVIZ + "capture"), _folder(_GRADVIZ + "recording"))
_STANDARD = tuple({_folder(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
_INSTALLED = ("site-packages" + os.sep, "dist-packages" + os.sep)
_GENERATED = (
    *("<frozen ", "<eval_with_key>", "<__array_function__ internals>"),
    *("<string>", "<attrs generated"),  # as dataclasses and attrs name the methods they generate
)


def _of_torch(*names: str) -> tuple[str, ...]:
    return tuple(os.path.join(_OURS[1], *name.split("/")) for name in names)  # noqa: PTH118


_OUTSIDE_THE_GRAPH = _of_torch("amp/", "cuda/amp/", "nn/utils/clip_grad.py")
_ALL = _of_torch("distributed/", "nn/parallel/")
_BETWEEN = _of_torch("_ops.py", "_tensor.py", "autograd/", "overrides.py", "utils/")
_BETWEEN += _of_torch("functional.py", "nn/parameter.py")
SCALER_MODULE = "torch.amp.grad_scaler"


class Helper(Enum):
    """The role of a file for calls of torch's functions in its code."""

    NO = 0
    BETWEEN = 1
    """It passes calls on: who called it counts."""
    OUTSIDE_THE_GRAPH = 2
    """Its operations on untracked tensors are not the user's."""
    ALL = 3
    """Neither are the operations of the graph that it adds."""


class HelperFiles(dict[str, Helper]):
    """Which files, by their names in code objects, are torch's helpers for training.

    The user calls one function of such a file, and what that does in turn is no action of the
    user's: ``clip_grad_norm_``, ``GradScaler``, FSDP, ``DistributedDataParallel``.

    Example:
        >>> helpers = HelperFiles()
        >>> helpers[torch.nn.utils.clip_grad.__file__], helpers[torch.nn.functional.__file__]
        (<Helper.OUTSIDE_THE_GRAPH: 2>, <Helper.NO: 0>)
    """

    def __missing__(self, filename: str) -> Helper:
        path = _real(filename)
        kinds = (
            (Helper.BETWEEN, _BETWEEN),
            (Helper.OUTSIDE_THE_GRAPH, _OUTSIDE_THE_GRAPH),
            (Helper.ALL, _ALL),
        )
        found = (kind for kind, files in kinds if path.startswith(files))
        self[filename] = kind = next(found, Helper.NO)
        return kind

    def caller(self, frame: FrameType | None) -> FrameType | None:
        """The frame of the code that called torch, without what only passes the call on."""
        for each in outwards(frame):
            is_ours = each.f_globals.get("__name__", "").startswith("gradviz.")
            if not is_ours and self[each.f_code.co_filename] is not Helper.BETWEEN:
                return each
        return None


class UserFiles(dict[str, bool]):
    """Whether a file, by its name in a code object, is the user's; determined once per file.

    All files are, except those of torch, gradviz (without its examples) and the standard library.

    Attributes:
        ours: the files of gradviz that pass calls of the program on to torch.
        is_library: whether one of these files is a library's (see `is_library`).
        locations: a location for each instruction that called torch, to save creating many.

    Example:
        >>> verdicts = UserFiles()
        >>> verdicts["/home/me/train.py"], verdicts[torch.__file__], verdicts[os.__file__]
        (True, False, False)
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_library = functools.cache(is_library)
        self.ours: set[str] = set()
        self.locations: dict[tuple[int, int], CodeLocation] = {}

    def __missing__(self, filename: str) -> bool:
        self[filename] = verdict = _is_users(filename)
        if _real(filename).startswith(_RECORDING):
            self.ours.add(filename)
        return verdict


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    """A frame, the one that called it, and so on."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def frames_inside(frame: FrameType | None, verdicts: UserFiles) -> Iterator[FrameType]:
    """The frames from ``frame`` outwards that the user's code called."""
    return takewhile(lambda each: not verdicts[each.f_code.co_filename], outwards(frame))


def decorated_with_mode(verdicts: UserFiles) -> CodeLocation | None:
    """The first line of a user's function that is decorated with ``no_grad``; None if none is."""
    for frame in frames_inside(sys._getframe(2), verdicts):
        if frame.f_code.co_name == "decorate_context":
            code = decorated_code(frame, verdicts)
            start = next((at for at, _, line in code.co_lines() if line), 0) if code else 0
            return CodeLocation(code, start) if code is not None else None
    return None


def decorated_code(frame: FrameType, verdicts: UserFiles) -> CodeType | None:
    """The code of the user's function that a frame of torch wraps in a mode; None for none."""
    wrapped = frame.f_locals.get("func") if frame.f_code.co_name == "decorate_context" else None
    code: CodeType | None = getattr(wrapped, "__code__", None)
    return code if code is not None and verdicts[code.co_filename] else None


def called_functions(frame: FrameType | None, verdicts: UserFiles) -> list[str]:
    """The function that the user's code called, and those that it called, down to a frame."""
    return [each.f_code.co_name for each in frames_inside(frame, verdicts)][::-1]


@functools.lru_cache(maxsize=4_096)
def _is_users(filename: str) -> bool:
    if filename.startswith("<"):
        is_command = filename == "<string>" and sys.argv[:1] == ["-c"]  # python -c
        return is_command or not filename.startswith(_GENERATED)
    path = _real(filename)
    if path.startswith(_OURS):
        return path.startswith(_LESSONS)
    for folder in _STANDARD:
        if path.startswith(folder):
            return path[len(folder) :].startswith(_INSTALLED)
    return True


def is_library(filename: str) -> bool:
    """Whether a file outside torch belongs to a library that the user's program calls.

    Libraries are installed, or imported from a folder that is neither the working directory nor
    that of the main script.

    Example:
        >>> is_library("/usr/lib/python3/site-packages/lib/decode.py"), is_library("<stdin>")
        (True, False)
    """
    if filename.startswith("<") or cell_name(filename):
        return False
    path = _real(filename)
    if _is_installed(path):
        return True
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    own = {_import_folder(_real(main))} if main else set()
    try:
        own.add(Path.cwd())
    except OSError:  # the folder was deleted
        return False
    return _import_folder(path) not in own


@functools.lru_cache(maxsize=4_096)
def _is_installed(path: str) -> bool:
    return any(os.sep + folder in path for folder in _INSTALLED)


@functools.lru_cache(maxsize=4_096)
def _import_folder(path: str) -> Path:
    """The folder from which a file is imported: the first parent that is not a package."""
    folder = Path(path).parent
    while (folder / "__init__.py").exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def user_frame(frame: FrameType | None, verdicts: UserFiles) -> FrameType | None:
    """The innermost frame of the user's code, from ``frame`` outwards."""
    while frame is not None and not verdicts[frame.f_code.co_filename]:
        frame = frame.f_back
    return frame


def user_location(frame: FrameType | None, verdicts: UserFiles) -> CodeLocation:
    """The location in the innermost user frame, from ``frame`` outwards."""
    is_direct = True
    while frame is not None and not verdicts[frame.f_code.co_filename]:
        is_direct = is_direct and frame.f_code.co_filename in verdicts.ours
        frame = frame.f_back
    if frame is None:
        return NOWHERE
    code, offset = frame.f_code, frame.f_lasti if is_direct else ~frame.f_lasti
    location = verdicts.locations.get((id(code), offset))
    if location is None or location.code is not code:
        location = verdicts.locations[id(code), offset] = CodeLocation(code, offset)
    if verdicts.is_library(code.co_filename):
        return CodeLocation(code, offset, caller_of(frame, verdicts))
    return location


def caller_of(library: FrameType, verdicts: UserFiles) -> CodeLocation | None:
    """Where the user's own code called a library; None if it did not.

    Only installed code is known to be a library's when what calls it has no file: a test runner
    starts the user's code, wherever it is, from such a frame.
    """
    is_installed = _is_installed(library.f_code.co_filename)
    for frame in outwards(library.f_back):
        name = frame.f_code.co_filename
        is_own = verdicts[name] and not verdicts.is_library(name)
        if is_own and (is_installed or not name.startswith("<") or cell_name(name)):
            return CodeLocation(frame.f_code, ~frame.f_lasti)
    return None


class SourceLines:
    """Converts code locations to lines, each once.

    Example:
        >>> def double(a: float) -> float:
        ...     b = a * 2
        ...     return b
        >>> SourceLines().line(double.__code__, ~0).source.startswith("<doctest")
        True
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, int], tuple[CodeType | None, SourceLine, SourceLine]] = {}
        try:
            self._here = _folder(os.getcwd())  # noqa: PTH109
        except OSError:  # the folder was deleted
            self._here = ""

    def at(self, location: CodeLocation) -> SourceLine:
        """The line of a location; for one in a library, the user's line and the library's line."""
        line = self.line(location.code, location.offset)
        if location.caller is None:
            return line
        user = self.line(location.caller.code, location.caller.offset)
        return SourceLine(user.location, line.target, line.location)

    def line(self, code: CodeType | None, offset: int, is_last: bool = True) -> SourceLine:
        """The line of a location.

        Args:
            code: of the location.
            offset: of the location.
            is_last: whether this was the last call made from there; of several calls, only the last
                one created the value of the variable.
        """
        found = self._found.get((id(code), offset))
        if found is None:
            line = NO_LINE if code is None else self._look(code, offset if offset >= 0 else ~offset)
            # The code object is kept alive, so that its address is not reused.
            found = self._found[id(code), offset] = code, line, line._replace(target="")
        return found[1] if is_last or offset >= 0 else found[2]

    def _look(self, code: CodeType, offset: int) -> SourceLine:
        file, span = self._path(code.co_filename), _span(code, offset)
        if not span[0]:
            return SourceLine(SourceLocation(file), "")
        lines = linecache.getlines(code.co_filename)
        text = lines[span[0] - 1].strip() if span[0] <= len(lines) else ""
        targets = _targets("".join(lines))
        target = targets.get(span, "") if span[3] >= 0 else _stored(code, offset, span[0], targets)
        is_own = self._is_own(code.co_filename)
        return SourceLine(SourceLocation(file, span[0], span[2], text, is_own), target)

    def _is_own(self, filename: str) -> bool:
        """Whether a file is of the program, or in the working directory, and not installed."""
        path = _real(filename)
        is_here = bool(self._here) and path.startswith(self._here) and not _is_installed(path)
        return is_here or not is_library(filename)

    def _path(self, filename: str) -> str:
        if cell := cell_name(filename):
            return cell
        if filename.startswith("<"):
            return filename
        path = _real(filename)
        if self._here and path.startswith(self._here):
            return path[len(self._here) :].replace(os.sep, "/")
        return os.path.basename(path)  # noqa: PTH119


_Span = tuple[int, int, int, int]


def _span(code: CodeType, offset: int) -> _Span:
    """First line, last line, first column, end column of an instruction; 0 for an unknown line.

    Python 3.10 has no columns: they are -1, and the last line equals the first.
    """
    if sys.version_info >= (3, 11):
        position = next(islice(code.co_positions(), offset // 2, None), (0, 0, -1, -1))
        if position[0] is None:  # the first instruction of a closure has no line
            line = 0 if offset else code.co_firstlineno
            return line, line, -1, 0
        return tuple(-1 if each is None else each for each in position)  # type: ignore[return-value]
    if offset == 0:
        return code.co_firstlineno, code.co_firstlineno, -1, -1
    for start, end, line in code.co_lines():
        if start <= offset < end and line:
            return line, line, -1, -1
    return 0, 0, -1, -1


@functools.lru_cache(maxsize=64)
def _targets(text: str) -> dict[_Span, str]:
    """The variable for each expression whose value is assigned, or that changes a variable."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    found: dict[_Span, str] = {}
    imported = _imported(tree)
    for node in ast.walk(tree):
        for expression, target in _assigned(node):
            if isinstance(node, ast.Expr) and _root(target) in imported:
                continue  # ``nn.utils.clip_grad_norm_(...)`` changes no ``nn.utils``
            if sys.version_info >= (3, 11):
                found[_span_of(expression)] = _text(target)
            else:
                changes = isinstance(getattr(expression, "ctx", None), ast.Store)
                span = _line_span(expression.lineno, isinstance(node, ast.Expr), changes)
                found[span] = "" if span in found else _text(target)
    return found


def _line_span(line: int, is_dropped: bool, changes: bool) -> _Span:
    """For Python 3.10: a line, and where the value of an expression on it goes."""
    return line, line, -1, -3 if changes else -2 if is_dropped else -1


def _stored(code: CodeType, offset: int, line: int, targets: dict[_Span, str]) -> str:
    """The variable that gets the value of an instruction, from what follows it; for Python 3.10."""
    own, *rest = (each for each in dis.get_instructions(code) if each.offset >= offset)
    changes = own.opname in _CHANGES  # ``model.state = x`` changes model
    loads = takewhile(lambda each: each.opname.startswith("LOAD_"), rest)
    after = [*rest, own][0 if changes else len(list(loads))]  # nothing follows a ``raise``
    if own.opname == "FOR_ITER" or (
        not changes and after.opname not in (*_STORES, *_CHANGES, *_AFTER)
    ):
        return ""
    if after is not rest[0] and after.opname not in _CHANGES:
        return ""  # what was loaded in between is stored
    known = targets.get(_line_span(line, after.opname == "POP_TOP", changes), "")
    return known or (str(after.argval) if after.opname in _STORES and not changes else "")


_AFTER = ("DUP_TOP", "UNPACK_SEQUENCE", "POP_TOP")
_STORES = ("STORE_FAST", "STORE_NAME", "STORE_GLOBAL", "STORE_DEREF")
_CHANGES = ("STORE_ATTR", "STORE_SUBSCR")


def _imported(tree: ast.Module) -> set[str]:
    imports = (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
    return {
        alias.asname or alias.name.partition(".")[0] for each in imports for alias in each.names
    }


def _root(target: ast.expr) -> str:
    while isinstance(target, ast.Attribute):
        target = target.value
    return target.id if isinstance(target, ast.Name) else ""


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr | ast.stmt, ast.expr]]:
    """Pairs of an expression and its target."""
    if isinstance(node, ast.Assign):
        target, value = node.targets[0], node.value
        if isinstance(value, ast.Call) and _text(value.func) in _OF_MANY:
            return  # what it adds on the way is not in the variable
        if (hooked := _hooked(value)) is not None:
            yield value, hooked  # the variable of ``handle = x.register_hook(...)`` is x
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            if len(target.elts) == len(value.elts):
                yield from zip(value.elts, target.elts, strict=True)
        else:
            if isinstance(target, (ast.Attribute, ast.Subscript)):
                yield target, target.value  # ``x[0] = ...`` and ``x.data = ...`` change x
            if not isinstance(target, ast.Subscript):
                yield value, target
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func  # ``x.add_(1)`` changes x
        if isinstance(called, ast.Attribute) and called.attr.endswith(("_", "_hook")):
            yield node.value, _changed(called.value)  # and so does ``x.mul_(2).add_(1)``
    elif isinstance(node, ast.AugAssign):
        yield node, node.target
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        yield node.value, node.target


def _changed(target: ast.expr) -> ast.expr:
    """``x`` of ``x.mul_(2)``, which returns x."""
    called = target.func if isinstance(target, ast.Call) else None
    if not isinstance(called, ast.Attribute) or not called.attr.endswith("_"):
        return target
    return target if called.attr.endswith("__") else _changed(called.value)


_OF_MANY = frozenset(("sum", "math.prod", "prod", "reduce", "functools.reduce"))


def _hooked(value: ast.expr) -> ast.expr | None:
    called = value.func if isinstance(value, ast.Call) else None
    is_hook = isinstance(called, ast.Attribute) and called.attr.endswith("_hook")
    return called.value if is_hook and isinstance(called, ast.Attribute) else None


def _span_of(node: ast.expr | ast.stmt) -> _Span:
    end_line, end_column = node.end_lineno, node.end_col_offset
    return node.lineno, end_line or node.lineno, node.col_offset, end_column or -1


def _text(target: ast.expr) -> str:
    if isinstance(target, (ast.Tuple, ast.List)):
        return ", ".join(map(_text, target.elts))
    text = ast.unparse(target)
    return text if len(text) <= 48 else ""


# Warnings of the recorded program. While a recording is open, torch's functions are called from a
# line of gradviz, and Python takes that line as the location of a warning. That is wrong for the
# reader, and the filter "once per line" would drop the warning of a second line. Therefore the
# warning is issued again, with the line that made the call.

_SHOW = "_showwarnmsg"  # called from C with each warning that passes the filters
_callers: set[CodeType] = set()
_original: Any = None


def call_made_from(code: CodeType, module_globals: dict[str, Any]) -> None:
    """Register code of gradviz that calls functions of torch for the program.

    Args:
        code: the code.
        module_globals: of its module; Python must not store there which warnings were shown.
    """
    _callers.add(code)
    module_globals["__warningregistry__"] = None


def move_warnings() -> None:
    """Move warnings to the program's lines, until `restore_warnings` was called equally often."""
    _shared.begin()


def restore_warnings() -> None:
    """Restore Python's own function, after the last recording."""
    _shared.end()


def _install(undo: ExitStack) -> None:
    global _original
    if hasattr(warnings, _SHOW):
        _original = getattr(warnings, _SHOW)
        setattr(warnings, _SHOW, _show)
        undo.callback(_restore)


def _restore() -> None:
    if getattr(warnings, _SHOW, None) is _show:
        setattr(warnings, _SHOW, _original)


_shared = SharedInstall(_install)


def _show(message: Any) -> None:
    file: str = message.filename
    is_ours = any(code.co_filename == file for code in _callers)
    frame = _program_frame(sys._getframe(1)) if is_ours else None
    if frame is None:
        _original(message)
        return
    once: Any = getattr(warnings, "onceregistry", {})
    once.pop((str(message.message), message.category), None)
    warnings.warn_explicit(
        message.message,
        message.category,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals.get("__name__") or "<unknown>",
        frame.f_globals.setdefault("__warningregistry__", {}),
        frame.f_globals,
        message.source,
    )


def _program_frame(frame: Any) -> Any:
    """The frame of the program that called a function of torch in which a warning was issued."""
    while frame is not None and frame.f_code not in _callers:
        frame = frame.f_back
    while frame is not None and frame.f_globals.get("__name__", "").startswith("gradviz.recording"):
        frame = frame.f_back
    if frame is not None and frame.f_globals.get("__name__") == "torch.overrides":
        frame = frame.f_back.f_back  # from the function of torch that was called twice
    return frame
