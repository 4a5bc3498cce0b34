"""Numerical gradients of a function, compared with autograd's gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from gradviz.capture.tensors.names import shortly
from gradviz.errors import ScriptError, SubjectError, UsageError

Array = npt.NDArray[np.float64]

_SMALLER = (1.0, 1 / 32, 1 / 1024)  # factors of the step, for a kink close to the point
_WIDER = 4.0
_ROUNDING = 8 * float(np.finfo(np.float64).eps)


class NumericOutcome(str, Enum):
    """The result of comparing the gradients of one input."""

    OK = "ok"
    WRONG = "wrong"
    """Autograd's gradient differs from the numerical gradient."""
    KINK = "not differentiable at this point"
    """Left and right slope differ (relu at 0, ties of max); autograd's gradient is acceptable."""
    UNSTEADY = "not determined"
    """The differences do not converge: NaN, infinity, a jump, or less than float64 precision."""


@dataclass(frozen=True)
class CheckSettings:
    """Settings of the comparison.

    Args:
        eps: the step for elements of magnitude up to 1; relative for larger ones.
        rtol, atol: the allowed relative and absolute difference.
        most: the largest number of elements per input that are compared; a fixed sample of more.
        weighted: give each element of the output its own weight; otherwise all weights are 1.
    """

    eps: float = 1e-6
    rtol: float = 1e-3
    atol: float = 1e-5
    most: int = 256
    weighted: bool = True


@dataclass(frozen=True, eq=False)
class Compared:
    """Both gradients of one input, at the compared elements."""

    places: npt.NDArray[np.int64]  # the elements, as row-major positions
    autograd: Array  # autograd's gradient at these elements; zeros when ``is_none``
    numeric: Array  # the central differences at these elements
    outcomes: tuple[NumericOutcome, ...]  # the result of each element
    # weights of the output, if it has the shape of the input; used to find the mistake
    weights: Array | None = None
    is_none: bool = False  # autograd returned no gradient

    @property
    def outcome(self) -> NumericOutcome:
        """The worst outcome of all elements."""
        worst = (NumericOutcome.WRONG, NumericOutcome.UNSTEADY, NumericOutcome.KINK)
        return next((each for each in worst if each in self.outcomes), NumericOutcome.OK)


@dataclass(frozen=True, eq=False)
class Point:
    """A function with the arguments at which it is evaluated."""

    fn: Callable[..., Any]  # returns a tensor, or a tuple or list of tensors
    arguments: tuple[Any, ...]  # tensors, already copied to float64, and other values
    wanted: tuple[int, ...]  # positions of the arguments to differentiate by

    def copies(self) -> tuple[Any, ...]:
        """Copies of the arguments, because a function may change them."""
        return tuple(
            argument.clone().requires_grad_(number in self.wanted)
            if isinstance(argument, torch.Tensor)
            else argument
            for number, argument in enumerate(self.arguments)
        )

    def call(self, arguments: tuple[Any, ...]) -> Any:
        """Call the function on float64 copies.

        Raises:
            ScriptError: if it fails.
        """
        try:
            with torch.inference_mode(False), torch.enable_grad():
                return self.fn(*arguments)
        except Exception as error:
            said = f"{type(error).__name__}: {_said(error)}"
            raise ScriptError(
                f"the function failed on float64 copies of its inputs: {said}. Parameters "
                "that it uses must be float64 too, as after model.double()"
            ) from error

    def values(self, arguments: tuple[Any, ...]) -> Array:
        """All elements of the output as one array."""
        return _numbers(outputs_of(self.call(arguments)))

    def moved(self, argument: int, place: int, value: float) -> Array:
        """All elements of the output, with one element of an argument replaced."""
        arguments = self.copies()
        tensor = arguments[argument]
        with torch.inference_mode(False), torch.no_grad():
            tensor.detach()[tuple(map(int, np.unravel_index(place, tensor.shape)))] = value
        return self.values(arguments)


def _said(error: BaseException) -> str:
    """The message of an error in one line, truncated."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else f"{text[:199]}…"


def outputs_of(result: Any) -> list[torch.Tensor]:
    """The floating-point tensors of a result.

    Raises:
        SubjectError: if there are none.
        UsageError: if one is complex, or has less precision than float64.
    """
    several = result if isinstance(result, (tuple, list)) else (result,)
    tensors = [each for each in several if isinstance(each, torch.Tensor)]
    if any(tensor.is_complex() for tensor in tensors):
        raise UsageError("the output is complex: check a real function of it, as its abs()")
    found = [tensor for tensor in tensors if tensor.is_floating_point()]
    if not found:
        raise SubjectError(
            f"the function returned {shortly(result)}: return a floating-point tensor, or a "
            "tuple or list of them"
        )
    for tensor in found:
        if tensor.dtype is not torch.float64:
            raise UsageError(
                f"the output is {str(tensor.dtype).removeprefix('torch.')} for inputs in float64: "
                "differences need the precision; take the cast out of the function"
            )
    return found


def _numbers(outputs: Sequence[torch.Tensor]) -> Array:
    flat = [output.detach().cpu().numpy().reshape(-1) for output in outputs]
    found: Array = np.concatenate(flat)
    return found


def _weights(count: int) -> Array:
    """The weights of the output in the sum to differentiate; the same in each call."""
    if count == 1:
        return np.ones(1)
    random = np.random.default_rng(0)
    weights: Array = random.uniform(0.5, 1.5, count) * random.choice((-1.0, 1.0), count)
    return weights


def compare(point: Point, settings: CheckSettings) -> list[Compared]:
    """Compare autograd's gradient with central differences, for each wanted argument.

    If the output has several elements, the gradient of their weighted sum is compared.

    Args:
        point: the function and its arguments.
        settings: steps and tolerances.

    Raises:
        ScriptError: if the function or its backward fails.

    Example:
        >>> x = torch.tensor([1.0, 2.0], dtype=torch.float64)
        >>> [found] = compare(Point(lambda x: (x * x).sum(), (x,), (0,)), CheckSettings())
        >>> found.autograd.tolist(), found.outcome.value
        ([2.0, 4.0], 'ok')
    """
    arguments = point.copies()
    outputs = outputs_of(point.call(arguments))
    values = _numbers(outputs)
    weights = _weights(len(values)) if settings.weighted else np.ones(len(values))
    gradients = _gradients(outputs, [arguments[number] for number in point.wanted], weights)
    found = []
    for number, gradient in zip(point.wanted, gradients, strict=True):
        argument = point.arguments[number]
        size = argument.numel()
        places = _places(size, settings.most)
        exact = np.zeros(len(places))
        if gradient is not None:
            exact = gradient.detach().to_dense().cpu().numpy().reshape(-1)[places]
        slopes = _Slopes(point, number, values, weights)
        base = argument.detach().cpu().numpy().reshape(-1)
        pairs = [
            _judge(slopes, (int(place), float(base[place])), float(expected), settings)
            for place, expected in zip(places, exact, strict=True)
        ]
        numeric, outcomes = zip(*pairs, strict=True) if pairs else ((), ())
        is_like = len(outputs) == 1 and outputs[0].shape == argument.shape
        own = weights[places] if is_like else None
        found.append(Compared(places, exact, np.array(numeric), outcomes, own, gradient is None))
    return found


def _gradients(
    outputs: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor], weights: Array
) -> Sequence[torch.Tensor | None]:
    starts = np.cumsum([0, *(output.numel() for output in outputs)])
    roots, seeds = [], []
    for output, start in zip(outputs, starts, strict=False):
        if output.requires_grad:
            part = torch.from_numpy(weights[start : start + output.numel()].copy())
            roots.append(output)
            seeds.append(part.reshape(output.shape).to(output.device))
    if not roots:
        return [None] * len(leaves)
    try:
        return torch.autograd.grad(roots, leaves, seeds, allow_unused=True)
    except Exception as error:
        said = f"{type(error).__name__}: {_said(error)}"
        raise ScriptError(f"the function's backward failed: {said}") from error


def _places(size: int, most: int) -> npt.NDArray[np.int64]:
    if size <= most:
        return np.arange(size)
    return np.sort(np.random.default_rng(0).choice(size, most, replace=False))


@dataclass(frozen=True, eq=False)
class _Slopes:
    """The slopes of the weighted output with respect to one element of an argument."""

    point: Point
    argument: int
    values: Array
    weights: Array

    def at(self, place: int, value: float, step: float) -> tuple[float, float, float, float]:
        """Central, right and left slope, and a bound of the rounding error."""
        up, down = value + step, value - step
        above = self.point.moved(self.argument, place, up)
        below = self.point.moved(self.argument, place, down)
        if not above.shape == below.shape == self.values.shape:
            raise UsageError("the shape of the output depends on the values of the inputs")
        moved = above != below
        with np.errstate(all="ignore"):
            central = float((above - below)[moved] @ self.weights[moved]) / (up - down)
            right = float((above - self.values) @ self.weights) / (up - value)
            left = float((self.values - below) @ self.weights) / (value - down)
            size = float(np.abs(self.values[moved]) @ np.abs(self.weights[moved]))
        return central, right, left, _ROUNDING * size / step


def _judge(
    slopes: _Slopes, at: tuple[int, float], expected: float, settings: CheckSettings
) -> tuple[float, NumericOutcome]:
    """The numerical derivative for one element, and the outcome for autograd's (``expected``)."""
    step = settings.eps * max(1.0, abs(at[1]))
    found: list[tuple[float, float, float, float]] = []
    for factor in _SMALLER:
        central, right, left, rounding = slopes.at(*at, step * factor)
        size = max(abs(central), abs(expected)) if math.isfinite(expected) else abs(central)
        allowed = settings.atol + settings.rtol * size + rounding
        if abs(central - expected) <= allowed:
            return central, NumericOutcome.OK
        if not math.isfinite(central):
            return central, NumericOutcome.UNSTEADY
        found.append((central, right, left, allowed))
    central, right, left, allowed = found[0]
    gap = abs(right - left)
    if gap <= 2 * allowed:
        return central, NumericOutcome.WRONG
    wide = slopes.at(*at, step * _WIDER)
    wide_gap = abs(wide[1] - wide[2])
    if abs(wide_gap - _WIDER * gap) <= 0.1 * _WIDER * gap:  # the curvature of a smooth function
        return central, NumericOutcome.WRONG
    if abs(wide_gap - gap) > 0.1 * gap:
        return central, NumericOutcome.UNSTEADY
    low, high = sorted((left, right))
    between = low - allowed <= expected <= high + allowed
    return central, NumericOutcome.KINK if between else NumericOutcome.WRONG
