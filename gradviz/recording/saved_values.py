"""Reads saved tensors before a backward pass frees them.

Only tensors of operations whose derivative can be zero or not finite are read, for explanations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from gradviz.capture.autograd.nodes import (
    Edges,
    operation_type,
    read_saved,
    sequence_number,
    visit_ancestors,
)
from gradviz.capture.autograd.operations import type_text
from gradviz.capture.autograd.tensors import quietly
from gradviz.capture.tensors.summary import FEW, fetch, plain_array, readable
from gradviz.graph import TensorSummary
from gradviz.graph.operations import Operation, forward_word, operation

SavedValues = Mapping[str, Mapping[str, TensorSummary]]
"""By the key of an operation: summaries of its saved tensors, by their saved names."""


class _ToRead(NamedTuple):
    """A saved tensor to be read."""

    key: str
    name: str
    data: torch.Tensor
    array: npt.NDArray[Any] | None


_MOST = 1 << 22  # elements read before a pass: a few milliseconds
_MOST_NODES = 512  # each takes at least a hundredth of a millisecond
_MOST_PROBED = 4096  # saved tensors whose first element is read
_TARGET = "target"
_READ = ("result", "self", "other", "mask", "condition", "total_weight", "S", "L", "eigenvalues")


def contents_of(
    roots: Sequence[Any], operations: Mapping[int, str], nodes: Mapping[str, Mapping[str, Any]]
) -> Contents:
    """Read the saved tensors of operations, the last operation first; no hook runs.

    The number of nodes and elements is limited: of a long loop, the end is read. A factor of a
    product, or the weight of a normalization, is read only if its first element is 0: it matters
    only if all elements are 0. Data that does not require grad, such as a batch, is read: it may
    contain NaN.

    Args:
        roots: the roots of the backward pass.
        operations: keys by sequence number.
        nodes: their attributes by key, for the dtype and device of their results.
    """
    readings: list[_ToRead] = []
    batches: list[_ToRead] = []
    probed: list[_ToRead] = []
    asked = 0
    rows: dict[type, tuple[Operation, tuple[str, ...]]] = {}
    starts = (getattr(root, "grad_fn", None) for root in roots)
    for node, edges in visit_ancestors(node for node in starts if node is not None):
        if (known := rows.get(type(node))) is None:
            row = operation(forward_word(type(node).__name__))
            known = rows[type(node)] = row, _zero_names(row)
        row, zero_names = known
        if not (row.read or zero_names or _TARGET in row.saves):
            continue
        is_read = row.read and asked < _MOST_NODES
        asked += row.read
        if not is_read and len(probed) >= _MOST_PROBED:
            continue
        if (key := operations.get(sequence_number(node))) is None:
            continue
        data = nodes[key]
        made = data.get("dtype"), data.get("device")
        if all(each.dtype not in (made[0], "bool") for each in data.get("saved", ())):
            continue  # only numbers, as the factor in ``y * 2``
        kind = operation_type(node)
        batch = _batch_name(row, edges)
        for name, held in zip(kind.saved, read_saved(node, kind)[1], strict=False):
            found = readings if is_read and name in _READ else probed
            if name == batch and found is probed:
                found = batches
            elif found is probed and name not in zero_names:
                continue
            if not isinstance(held, torch.Tensor):
                continue
            # A hook may have packed it as another type.
            array = plain_array(held)
            values = _plain(held) if array is None else held if array.size else None
            if values is None:
                continue
            facts = type_text(values.dtype), type_text(values.device)
            if values.dtype is torch.bool or made == facts:
                found.append(_ToRead(key, name, values, array))
    with torch.no_grad():
        here = [each for each in probed if each.data.is_cpu]
        wanted = [*_within_limit([*readings, *_beginning_with_zero(here), *batches[::-1]])]
        elsewhere = [each for each in probed if not each.data.is_cpu]
        return Contents(_computed(wanted, elsewhere))


def _zero_names(row: Operation) -> tuple[str, ...]:
    """The saved names of an operation that block the gradient when they are all zeros."""
    if row.normalizes:
        return ("weight",)
    return tuple(row.saves[number] for number in row.factors or () if number < len(row.saves))


def _batch_name(row: Operation, edges: Edges) -> str:
    """The saved name of a factor or target that does not require grad; else ""."""
    number = row.factors[0] if row.factors else len(edges)
    number = row.saves.index(_TARGET) if _TARGET in row.saves else number
    is_data = number < min(len(edges), len(row.saves)) and edges[number][0] is None
    return row.saves[number] if is_data else ""


def _within_limit(readings: Sequence[_ToRead]) -> Iterator[_ToRead]:
    left = _MOST
    for reading in readings:
        if (size := reading.data.numel()) <= left:
            left -= size
            yield reading


def _beginning_with_zero(probed: Sequence[_ToRead]) -> Iterator[_ToRead]:
    """The CPU tensors whose first element is 0: the others are not read."""
    for reading in probed:
        data, array = reading.data, reading.array
        first = array.item(0) if array is not None else data[(0,) * data.dim()].item()
        if first == 0:
            yield reading


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


class _Saved(NamedTuple):
    """What is kept of a saved tensor until its values are asked for; the tensor itself is not."""

    key: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    piece: torch.Tensor | tuple[float, ...]  # all elements, or the smallest and the largest
    only_zeros: bool = False  # the largest magnitude: of interest only if it is 0


class Contents:
    """Values of saved tensors, copied to the host when they are first asked for.

    Small tensors have their values, others their smallest and largest element.

    Args:
        saved: what was computed before the backward pass.
    """

    def __init__(self, saved: Sequence[_Saved] = ()) -> None:
        self._saved = saved

    @functools.cached_property
    def found(self) -> SavedValues:
        """The values, by operation and saved name."""
        found: dict[str, dict[str, TensorSummary]] = {}
        devices: dict[str, list[_Saved]] = {}
        for each in self._saved:
            devices.setdefault(each.device, []).append(each)
        with quietly(), torch.no_grad():
            for group in devices.values():
                pieces = fetch([e.piece for e in group if isinstance(e.piece, torch.Tensor)])
                for each in group:
                    values = each.piece if isinstance(each.piece, tuple) else next(pieces)
                    if not each.only_zeros or values == (0,):
                        found.setdefault(each.key, {})[each.name] = _summary(each, values)
        self._saved = ()
        return found


def _computed(rows: Sequence[_ToRead], probed: Sequence[_ToRead]) -> list[_Saved]:
    """Compute what will be copied.

    Args:
        rows: the tensors to read.
        probed: tensors on accelerators, of interest only if all elements are 0. One fused kernel
            finds that out; reading their first elements, as on a CPU, would be a copy now.
    """
    found = [
        _Saved(row.key, row.name, *_facts(row.data), piece)
        for row in rows
        if (piece := _piece(row.data, row.array)) is not None
    ]
    alike: dict[tuple[torch.dtype, torch.device], list[_ToRead]] = {}
    for each in probed:
        alike.setdefault((each.data.dtype, each.data.device), []).append(each)
    for group in alike.values():
        largest = torch._foreach_norm([each.data for each in group], torch.inf)
        found += (
            _Saved(each.key, each.name, *_facts(each.data), piece, only_zeros=True)
            for each, piece in zip(group, largest, strict=True)
        )
    return found


def _facts(data: torch.Tensor) -> tuple[tuple[int, ...], str, str]:
    return tuple(data.shape), type_text(data.dtype), type_text(data.device)


def _piece(
    data: torch.Tensor, array: npt.NDArray[Any] | None
) -> torch.Tensor | tuple[float, ...] | None:
    """What to copy of a tensor; None for a dtype that cannot be compared."""
    if array is not None:
        flat = array.reshape(-1)
        if data.numel() <= FEW:
            return tuple(flat.tolist())
        return float(np.minimum.reduce(flat)), float(np.maximum.reduce(flat))  # NaN if there is one
    if data.numel() <= FEW:
        return data.flatten().clone()
    try:
        return torch.stack(torch.aminmax(data.byte() if data.dtype is torch.bool else data))
    except Exception:
        return None


def _summary(saved: _Saved, values: tuple[Any, ...]) -> TensorSummary:
    facts = saved[2:5]
    size = math.prod(saved.shape)
    if saved.only_zeros:
        values *= size if size <= FEW else 2
    if size <= FEW:
        nan, inf = sum(map(math.isnan, values)), sum(map(math.isinf, values))
        return TensorSummary(*facts, values, nan=nan, inf=inf)
    low, high = values
    if math.isnan(low):
        return TensorSummary(*facts, nan=1)
    inf = int(math.isinf(low)) + int(math.isinf(high))
    return TensorSummary(
        *facts,
        min=None if math.isinf(low) else low,
        max=None if math.isinf(high) else high,
        inf=inf,
    )
