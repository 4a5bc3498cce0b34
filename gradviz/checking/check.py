"""`check`: compare autograd's gradients of a function with numerical gradients."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from gradviz.capture.tensors.names import Names, parts, shortly
from gradviz.capture.tensors.summary import summarize
from gradviz.capture.tracing.tracer import trace_subjects
from gradviz.capture.tracing.walk import Walk, key_at
from gradviz.checking.checked import (
    Check,
    Checked,
    Culprit,
    CustomCall,
    argument_names,
    custom_functions,
    fault,
    watched,
)
from gradviz.checking.numeric import CheckSettings, Compared, NumericOutcome, Point, compare
from gradviz.errors import SubjectError, UsageError
from gradviz.graph import Cause, EdgeKind, GradGraph
from gradviz.graph.text import must_be
from gradviz.recording.api import record
from gradviz.recording.source_lines import SourceLines

_NUDGE = 1e-3
_NO_CUT = (Cause.NOT_RECORDED, Cause.CONSTANT, Cause.NOT_DIFFERENTIABLE)


def check(
    fn: Callable[..., Any], *inputs: Any, eps: float = 1e-6, rtol: float = 1e-3, atol: float = 1e-5
) -> Check:
    """Compare autograd's gradients of a function with central differences of its output.

    The function is called on float64 copies, twice per element; of an input with more than 256
    elements a fixed sample of 256 is compared. Inputs, their gradients and the state of the random
    generators do not change. Other side effects of the function, such as updates of the running
    statistics of a batch norm, happen at each call.

    Args:
        fn: returns a tensor, or a tuple or list of tensors. If the output has several elements,
            the gradient of their weighted sum is compared, with fixed weights.
        inputs: its arguments. Gradients are compared for tensors that require grad.
        eps: the step of the differences for elements of magnitude up to 1; relative beyond.
        rtol: the largest allowed difference relative to the larger gradient.
        atol: an absolute difference that is allowed in addition.

    Returns:
        The result: ``.ok``, one entry per input, and on a mismatch the first custom
        ``torch.autograd.Function`` whose backward is wrong. ``gradviz.draw`` draws it.

    Raises:
        SubjectError: if no input requires grad, or differences are not possible for one of them.
        UsageError: if ``fn`` is not callable, an option is out of range, the output is complex or
            not in float64, or the function returns other values on a second call.
        ScriptError: if the function fails on the copies.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> print(check(lambda x: (x**3).sum(), x))
        x  ok  autograd 3 12, differences 3 12  off by ...
    """
    for option, value in (("eps", eps), ("rtol", rtol), ("atol", atol)):
        if not 0 < value < 1:
            raise UsageError(must_be(option, "a number between 0 and 1", value))
    if not callable(fn):
        raise UsageError(must_be("fn", "a function of tensors", fn))
    settings = CheckSettings(eps, rtol, atol)
    names = argument_names(fn, len(inputs))
    point = Point(fn, *_copied(inputs, names))
    with _randomness_kept(inputs):
        elements = _steady_count(point)
        view = _look(point, names)
        found = compare(point, settings)
        culprit: Culprit | None = None
        cuts: tuple[str, ...] = ()
        if any(each.outcome is NumericOutcome.WRONG for each in found):
            with watched(view.functions) as calls:
                view = _look(point, names)
            culprit = _first_wrong(calls, view, settings)
            if culprit is None:
                found = _without_hidden_kinks(point, found, settings)
                cuts = _cuts(point)
    checked = tuple(
        _checked(number, names[number], point, each)
        for number, each in zip(point.wanted, found, strict=True)
    )
    _mark(view.graph, checked, culprit)
    return Check(checked, culprit, cuts, view.graph, elements)


def _copied(inputs: Sequence[Any], names: list[str]) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """Copy the arguments, floating-point ones to float64; also which of them require grad."""
    copies: list[Any] = []
    wanted = []
    for number, value in enumerate(inputs):
        name = names[number]
        if not isinstance(value, torch.Tensor):
            if any(isinstance(part, torch.Tensor) for part, _ in parts(value)):
                raise SubjectError(
                    f"{name} is {shortly(value)}: pass tensors one by one, as in "
                    "check(lambda a, b: fn([a, b]), a, b)"
                )
            copies.append(value)
            continue
        if value.requires_grad:
            _refuse_kind(value, name)
            wanted.append(number)
        plain = value.detach()
        if plain.is_floating_point():
            plain = plain.to(torch.float64)
        with torch.inference_mode(False):
            copies.append(plain.clone())
    if not wanted:
        raise SubjectError("no input requires grad: pass one that does, as x.requires_grad_()")
    return tuple(copies), tuple(wanted)


def _refuse_kind(tensor: torch.Tensor, name: str) -> None:
    if tensor.is_complex():
        raise SubjectError(f"{name} is complex: pass its real and imaginary part as two inputs")
    if tensor.is_meta or tensor.is_nested or tensor.layout is not torch.strided:
        kind = "nested" if tensor.is_nested else "meta" if tensor.is_meta else str(tensor.layout)
        raise SubjectError(f"{name} is {kind}: differences need a dense tensor with values")


@contextmanager
def _randomness_kept(inputs: Sequence[Any]) -> Iterator[None]:
    """Restore the random generators of torch, numpy and Python on exit."""
    devices = {value.device for value in inputs if isinstance(value, torch.Tensor)}
    cuda = sorted({device.index for device in devices if device.type == "cuda"})
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=cuda):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _steady_count(point: Point) -> int:
    """The number of elements that the function returns; an error if a second call differs."""
    first, second = point.values(point.copies()), point.values(point.copies())
    size = np.abs(first[np.isfinite(first)]).max(initial=1.0)
    same = first.shape == second.shape and np.allclose(
        first, second, rtol=0, atol=1e-12 * size, equal_nan=True
    )
    if not same:
        raise UsageError(
            "the function gives other numbers each time it is called (dropout, random): call "
            "model.eval(), or torch.manual_seed(0) inside of it"
        )
    return len(first)


@dataclass(frozen=True, eq=False)
class _View:
    """The autograd graph of one call."""

    graph: GradGraph
    functions: list[type]
    keys: dict[int, str]


def _look(point: Point, names: list[str]) -> _View:
    arguments = point.copies()
    named = {names[number]: arguments[number] for number in point.wanted}
    result = point.call(arguments)
    functions: list[type] = []
    keys: dict[int, str] = {}

    def look(walk: Walk) -> None:
        functions.extend(custom_functions(walk.positions))
        for node, place in walk.positions.items():
            if custom_functions([node]):
                keys[id(node)] = key_at(place)

    graph = trace_subjects((result, *named.values()), Names.of(named, None), look)
    for key in graph.roots:
        if graph.nodes[key].get("name") in named:
            del graph.nodes[key]["root"]  # an input is a root only so that it is in the graph
    return _View(graph, functions, keys)


def _first_wrong(calls: list[CustomCall], view: _View, settings: CheckSettings) -> Culprit | None:
    for call in calls:
        found = compare(call.point, settings)
        if any(each.outcome is NumericOutcome.WRONG for each in found):
            # Differences with gradient 1 are easier to read, if they show the mistake as well.
            plain = compare(call.point, replace(settings, weighted=False))
            if any(each.outcome is NumericOutcome.WRONG for each in plain):
                found = plain
            name = call.function.__name__
            source = SourceLines().at(call.location).source
            reason = f"{name}.backward {fault(call, found)}"
            return Culprit(name, source, reason, view.keys.get(id(call.node), ""))
    return None


def _without_hidden_kinks(
    point: Point, found: list[Compared], settings: CheckSettings
) -> list[Compared]:
    """Report a kink where the gradients agree just beside the point.

    The kinks of two operations can cancel: ``relu(x) - relu(-x)`` is smooth at 0, but autograd's
    gradient is 0 there.
    """
    random = np.random.default_rng(0)
    moved = list(point.arguments)
    for number in point.wanted:
        value = moved[number]
        noise = torch.from_numpy(random.uniform(-_NUDGE, _NUDGE, tuple(value.shape)))
        moved[number] = value + noise.to(value.device) * value.abs().clamp(min=1)
    beside = compare(replace(point, arguments=tuple(moved)), settings)
    wrong_is_kink = {NumericOutcome.WRONG: NumericOutcome.KINK}
    return [
        replace(here, outcomes=tuple(wrong_is_kink.get(each, each) for each in here.outcomes))
        if there.outcome is NumericOutcome.OK
        else here
        for here, there in zip(found, beside, strict=True)
    ]


def _cuts(point: Point) -> tuple[str, ...]:
    """The cuts inside the function: ``"detach at train.py:3"``."""
    with record() as run:
        result = point.call(point.copies())
    found = {
        f"{edge['cause'].value} at {edge['source']}" if edge.get("source") else edge["cause"].value
        for _, _, edge in run.frames[-1].graph.edges(data=True)
        if edge["kind"] is EdgeKind.CUT and edge["cause"] not in _NO_CUT
    }
    del result  # kept alive until here, because the recording shows live tensors
    return tuple(sorted(found))


def _checked(number: int, name: str, point: Point, found: Compared) -> Checked:
    rows = (found.places, found.autograd, found.numeric)
    places, autograd, numeric = (tuple(each.tolist()) for each in rows)
    facts = (tuple(point.arguments[number].shape), found.outcome, places, autograd, numeric)
    return Checked(number, name, *facts, found.is_none)


def _mark(graph: GradGraph, checked: Sequence[Checked], culprit: Culprit | None) -> None:
    """Put both gradients on the leaves, and the verdicts on the wrong nodes."""
    for each in checked:
        data = graph.nodes[graph.find(each.name)]
        if not each.is_none:
            [summary] = summarize([torch.tensor(each.autograd, dtype=torch.float64)])
            sampled = len(each.places) < data["value"].numel if "value" in data else False
            note = f"{len(each.places)} elements of it" if sampled else ""
            data["grad"] = replace(summary, shape=each.shape, note=note)
        if each.outcome is not NumericOutcome.OK:
            data["verdict"] = f"{each.outcome.value}: {each.values}"
    if culprit and culprit.node:
        data = graph.nodes[culprit.node]
        data["verdict"] = culprit.reason.partition(" ")[2]
        if culprit.source:
            data["source"] = culprit.source
