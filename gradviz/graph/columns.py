"""The edges of a graph as columns of numbers, and attribute dictionaries that share their keys.

Networkx keeps four dictionaries for an edge, which make up most of the memory and a good part
of the time of a trace. A large graph is folded before anybody reads its edges one by one, and
columns are all that this takes. So a trace hands over columns, and `GradGraph` writes the
dictionaries when they are asked for.

The dictionaries that it does write come from `template`: Python keeps the keys of such copies once
(PEP 412), so each takes about half of the memory, and is made faster than by a literal.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, MutableSequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradviz.graph.schema import EdgeData, EdgeKind

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EdgeColumns", "template"]

_ENOUGH = 64  # Python leaves room for more keys until it has seen some objects without


def template(values: dict[str, Any], later: Iterable[str] = ()) -> dict[str, Any]:
    """A dictionary whose copies, made by ``copy()``, share their keys.

    Args:
        values: what is in it.
        later: keys that many of the copies are going to have as well.

    Example:
        >>> edge = template({"input": 0, "output": 0}, later=["through"])
        >>> other = edge.copy()
        >>> other["input"] = 1
        >>> edge, other
        ({'input': 0, 'output': 0}, {'input': 1, 'output': 0})
    """
    made: type = type("_Keys", (), {})
    for _ in range(_ENOUGH):
        _with(made(), dict.fromkeys((*values, *later)))
    found: dict[str, Any] = vars(_with(made(), values))
    return found


def _with(one: Any, values: dict[str, Any]) -> Any:
    for name, value in values.items():
        setattr(one, name, value)
    return one


_GRADIENT = template({"kind": EdgeKind.GRADIENT, "input": 0, "output": 0})
_OTHER = -1  # stands for the output of an edge whose attributes are kept as they are

Neighbours = dict[Any, dict[Any, dict[Any, Any]]]


class EdgeColumns:
    """A row for each edge.

    Attributes:
        sources: where the edges begin, each as the place of the node in its graph: 0, 1, ...
        targets: where they end.
        inputs: which input of the target each of them is; also its key.
        outputs: which output of the source, if there is nothing else to say of it.

    Example:
        >>> columns = EdgeColumns()
        >>> columns.add(1, 0, 0)
        >>> columns.add(2, 0, 1, {"kind": EdgeKind.CUT})
        >>> [columns.data(row)["kind"].value for row in range(len(columns))]
        ['gradient', 'cut']
    """

    def __init__(self) -> None:
        # As lists they would take five times the memory.
        self.sources = array("i")
        self.targets = array("i")
        self.inputs: MutableSequence[int] = array("i")
        self.outputs = array("i")
        self._others: dict[int, EdgeData] = {}

    @classmethod
    def of(cls, nodes: dict[Any, Any], successors: Neighbours) -> Self:
        """The columns of what networkx keeps in dictionaries, as it is now."""
        columns = cls()
        columns.inputs = []  # the keys of a graph that was made by hand may be anything
        place = {key: number for number, key in enumerate(nodes)}
        for source, targets in successors.items():
            for target, edges in targets.items():
                for key, data in edges.items():
                    columns.add(place[source], place[target], key, cast("EdgeData", dict(data)))
        return columns

    def __len__(self) -> int:
        return len(self.sources)

    def add(self, source: int, target: int, key: int, data: EdgeData | None = None) -> None:
        """Add an edge; without ``data`` it is one of gradients, from the first output."""
        if data is not None:
            self._others[len(self.sources)] = data
        self.sources.append(source)
        self.targets.append(target)
        self.inputs.append(key)
        self.outputs.append(0 if data is None else _OTHER)

    def kind(self, row: int) -> EdgeKind | None:
        """What kind of edge it is, if that is known."""
        return self._others[row].get("kind") if row in self._others else EdgeKind.GRADIENT

    def data(self, row: int) -> EdgeData:
        """The attributes of an edge."""
        if row in self._others:
            return self._others[row]
        return cast("EdgeData", _edge(self.inputs[row], self.outputs[row]))

    def by_source(self) -> Self:
        """The same edges in the order in which networkx goes through them: by node."""
        order = np.argsort(np.asarray(self.sources), kind="stable")
        columns = type(self)()
        for name in ("sources", "targets", "inputs", "outputs"):
            sorted_column = np.asarray(getattr(self, name), np.int32)[order]
            getattr(columns, name).frombytes(sorted_column.tobytes())
        columns._others = {
            row: self._others[old]
            for row, old in enumerate(order.tolist() if self._others else ())
            if old in self._others
        }
        return columns

    def rows(self) -> Iterator[tuple[int, int, int, dict[str, Any]]]:
        """Source, target, key and attributes of each edge; the attributes are new each time."""
        columns = zip(self.sources, self.targets, self.inputs, self.outputs, strict=True)
        for row, (source, target, key, output) in enumerate(columns):
            other = output == _OTHER
            yield source, target, key, {**self._others[row]} if other else _edge(key, output)

    def write(self, nodes: dict[Any, Any]) -> tuple[Neighbours, Neighbours]:
        """The successors and predecessors of all nodes, as networkx keeps them."""
        successors: Neighbours = {key: {} for key in nodes}
        predecessors: Neighbours = {key: {} for key in nodes}
        keys, after, before = list(nodes), list(successors.values()), list(predecessors.values())
        for source, target, key, data in self.rows():
            name, users = keys[target], after[source]
            if name in users:
                users[name][key] = data
            else:
                users[name] = before[target][keys[source]] = {key: data}
        return successors, predecessors


def _edge(key: int, output: int) -> dict[str, Any]:
    edge = _GRADIENT.copy()
    if key or output:
        edge["input"], edge["output"] = key, output
    return edge
