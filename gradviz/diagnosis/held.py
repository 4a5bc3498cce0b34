"""What the frames of an error's traceback still hold: the tensor, or the model, it is about."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from traceback import walk_tb
from types import FrameType
from typing import Any

__all__ = [
    "UNKNOWN",
    "calls_of",
    "function_of",
    "module_of",
    "result_of",
    "value_of",
    "variables_of",
]

UNKNOWN = object()
"""In place of a value that cannot be told without running code of the user's."""


def result_of(error: BaseException | None) -> Any:
    """The result of an operation that torch refused: the innermost one in torch's own frames."""
    for package, held in _frames(error):
        for name in ("param", "self", "input", "tensor"):
            if package == "torch" and _is_result(held.get(name)):
                return held[name]
    return None


def module_of(error: BaseException | None, kind: str) -> Any:
    """The module of a class, by its name, in whose method the error was raised; or None."""
    for _, held in _frames(error):
        if type(held.get("self")).__name__ == kind:
            return held["self"]
    return None


def function_of(error: BaseException | None) -> Any:
    """The context of the user's own ``Function`` in whose backward the error was raised."""
    for package, held in _frames(error):
        ctx = held.get("ctx")
        if package != "torch" and type(ctx).__name__.endswith("Backward"):
            return ctx
    return None


def calls_of(error: BaseException) -> list[tuple[str, str]]:
    """The module and the name of each function, from the innermost outwards."""
    frames = reversed(_frames_of(error))
    return [(_module_of(frame), frame.f_code.co_name) for frame in frames]


def variables_of(error: BaseException) -> dict[str, Any]:
    """What the user's own code had at hand where it raised an error; {} if other code raised it."""
    from gradviz.recording.source_lines import UserFiles

    # A recording looks on between the user's call and torch.
    frames = [each for each in _frames_of(error) if not _module_of(each).startswith("gradviz.")]
    if not frames or not UserFiles()[frames[-1].f_code.co_filename]:
        return {}
    return {**frames[-1].f_globals, **frames[-1].f_locals}


def value_of(code: ast.expr, held: Mapping[str, Any]) -> Any:
    """The value of a name or an attribute among variables, or `UNKNOWN`.

    Nothing of the user's is called: a property is not known.
    """
    if isinstance(code, ast.Name):
        return held.get(code.id, UNKNOWN)
    if not isinstance(code, ast.Attribute) or (owner := value_of(code.value, held)) is UNKNOWN:
        return UNKNOWN
    if code.attr == "grad" and hasattr(type(owner), "grad_fn"):
        return owner.grad
    own = getattr(owner, "__dict__", {})
    for table in ("_parameters", "_buffers", "_modules"):  # of a module
        if code.attr in own.get(table, ()):
            return own[table][code.attr]
    found = inspect.getattr_static(owner, code.attr, UNKNOWN)
    return UNKNOWN if hasattr(type(found), "__get__") else found


def _is_result(value: Any) -> bool:
    # Asked of its class: an object of the user's may answer for any attribute.
    return hasattr(type(value), "grad_fn") and getattr(value, "grad_fn", None) is not None


def _frames(error: BaseException | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each frame from the innermost outwards: its package, and its variables."""
    for frame in reversed(_frames_of(error)):
        yield _module_of(frame).partition(".")[0], frame.f_locals


def _frames_of(error: BaseException | None) -> list[FrameType]:
    """The frames of the traceback, the innermost last."""
    trace = error.__traceback__ if error is not None else None
    return [frame for frame, _ in walk_tb(trace)]


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
