"""Where backward passes begin and end, and the count by which nodes are numbered.

Every backward pass, of ``Tensor.backward``, ``torch.autograd.backward`` and
``torch.autograd.grad``, runs through one function of torch. While a recording is open it is
replaced by one that tells the recordings of the same thread; other threads notice nothing.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.autograd import _get_sequence_nr  # type: ignore[attr-defined]

from gradviz.capture.autograd import fast_paths, hooks, modes

__all__ = [
    "BackwardCall",
    "Listener",
    "creation_count",
    "jit_trace",
    "listen",
    "modes_below",
    "unlisten",
]

creation_count: Callable[[], int] = _get_sequence_nr
"""How many nodes this thread has created; the next node gets this number.

Private: nothing public tells. To ask a tensor for its node would keep the node's wrapper alive.
"""

jit_trace: Callable[[], object] = torch._C._get_tracing_state
"""What ``torch.jit.trace`` is writing down in this thread; None while it does not.

Private: ``torch.jit.is_tracing`` asks the same, and takes twice as long.
"""

_autograd: Any = torch.autograd
_RUN = "_engine_run_backward"  # private: hooks on tensors would change the program, and see less


def modes_below() -> int:
    """How many ``TorchFunctionMode``s are active in this thread.

    Private: ``_get_current_function_mode_stack``; modes cannot be counted in public.
    """
    overrides: Any = torch.overrides
    return len(overrides._get_current_function_mode_stack())


@dataclass(frozen=True, eq=False)
class BackwardCall:
    """What a backward pass was asked to do.

    Args:
        roots: the tensors (or ``GradientEdge``s) that it starts from.
        inputs: the tensors that it stops at; empty for every leaf.
        retain_graph: whether the saved tensors are kept.
        create_graph: whether the pass itself is recorded.
        accumulates: whether gradients are added to ``.grad``; ``torch.autograd.grad`` returns
            them.
    """

    roots: tuple[Any, ...]
    inputs: tuple[Any, ...]
    retain_graph: bool
    create_graph: bool
    accumulates: bool


class Listener(Protocol):
    """What wants to know of backward passes; the outcome is what it returned, or the error.

    While one runs it is told what each full backward hook of a module was given and returned; at
    any time, that ``inference_mode`` was entered or left.
    """

    def before_backward(self, call: BackwardCall) -> None: ...  # noqa: D102

    def after_backward(self, call: BackwardCall, outcome: object) -> None: ...  # noqa: D102

    def module_hook(self, hook: Any, module: Any, given: Any, result: Any) -> None: ...  # noqa: D102

    def mode_changed(self) -> None: ...  # noqa: D102


class _Here(threading.local):
    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.running = False


_here = _Here()
_lock = threading.Lock()
_open = 0
_original: Any = None


def listen(listener: Listener) -> None:
    """Tell a listener of the backward passes of this thread, until `unlisten`."""
    global _open, _original
    with _lock:
        if _open == 0:
            _original = getattr(_autograd, _RUN)
            setattr(_autograd, _RUN, _replacement(_original))
            hooks.install(_tell_module_hook)
            modes.install(_tell_mode)
            fast_paths.install()
        _open += 1
    _here.listeners.append(listener)


def unlisten(listener: Listener) -> None:
    """Tell a listener no more; the last one puts torch's own function back."""
    global _open
    _here.listeners.remove(listener)
    with _lock:
        _open -= 1
        if _open == 0:
            setattr(_autograd, _RUN, _original)
            hooks.remove()
            modes.remove()
            fast_paths.remove()


def _tell_module_hook(hook: Any, module: Any, given: Any, result: Any) -> None:
    if _here.running:
        for listener in _here.listeners:
            listener.module_hook(hook, module, given, result)


def _tell_mode() -> None:
    for listener in _here.listeners:
        listener.mode_changed()


def _replacement(original: Any) -> Any:
    @functools.wraps(original)
    def run_backward(roots: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        here = _here
        # A pass within a pass (a checkpoint that computes again) is part of the outer one.
        if here.running or not here.listeners:
            return original(roots, *args, **kwargs)
        call = _call(roots, args, kwargs)
        listeners = list(here.listeners)
        for listener in listeners:
            listener.before_backward(call)
        here.running = True
        outcome: object = None
        try:
            outcome = original(roots, *args, **kwargs)
        except BaseException as error:
            outcome = error
            raise
        finally:
            here.running = False
            for listener in reversed(listeners):  # the last to begin is the first to end
                listener.after_backward(call, outcome)
            del call  # an error would keep it, and with it the tensors, as long as it lives
        return outcome

    return run_backward


def _call(roots: Sequence[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> BackwardCall:
    _, retain, create, inputs = (*args, None, None, None, None)[:4]
    return BackwardCall(
        tuple(roots),
        tuple(inputs or ()),
        bool(retain),
        bool(create),
        bool(kwargs.get("accumulate_grad", True)),
    )
