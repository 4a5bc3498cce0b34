"""The part of a graph that an explanation is about: the path, and what is on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gradviz.diagnosis.ways import word_of
from gradviz.graph import GradGraph, NodeKind
from gradviz.graph.algorithms import ancestors, descendants, is_data
from gradviz.views.focus import focus_on

__all__ = ["part_about"]

_LONG = 12  # operations; a longer path is folded away from the culprit
_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)


def part_about(graph: GradGraph, starts: Sequence[str], marks: Sequence[str]) -> GradGraph:
    """Show the ways of the data from some nodes to the roots, and what goes into them.

    Args:
        graph: the whole.
        starts: keys of the tensors that are asked about.
        marks: keys of what is to be seen in any case.
    """
    if _operations(graph, graph) <= _LONG:
        return graph.copy()  # type: ignore[no-any-return]
    kept = _ways(graph, [*starts, *marks])
    kept |= {key for key in (*starts, *marks, *graph.roots) if key in graph}
    behind = ancestors(graph, marks, is_data)
    if _operations(graph, behind) <= _LONG:
        kept |= behind
    kept |= _inputs(graph, kept)
    part: GradGraph = graph.subgraph([key for key in graph if key in kept]).copy()
    left = len(graph) - len(part)
    if left:
        part = part.with_note(f"only the way in question: {left:,} nodes left out")
    if _operations(part, part) > _LONG and (target := next(iter([*marks, *starts]), "")) in part:
        part = focus_on(part, target=target)
        word = word_of(part.nodes[target])
        part.graph["notes"] = tuple(n.replace(f": {target},", f": {word},") for n in part.notes)
    return part


def _operations(graph: GradGraph, keys: Iterable[str]) -> int:
    return sum(graph.nodes[key]["kind"] is NodeKind.OPERATION for key in keys)


def _ways(graph: GradGraph, keys: Iterable[str]) -> set[str]:
    from_there = descendants(graph, keys, is_data)
    ways = from_there & ancestors(graph, graph.roots, is_data)
    return ways or from_there  # no way to any root: as far as the data went


def _inputs(graph: GradGraph, kept: Iterable[str]) -> set[str]:
    """Leaves and untracked tensors that go into the operations of a path, and those alone."""
    found = set()
    for key in kept:
        if graph.nodes[key]["kind"] is not NodeKind.OPERATION:
            continue
        for source, _ in graph.inputs(key):
            kind = graph.nodes[source]["kind"]
            if kind is NodeKind.ACCUMULATE:
                found |= {source, *graph.predecessors(source)}
            elif kind is NodeKind.UNTRACKED or kind in _LEAVES:
                found.add(source)
    return found
