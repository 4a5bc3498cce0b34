"""Custom ``torch.autograd.Function``s: which a graph has, and what each was called with."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.nodes import forward_class
from gradviz.checking.checked import numbers
from gradviz.checking.numeric import Array, Compared, NumericOutcome, Point
from gradviz.recording.source_lines import CodeLocation, UserFiles, user_place

__all__ = ["CustomCall", "argument_names", "custom_functions", "fault", "watched"]


def custom_functions(nodes: Iterable[Node]) -> list[type]:
    """The classes behind the nodes of custom Functions, each once; torch's own are trusted."""
    found = {forward: None for node in nodes if (forward := forward_class(node)) is not None}
    return [cls for cls in found if not cls.__module__.startswith("torch.")]


@dataclass(frozen=True, eq=False)
class CustomCall:
    """One call of a custom Function.

    Args:
        function: its class.
        node: its node in the graph.
        arguments: what it got; tensors are copies.
        wanted: which arguments get a gradient.
        place: where it was called.
    """

    function: Any
    node: Any
    arguments: tuple[Any, ...]
    wanted: tuple[int, ...]
    place: CodeLocation

    @property
    def point(self) -> Point:
        """The Function alone, at the arguments of this call."""

        def apply(*arguments: Any) -> Any:
            # It may change its inputs in place, which a leaf does not allow.
            copies = (a.clone() if isinstance(a, torch.Tensor) else a for a in arguments)
            return self.function.apply(*copies)

        return Point(apply, self.arguments, self.wanted)

    def name(self, argument: int) -> str:
        """What the Function calls one of its arguments."""
        skipped = 0 if _has_setup(self.function) else 1  # ctx
        names = argument_names(self.function.forward, len(self.arguments) + skipped)
        return names[skipped:][argument]


def argument_names(fn: Callable[..., Any], count: int) -> list[str]:
    """What a function calls its arguments, as far as its signature tells.

    Example:
        >>> argument_names(lambda x, *rest: x, 3), argument_names(torch.sin, 1)
        (['x', 'rest[0]', 'rest[1]'], ['input 0'])
    """
    names: list[str] = []
    try:
        called = getattr(fn, "forward", fn)  # a module says only *args of itself
        for parameter in inspect.signature(called).parameters.values():
            if parameter.kind is parameter.VAR_POSITIONAL:
                names += [f"{parameter.name}[{i}]" for i in range(count - len(names))]
            elif parameter.kind is not parameter.KEYWORD_ONLY:
                names.append(parameter.name)
    except (TypeError, ValueError):  # built-in functions have no signature
        names = []
    return [*names, *(f"input {i}" for i in range(len(names), count))]


@contextmanager
def watched(functions: Iterable[type]) -> Iterator[list[CustomCall]]:
    """Note down every call of some custom Functions, in order, made by this thread.

    The method that is handed ``ctx`` is replaced for that long, since ``apply`` may have been
    taken from the class long before.
    """
    calls: list[CustomCall] = []
    put_back: list[tuple[type, str, Any]] = []
    try:
        for function in functions:
            name = "setup_context" if _has_setup(function) else "forward"
            put_back.append((function, name, vars(function).get(name)))
            setattr(function, name, staticmethod(_watch(function, name, calls)))
        yield calls
    finally:
        for function, name, before in put_back:
            if before is None:
                delattr(function, name)
            else:
                setattr(function, name, before)


def _has_setup(function: Any) -> bool:
    return function.setup_context is not torch.autograd.Function.setup_context


def _watch(function: Any, name: str, calls: list[CustomCall]) -> Callable[..., Any]:
    original, thread, verdicts = getattr(function, name), threading.get_ident(), UserFiles()

    def watching(ctx: Any, *arguments: Any) -> Any:
        if threading.get_ident() == thread:
            given = arguments if name == "forward" else arguments[0]
            copies = tuple(a.detach().clone() if isinstance(a, torch.Tensor) else a for a in given)
            needs = enumerate(ctx.needs_input_grad)
            wanted = tuple(number for number, need in needs if need)
            place = user_place(sys._getframe(1), verdicts)
            calls.append(CustomCall(function, ctx, copies, wanted, place))
        return original(ctx, *arguments)

    return watching


def fault(call: CustomCall, found: Sequence[Compared]) -> str:
    """What a backward gives, what differences say, and the usual mistake that explains both.

    Args:
        call: of the custom Function.
        found: what came out for each of its wanted arguments; at least one is wrong.
    """
    wrong = [number for number, each in enumerate(found) if each.outcome is NumericOutcome.WRONG]
    each, name = found[wrong[0]], call.name(call.wanted[wrong[0]])
    bad = [i for i, outcome in enumerate(each.outcomes) if outcome is NumericOutcome.WRONG][:3]
    given = "None" if each.is_none else numbers([each.autograd[i] for i in bad])
    said = numbers([each.numeric[i] for i in bad])
    text = f"gives {given} for {name} where differences say {said}"
    for number in wrong[1:]:
        other = found[number]
        if _alike(each.autograd, other.numeric) and _alike(other.autograd, each.numeric):
            return f"{text}: those of {name} and {call.name(call.wanted[number])} are swapped"
    mistake = "" if each.is_none else _mistake(each)
    return f"{text}: {mistake}" if mistake else text


def _mistake(each: Compared) -> str:
    if _alike(each.autograd, -each.numeric):
        return "the sign is wrong"
    if each.weights is not None and _alike(each.autograd * each.weights, each.numeric):
        return "the gradient that comes in is left out"
    there = np.abs(each.numeric) > 1e-9
    ratios = each.autograd[there] / each.numeric[there]
    if ratios.size and ratios[0] and np.allclose(ratios, ratios[0], rtol=1e-3):
        return f"{ratios[0]:.4g} times what it should be"
    return ""


def _alike(one: Array, other: Array) -> bool:
    return one.shape == other.shape and bool(np.allclose(one, other, rtol=1e-3, atol=1e-6))
