"""The edges of a graph as columns of numbers, and attribute dictionaries that share their keys.

Networkx keeps four dictionaries per edge. They take most of the memory of a trace and much of its
time. Views fold a large graph before anybody reads single edges, and folding needs only the
columns. So a trace stores columns, and `GradGraph` creates the dictionaries on first access.

The dictionaries are copies of a `template`: Python stores the keys of such copies once (PEP 412),
so each copy takes about half of the memory and is created faster than from a literal.
"""

from __future__ import annotations

import gc
from array import array
from collections.abc import Iterable, Iterator, MutableSequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from gradviz.graph.schema import EdgeData, EdgeKind

if TYPE_CHECKING:
    from typing_extensions import Self

_ENOUGH = 64  # Python reserves room for more keys until it has seen some objects without them.


def template(values: dict[str, Any], later: Iterable[str] = ()) -> dict[str, Any]:
    """A dictionary whose copies, made by ``copy()``, share their keys.

    Args:
        values: its items.
        later: keys that many of the copies will get.

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
_OTHER = -1  # The output number in a row whose attributes are stored separately.

Neighbors = dict[Any, dict[Any, dict[Any, Any]]]


class EdgeColumns:
    """A row for each edge.

    Attributes:
        sources: the sources of the edges, as positions of nodes in the graph: 0, 1, ...
        targets: the targets, as positions.
        inputs: which input of the target each edge is; also its key.
        outputs: which output of the source, unless the row has other attributes.

    Example:
        >>> columns = EdgeColumns()
        >>> columns.add(1, 0, 0)
        >>> columns.add(2, 0, 1, {"kind": EdgeKind.CUT})
        >>> [columns.data(row)["kind"].value for row in range(len(columns))]
        ['gradient', 'cut']
    """

    def __init__(self) -> None:
        # Arrays: lists would take five times the memory.
        self.sources = array("i")
        self.targets = array("i")
        self.inputs: MutableSequence[int] = array("i")
        self.outputs = array("i")
        self._others: dict[int, EdgeData] = {}

    @classmethod
    def of(cls, nodes: dict[Any, Any], successors: Neighbors) -> Self:
        """Copy the edges of networkx's dictionaries into columns."""
        columns = cls()
        columns.inputs = []  # The keys of a graph made by hand can be of any type.
        place = {key: number for number, key in enumerate(nodes)}
        for source, targets in successors.items():
            for target, edges in targets.items():
                for key, data in edges.items():
                    columns.add(place[source], place[target], key, cast("EdgeData", dict(data)))
        return columns

    def __len__(self) -> int:
        return len(self.sources)

    def add(self, source: int, target: int, key: int, data: EdgeData | None = None) -> None:
        """Add an edge; without ``data`` it is a gradient edge from the first output."""
        if data is not None:
            self._others[len(self.sources)] = data
        self.sources.append(source)
        self.targets.append(target)
        self.inputs.append(key)
        self.outputs.append(0 if data is None else _OTHER)

    def kind(self, row: int) -> EdgeKind | None:
        """The kind of the edge, or None if unknown."""
        return self._others[row].get("kind") if row in self._others else EdgeKind.GRADIENT

    def data(self, row: int) -> EdgeData:
        """The attributes of an edge."""
        if row in self._others:
            return self._others[row]
        return cast("EdgeData", _edge(self.inputs[row], self.outputs[row]))

    def by_source(self) -> Self:
        """The same edges, ordered by source node, which is networkx's order."""
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
        """Source, target, key and attributes of each edge; the attributes are a new dictionary."""
        columns = zip(self.sources, self.targets, self.inputs, self.outputs, strict=True)
        for row, (source, target, key, output) in enumerate(columns):
            other = output == _OTHER
            yield source, target, key, {**self._others[row]} if other else _edge(key, output)

    def write(self, nodes: dict[Any, Any]) -> tuple[Neighbors, Neighbors]:
        """The successors and predecessors of all nodes as networkx stores them."""
        successors: Neighbors = {key: {} for key in nodes}
        predecessors: Neighbors = {key: {} for key in nodes}
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


_MANY = 1_000  # New objects after which the collector would have run.


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector.

    A graph consists of containers that are created at once and all stay alive. The collector would
    scan them again and again and free nothing, which takes about half of the time.

    Example:
        >>> with collector_paused():
        ...     gc.isenabled()
        False
    """
    was_enabled = gc.isenabled()
    if was_enabled:
        gc.collect(1)  # free young garbage, which shall not become old
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            _pass_over_the_new()
            gc.enable()


def _pass_over_the_new() -> None:
    """Move the new objects to the oldest generation, so that the collector does not scan them now.

    Scanning takes four seconds for a graph of a million operations. If the program froze objects
    (``gc.freeze``), nothing is moved, because ``gc.unfreeze`` would unfreeze those too.
    """
    if gc.get_count()[0] > _MANY and not gc.get_freeze_count():
        gc.freeze()
        gc.unfreeze()
