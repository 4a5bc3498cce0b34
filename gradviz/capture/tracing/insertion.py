"""Puts nodes and edges into a new graph, at the price of the dictionaries that it consists of.

``MultiDiGraph.add_node`` and ``add_edge`` copy the attributes twice and look for what is there
already. That alone would cost more than half of what a whole trace may cost. Here every key is
new and the attributes are ours to give away, so they go straight into the three dictionaries in
which networkx keeps a graph. The result is the same graph, and a test compares the two.
"""

from __future__ import annotations

from typing import Any

from gradviz.graph import GradGraph

__all__ = ["Insertion"]


class Insertion:
    """Fills a `GradGraph` that nobody else has seen yet.

    Example:
        >>> graph = GradGraph()
        >>> insertion = Insertion(graph)
        >>> insertion.add_node("n0", {"op": "sum"})
        >>> insertion.add_node("n1", {"op": "mul"})
        >>> insertion.add_edge("n1", "n0", 0, {"input": 0, "output": 0})
        >>> list(graph.edges(keys=True, data=True))
        [('n1', 'n0', 0, {'input': 0, 'output': 0})]
    """

    def __init__(self, graph: GradGraph) -> None:
        self.nodes: dict[str, dict[str, Any]] = graph._node
        self.successors: dict[str, dict[str, dict[int, Any]]] = graph._succ
        self.predecessors: dict[str, dict[str, dict[int, Any]]] = graph._pred

    def add_node(self, key: str, data: dict[str, Any]) -> None:
        """Add a node that is not there yet; ``data`` becomes its attributes."""
        self.nodes[key] = data
        self.successors[key] = {}
        self.predecessors[key] = {}

    def add_edge(self, source: str, target: str, position: int, data: dict[str, Any]) -> None:
        """Add an edge between two nodes that are there; ``data`` becomes its attributes."""
        targets = self.successors[source]
        if target in targets:
            targets[target][position] = data
        else:
            targets[target] = self.predecessors[target][source] = {position: data}
