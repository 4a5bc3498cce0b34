"""A tensor as facts: shape, dtype, device, and its values or their statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from gradviz.capture.autograd.operations import plain_shape, type_text
from gradviz.capture.autograd.tensors import quietly
from gradviz.capture.tensors.statistics import Number, Statistics, countable, read
from gradviz.graph import TensorSummary

__all__ = ["FEW", "readable", "summarize"]

FEW = 8
"""Tensors with up to this many elements are told by their values."""


@dataclass(slots=True)
class _TensorReading:
    """A tensor on its way to a `TensorSummary`."""

    shape: tuple[int, ...] = ()
    dtype: str = "unknown"
    device: str = "unknown"
    note: str = ""
    data: torch.Tensor | None = None  # what to read of it
    few: bool = False
    repeats: int = 1  # how often the elements of ``data`` occur in the tensor
    values: tuple[Number, ...] | None = None
    statistics: Statistics | None = None

    def summary(self) -> TensorSummary:
        facts = (self.shape, self.dtype, self.device)
        if self.values is not None:
            norm, nan, inf = _of_values(self.values)
            return TensorSummary(*facts, self.values, norm, nan=nan, inf=inf, note=self.note)
        if self.statistics is None:
            return TensorSummary(*facts, note=self.note)
        norm, mean, std, low, high, nan, inf = self.statistics
        if norm is not None:
            norm *= math.sqrt(self.repeats)
        nan, inf = nan * self.repeats, inf * self.repeats
        return TensorSummary(*facts, None, norm, mean, std, low, high, nan, inf, self.note)


def summarize(
    tensors: Sequence[torch.Tensor], values_only_if_small: bool = False
) -> list[TensorSummary]:
    """Read tensors and leave no trace: no error, warning, graph, version bump or mode call.

    Statistics are those of the finite elements, with NaN and infinite ones counted beside
    them; of a complex tensor, those of its magnitudes. What cannot be read, or only at a price
    (no storage, a subclass with its own idea of every operation), is told by its shape, dtype
    and device, and a note. A size that is not one number (nested, symbolic) is -1.

    Args:
        tensors: what to read, of any kind, dtype, device and layout.
        values_only_if_small: tell a tensor of more than `FEW` elements by its shape, dtype and
            device alone, and do not read it.

    Returns:
        One `TensorSummary` per tensor, in the order given. Up to `FEW` elements: ``values``
        and ``norm``; more: ``norm``, ``mean``, ``std`` (of the population), ``min``, ``max``.

    Example:
        >>> small, large = summarize([torch.tensor([3.0, 4.0]), torch.arange(11)])
        >>> small.values, small.norm
        ((3.0, 4.0), 5.0)
        >>> large.mean, large.min, large.max
        (5.0, 0.0, 10.0)
    """
    # Quiet first: a user's mode would see even the call that enters no_grad.
    with quietly(), torch.no_grad():
        readings = [_prepared(tensor, values_only_if_small) for tensor in tensors]
        devices: dict[torch.device, list[_TensorReading]] = {}
        for reading in readings:
            if reading.data is not None:
                devices.setdefault(reading.data.device, []).append(reading)
        for group in devices.values():
            _fill(group)
    return [reading.summary() for reading in readings]


def _prepared(tensor: torch.Tensor, only_small: bool) -> _TensorReading:
    """Find out what kind of tensor it is, and what of it can be read."""
    reading = _TensorReading()
    try:
        reading.dtype = type_text(tensor.dtype)
        reading.device = type_text(tensor.device)
        reading.note = "values not read"
        if torch.nn.parameter.is_lazy(tensor):
            reading.note = "not initialized"
            return reading
        reading.shape = _shape(tensor)
        data, reading.note = readable(tensor)
        if data is None:
            return reading
        reading.few = data.numel() <= FEW
        if reading.few or not only_small:
            if not reading.few:
                data, reading.repeats = _without_repeats(data)
                data = countable(data)
            reading.data = data
    except Exception:
        reading.note = reading.note or "values not read"
    return reading


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    """Sizes; -1 where a dimension has no single one."""
    if not tensor.is_nested:
        return plain_shape(tensor.shape)
    sizes = []
    for dim in range(tensor.dim()):
        try:
            size = tensor.size(dim)
        except RuntimeError:
            size = -1
        sizes.append(size if type(size) is int else -1)
    return tuple(sizes)


def readable(tensor: torch.Tensor) -> tuple[torch.Tensor | None, str]:
    """The dense values of a tensor, None when they are left alone; and what to say of it."""
    if tensor.is_nested:
        return None, f"nested: {tensor.size(0)} tensors"
    # A subclass with its own dispatch may do anything on a read: communicate, as DTensor does,
    # or write it into a program, as FakeTensor does.
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return None, f"values not read: {type(tensor).__name__}"
    if tensor.is_meta:
        return None, "meta: no values"
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        return None, "values not read: CUDA graph capture"
    data = tensor.detach()
    if data.is_quantized:
        return data.dequantize(), "quantized"
    if data.layout == torch.strided:
        return data, ""
    if not str(data.layout).startswith("torch.sparse"):
        return data.to_dense(), str(data.layout).removeprefix("torch._")
    if data.layout == torch.sparse_coo and not data.is_coalesced():
        return None, "sparse"  # to count its elements they would have to be sorted
    return None, f"sparse: {data.values().numel()} values stored"


def _without_repeats(data: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Undo `expand`, so that a broadcast tensor costs what its storage costs."""
    repeats = 1
    for dim, (size, stride) in enumerate(zip(data.shape, data.stride(), strict=True)):
        if stride == 0 and size > 1:
            data, repeats = data.narrow(dim, 0, 1), repeats * size
    return data, repeats


def _fill(group: list[_TensorReading]) -> None:
    """Read a device's tensors; if that fails, each alone, so that one bad one spoils no other."""
    small = [(reading, reading.data) for reading in group if reading.few]
    large = [(reading, reading.data) for reading in group if not reading.few]
    try:
        values, statistics = read(
            [data for _, data in small if data is not None],
            [data for _, data in large if data is not None],
        )
    except Exception:
        for reading in group:
            if len(group) > 1:
                _fill([reading])
            else:
                reading.note = "values not read"
        return
    for (reading, _), found in zip(small, values, strict=True):
        reading.values = found
    for (reading, _), facts in zip(large, statistics, strict=True):
        reading.statistics = facts


def _of_values(values: Sequence[Number]) -> tuple[float | None, int, int]:
    """Norm of the finite values (None when there are none), and how many are NaN and infinite."""
    if not any(isinstance(value, complex) for value in values):
        norm = math.hypot(*values)  # type: ignore[arg-type]
        if math.isfinite(norm):
            return norm, 0, 0
    parts = [(complex(value).real, complex(value).imag) for value in values]
    nan = sum(any(map(math.isnan, part)) for part in parts)
    finite = [part for part in parts if all(map(math.isfinite, part))]
    norm = math.hypot(*(number for part in finite for number in part))
    return norm if finite or not values else None, nan, len(parts) - len(finite) - nan
