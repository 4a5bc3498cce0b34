"""The graph with straight runs of operations, or chunks of equal length, drawn as one node each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.graph.text import must_be
from gradviz.views.groups import Part, contract, words_of
from gradviz.views.modules import module_paths, shared_by
from gradviz.views.op_sequence import Ints, OpSequence, op_sequence
from gradviz.views.view import along_the_data, view

__all__ = ["fold_chains", "fold_stretches"]


@view
@along_the_data
def fold_chains(graph: GradGraph, *, min_length: int = 3) -> GradGraph:
    """Draw operations that follow each other, with no branch between them, as one node.

    Args:
        graph: in which what has a name (a variable, a module drawn as a group) is left as it is.
        min_length: the fewest operations that are worth it; 2 or more.

    Returns:
        A graph in which each such run is a group. Applying it twice changes nothing more.

    Raises:
        UsageError: if ``min_length`` is less than 2.

    Example:
        >>> graph = GradGraph()
        >>> from gradviz.graph import NodeKind
        >>> for key in "abc": graph.add_node(key, kind=NodeKind.OPERATION, op="sin")
        >>> _ = graph.add_edge("a", "b", 0), graph.add_edge("b", "c", 0)
        >>> fold_chains(graph).nodes["g0"]["op"]
        'sin → sin → sin'
    """
    if type(min_length) is not int or min_length < 2:
        raise UsageError(must_be("min_length", "an integer >= 2", min_length))
    units = op_sequence(graph)
    parts = []
    for places in _chains(units):
        if len(places) >= min_length:
            nodes = [units.data[place] for place in places]
            data: Any = {"op": words_of(nodes)}
            parts.append(Part([units.keys[place] for place in places], data))
    if not parts:
        return graph.copy()  # type: ignore[no-any-return]
    count = sum(len(part.keys) for part in parts)
    return contract(graph, parts).with_note(
        f"{count:,} operations in straight runs drawn as {len(parts):,} groups"
    )


def _chains(units: OpSequence) -> Iterator[list[int]]:
    """Runs in which each unit but the first has one input, and each but the last one user."""
    bounds, sources = units.starts.tolist(), units.sources.tolist()
    users = [0] * len(units)
    before = [-1] * len(units)
    for place in range(len(units)):
        inside = {source for source in sources[bounds[place] : bounds[place + 1]] if source >= 0}
        for source in inside:
            users[source] += 1
        if len(inside) == 1:
            (before[place],) = inside
    plain = [
        units.foldable(place) and "name" not in units.data[place] for place in range(len(units))
    ]
    after = {
        source: place
        for place, source in enumerate(before)
        if source >= 0 and users[source] == 1 and plain[source] and plain[place]
    }
    inner = set(after.values())
    for start in sorted(after.keys() - inner):
        run = [start]
        while run[-1] in after:
            run.append(after[run[-1]])
        yield run


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
        raise UsageError(must_be("count", "an integer >= 1", count))
    units = op_sequence(graph)
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


def _cuts(units: OpSequence, size: int) -> list[int]:
    """Where a stretch ends, after ``size`` units or up to a quarter fewer."""
    crossing = _crossing(units)
    cuts = [0]
    while cuts[-1] < len(units):
        last = cuts[-1] + size
        first = last - size // 4
        window = crossing[first : last + 1][::-1]  # of equal places the last one
        cuts.append(len(units) if last >= len(units) else last - int(np.argmin(window)))
    return cuts


def _crossing(units: OpSequence) -> Ints:
    """Before each unit, how many values made earlier are still needed."""
    last_use = np.arange(len(units))
    users = np.repeat(np.arange(len(units)), np.diff(units.starts))
    inside = units.sources >= 0
    np.maximum.at(last_use, units.sources[inside], users[inside])
    change = np.zeros(len(units) + 2, np.int64)
    change[1 : len(units) + 1] += 1
    np.add.at(change, last_use + 1, -1)
    return np.cumsum(change)
