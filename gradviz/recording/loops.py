"""Keeps a graph free of loops, although data can flow back in place into what it was made from."""

from __future__ import annotations

from collections.abc import Sequence

import networkx as nx

from gradviz.graph import GradGraph

__all__ = ["open_loops", "ranks"]


def ranks(graph: GradGraph) -> dict[str, int]:
    """The place of each node in a row, after all its inputs; without what is in or behind a loop.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_edges_from([("n1", "n0", 0), ("n2", "n1", 0)])
        [0, 0]
        >>> ranks(graph)
        {'n2': 0, 'n1': 1, 'n0': 2}
    """
    waiting = {key: len(sources) for key, sources in graph._pred.items()}
    row = [key for key, count in waiting.items() if not count]
    for key in row:
        for user in graph._succ[key]:
            waiting[user] -= 1
            if not waiting[user]:
                row.append(user)
    return {key: rank for rank, key in enumerate(row)}


def open_loops(graph: GradGraph, late: Sequence[tuple[str, str, int]]) -> dict[str, int]:
    """Leave out the edges that close a loop.

    Args:
        graph: it is changed.
        late: edges, by which data flowed in place into a tensor that was there already; without
            them there is no loop.

    Returns:
        The ranks of all nodes.
    """
    found = ranks(graph)
    if len(found) == len(graph):
        return found
    rest = graph.subgraph([key for key in graph if key not in found])
    parts = enumerate(nx.strongly_connected_components(rest))
    part_of = {key: number for number, part in parts for key in part}
    for source, target, position in late:
        if source in part_of and part_of[source] == part_of.get(target):
            graph.remove_edge(source, target, position)
    return ranks(graph)
