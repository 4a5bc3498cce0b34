"""Summarize a tensor: shape, dtype, device, and its values or their statistics.

On an accelerator, tensors of equal size are stacked, so that hundreds of them need only a few
kernels, and the results are copied to the host at once. On a CPU nothing is copied, and numpy is
used where possible: its reductions start faster than torch's, and are slowed less by other work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from ctypes import string_at
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from gradviz.capture.autograd.sharded import is_part, shard_of
from gradviz.capture.autograd.tensors import (
    countable,
    is_capturing,
    is_freed,
    is_transformed,
    quietly,
    shape_of,
    widest,
    with_memory,
    without_repeats,
)
from gradviz.graph import TensorSummary
from gradviz.graph.operations import plain_shape, type_text

FEW = 8
"""Tensors with up to this many elements are shown with their values."""


@dataclass(slots=True)
class _TensorReading:
    """The data to read of one tensor, and what was read."""

    shape: tuple[int, ...] = ()
    dtype: str = "unknown"
    device: str = "unknown"
    note: str = ""
    is_sparse: bool = False
    is_part: bool = False
    data: torch.Tensor | None = None  # what to read of the tensor
    few: bool = False
    repeats: int = 1  # how often the elements of ``data`` occur in the tensor
    values: tuple[Number, ...] | None = None
    statistics: Statistics | None = None
    bins: tuple[int, ...] | None = None

    def summary(self) -> TensorSummary:
        facts = (self.shape, self.dtype, self.device)
        if self.values is not None:
            norm, nan, inf = _of_values(self.values)
            return TensorSummary(*facts, self.values, norm, nan=nan, inf=inf, note=self.note)
        if self.statistics is None:
            return TensorSummary(*facts, note=self.note, is_sparse=self.is_sparse)
        norm, mean, std, low, high, nan, inf, _ = self.statistics
        if norm is not None:
            norm *= math.sqrt(self.repeats)
        nan, inf = nan * self.repeats, inf * self.repeats
        more: Any = {"is_part": self.is_part, "bins": self.bins}
        return TensorSummary(*facts, None, norm, mean, std, low, high, nan, inf, self.note, **more)


def summarize(
    tensors: Sequence[torch.Tensor],
    values_only_if_small: bool | Sequence[bool] = False,
    with_bins: bool = False,
) -> list[TensorSummary]:
    """Read tensors without side effects: no error, warning, graph, version bump or mode call.

    Statistics are those of the finite elements, with NaN and infinite ones counted separately;
    of a complex tensor, those of its magnitudes. A tensor that cannot be read without side
    effects (no storage, a subclass with its own dispatch) gets shape, dtype, device and a note.
    A size that is not one number (nested, symbolic) is -1.

    Args:
        tensors: tensors of any kind, dtype, device and layout.
        values_only_if_small: do not read tensors of more than `FEW` elements; they get only shape,
            dtype and device. One value for all tensors, or one per tensor.
        with_bins: also count a sample of the elements of each large tensor in equal intervals.

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
    if isinstance(values_only_if_small, bool):
        values_only_if_small = [values_only_if_small] * len(tensors)
    # Disable modes first: a user's mode would see even the call that enters no_grad.
    with quietly(), torch.no_grad():
        readings = [
            _prepared(tensor, only_small)
            for tensor, only_small in zip(tensors, values_only_if_small, strict=True)
        ]
        devices: dict[torch.device, list[_TensorReading]] = {}
        for reading in readings:
            if reading.data is not None:
                devices.setdefault(reading.data.device, []).append(reading)
        for device, group in devices.items():
            if device.type == "cuda":  # another stream may still write a gradient
                torch.cuda.synchronize(device)
            _fill(group)
        if with_bins:
            _add_bins(readings)
    return [reading.summary() for reading in readings]


def _prepared(tensor: torch.Tensor, only_small: bool) -> _TensorReading:
    """Determine what can be read of a tensor."""
    reading = _TensorReading()
    try:
        reading.data = _of_ordinary(tensor, reading, only_small)
        if reading.data is not None:
            return reading
        reading.dtype = type_text(tensor.dtype)
        reading.device = type_text(tensor.device)
        reading.note = "values not read"
        if torch.nn.parameter.is_lazy(tensor):
            reading.note = "not initialized"
            return reading
        reading.shape = shape_of(tensor)
        data, reading.note = readable(tensor)
        reading.is_sparse = str(tensor.layout).startswith("torch.sparse")
        if data is None:
            return reading
        # The values of a shard do not fill the shape: it gets statistics.
        reading.is_part = is_part(tensor)
        reading.few = data.numel() <= FEW and not reading.is_part
        if reading.few or not only_small:
            if not reading.few:
                data, reading.repeats = without_repeats(data)
                data = countable(data)
            reading.data = data
    except Exception:
        reading.note = reading.note or "values not read"
    return reading


_ORDINARY = frozenset({torch.Tensor, torch.nn.Parameter})
_FLOATS = frozenset({torch.float32, torch.float64})


def _of_ordinary(
    tensor: torch.Tensor, reading: _TensorReading, only_small: bool
) -> torch.Tensor | None:
    """The data of a small or contiguous tensor on the CPU, quickly; None for any other."""
    few = tensor.numel() <= FEW if type(tensor) in _ORDINARY else False
    if (only_small and not few) or not _is_plain(tensor):
        return None
    reading.shape, reading.few = plain_shape(tensor.shape), few
    reading.dtype, reading.device = type_text(tensor.dtype), "cpu"
    return tensor.detach()


def _is_plain(tensor: torch.Tensor) -> bool:
    """Whether it is an ordinary contiguous tensor of floats on the CPU, with memory."""
    return (
        type(tensor) in _ORDINARY
        and tensor.is_cpu
        and tensor.dtype in _FLOATS
        and tensor.layout is torch.strided
        and not tensor.is_nested
        and not is_transformed(tensor)
        and not tensor.is_neg()
        and tensor.is_contiguous()
        and bool(tensor.data_ptr())
    )


class Kept:
    """The values of a tensor that `keep` copied; they are summarized when they are read."""

    __slots__ = ("_memory", "_summary", "_type")

    def __init__(self, tensor: torch.Tensor, memory: bytes | None) -> None:
        self._memory, self._type = memory, (tensor.dtype, tensor.shape)
        self._summary: TensorSummary | None = None

    @property
    def summary(self) -> TensorSummary:
        """The summary of the tensor at the time of the copy."""
        if self._summary is None:
            dtype, shape = self._type
            assert self._memory is not None
            array = as_array(self._memory, dtype).reshape(shape).copy()  # torch warns of bytes
            self._summary = summarize([torch.from_numpy(array)], with_bins=True)[0]
        return self._summary

    @property
    def is_healthy(self) -> bool:
        """Whether all elements are finite, and one is not zero; NumPy may warn of an overflow."""
        if self._memory is None:
            return self.summary.is_finite and bool(self.summary.norm)
        flat = np.frombuffer(self._memory, _TYPES[self._type[0]])
        return bool(0 < flat.dot(flat) < math.inf)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Kept):
            return NotImplemented
        if self._memory is None or other._memory is None:
            return self.summary == other.summary
        return self._memory == other._memory and self._type == other._type


def keep(tensors: Sequence[torch.Tensor]) -> list[Kept]:
    """Copy tensors of any kind; all that are not small and on the CPU are summarized together.

    Example:
        >>> (kept,) = keep([tensor := torch.zeros(2)])
        >>> tensor += 1
        >>> kept.summary.values
        (0.0, 0.0)
    """
    found = [Kept(each, memory_of(each) if each.numel() <= KEPT else None) for each in tensors]
    rest = [number for number, each in enumerate(found) if each._memory is None]
    read = summarize([tensors[number] for number in rest], with_bins=True) if rest else ()
    for number, summary in zip(rest, read, strict=True):
        found[number]._summary = summary
    return found


def memory_of(tensor: torch.Tensor) -> bytes | None:
    """A copy of the memory of an ordinary contiguous tensor of floats on the CPU, or None."""
    return string_at(tensor.data_ptr(), tensor.nbytes) if _is_plain(tensor) else None


def as_array(memory: bytes, dtype: torch.dtype) -> npt.NDArray[Any]:
    """What `memory_of` copied, as a flat array."""
    return np.frombuffer(memory, _TYPES[dtype])


def plain_array(tensor: torch.Tensor) -> npt.NDArray[Any] | None:
    """The memory of an ordinary contiguous tensor of floats on the CPU; None for any other."""
    return np.asarray(_Memory(tensor)) if _is_plain(tensor) else None


_TYPES = {torch.float32: "=f4", torch.float64: "=f8"}


class _Memory:
    """The memory of a tensor, which lives as long as arrays of it.

    ``Tensor.numpy`` would forbid for ever to resize the storage, as FSDP does.
    """

    __slots__ = ("__array_interface__", "_tensor")

    def __init__(self, tensor: torch.Tensor, strides: tuple[int, ...] | None = None) -> None:
        self._tensor = tensor
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(tensor.shape),
            "typestr": _TYPES[tensor.dtype],
            "data": (tensor.data_ptr(), False),
            "strides": strides,
        }


KEPT = 512  # elements of the largest tensor that is copied


def readable(tensor: torch.Tensor) -> tuple[torch.Tensor | None, str]:
    """The dense values of a tensor, or None if they are not read; and a note."""
    if tensor.is_nested:
        return None, f"nested: {tensor.size(0)} tensors"
    if (shard := shard_of(tensor)) is not None:
        is_empty = not shard.local.numel() and bool(tensor.numel())
        return None if is_empty else shard.local.detach(), shard.text
    # A subclass with its own dispatch may do anything on a read: FakeTensor adds it to a program.
    if type(tensor).__torch_dispatch__ is not torch.Tensor.__torch_dispatch__:
        return None, f"values not read: {type(tensor).__name__}"
    if tensor.is_meta:
        return None, "meta: no values"
    if tensor.is_cuda and is_capturing():
        return None, "values not read: CUDA graph capture"
    data = tensor.detach()
    if data.layout == torch.strided and data.numel() and is_freed(data):
        return None, "values not read: its storage is freed"  # as FSDP2 does between uses
    if data.is_quantized:
        return data.dequantize(), "quantized"
    if data.layout == torch.strided:
        return with_memory(data), ""
    if not str(data.layout).startswith("torch.sparse"):
        return data.to_dense(), str(data.layout).removeprefix("torch._")
    if data.layout == torch.sparse_coo and not data.is_coalesced():
        return None, "sparse"  # counting its elements would require sorting them
    return None, f"sparse: {data.values().numel()} values stored"


def _fill(group: list[_TensorReading]) -> None:
    """Read the tensors of one device at once; if that fails, one by one."""
    small = [each for each in group if each.few]
    large = [each for each in group if not each.few]
    rows = ([each.data for each in part if each.data is not None] for part in (small, large))
    try:
        values, statistics = read(*rows)
    except Exception:
        for reading in group:
            if len(group) > 1:
                _fill([reading])
            else:
                reading.note = "values not read"
        return
    for reading, found in zip(small, values, strict=True):
        reading.values = found
    for reading, facts in zip(large, statistics, strict=True):
        reading.statistics = facts


_BINS = 12
_SAMPLE = 128  # elements of a sample, about


def _sampling(count: int) -> slice:
    """Of that many elements, some at equal distances, in no column or row of a matrix alone."""
    step = max(1, count // _SAMPLE)
    while math.gcd(step, count) > 1:
        step += 1
    return slice(None, None, step)


def _add_bins(readings: Sequence[_TensorReading]) -> None:
    """Count the sample of each tensor in equal intervals from its smallest to its largest element.

    All samples are counted at once: an array operation costs more than the few elements of one.
    """
    pairs = [(each, each.statistics) for each in readings if each.statistics is not None]
    found = [(each, facts) for each, facts in pairs if facts.min is not None and facts.sample.size]
    if not found:
        return
    sizes = [facts.sample.size for _, facts in found]
    low, high = (np.repeat([facts[at] for _, facts in found], sizes) for at in (3, 4))
    with np.errstate(all="ignore"):
        place = (np.concatenate([facts.sample for _, facts in found]) - low) / (high - low)
    is_finite = np.isfinite(place)
    inside = np.clip(place[is_finite] * _BINS, 0, _BINS - 1).astype(np.int64)
    owner = np.repeat(np.arange(len(found)) * _BINS, sizes)[is_finite]
    counts = np.bincount(owner + inside, minlength=_BINS * len(found)).reshape(-1, _BINS)
    for (each, _), row in zip(found, counts.tolist(), strict=True):
        each.bins = tuple(row) if any(row) else None


def _of_values(values: Sequence[Number]) -> tuple[float | None, int, int]:
    """Norm of the finite values (None if there are none); counts of NaN and infinite values."""
    if not any(isinstance(value, complex) for value in values):
        norm = math.hypot(*values)  # type: ignore[arg-type]
        if math.isfinite(norm):
            return norm, 0, 0
    parts = [(complex(value).real, complex(value).imag) for value in values]
    nan = sum(any(map(math.isnan, part)) for part in parts)
    finite = [part for part in parts if all(map(math.isfinite, part))]
    norm = math.hypot(*(number for part in finite for number in part))
    return norm if finite or not values else None, nan, len(parts) - len(finite) - nan


_STACKED = 1 << 20  # elements of the largest tensor that is copied into a stack
_STACK = 1 << 22  # elements of the largest stack or chunk on an accelerator: 32 MB in float64
_TOGETHER = 1 << 10  # elements of the largest array that is read together with others
_CHUNK = 1 << 18  # elements that the exact reading on a CPU processes at once, to limit its memory

Number = float | int | bool | complex


class Statistics(NamedTuple):
    """Statistics of the finite elements (None if there are none), and counts of the others.

    ``sample`` has some of the elements, of any kind.
    """

    norm: float | None
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    nan: int = 0
    inf: int = 0
    sample: npt.NDArray[Any] = np.empty(0)


def read(
    small: Sequence[torch.Tensor], large: Sequence[torch.Tensor]
) -> tuple[list[tuple[Number, ...]], list[Statistics]]:
    """Read tensors that are all on one device.

    Args:
        small: dense tensors, of which the elements are read.
        large: dense tensors, not empty and `countable`, of which statistics are computed.

    Returns:
        The elements of each small tensor in row-major order, and the statistics of each large
        one. The standard deviation is that of the population.

    Example:
        >>> read([torch.ones(2)], [torch.arange(4.0)])[0]
        [(1.0, 1.0)]
    """
    found = _of_memory(large) if large else {}
    exact = [number for number in range(len(large)) if number not in found]
    batches = [*_batches(large, exact)]
    fetched = fetch([*small, *(each for _, rows in batches for each in _row_statistics(rows))])
    values = [next(fetched) for _ in small]
    chunks: dict[int, list[Any]] = {number: [] for number in exact}
    for numbers, _ in batches:
        columns = [next(fetched) for _ in range(8)]
        samples = np.array(next(fetched)).reshape(len(numbers), -1)
        for number, *row in zip(numbers, *columns, samples, strict=True):
            chunks[number].append(row)
    found.update((number, _of_chunks(rows)) for number, rows in chunks.items())
    return values, [found[number] for number in range(len(large))]


def _array(data: torch.Tensor) -> npt.NDArray[Any] | None:
    """A numpy view of a CPU tensor, or None if numpy cannot read its memory."""
    if not data.is_cpu or data.dtype not in _FLOATS or data.is_neg():
        return None
    try:
        # Inside torch.func.functionalize a tensor has no memory.
        has_memory = bool(data.data_ptr())
    except RuntimeError:  # a tensor that torch.func has wrapped
        return None
    size = data.element_size()
    strides = None if data.is_contiguous() else tuple(step * size for step in data.stride())
    return np.asarray(_Memory(data, strides)).ravel("K") if has_memory else None


def _of_memory(tensors: Sequence[torch.Tensor]) -> dict[int, Statistics]:
    """The statistics of the tensors that numpy can read accurately enough, by their numbers."""
    arrays = {n: array for n, each in enumerate(tensors) if (array := _array(each)) is not None}
    few = {number: array for number, array in arrays.items() if array.size <= _TOGETHER}
    found = {}
    with np.errstate(all="ignore"):
        known = dict(zip(few, _of_arrays([*few.values()]) if few else (), strict=True))
        for number, array in arrays.items():
            facts = known[number] if number in known else _of_array(array)
            if facts is not None:
                found[number] = Statistics(*facts[:-1], array[_sampling(array.size)])
    return found


def _of_array(array: npt.NDArray[Any]) -> Statistics | None:
    """The statistics of an array; a small one, of which float32 is not enough, in float64."""
    found = _from_sums(array.size, _sums_in_place(array))
    if found is None and array.dtype == np.float32 and array.size <= _CHUNK:
        wide = array.astype(np.float64)
        return _from_sums(wide.size, _sums_in_place(wide), _IN_FLOAT64)
    return found


def _of_arrays(arrays: Sequence[npt.NDArray[Any]]) -> Iterator[Statistics | None]:
    """The same of several small arrays, all at once and in float64."""
    sizes = [array.size for array in arrays]
    flat, starts = np.concatenate(arrays, dtype=np.float64), [0, *accumulate(sizes[:-1])]
    reductions = (np.add, flat), (np.add, flat * flat), (np.minimum, flat), (np.maximum, flat)
    columns = [each.reduceat(values, starts).tolist() for each, values in reductions]
    for size, total, squares, low, high in zip(sizes, *columns, strict=True):
        yield _from_sums(size, (total, math.sqrt(squares), low, high), _IN_FLOAT64)


def _sums_in_place(array: npt.NDArray[Any]) -> tuple[float, float, float, float]:
    """Sum, norm, smallest and largest element, without temporary memory."""
    # The methods of an array call the same functions through Python.
    total, low, high = (each.reduce(array) for each in (np.add, np.minimum, np.maximum))
    return float(total), math.sqrt(array.dot(array)), float(low), float(high)


def _batches(
    tensors: Sequence[torch.Tensor], numbers: list[int]
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Matrices of which each row is a tensor or a chunk of one, with the numbers of the tensors.

    On an accelerator, tensors of equal size share a matrix: a kernel costs more than a copy.
    """
    alike: dict[object, list[int]] = {}
    for number in numbers:
        data = tensors[number]
        if _is_on_accelerator(data) and data.numel() <= _STACKED:
            alike.setdefault((data.dtype, data.numel()), []).append(number)
            continue
        for chunk in torch.split(data.reshape(-1), _STACK if _is_on_accelerator(data) else _CHUNK):
            yield [number], chunk.reshape(1, -1)
    for members in alike.values():
        step = max(1, _STACK // tensors[members[0]].numel())
        for start in range(0, len(members), step):
            some = members[start : start + step]
            rows = [tensors[number].reshape(1, -1) for number in some]
            yield some, torch.cat(rows) if len(rows) > 1 else rows[0]


def _is_on_accelerator(data: torch.Tensor) -> bool:
    return not data.is_cpu


_IN_FLOAT32 = 1e-15, 1e-3
_IN_FLOAT64 = 1e-140, 1e-9
"""The smallest norm of which the square is exact, and the smallest deviation to mean, squared."""


def _from_sums(
    count: int, sums: Sequence[float], limits: tuple[float, float] = _IN_FLOAT32
) -> Statistics | None:
    """Compute statistics from sums; None if the result would not be accurate enough.

    This is the case when an element is not finite, when squares exceed the range of the dtype, or
    when the mean is so much larger than the deviation that their difference is rounding error.
    """
    total, norm, low, high = sums
    if not (math.isfinite(total) and math.isfinite(norm)):
        return None
    low, high = low + 0.0, high + 0.0  # which of 0 and -0 was found depends on the device
    if low == high:
        return Statistics(math.sqrt(count) * abs(low), low, 0.0, low, high)
    mean = total / count
    variance = norm * norm / count - mean * mean
    if norm < limits[0] or variance < limits[1] * mean * mean:
        return None
    return Statistics(norm, mean, math.sqrt(variance), low, high)


def _row_statistics(rows: torch.Tensor) -> list[torch.Tensor]:
    """Of each row, exactly, in float64; elements that are not finite are excluded and counted.

    Counts of finite, NaN and infinite elements; mean, norm about it, norm, min, max; a sample.
    """
    wide = rows.to(widest(rows))
    nan = torch.count_nonzero(wide != wide, dim=1)
    inf = torch.count_nonzero(wide.abs() == math.inf, dim=1)
    count = wide.shape[1] - nan - inf
    kept = _replaced(wide, 0.0)
    mean = kept.sum(dim=1) / count.clamp(min=1)
    return [
        count,
        nan,
        inf,
        mean,
        torch.linalg.vector_norm(_replaced(wide - mean[:, None], 0.0), dim=1),
        torch.linalg.vector_norm(kept, dim=1),
        _replaced(wide, math.inf).amin(dim=1),
        _replaced(wide, -math.inf).amax(dim=1),
        wide[:, _sampling(wide.shape[1])],
    ]


def _replaced(data: torch.Tensor, value: float) -> torch.Tensor:
    """A copy with ``value`` for each element that is not finite."""
    return torch.nan_to_num(data, nan=value, posinf=value, neginf=value)


def _of_chunks(chunks: list[list[Any]]) -> Statistics:
    """The statistics of one tensor from those of its chunks."""
    counts, nans, infs, means, spreads, norms, lows, highs, samples = zip(*chunks, strict=True)
    count = sum(counts)
    if not count:
        return Statistics(None, None, None, None, None, sum(nans), sum(infs))
    mean = sum(n * m for n, m in zip(counts, means, strict=True)) / count
    shifts = [math.sqrt(n) * (m - mean) for n, m in zip(counts, means, strict=True)]
    std = math.hypot(*spreads, *shifts) / math.sqrt(count)
    low, high = min(lows) + 0.0, max(highs) + 0.0
    sample = np.concatenate(samples)
    return Statistics(math.hypot(*norms), mean + 0.0, std, low, high, sum(nans), sum(infs), sample)


def fetch(pieces: list[torch.Tensor]) -> Iterator[tuple[Number, ...]]:
    """Copy tensors of any dtype to the host at once; yields each as a tuple of its elements."""
    flat = [piece.reshape(-1) for piece in pieces]
    if flat and _is_on_accelerator(flat[0]):
        # Every dtype can be viewed as bytes.
        resolved = [piece.resolve_conj().resolve_neg().contiguous() for piece in flat]
        packed = torch.cat([piece.view(torch.uint8) for piece in resolved]).cpu()
        parts = torch.split(packed, [piece.numel() * piece.element_size() for piece in flat])
        # A copy of each part is aligned for its dtype; a slice is not.
        flat = [part.clone().view(old.dtype) for part, old in zip(parts, flat, strict=True)]
    return iter([tuple(piece.tolist()) for piece in flat])
