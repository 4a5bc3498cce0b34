"""The graph with straight runs of operations drawn as one node each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.views.contract import Part, contract
from gradviz.views.flow import along_the_data
from gradviz.views.sums import words_of
from gradviz.views.units import Units, units_of
from gradviz.views.view import view

__all__ = ["fold_chains"]


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
        raise UsageError(f"min_length cannot be {min_length!r}: pass a whole number from 2 on")
    units = units_of(graph)
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


def _chains(units: Units) -> Iterator[list[int]]:
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
