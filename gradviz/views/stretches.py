"""The last resort: a graph without modules or repetitions, in a number of pieces."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.views.contract import Part, contract
from gradviz.views.flow import along_the_data
from gradviz.views.inference import module_paths, shared_by
from gradviz.views.sums import words_of
from gradviz.views.units import Ints, Units, units_of
from gradviz.views.view import view

__all__ = ["fold_stretches"]


@view
@along_the_data
def fold_stretches(graph: GradGraph, count: int = 30) -> GradGraph:
    """Draw the operations, in order of their creation, as so many groups of about equal size.

    Args:
        graph: of any kind.
        count: how many groups; each ends where the fewest values go on.

    Raises:
        UsageError: if ``count`` is less than 1.

    Example:
        >>> graph = GradGraph()
        >>> from gradviz.graph import NodeKind
        >>> for n in range(90): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> for n in range(89): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> fold_stretches(graph, count=3)
        GradGraph(3 groups, 2 edges)
    """
    if type(count) is not int or count < 1:
        raise UsageError(f"count cannot be {count!r}: pass a whole number from 1 on")
    units = units_of(graph)
    if len(units) <= count:
        return graph.copy()  # type: ignore[no-any-return]
    paths = module_paths(units)
    parts = []
    cuts = _cuts(units, math.ceil(len(units) / count))
    for start, stop in pairwise(cuts):
        places = [place for place in range(start, stop) if units.foldable(place)]
        if len(places) < 2 or len(places) < stop - start:
            continue
        path = shared_by([paths[place] for place in places])
        data: Any = {"op": words_of([units.data[place] for place in places])}
        if path:
            data = {"name": ".".join(path), "module": ".".join(path), "inferred": True}
        parts.append(Part([units.keys[place] for place in places], data, 0, True))
    return contract(graph, parts).with_note(f"{len(units):,} operations in {len(parts)} stretches")


def _cuts(units: Units, size: int) -> list[int]:
    """Where a stretch ends, after ``size`` units or up to a quarter fewer."""
    crossing = _crossing(units)
    cuts = [0]
    while cuts[-1] < len(units):
        last = cuts[-1] + size
        first = last - size // 4
        window = crossing[first : last + 1][::-1]  # of equal places the last one
        cuts.append(len(units) if last >= len(units) else last - int(np.argmin(window)))
    return cuts


def _crossing(units: Units) -> Ints:
    """Before each unit, how many values made earlier are still needed."""
    last_use = np.arange(len(units))
    users = np.repeat(np.arange(len(units)), np.diff(units.starts))
    inside = units.sources >= 0
    np.maximum.at(last_use, units.sources[inside], users[inside])
    change = np.zeros(len(units) + 2, np.int64)
    change[1 : len(units) + 1] += 1
    np.add.at(change, last_use + 1, -1)
    return np.cumsum(change)
