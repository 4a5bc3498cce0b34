"""Leaves that many operations share, drawn once per use where one box would tangle the picture."""

from __future__ import annotations

import networkx as nx

from gradviz.graph import GradGraph, NodeKind
from gradviz.views.view import view

__all__ = ["clone_shared_leaves"]

_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED)


@view
def clone_shared_leaves(graph: GradGraph, *, tangle: int = 12) -> GradGraph:
    """Repeat a leaf at each of its uses when its edges would cross much of the picture.

    The weights of an unrolled RNN are used at every step. Drawn once, their edges span the
    whole picture, no layout can untangle them, and ``dot`` takes minutes instead of a tenth of
    a second. The first use keeps the leaf with its gradient; the others get a small copy.

    Args:
        graph: with edges in either direction.
        tangle: the number of layers that the edges of a leaf may cross, in all, before it is
            repeated. 0 repeats every shared leaf.

    Returns:
        A graph in which each copy has ``clone_of``, the key of its leaf. Applying it twice
        changes nothing more.

    Example:
        >>> graph = GradGraph()
        >>> for key in "ab": graph.add_node(key, kind=NodeKind.OPERATION, op="mul")
        >>> graph.add_node("w", kind=NodeKind.LEAF, name="w")
        >>> _ = [graph.add_edge(*edge) for edge in ("wa", "wb", "ab")]
        >>> sorted(clone_shared_leaves(graph, tangle=0).edges(keys=False))
        [('a', 'b'), ('w', 'a'), ('w_1', 'b')]
    """
    reverse = graph.graph.get("flow") == "gradient"
    rank = _ranks(graph, reverse)
    cloned: GradGraph = graph.copy()
    repeated: list[str] = []
    for leaf, data in graph.nodes(data=True):
        if data["kind"] not in _LEAVES:
            continue
        neighbours = graph.predecessors(leaf) if reverse else graph.successors(leaf)
        users = sorted(dict.fromkeys(neighbours), key=lambda user: rank[user])
        span = sum(rank[user] - rank[users[0]] for user in users)
        if len(users) < 2 or 0 < tangle >= span:
            continue
        repeated.append(str(data.get("name") or "a tensor without a name"))
        for number, user in enumerate(users[1:], 1):
            _clone(cloned, leaf, user, f"{leaf}_{number}", reverse)
    if repeated:
        called = list(dict.fromkeys(repeated))
        names = ", ".join(called[:4]) + (", ..." if len(called) > 4 else "")
        cloned.with_note(f"drawn again at each use: {names}")
    return cloned


def _ranks(graph: GradGraph, reverse: bool) -> dict[str, int]:
    """Layer of each node, as late as its users allow; a negative number, 0 for the results."""
    rank = dict.fromkeys(graph.nodes, 0)
    order = list(nx.topological_sort(graph))
    for key in order if reverse else reversed(order):
        users = graph.predecessors(key) if reverse else graph.successors(key)
        rank[key] = min((rank[user] - 1 for user in users), default=0)
    return rank


def _clone(graph: GradGraph, leaf: str, user: str, clone: str, reverse: bool) -> None:
    kept = ("kind", "name", "shape", "dtype", "device", "requires_grad", "is_leaf", "inference")
    data = graph.nodes[leaf]
    graph.add_node(clone, **{name: data[name] for name in kept if name in data}, clone_of=leaf)
    ends = (user, leaf) if reverse else (leaf, user)
    for number, edge in list(graph.get_edge_data(*ends).items()):
        graph.remove_edge(*ends, number)
        new_ends = (user, clone) if reverse else (clone, user)
        graph.add_edge(*new_ends, number, **edge)
