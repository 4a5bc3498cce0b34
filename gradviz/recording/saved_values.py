"""Reads saved tensors before a backward pass frees them.

Only tensors of operations whose derivative can be zero or not finite are read, for explanations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from gradviz.capture.autograd.nodes import (
    NodeReader,
    operation_type,
    read_saved,
    sequence_number,
    visit_ancestors,
)
from gradviz.capture.autograd.operations import type_text
from gradviz.capture.tensors.summary import FEW, readable
from gradviz.graph import TensorSummary
from gradviz.graph.operations import Operation, forward_word, operation

__all__ = ["Contents", "contents_of"]

Contents = Mapping[str, Mapping[str, TensorSummary]]
"""By the key of an operation: summaries of its saved tensors, by their saved names."""

_MOST = 1 << 22  # elements read before a pass: a few milliseconds
_MOST_NODES = 512  # each takes at least a hundredth of a millisecond
_MOST_PROBED = 4096  # saved tensors whose first element is read
_READ = ("result", "self", "other", "mask", "condition", "total_weight", "S", "L")


def contents_of(roots: Sequence[Any], operations: Mapping[int, str]) -> Contents:
    """Read the saved tensors of operations, the last operation first; no hook runs.

    The number of nodes and elements is limited: of a long loop, the end is read. A factor of a
    product, or the weight of a normalization, is read only if its first element is 0: it matters
    only if all elements are 0.

    Args:
        roots: the roots of the backward pass.
        operations: keys by sequence number.
    """
    readings: list[tuple[str, str, torch.Tensor]] = []
    probed: list[tuple[str, str, torch.Tensor]] = []
    reader, asked = NodeReader(), 0
    starts = (getattr(root, "grad_fn", None) for root in roots)
    for node, _ in visit_ancestors(node for node in starts if node is not None):
        row = operation(forward_word(type(node).__name__))
        if not (row.read or row.factors or row.normalizes):
            continue
        key = operations.get(sequence_number(node))
        is_read = row.read and asked < _MOST_NODES
        asked += row.read
        if key is None or not (is_read or len(probed) < _MOST_PROBED):
            continue
        kind = operation_type(node)
        _, *made = reader.read_output(node, 0)
        for name, held in zip(kind.saved, read_saved(node, kind)[1], strict=False):
            wanted = readings if is_read and name in _READ else probed
            if wanted is probed and name not in _zero_names(row):
                continue
            data = _plain(held) if isinstance(held, torch.Tensor) else None
            # A hook may have packed it as another type.
            if data is None:
                continue
            if data.dtype is torch.bool or made == [type_text(data.dtype), type_text(data.device)]:
                wanted.append((key, name, data))
    readings = [*_within_limit([*readings, *_beginning_with_zero(probed)])]
    found: dict[str, dict[str, TensorSummary]] = {}
    for (key, name, _), summary in zip(readings, _summaries(readings), strict=True):
        if summary is not None:
            found.setdefault(key, {})[name] = summary
    return found


def _zero_names(row: Operation) -> tuple[str, ...]:
    """The saved names of an operation that block the gradient when they are all zeros."""
    if row.normalizes:
        return ("weight",)
    return tuple(row.saves[number] for number in row.factors or () if number < len(row.saves))


def _within_limit(
    readings: Sequence[tuple[str, str, torch.Tensor]],
) -> Iterator[tuple[str, str, torch.Tensor]]:
    left = _MOST
    for reading in readings:
        if (size := reading[2].numel()) <= left:
            left -= size
            yield reading


def _beginning_with_zero(
    probed: Sequence[tuple[str, str, torch.Tensor]],
) -> Iterator[tuple[str, str, torch.Tensor]]:
    """The tensors whose first element is 0; one copy per device."""
    by_device: dict[torch.device, list[tuple[str, str, torch.Tensor]]] = {}
    for each in probed:
        by_device.setdefault(each[2].device, []).append(each)
    for group in by_device.values():
        with torch.no_grad():
            firsts = [data[(0,) * data.dim()].float() for *_, data in group]
            values = torch.stack(firsts).tolist()
        yield from (each for each, value in zip(group, values, strict=True) if value == 0)


def _plain(held: torch.Tensor) -> torch.Tensor | None:
    """The data; None if it is of another type, or if reading it has side effects."""
    try:
        data, note = readable(held)
        is_read = data is not None and not note and _is_read(data.dtype)
        return data if is_read and data is not None and data.numel() else None
    except Exception:
        return None


def _is_read(dtype: torch.dtype) -> bool:
    return dtype.is_floating_point or dtype is torch.bool


def _summaries(readings: Sequence[tuple[str, str, torch.Tensor]]) -> list[TensorSummary | None]:
    """Values of small tensors; the smallest and the largest element of others."""
    with torch.no_grad():
        return [_summary(data) for *_, data in readings]


def _summary(data: torch.Tensor) -> TensorSummary | None:
    facts = (tuple(data.shape), type_text(data.dtype), type_text(data.device))
    try:
        if data.numel() <= FEW:
            values = tuple(data.flatten().tolist())
            nan, inf = sum(map(math.isnan, values)), sum(map(math.isinf, values))
            return TensorSummary(*facts, values, nan=nan, inf=inf)
        numbers = data.byte() if data.dtype is torch.bool else data
        low, high = torch.stack(torch.aminmax(numbers)).tolist()
    except Exception:  # a dtype that cannot be compared
        return None
    if math.isnan(low):
        return TensorSummary(*facts, nan=1)
    inf = int(math.isinf(low)) + int(math.isinf(high))
    return TensorSummary(
        *facts,
        min=None if math.isinf(low) else low,
        max=None if math.isinf(high) else high,
        inf=inf,
    )
