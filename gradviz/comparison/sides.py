"""A graph as comparing needs it: what a reader calls its nodes, and who feeds whom."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, NamedTuple

from gradviz.graph import EdgeData, GradGraph, NodeData, NodeKind

__all__ = ["SideLink", "Side", "is_tracked", "sort_of"]

_TENSORS = (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED, NodeKind.SAVED)
"""The kinds of nodes that nothing in the graph computes: each is the tensor that it is."""


class SideLink(NamedTuple):
    """An input or a user of a node.

    Args:
        position: which input of the user it is.
        output: which output of the source it is.
        key: the node at the other end.
        edge: the attributes.
    """

    position: int
    output: int
    key: str
    edge: EdgeData


class Side:
    """One of two graphs that are compared.

    What stands for another node is left out: a leaf that is drawn again, and the
    ``AccumulateGrad`` between a leaf and its users. Their edges are those of the leaf.

    Args:
        graph: with arrows in either direction; it is not changed.
    """

    def __init__(self, graph: GradGraph) -> None:
        self.graph = graph
        self.stands_for = _stand_ins(graph)
        self.data: dict[str, NodeData] = {
            key: data for key, data in graph.nodes(data=True) if key not in self.stands_for
        }
        self.inputs: dict[str, list[SideLink]] = {key: [] for key in self.data}
        self.users: dict[str, list[SideLink]] = {key: [] for key in self.data}
        for key in self.data:
            for end, edge in graph.inputs(key):
                source = self.stands_for.get(end, end)
                ends = edge.get("input", 0), edge.get("output", 0)
                self.inputs[key].append(SideLink(*ends, source, edge))
                self.users[source].append(SideLink(*ends, key, edge))
        self.order = list(self._inputs_first())

    def _inputs_first(self) -> Iterator[str]:
        """Every node after its inputs, branch by branch: an edit moves little else."""
        roots = sorted(
            (key for key in self.data if not self.users[key]),
            key=lambda key: self.data[key].get("root", len(self.data)),
        )
        done: set[str] = set()
        stack = [(key, False) for key in reversed(roots)]
        while stack:
            key, is_ready = stack.pop()
            if is_ready:
                yield key
            elif key not in done:
                done.add(key)
                stack.append((key, True))
                stack += [(link.key, False) for link in reversed(self.inputs[key])]

    def facts(self, names: tuple[str, ...]) -> dict[str, Hashable]:
        """Per node, its sort and the attributes of those names, to be compared for equality."""
        return {
            key: (sort_of(data), *(_hashable(data.get(name)) for name in names))
            for key, data in self.data.items()
        }

    def unique(self, sorts: tuple[str, ...], attribute: str) -> dict[Any, str]:
        """Key by attribute, for the nodes of those sorts that share its value with no other."""
        found: dict[Any, list[str]] = {}
        for key, data in self.data.items():
            if sort_of(data) in sorts and data.get(attribute) not in (None, ""):
                found.setdefault(data.get(attribute), []).append(key)
        return {value: keys[0] for value, keys in found.items() if len(keys) == 1}


def _stand_ins(graph: GradGraph) -> dict[str, str]:
    found: dict[str, str] = {}
    for key, data in graph.nodes(data=True):
        if data.get("clone_of") in graph:
            found[key] = data["clone_of"]
    for key, data in graph.nodes(data=True):
        if data["kind"] is NodeKind.ACCUMULATE:
            sources = [source for source, _ in graph.inputs(key)]
            if len(sources) == 1:
                found[key] = found.get(sources[0], sources[0])
    return found


def sort_of(data: NodeData) -> str:
    """``"tensor"`` for what nothing in the graph computes, else the word for its kind."""
    return "tensor" if data["kind"] in _TENSORS else data["kind"].value


def is_tracked(data: NodeData) -> bool:
    """Whether a gradient can come to a tensor or operation."""
    return data["kind"] is not NodeKind.UNTRACKED


def _hashable(value: Any) -> Hashable:
    return tuple(sorted(value.items())) if isinstance(value, dict) else value
