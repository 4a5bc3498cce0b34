"""Reads saved tensors before a backward pass frees them.

Only those of operations whose derivative can be zero or not finite: an explanation needs them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from gradviz.capture.autograd.nodes import NodeReader, operation_type, read_saved, sequence_number
from gradviz.capture.autograd.operations import type_text
from gradviz.capture.tensors.summary import FEW, readable
from gradviz.capture.tracing.walk import visit_ancestors
from gradviz.graph import TensorSummary
from gradviz.graph.operations import forward_word, operation

__all__ = ["Contents", "contents_of"]

Contents = Mapping[str, Mapping[str, TensorSummary]]
"""By the keys of operations: the tensors saved as ``result``, ``self`` and ``other``."""

_MOST = 1 << 22  # elements read before a pass: a few milliseconds
_MOST_NODES = 512  # a hundredth of a millisecond each, however small what they have saved


def contents_of(roots: Sequence[Any], operations: Mapping[int, str]) -> Contents:
    """Read what operations have saved, the last first; no hook runs.

    The number of nodes and elements is limited: of a long loop, its end is read.

    Args:
        roots: what backward starts from.
        operations: keys by creation number.
    """
    readings: list[tuple[str, str, torch.Tensor]] = []
    left, reader = _MOST, NodeReader()
    starts = (getattr(root, "grad_fn", None) for root in roots)
    asked = (
        node
        for node, _ in visit_ancestors(node for node in starts if node is not None)
        if operation(forward_word(type(node).__name__)).read
    )
    for node in islice(asked, _MOST_NODES):
        key = operations.get(sequence_number(node))
        if key is None:
            continue
        kind = operation_type(node)
        _, *made = reader.read_output(node, 0)
        for name, held in zip(kind.saved, read_saved(node, kind)[1], strict=False):
            if name in ("result", "self", "other") and isinstance(held, torch.Tensor):
                data = _plain(held)
                # A hook may have packed it as a tensor of another dtype or device.
                if data is None or made != [type_text(data.dtype), type_text(data.device)]:
                    continue
                if data.numel() <= left:
                    left -= data.numel()
                    readings.append((key, name, data))
    found: dict[str, dict[str, TensorSummary]] = {}
    for (key, name, _), summary in zip(readings, _summaries(readings), strict=True):
        if summary is not None:
            found.setdefault(key, {})[name] = summary
    return found


def _plain(held: torch.Tensor) -> torch.Tensor | None:
    """The data, or None if it is not floating point or reading it has side effects."""
    try:
        data, note = readable(held)
        is_real = data is not None and (data.is_floating_point() and not note)
        return data if is_real and data is not None and data.numel() else None
    except Exception:
        return None


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
        low, high = torch.stack(torch.aminmax(data)).tolist()
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
