"""Walks the graph that autograd recorded, and puts its skeleton, keys and edges, into a graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.nodes import ACCUMULATE_NR, leaf_of, sequence_number
from gradviz.capture.templates import template
from gradviz.capture.tracing.insertion import Insertion
from gradviz.graph import EdgeKind

__all__ = ["BAND", "NO_GRADIENT", "Edges", "Walk"]

Edges = tuple[tuple[Node | None, int], ...]

NO_GRADIENT = (None, 0)
"""What ``next_functions`` holds for an input to which no gradient goes."""

BAND = 1_000
"""Levels per band: with 1,000 a stack of 512 KiB survives, with 5,000 it does not."""

_GRADIENT = template({"kind": EdgeKind.GRADIENT, "input": 0, "output": 0})


class Walk:
    """The nodes reached so far. It keeps them alive: let go of it after the trace.

    Args:
        insertion: where nodes, still without attributes, and edges go.

    Attributes:
        keys: every node that was looked at, with its serial key, in the order of discovery.
        leaves: the leaf behind each ``AccumulateGrad`` node.
        leaf_keys: the serial key of every leaf, by its ``id``.
        crossings: nodes and inputs of theirs that were created in different bands.
        is_ordered: whether every node was created after its inputs, as far as the numbers tell.
            They do not where several threads, each with a count of its own, built the graph.
    """

    def __init__(self, insertion: Insertion) -> None:
        self.insertion = insertion
        self.keys: dict[Node, str] = {}
        self.leaves: dict[Node, torch.Tensor] = {}
        self.leaf_keys: dict[int, str] = {}
        self.crossings: list[tuple[Node, Node]] = []
        self.is_ordered = True
        self.count = 0

    def new_key(self) -> str:
        """The next serial key: ``"n0"``, ``"n1"``, ..."""
        self.count += 1
        return f"n{self.count - 1}"

    def visit(self, roots: Iterable[Node]) -> Iterator[tuple[Node, str, Edges]]:
        """Visit everything below the roots with a stack, never with recursion.

        Yields:
            Each node, its key, and its ``next_functions``. Its attributes are for the caller to
            put in; its edges follow when the caller asks for the next node.
        """
        keys, crossings, new_edge = self.keys, self.crossings, _GRADIENT.copy
        nodes, successors = self.insertion.nodes, self.insertion.successors
        predecessors = self.insertion.predecessors
        stack: list[Node] = []
        unseen: dict[str, dict[int, dict[str, Any]]] = {}
        for root in roots:
            if root not in keys:
                keys[root] = key = self.new_key()
                self.insertion.add_node(key, {})
                stack.append(root)
        stack.reverse()
        while stack:
            node = stack.pop()
            key = keys[node]
            edges = node.next_functions
            sources = predecessors[key] = {}
            yield node, key, edges
            created = sequence_number(node)
            band_start = created - created % BAND
            for position, (child, output) in enumerate(edges):
                if child is None:
                    continue
                edge = new_edge()
                if position or output:
                    edge["input"], edge["output"] = position, output
                source = keys.get(child)
                if source is None:
                    source = keys[child] = f"n{self.count}"
                    self.count += 1
                    # The first two are only places in the order: they are filled at its turn.
                    nodes[source] = predecessors[source] = unseen
                    sources[source] = edges_between = {position: edge}
                    successors[source] = {key: edges_between}
                    stack.append(child)
                elif source in sources:
                    sources[source][position] = edge
                else:
                    sources[source] = successors[source][key] = {position: edge}
                before = sequence_number(child)
                if not band_start <= before < created and before != ACCUMULATE_NR:
                    crossings.append((node, child))
                    self.is_ordered = self.is_ordered and before < created

    def leaf_at(self, node: Node) -> torch.Tensor | None:
        """The leaf behind an ``AccumulateGrad`` node; its key comes next. None for other nodes."""
        leaf = leaf_of(node)
        if leaf is not None:
            self.leaves[node] = leaf
            if id(leaf) not in self.leaf_keys:
                self.leaf_keys[id(leaf)] = self.new_key()
        return leaf
