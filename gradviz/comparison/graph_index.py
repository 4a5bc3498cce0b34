"""A graph as comparing needs it: what a reader calls its nodes, and which feeds which."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from gradviz.graph import EdgeData, GradGraph, NodeData, NodeKind, TensorSummary
from gradviz.graph.text import number_text, shape_text

__all__ = ["GraphIndex", "IndexLink", "is_tracked", "sort_of", "value_words", "word_of"]

_MOST_VALUES = 6

_WHEN_ABSENT = {
    "grad": "None",
    "outputs": "1",
    **dict.fromkeys(("accumulations", "hooks", "untracked_inputs", "version"), "0"),
    **dict.fromkeys(("inference", "requires_grad", "retains_grad"), "False"),
}


def word_of(data: NodeData) -> str:
    """What to call a node in a sentence: ``w``, ``mul``, ``addmm h``.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> word_of({"kind": NodeKind.OPERATION, "op": "mul", "name": "h"})
        'mul h'
        >>> word_of({"kind": NodeKind.LEAF})
        'leaf'
    """
    words = " ".join(filter(None, (data.get("op"), data.get("name"))))
    return _one_line(words or data["kind"].value)


def value_words(attribute: str, value: Any) -> str:
    """The value of an attribute of a node; ``value`` is None where it is left out.

    Example:
        >>> value_words("shape", (3, 4)), value_words("grad", None), value_words("hooks", None)
        ('[3,4]', 'None', '0')
        >>> value_words("grad", TensorSummary((2,), "float32", "cpu", values=(3.0, 0.25)))
        '3 0.25'
    """
    if value is None:
        return _WHEN_ABSENT.get(attribute, "none")
    if attribute == "shape":
        return shape_text(value)
    if isinstance(value, TensorSummary):
        return _summary_words(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, dict):
        value = tuple(f"{name}={text}" for name, text in value.items())
    return _one_line(" ".join(value) if isinstance(value, tuple) else str(value))


def _summary_words(summary: TensorSummary) -> str:
    if summary.values is not None and len(summary.values) <= _MOST_VALUES:
        return _values(summary.values) or "no elements"
    if summary.nan or summary.inf:
        return f"{summary.nan} NaN, {summary.inf} infinite"
    if summary.norm is not None:
        return f"norm {number_text(summary.norm)}"
    if summary.values is not None:
        return f"{_values(summary.values[:_MOST_VALUES])} …"
    return summary.note or "not read"


def _values(values: Sequence[float | complex]) -> str:
    return " ".join(map(number_text, values))


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{SYMBOL FOR NEWLINE}" for char in text)


_TENSORS = (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED, NodeKind.SAVED)
"""The kinds of nodes that nothing in the graph computes: each is the tensor that it is."""


class IndexLink(NamedTuple):
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


class GraphIndex:
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
        self.inputs: dict[str, list[IndexLink]] = {key: [] for key in self.data}
        self.users: dict[str, list[IndexLink]] = {key: [] for key in self.data}
        for key in self.data:
            for end, edge in graph.inputs(key):
                source = self.stands_for.get(end, end)
                ends = edge.get("input", 0), edge.get("output", 0)
                self.inputs[key].append(IndexLink(*ends, source, edge))
                self.users[source].append(IndexLink(*ends, key, edge))
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
