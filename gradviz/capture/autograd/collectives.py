"""Reports the functions of ``torch.distributed`` that read or write tensors, and CUDA graphs.

Autograd does not record them, and no mode sees them.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import torch

from gradviz.capture.autograd.engine import SharedInstall

__all__ = ["REPLAY", "Collective", "Report", "listen_to_collectives", "unlisten_to_collectives"]

REPLAY = "CUDA graph replay"
"""The word of a call that runs the kernels of a captured CUDA graph again."""

_MODULE = "torch.distributed.distributed_c10d"
_LAYOUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "all_gather": (("tensor_list",), ("tensor",)),
    "all_gather_coalesced": (("output_tensor_lists",), ("input_tensor_list",)),
    "all_gather_into_tensor": (("output_tensor",), ("input_tensor",)),
    "all_gather_single": (("output_tensor",), ("input_tensor",)),
    "all_reduce": (("tensor",), ("tensor",)),
    "all_reduce_coalesced": (("tensors",), ("tensors",)),
    "all_to_all": (("output_tensor_list",), ("input_tensor_list",)),
    "all_to_all_single": (("output",), ("input",)),
    "broadcast": (("tensor",), ("tensor",)),
    "gather": (("gather_list",), ("tensor",)),
    "irecv": (("tensor",), ()),
    "isend": ((), ("tensor",)),
    "recv": (("tensor",), ()),
    "reduce": (("tensor",), ("tensor",)),
    "reduce_scatter": (("output",), ("input_list",)),
    "reduce_scatter_single": (("output",), ("input",)),
    "reduce_scatter_tensor": (("output",), ("input",)),
    "scatter": (("tensor",), ("scatter_list",)),
    "send": ((), ("tensor",)),
}
"""The argument names of the tensors that each function writes, and of those that it reads."""


class Collective(NamedTuple):
    """A call of a function of ``torch.distributed``.

    Args:
        word: the function: ``"all_reduce"``.
        written: the tensors that it writes.
        read: the tensors that it reads.
        caller: the frame that called it.
    """

    word: str
    written: tuple[torch.Tensor, ...]
    read: tuple[torch.Tensor, ...]
    caller: FrameType | None


Report = Callable[[Collective], Callable[[], None] | None]
"""Is called before a call; the function that it returns is called after it, unless it raised."""


class _InThisThread(threading.local):
    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.depth = 0


_here = _InThisThread()
_undo: list[Callable[[], None]] = []


def listen_to_collectives(report: Report) -> None:
    """Report the calls of this thread, until `unlisten_to_collectives`."""
    _shared.begin()
    _here.reports.append(report)


def unlisten_to_collectives(report: Report) -> None:
    """Stop reporting; after the last one torch's own functions are restored."""
    _here.reports.remove(report)
    _shared.end()


def _install() -> None:
    """Replace each function by a reporting one, wherever it was imported to.

    Private: the variable ``func`` in torch's wrapper of each function. A program can have imported
    the wrapper by name, so the inner function is replaced. Without such a variable, the name in the
    module is replaced.
    """
    replay = torch.cuda.CUDAGraph.replay
    torch.cuda.CUDAGraph.replay = _reporting(REPLAY, replay)  # type: ignore[method-assign]
    _undo.append(partial(setattr, torch.cuda.CUDAGraph, "replay", replay))
    module = sys.modules.get(_MODULE)
    if module is None:
        return
    for word in _LAYOUTS:
        outer: Any = getattr(module, word, None)
        if outer is None:
            continue
        cell = _cell_of(outer)
        if cell is not None:
            original = cell.cell_contents
            cell.cell_contents = _reporting(word, original)
            _undo.append(partial(setattr, cell, "cell_contents", original))
            continue
        for owner in (module, torch.distributed):
            if getattr(owner, word, None) is outer and outer is not None:
                setattr(owner, word, _reporting(word, outer))
                _undo.append(partial(setattr, owner, word, outer))


def _restore() -> None:
    while _undo:
        _undo.pop()()


_shared = SharedInstall(_install, _restore)


def _cell_of(function: Any) -> Any:
    """The variable of a wrapper that contains the wrapped function; None if it is not a wrapper."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    if "func" not in names or not hasattr(function, "__wrapped__"):
        return None
    cell = function.__closure__[names.index("func")]
    return cell if cell.cell_contents is function.__wrapped__ else None


def _reporting(word: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        here = _here
        if not here.reports or here.depth or torch.compiler.is_dynamo_compiling():
            return original(*args, **kwargs)
        collective = _collective(word, original, args, kwargs)
        after = [each(collective) for each in here.reports] if collective is not None else []
        del collective
        here.depth += 1
        try:
            result = original(*args, **kwargs)
        finally:
            here.depth -= 1
        for each in after:
            if each is not None:
                each()
        return result

    call.__name__, call.__qualname__ = original.__name__, original.__qualname__
    return call


def _collective(
    word: str, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Collective | None:
    try:
        given = inspect.signature(original).bind(*args, **kwargs).arguments
    except TypeError:  # the call itself raises it too
        return None
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") == "torch.distributed.c10d_logger":
        frame = frame.f_back
    written, read = _LAYOUTS.get(word, ((), ()))
    return Collective(word, _tensors(given, written), _tensors(given, read), frame)


def _tensors(given: dict[str, Any], names: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    found: list[torch.Tensor] = []
    stack = [given.get(name) for name in reversed(names)]
    while stack:
        value = stack.pop()
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            stack += reversed(value)
    return tuple(found)
