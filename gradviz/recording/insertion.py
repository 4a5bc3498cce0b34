"""Puts nodes and edges straight into the dictionaries in which networkx keeps a graph.

What is already there is not looked for, and the attributes are not copied; a test compares the
result with what ``MultiDiGraph`` itself makes.
"""

from __future__ import annotations

from typing import Any

from gradviz.graph import GradGraph

__all__ = ["Insertion"]


class Insertion:
    """Adds to a `GradGraph` that nobody else has seen yet.

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
