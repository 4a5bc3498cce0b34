"""`check`: compare autograd's gradients of a function with numerical gradients."""

from __future__ import annotations

import inspect
import random
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.nodes import forward_class
from gradviz.capture.tensors.names import Names, parts, shortly
from gradviz.capture.tensors.summary import summarize
from gradviz.capture.tracer import trace_subjects
from gradviz.capture.walk import Walk, key_at
from gradviz.checking.numeric import (
    Array,
    CheckSettings,
    Compared,
    NumericOutcome,
    Point,
    compare,
)
from gradviz.errors import SubjectError, UsageError
from gradviz.graph import Cause, EdgeKind, GradGraph
from gradviz.graph.text import must_be, number_text
from gradviz.recording.api import record
from gradviz.recording.source_lines import CodeLocation, SourceLines, UserFiles, user_location
from gradviz.shown import Shown
from gradviz.story import Frame, Story

_FEW = 4
_NUDGE = 1e-3
_NO_CUT = (Cause.NOT_RECORDED, Cause.CONSTANT, Cause.NOT_DIFFERENTIABLE)


@dataclass(frozen=True)
class Checked:
    """The result for one input.

    Args:
        index: its position among the arguments of the function.
        name: the function's name for it.
        shape: its shape.
        outcome: the verdict.
        places: the compared elements, as row-major positions.
        autograd: autograd's gradient at these elements; if the output has several elements, the
            gradient of their weighted sum, with fixed weights.
        numeric: the central differences at these elements.
        is_none: autograd returned no gradient; ``autograd`` then contains zeros.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    outcome: NumericOutcome
    places: tuple[int, ...]
    autograd: tuple[float, ...]
    numeric: tuple[float, ...]
    is_none: bool = False

    @property
    def max_abs_error(self) -> float:
        """The largest absolute difference; 0 when nothing was compared."""
        pairs = zip(self.autograd, self.numeric, strict=True)
        return max((_unless_nan(abs(a - n)) for a, n in pairs), default=0.0)

    @property
    def max_rel_error(self) -> float:
        """The largest relative difference; at most 1 when the signs agree."""
        pairs = zip(self.autograd, self.numeric, strict=True)
        apart = (abs(a - n) / (max(abs(a), abs(n)) or 1.0) for a, n in pairs)
        return max(map(_unless_nan, apart), default=0.0)

    @property
    def values(self) -> str:
        """Both gradients as text; for many elements, the one with the largest error."""
        if not self.places:
            return "no elements"
        shown, where = list(range(len(self.places))), ""
        if len(shown) > _FEW:
            pairs = zip(self.autograd, self.numeric, strict=True)
            errors = [_unless_nan(abs(a - n)) for a, n in pairs]
            shown = [errors.index(max(errors))]
            where = f"at {_index(self.places[shown[0]], self.shape)}: "
        autograd = "None" if self.is_none else numbers([self.autograd[each] for each in shown])
        numeric = numbers([self.numeric[each] for each in shown])
        return f"{where}autograd {autograd}, differences {numeric}"


def numbers(values: Sequence[float]) -> str:
    """Numbers separated by spaces, six digits each; rounding errors such as ``1e-12`` become 0.

    Example:
        >>> numbers([11.9999999999, -1e-13])
        '12 0'
    """
    size = max((abs(value) for value in values), default=0.0)
    rounded = (0.0 if abs(value) <= 1e-9 * max(size, 1.0) else value for value in values)
    return " ".join(map(number_text, rounded)).replace("nan", "NaN")


def _unless_nan(error: float) -> float:
    return float("inf") if error != error else error


def _index(place: int, shape: Sequence[int]) -> str:
    """The index of an element: ``[1,2]``."""
    return f"[{','.join(map(str, np.unravel_index(place, tuple(shape))))}]"


@dataclass(frozen=True)
class Culprit:
    """The first custom Function whose backward does not match its forward.

    Args:
        name: its class name.
        source: the line that called it: ``"train.py:12"``; "" when unknown.
        reason: its gradient and the numerical gradient.
        node: its key in the graph.
    """

    name: str
    source: str
    reason: str
    node: str


@dataclass(frozen=True, eq=False)
class Check(Shown):
    """The result of `check`: one `Checked` per input; ``str()`` is a small table.

    Args:
        inputs: the inputs that were compared, in order.
        culprit: the custom Function whose backward is wrong, or None.
        cuts: where data leaves the graph inside the function, if an input is wrong and no custom
            Function is: ``"detach, train.py:3"``.
        graph: the autograd graph, with verdicts at the wrong nodes.
        elements: number of elements that the function returns.
    """

    inputs: tuple[Checked, ...]
    culprit: Culprit | None
    cuts: tuple[str, ...]
    graph: GradGraph
    elements: int

    @property
    def ok(self) -> bool:
        """Whether all inputs could be compared and none is wrong; a kink counts as correct."""
        return all(each.outcome in (NumericOutcome.OK, NumericOutcome.KINK) for each in self.inputs)

    def __bool__(self) -> bool:
        """Same as ``ok``."""
        return self.ok

    @property
    def reason(self) -> str:
        """What is wrong, in one sentence; "" if nothing is known to be wrong."""
        if self.culprit:
            source = f" ({self.culprit.source})" if self.culprit.source else ""
            return f"{self.culprit.reason}{source}"
        wrong = [each.name for each in self.inputs if each.outcome is NumericOutcome.WRONG]
        if wrong and self.cuts:
            return f"no custom Function is wrong, but data leaves the graph by {self._listed_cuts}"
        if wrong:
            return "neither a custom Function nor a cut explains it"
        return ""

    @property
    def _listed_cuts(self) -> str:
        return " and by ".join(self.cuts)

    @property
    def story(self) -> Story:
        """The graph as a story of one frame; ``draw`` draws it."""
        said = [f"{each.name} {each.outcome.value}: {each.values}." for each in self.inputs]
        caption = " ".join([*said, *([f"{self.reason}."] if self.reason else [])])
        return Story((Frame("", self.graph, caption),))

    def __str__(self) -> str:
        rows = [(each.name, each.outcome.value, each.values) for each in self.inputs]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            "  ".join([*map(str.ljust, row, widths), f"off by {each.max_abs_error:.0e}"])
            for row, each in zip(rows, self.inputs, strict=True)
        ]
        if self.elements != 1:
            several = f"the output has {self.elements:,} elements"
            lines.append(f"({several}: gradients are those of their sum, with fixed weights)")
        return "\n".join([*lines, *([self.reason] if self.reason else [])])


def custom_functions(nodes: Iterable[Node]) -> list[type]:
    """The classes of custom Functions among the nodes, each once; torch's own are left out."""
    found = {forward: None for node in nodes if (forward := forward_class(node)) is not None}
    return [cls for cls in found if not cls.__module__.startswith("torch.")]


@dataclass(frozen=True, eq=False)
class CustomCall:
    """One call of a custom Function.

    function: its class.
    node: its node in the graph.
    arguments: its arguments; tensors are copies.
    wanted: which arguments get a gradient.
    location: where it was called.
    """

    function: Any
    node: Any
    arguments: tuple[Any, ...]
    wanted: tuple[int, ...]
    location: CodeLocation

    @property
    def point(self) -> Point:
        """The Function by itself, at the arguments of this call."""

        def apply(*arguments: Any) -> Any:
            # The Function may change its inputs in place, which is not allowed for a leaf.
            copies = (a.clone() if isinstance(a, torch.Tensor) else a for a in arguments)
            return self.function.apply(*copies)

        return Point(apply, self.arguments, self.wanted)

    def name(self, argument: int) -> str:
        """The Function's name for one of its arguments."""
        skipped = 0 if _has_setup(self.function) else 1  # ctx
        names = argument_names(self.function.forward, len(self.arguments) + skipped)
        return names[skipped:][argument]


def argument_names(fn: Callable[..., Any], count: int) -> list[str]:
    """A function's names for its arguments, from its signature.

    Example:
        >>> argument_names(lambda x, *rest: x, 3), argument_names(torch.sin, 1)
        (['x', 'rest[0]', 'rest[1]'], ['input 0'])
    """
    names: list[str] = []
    try:
        called = getattr(fn, "forward", fn)  # the signature of a module is only *args
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
    """Record every call of the given custom Functions that this thread makes, in order.

    The method that receives ``ctx`` is replaced meanwhile, and not ``apply``: the program may have
    stored ``Function.apply`` in a variable before.
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
            location = user_location(sys._getframe(1), verdicts)
            calls.append(CustomCall(function, ctx, copies, wanted, location))
        return original(ctx, *arguments)

    return watching


def fault(call: CustomCall, found: Sequence[Compared]) -> str:
    """Both gradients of a Function as text, and the usual mistake that explains the difference.

    Args:
        call: of the custom Function.
        found: the result for each of its arguments that get a gradient; at least one is wrong.
    """
    wrong = _wrong_among(found)
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


def _wrong_among(found: Sequence[Compared]) -> list[int]:
    return [number for number, each in enumerate(found) if each.outcome is NumericOutcome.WRONG]


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
        if _wrong_among(found):
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
        if _wrong_among(found):
            # Differences with gradient 1 are easier to read, if they show the mistake as well.
            plain = compare(call.point, replace(settings, weighted=False))
            if _wrong_among(plain):
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
