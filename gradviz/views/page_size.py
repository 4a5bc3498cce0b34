"""About how large a picture of a graph is, before it is laid out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import networkx as nx

from gradviz.graph import GradGraph, NodeKind, TensorSummary
from gradviz.graph.text import shape_text

__all__ = ["page_size"]

_CHARACTER = 6.6  # points, of a character in a box
_MARGIN = 30.0  # beside the text of a box, and between two boxes
_LINK = 22.0  # room for a link that passes a rank
_ROW = 17.0
_RANK = 58.0  # a box of one row, and the gap below it
_LONGEST = 52  # characters of a value
_FEW = 8  # values that are written out
_TENSORS = (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED, NodeKind.SAVED)


def page_size(graph: GradGraph) -> tuple[float, float]:
    """Width and height of a picture of a graph in points, roughly: its widest rank, its ranks.

    Args:
        graph: acyclic, as it would be drawn, with edges in the direction of the data.

    Example:
        >>> graph = GradGraph()
        >>> for n in range(9): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> wide, flat = page_size(graph)
        >>> for n in range(8): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> narrow, high = page_size(graph)
        >>> narrow < wide, flat < high
        (True, True)
    """
    rank: dict[str, int] = {}
    for key in reversed(list(nx.topological_sort(graph))):
        rank[key] = max((rank[user] + 1 for user in graph._succ[key]), default=0)
    depth = max(rank.values(), default=0) + 1
    widths, rows = [0.0] * depth, [1] * depth
    for key, data in graph._node.items():
        lines = _lines(data)
        at = rank[key]
        if data["kind"] in _TENSORS:  # close to its users
            at = 1 + max((rank[user] for user in graph._succ[key]), default=-1)
        widths[at] += max(map(len, lines)) * _CHARACTER + _MARGIN
        rows[at] = max(rows[at], len(lines))
        for user in graph._succ[key]:
            for between in range(rank[user] + 1, at):
                widths[between] += _LINK
    return max(widths, default=0.0), sum(_RANK + _ROW * count for count in rows)


def _lines(data: Mapping[str, Any]) -> list[str]:
    """About what stands in a box."""
    kind, get = data["kind"], data.get
    shape = shape_text(data["shape"], get("dtype", "")) if "shape" in data else ""
    if kind is NodeKind.GROUP:
        head = f"{get('name') or get('op', '')} ×{get('repeat', '')} {get('members', 0)} ops"
        facts = ["9.99k parameters .grad norm 0.0001"] if "parameters" in data else []
        return [head, *facts]
    if kind in _TENSORS or kind is NodeKind.RESULT:
        found = [f"{get('name', '')} {shape}"]
        found += [_value(data[name]) for name in ("value", "grad") if name in data]
        return found
    options = " ".join(f"{name}={text}" for name, text in get("options", {}).items())
    return [f"{get('op', '')} {options} {get('name', '')} {shape}"]


def _value(summary: TensorSummary | None) -> str:
    if summary is None:
        return ".grad None"
    count = math.prod(summary.shape)
    return "0" * (min(_LONGEST, 9 * count) if count <= _FEW else 40)
