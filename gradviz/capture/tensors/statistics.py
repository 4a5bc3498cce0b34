"""Numbers out of many tensors at once: the values of small ones, statistics of large ones.

On an accelerator tensors of equal size are stacked, so that hundreds of them cost a few
kernels, and everything travels to the host in one copy. On a CPU nothing is copied, and numpy
reads what it can: its reductions start faster than torch's, and are not slowed down by other
work on the machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Number", "Statistics", "countable", "read"]

_STACKED = 1 << 20  # elements of the largest tensor that is worth copying into a stack
_STACK = 1 << 24  # elements of the largest stack
_CHUNK = 1 << 18  # elements that the second look takes at once, since it needs memory

Number = float | int | bool | complex


class Statistics(NamedTuple):
    """Statistics of the finite elements (None when there are none), and how many are not."""

    norm: float | None
    mean: float | None
    std: float | None
    min: float | None
    max: float | None
    nan: int = 0
    inf: int = 0


def countable(data: torch.Tensor) -> torch.Tensor:
    """The same values in a dtype that has sums and norms; of complex ones, the magnitudes.

    Example:
        >>> countable(torch.tensor([True, False]))
        tensor([1., 0.])
    """
    if data.is_complex():
        return data.abs()
    if data.dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        return data
    if data.is_floating_point() or data.dtype == torch.bool:
        return data.to(torch.float32)
    return data.to(_widest(data))


def read(
    small: Sequence[torch.Tensor], large: Sequence[torch.Tensor]
) -> tuple[list[tuple[Number, ...]], list[Statistics]]:
    """Read tensors that are all on one device.

    Args:
        small: dense tensors whose elements are wanted.
        large: dense tensors, not empty and `countable`, whose statistics are wanted.

    Returns:
        The elements of each small tensor in row-major order, and the statistics of each large
        one. The standard deviation is that of the population.

    Example:
        >>> read([torch.ones(2)], [torch.arange(4.0)])[0]
        [(1.0, 1.0)]
    """
    found: dict[int, Statistics | None] = {}
    with np.errstate(all="ignore"):
        for number, data in enumerate(large):
            if (array := _array(data)) is not None:
                found[number] = _concluded(array.size, *_first_look_in_place(array))
    batches = _batches(large, [number for number in range(len(large)) if number not in found])
    pieces = [*small, *(piece for _, rows in batches for piece in _first_look(rows))]
    fetched = _fetch(pieces)
    values = [next(fetched) for _ in small]
    for numbers, rows in batches:
        columns: list[Any] = [next(fetched) for _ in range(4)]
        for number, first in zip(numbers, zip(*columns, strict=True), strict=True):
            found[number] = _concluded(rows.shape[1], *first)
    doubtful = [number for number, stats in found.items() if stats is None]
    found.update(zip(doubtful, _second_look([large[number] for number in doubtful]), strict=True))
    return values, [stats for _, stats in sorted(found.items()) if stats is not None]


def _widest(data: torch.Tensor) -> torch.dtype:
    """Apple's GPUs have no float64."""
    return torch.float32 if data.device.type == "mps" else torch.float64


def _array(data: torch.Tensor) -> npt.NDArray[Any] | None:
    """The memory of a tensor on the CPU, where numpy can read it as it is."""
    if not data.is_cpu or data.dtype not in (torch.float32, torch.float64):
        return None
    try:
        # Inside torch.func.functionalize a tensor has no memory, and numpy() would show any.
        return data.numpy().ravel("K") if data.data_ptr() else None
    except RuntimeError:  # a tensor that torch.func has wrapped, or a lazily negated one
        return None


def _first_look_in_place(array: npt.NDArray[Any]) -> tuple[float, float, float, float]:
    """Sum, norm, smallest and largest element, with no temporary memory."""
    total, low, high = array.sum(), array.min(), array.max()
    return float(total), math.sqrt(array.dot(array)), float(low), float(high)


def _batches(
    tensors: Sequence[torch.Tensor], numbers: list[int]
) -> list[tuple[list[int], torch.Tensor]]:
    """Some of the tensors as rows of matrices, each with the numbers of its rows."""
    alike: dict[object, list[int]] = {}
    for number in numbers:
        data = tensors[number]
        stacked = _kernels_are_dear(data) and data.numel() <= _STACKED
        alike.setdefault((data.dtype, data.numel()) if stacked else number, []).append(number)
    batches = []
    for members in alike.values():
        step = max(1, _STACK // tensors[members[0]].numel())
        for start in range(0, len(members), step):
            some = members[start : start + step]
            rows = [tensors[number].reshape(1, -1) for number in some]
            batches.append((some, torch.cat(rows) if len(rows) > 1 else rows[0]))
    return batches


def _kernels_are_dear(data: torch.Tensor) -> bool:
    """On an accelerator a kernel costs more than copying a small tensor; on a CPU it does not."""
    return not data.is_cpu


def _first_look(rows: torch.Tensor) -> list[torch.Tensor]:
    """The same of each row of a matrix."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    return [
        torch.sum(rows, dim=1, dtype=wide),
        torch.linalg.vector_norm(rows, dim=1, dtype=wide),
        torch.amin(rows, dim=1),
        torch.amax(rows, dim=1),
    ]


def _concluded(count: int, total: float, norm: float, low: float, high: float) -> Statistics | None:
    """Statistics from the first look; None where it cannot be trusted.

    That is so when something is not finite, when squares have left the range of the dtype, and
    when the mean is so large beside the deviation that their difference is rounding.
    """
    if not (math.isfinite(total) and math.isfinite(norm)):
        return None
    if low == high:
        return Statistics(math.sqrt(count) * abs(low), low, 0.0, low, high)
    mean = total / count
    variance = norm * norm / count - mean * mean
    if norm < 1e-15 or variance < 1e-3 * mean * mean:
        return None
    return Statistics(norm, mean, math.sqrt(variance), low, high)


def _second_look(tensors: Sequence[torch.Tensor]) -> list[Statistics]:
    """Slower and exact: in float64, with what is not finite left out and counted."""
    pieces: list[torch.Tensor] = []
    for data in tensors:
        for chunk in torch.split(data.reshape(-1), _CHUNK):
            pieces.extend(_careful_look(chunk))
    fetched = _fetch(pieces)
    return [
        _joined([[next(fetched)[0] for _ in range(8)] for _ in range(0, data.numel(), _CHUNK)])
        for data in tensors
    ]


def _careful_look(chunk: torch.Tensor) -> list[torch.Tensor]:
    """Of a chunk: finite, nan, inf (counts), mean, norm about it, norm, min, max."""
    wide = chunk.to(_widest(chunk))
    nan = torch.count_nonzero(wide != wide)
    inf = torch.count_nonzero(wide.abs() == math.inf)
    count = wide.numel() - nan - inf
    kept = _replaced(wide, 0.0)
    mean = kept.sum() / count.clamp(min=1)
    return [
        count,
        nan,
        inf,
        mean,
        torch.linalg.vector_norm(_replaced(wide - mean, 0.0)),
        torch.linalg.vector_norm(kept),
        _replaced(wide, math.inf).amin(),
        _replaced(wide, -math.inf).amax(),
    ]


def _replaced(data: torch.Tensor, value: float) -> torch.Tensor:
    """A copy with ``value`` for all that is not finite."""
    return torch.nan_to_num(data, nan=value, posinf=value, neginf=value)


def _joined(looks: list[list[Any]]) -> Statistics:
    """One tensor's statistics from those of its chunks."""
    counts, nans, infs, means, spreads, norms, lows, highs = zip(*looks, strict=True)
    count = sum(counts)
    if not count:
        return Statistics(None, None, None, None, None, sum(nans), sum(infs))
    mean = sum(n * m for n, m in zip(counts, means, strict=True)) / count
    shifts = [math.sqrt(n) * (m - mean) for n, m in zip(counts, means, strict=True)]
    std = math.hypot(*spreads, *shifts) / math.sqrt(count)
    return Statistics(math.hypot(*norms), mean, std, min(lows), max(highs), sum(nans), sum(infs))


def _fetch(pieces: list[torch.Tensor]) -> Iterator[tuple[Number, ...]]:
    """Bring tensors of any dtype to the host in one copy, each as a tuple of its elements."""
    flat = [piece.reshape(-1) for piece in pieces]
    if flat and _kernels_are_dear(flat[0]):
        # Bytes are what all dtypes have in common.
        resolved = [piece.resolve_conj().resolve_neg().contiguous() for piece in flat]
        packed = torch.cat([piece.view(torch.uint8) for piece in resolved]).cpu()
        parts = torch.split(packed, [piece.numel() * piece.element_size() for piece in flat])
        # A copy of each part starts where its dtype may start; a slice does not.
        flat = [part.clone().view(old.dtype) for part, old in zip(parts, flat, strict=True)]
    return iter([tuple(piece.tolist()) for piece in flat])
