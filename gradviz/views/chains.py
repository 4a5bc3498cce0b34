"""Fold chains of operations, or chunks of equal length, into one node each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.graph.text import counted, must_be
from gradviz.views.groups import Part, contract, words_of
from gradviz.views.modules import module_paths, shared_by
from gradviz.views.op_sequence import Ints, OpSequence, op_sequence
from gradviz.views.view import along_the_data, view


@view
@along_the_data
def fold_chains(graph: GradGraph, *, min_length: int = 3) -> GradGraph:
    """Draw operations that follow each other without a branch as one node.

    Args:
        graph: nodes that have a name (variables, module groups) are not folded.
        min_length: the length of the shortest chain to fold; 2 or more.

    Returns:
        A graph in which each chain is a group. Applying the view again changes nothing.

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
    sequence = op_sequence(graph)
    parts = []
    for places in _chains(sequence):
        if len(places) >= min_length:
            nodes = [sequence.data[place] for place in places]
            data: Any = {"op": words_of(nodes)}
            parts.append(Part([sequence.keys[place] for place in places], data))
    if not parts:
        return graph.copy()  # type: ignore[no-any-return]
    count = sum(len(part.keys) for part in parts)
    return contract(graph, parts).with_note(
        f"{count:,} operations in chains drawn as {counted(len(parts), 'group')}"
    )


def _chains(sequence: OpSequence) -> Iterator[list[int]]:
    """Chains in which each operation has one input and one user, except at the two ends."""
    bounds, sources = sequence.starts.tolist(), sequence.sources.tolist()
    users = [0] * len(sequence)
    before = [-1] * len(sequence)
    for place in range(len(sequence)):
        inside = {source for source in sources[bounds[place] : bounds[place + 1]] if source >= 0}
        for source in inside:
            users[source] += 1
        if len(inside) == 1:
            (before[place],) = inside
    plain = [
        sequence.foldable(place) and "name" not in sequence.data[place]
        for place in range(len(sequence))
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
def fold_chunks(graph: GradGraph, count: int = 30) -> GradGraph:
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
        >>> fold_chunks(graph, count=3)
        GradGraph(3 groups, 2 edges)
    """
    if type(count) is not int or count < 1:
        raise UsageError(must_be("count", "an integer >= 1", count))
    sequence = op_sequence(graph)
    if len(sequence) <= count:
        return graph.copy()  # type: ignore[no-any-return]
    paths = module_paths(sequence)
    parts = []
    cuts = _cuts(sequence, math.ceil(len(sequence) / count))
    for start, stop in pairwise(cuts):
        places = [place for place in range(start, stop) if sequence.foldable(place)]
        if len(places) < 2 or len(places) < stop - start:
            continue
        path = shared_by([paths[place] for place in places])
        data: Any = {"op": words_of([sequence.data[place] for place in places])}
        if path:
            data = {"name": ".".join(path), "module": ".".join(path), "inferred": True}
        parts.append(Part([sequence.keys[place] for place in places], data, 0, True))
    return contract(graph, parts).with_note(f"{len(sequence):,} operations in {len(parts)} chunks")


def _cuts(sequence: OpSequence, size: int) -> list[int]:
    """The ends of the chunks, after ``size`` operations or up to a quarter fewer."""
    crossing = _crossing(sequence)
    cuts = [0]
    while cuts[-1] < len(sequence):
        last = cuts[-1] + size
        first = last - size // 4
        window = crossing[first : last + 1][::-1]  # of equal counts the last one
        cuts.append(len(sequence) if last >= len(sequence) else last - int(np.argmin(window)))
    return cuts


def _crossing(sequence: OpSequence) -> Ints:
    """For each operation, the number of earlier results that it or a later one uses."""
    last_use = np.arange(len(sequence))
    users = np.repeat(np.arange(len(sequence)), np.diff(sequence.starts))
    inside = sequence.sources >= 0
    np.maximum.at(last_use, sequence.sources[inside], users[inside])
    change = np.zeros(len(sequence) + 2, np.int64)
    change[1 : len(sequence) + 1] += 1
    np.add.at(change, last_use + 1, -1)
    return np.cumsum(change)
