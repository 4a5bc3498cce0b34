"""What the frames of an error's traceback still hold: the tensor, or the model, it is about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["function_of", "module_of", "result_of"]


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


def _is_result(value: Any) -> bool:
    # Asked of its class: an object of the user's may answer for any attribute.
    return hasattr(type(value), "grad_fn") and getattr(value, "grad_fn", None) is not None


def _frames(error: BaseException | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each frame from the innermost outwards: its package, and its variables."""
    frames = []
    trace = error.__traceback__ if error is not None else None
    while trace is not None:
        package = str(trace.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        frames.append((package, trace.tb_frame.f_locals))
        trace = trace.tb_next
    yield from reversed(frames)
