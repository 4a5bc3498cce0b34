"""The graph without what autograd needs and a reader does not."""

from __future__ import annotations

from typing import Any

from gradviz.graph import Buffers, GradGraph, NodeKind
from gradviz.graph.operations import operation
from gradviz.graph.text import counted
from gradviz.views.view import view

__all__ = ["hide_bookkeeping"]

# A chain of views keeps its first few words, so that folding a million stays linear.
_WORDS_KEPT = 6


@view
def hide_bookkeeping(graph: GradGraph) -> GradGraph:
    """Dock every ``AccumulateGrad`` on its leaf, and fold reshaping into the edge.

    An operation that only rearranges its input (``view``, ``t``, ``expand``, ...) becomes a
    mark on the edge, unless it has a name, made the result, or splits into several outputs.

    Args:
        graph: what was recorded.

    Returns:
        A smaller graph with the same paths of the gradient. Folded operations are listed, in
        order, in the edge's ``through``. Applying it twice changes nothing more.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF)
        >>> graph.add_node("n1", kind=NodeKind.ACCUMULATE, op="accumulate_grad")
        >>> graph.add_node("n2", kind=NodeKind.OPERATION, op="sum")
        >>> _ = graph.add_edge("n0", "n1", key=0), graph.add_edge("n1", "n2", key=0)
        >>> list(hide_bookkeeping(graph).edges)
        [('n0', 'n2', 0)]
    """
    hidden: GradGraph = graph.copy()
    folded: dict[str, int] = {}
    for key in list(graph.nodes):
        data = hidden.nodes[key]
        if data["kind"] is NodeKind.ACCUMULATE and hidden.in_degree(key) == 1:
            _bypass(hidden, key, ())
        elif operation(data.get("op", "")).rearranges and _only_rearranges(hidden, key, data):
            folded[data["op"]] = folded.get(data["op"], 0) + 1
            _bypass(hidden, key, (data["op"],))
    if folded:
        words = ", ".join(sorted(folded, key=lambda word: (-folded[word], word))[:4])
        count = sum(folded.values())
        hidden.with_note(f"{counted(count, 'reshaping op')} on the edges: {words}")
    return hidden


def _only_rearranges(graph: GradGraph, key: str, data: dict[str, Any]) -> bool:
    users = [graph.nodes[user]["kind"] for user in graph.successors(key)]
    return (
        graph.in_degree(key) == 1
        and NodeKind.RESULT not in users
        and bool(users)
        and data.get("buffers", Buffers.NOTHING_SAVED) is Buffers.NOTHING_SAVED
        and not data.keys() & {"name", "outputs", "hooks", "root", "opaque"}
    )


def _bypass(graph: GradGraph, key: str, through: tuple[str, ...]) -> None:
    """Take ``key`` out and join its one input to each of its users."""
    ((source, _, into),) = graph.in_edges(key, data=True)
    hooks = graph.nodes[key].get("hooks", 0)
    if hooks:
        graph.nodes[source]["hooks"] = graph.nodes[source].get("hooks", 0) + hooks
    for _, user, number, out in list(graph.out_edges(key, keys=True, data=True)):
        words = (*into.get("through", ()), *through, *out.get("through", ()))[:_WORDS_KEPT]
        joined = {**out, "output": into.get("output", 0)}
        if words:
            joined["through"] = words
        graph.add_edge(source, user, number, **joined)
    graph.remove_node(key)
