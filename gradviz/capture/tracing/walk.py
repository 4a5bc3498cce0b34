"""Walks the graph that autograd recorded, and notes down its skeleton: keys and edges."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.nodes import ACCUMULATE_NR, leaf_of, sequence_number
from gradviz.graph.columns import EdgeColumns

__all__ = ["BAND", "NO_GRADIENT", "Edges", "Walk", "key_at", "visit_ancestors"]

Edges = tuple[tuple[Node | None, int], ...]

NO_GRADIENT = (None, 0)
"""What ``next_functions`` holds for an input to which no gradient goes."""

BAND = 1_000
"""Levels per band: with 1,000 a stack of 512 KiB survives, with 5,000 it does not."""


def key_at(place: int) -> str:
    """The key of the node at a place in the order of the graph."""
    return f"n{place}"


def visit_ancestors(
    roots: Iterable[Node], nearest_first: bool = False
) -> Iterator[tuple[Node, Edges]]:
    """Visit each node from which some roots were computed, once, with a stack or a queue.

    It is for a few nodes, or for those of a graph that was traced: nothing is done here to make
    the graph safe to drop.

    Args:
        roots: where to begin; they are visited too.
        nearest_first: by distance from the roots, else by depth.

    Yields:
        The node and its ``next_functions``.
    """
    waiting = deque(dict.fromkeys(roots))
    seen = set(waiting)
    following = waiting.popleft if nearest_first else waiting.pop
    while waiting:
        node = following()
        edges = node.next_functions
        yield node, edges
        for child, _ in edges:
            if child is not None and child not in seen:
                seen.add(child)
                waiting.append(child)


class Walk:
    """The nodes reached so far. It keeps them alive: let go of it after the trace.

    Args:
        nodes: where the attributes of the nodes go, by their keys.

    Attributes:
        places: every node that was looked at, with its place in ``nodes``.
        edges: between these places.
        leaves: the leaf behind each ``AccumulateGrad`` node.
        leaf_places: the place of every leaf, by its ``id``.
        crossings: nodes and inputs of theirs that were created in different bands.
        is_ordered: whether every node was created after its inputs, as far as the numbers tell.
            They do not where several threads, each with a count of its own, built the graph.
    """

    def __init__(self, nodes: dict[str, dict[str, Any]] | None = None) -> None:
        self.nodes = {} if nodes is None else nodes
        self.edges = EdgeColumns()
        self.places: dict[Node, int] = {}
        self.leaves: dict[Node, torch.Tensor] = {}
        self.leaf_places: dict[int, int] = {}
        self.crossings: list[tuple[Node, Node]] = []
        self.is_ordered = True

    def add(self, data: dict[str, Any]) -> int:
        """Add a node under the next serial key (``"n0"``, ``"n1"``, ...); returns its place."""
        place = len(self.nodes)
        self.nodes[key_at(place)] = data
        return place

    def visit(self, roots: Iterable[Node]) -> Iterator[tuple[Node, int, Edges]]:
        """Visit everything below the roots with a stack, never with recursion.

        Yields:
            Each node, its place, and its ``next_functions``. Its attributes are for the caller
            to put in; its edges follow when the caller asks for the next node.
        """
        places, nodes, crossings = self.places, self.nodes, self.crossings
        add_source, add_target = self.edges.sources.append, self.edges.targets.append
        add_input, add_output = self.edges.inputs.append, self.edges.outputs.append
        unseen: dict[str, Any] = {}  # only a place in the order: it is filled at its turn
        stack: list[Node] = []
        for root in roots:
            if root not in places:
                places[root] = self.add(unseen)
                stack.append(root)
        stack.reverse()
        while stack:
            node = stack.pop()
            place = places[node]
            edges = node.next_functions
            yield node, place, edges
            created = sequence_number(node)
            band_start = created - created % BAND
            for position, (child, output) in enumerate(edges):
                if child is None:
                    continue
                source = places.get(child)
                if source is None:
                    source = places[child] = len(nodes)
                    nodes[f"n{source}"] = unseen
                    stack.append(child)
                # The columns are filled one by one: a call per edge would take as long as all.
                add_source(source)
                add_target(place)
                add_input(position)
                add_output(output)
                before = sequence_number(child)
                if not band_start <= before < created and before != ACCUMULATE_NR:
                    crossings.append((node, child))
                    self.is_ordered = self.is_ordered and before < created

    def leaf_at(self, node: Node) -> torch.Tensor | None:
        """The leaf behind an ``AccumulateGrad`` node; None for other nodes."""
        leaf = leaf_of(node)
        if leaf is not None:
            self.leaves[node] = leaf
        return leaf
