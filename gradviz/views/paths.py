"""The graph with only the ways that lead from a leaf, or to a result."""

from __future__ import annotations

from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.graph.algorithms import ancestors, descendants, every
from gradviz.views.flow import along_the_data
from gradviz.views.view import view

__all__ = ["only_paths_to", "only_reaching"]


@view
@along_the_data
def only_paths_to(graph: GradGraph, leaf: str) -> GradGraph:
    """Show only the ways on which a gradient comes to a leaf.

    Args:
        graph: anything.
        leaf: its name or key.

    Raises:
        UsageError: if nothing is called so.

    Example:
        >>> graph = GradGraph()
        >>> for key in "xwy": graph.add_node(key, name=key)
        >>> _ = graph.add_edge("x", "y", 0), graph.add_edge("w", "y", 1)
        >>> list(only_paths_to(graph, leaf="x"))
        ['x', 'y']
    """
    key = _key(graph, leaf)
    first = graph.nodes[key].get("clone_of", key)
    same = [each for each, data in graph.nodes(data=True) if data.get("clone_of") == first]
    kept = {first, *same}
    kept |= descendants(graph, kept, every)
    return _kept(graph, kept, f"only the ways to {leaf}")


@view
@along_the_data
def only_reaching(graph: GradGraph, root: str) -> GradGraph:
    """Show only what a result was made from.

    Args:
        graph: anything.
        root: name or key of a result, or of any other node.

    Raises:
        UsageError: if nothing is called so.

    Example:
        >>> graph = GradGraph()
        >>> for key in "xyz": graph.add_node(key, name=key)
        >>> _ = graph.add_edge("x", "y", 0), graph.add_edge("x", "z", 0)
        >>> list(only_reaching(graph, root="y"))
        ['x', 'y']
    """
    key = _key(graph, root)
    kept = ancestors(graph, [key], every)
    kept |= {
        data["clone_of"]
        for each, data in graph.nodes(data=True)
        if each in kept and "clone_of" in data
    }
    return _kept(graph, kept, f"only what leads to {root}")


def _key(graph: GradGraph, name: str) -> str:
    if name in graph:
        return name
    try:
        return graph.find(name)
    except KeyError as error:
        raise UsageError(str(error.args[0])) from error


def _kept(graph: GradGraph, kept: set[str], what: str) -> GradGraph:
    seen: GradGraph = graph.subgraph(kept).copy()
    left = len(graph) - len(kept)
    return seen.with_note(f"{what}: {left:,} nodes left out") if left else seen
