"""`GradGraph`: a snapshot of the autograd graph in plain Python values.

A `GradGraph` is a ``networkx.MultiDiGraph``. Its nodes are the tensors and operations that
autograd recorded; its edges run in the direction of the data, from input to output. It contains
no tensors: it does not change when training goes on, and can be saved and drawn elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from threading import RLock
from typing import TYPE_CHECKING, Any

import networkx as nx
from networkx.classes.reportviews import (
    DiMultiDegreeView,
    InMultiDegreeView,
    InMultiEdgeView,
    OutMultiDegreeView,
    OutMultiEdgeView,
)

from gradviz.graph.columns import EdgeColumns, Neighbors
from gradviz.graph.schema import (
    Buffers,
    Cause,
    EdgeData,
    EdgeKind,
    Mark,
    NodeData,
    NodeKind,
    SavedTensor,
    TensorSummary,
)
from gradviz.graph.text import shape_text, summary_text

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Buffers",
    "Cause",
    "EdgeData",
    "EdgeKind",
    "GradGraph",
    "Mark",
    "NodeData",
    "NodeKind",
    "SavedTensor",
    "TensorSummary",
]


_writing = RLock()


class _EdgeDictionaries:
    """Descriptor of networkx's edge dictionaries; creates them from the columns on first access.

    Args:
        names: the attributes that hold the same dictionary.
    """

    def __init__(self, *names: str) -> None:
        self._names = names

    def __get__(self, graph: GradGraph | None, owner: type) -> Any:
        if graph is None:
            return self
        own = graph.__dict__
        columns = own.get("_columns")
        if columns is not None:
            with _writing:  # Two threads must not create two sets of dictionaries.
                if "_columns" in own:
                    graph._adj, graph._pred = columns.write(graph._node)
                    del own["_columns"]
        return own[self._names[0]]

    def __set__(self, graph: GradGraph, value: Neighbors) -> None:
        graph.__dict__.update(dict.fromkeys(self._names, value))
        for view in ("adj", "succ", "pred"):  # cached views of the old edges
            graph.__dict__.pop(view, None)


class GradGraph(nx.MultiDiGraph):  # type: ignore[misc]
    """What autograd recorded, as a directed multigraph of plain values.

    Node keys are ``"n0"``, ``"n1"``, ... in visit order; the key of an edge is the number of the
    input; the attributes are described by `NodeData` and `EdgeData`. ``graph.graph`` holds
    ``"torch"`` (the version that recorded it), ``"notes"`` (what the views have hidden), ``"flow"``
    (``"gradient"`` when the arrows are reversed) and ``"scale"`` (what `color_by` shows: its
    ``"low"`` and ``"high"``, or ``"values"``).

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="x", shape=(3,), dtype="float32")
        >>> graph.add_node("n1", kind=NodeKind.OPERATION, op="sum", grad_fn="SumBackward0")
        >>> graph.add_edge("n0", "n1", key=0, kind=EdgeKind.GRADIENT, input=0, output=0)
        0
        >>> graph
        GradGraph(1 leaf, 1 operation, 1 edge)
        >>> list(nx.topological_sort(graph))
        ['n0', 'n1']
    """

    _adj = _succ = _EdgeDictionaries("_adj", "_succ")
    _pred = _EdgeDictionaries("_pred")

    # Edge views refer to the graph, and networkx caches them in it: a reference cycle, so only the
    # garbage collector would free a graph. Creating the views anew lets reference counting free it.
    edges = out_edges = property(OutMultiEdgeView)
    in_edges = property(InMultiEdgeView)
    degree = property(DiMultiDegreeView)
    in_degree = property(InMultiDegreeView)
    out_degree = property(OutMultiDegreeView)

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for _, data in self.nodes(data=True):
            kind = data["kind"].value if "kind" in data else "node"
            counts[kind] = counts.get(kind, 0) + 1
        parts = [f"{n} {_plural(kind, n)}" for kind, n in counts.items()]
        edges = self.number_of_edges()
        edge_part = f"{edges} {_plural('edge', edges)}"
        return f"GradGraph({', '.join([*parts, edge_part])})"

    __str__ = __repr__

    def number_of_edges(self, u: Any = None, v: Any = None) -> int:
        """Number of edges, in total or from ``u`` to ``v``."""
        columns = self.__dict__.get("_columns") if u is None else None
        return int(super().number_of_edges(u, v)) if columns is None else len(columns)

    def edge_rows(self) -> Iterator[tuple[Any, Any, Any, EdgeData]]:
        """Yield each edge as (source, target, key, attributes), in the order of ``edges``.

        This does not create networkx's dictionaries, so a traced graph stays small.
        """
        columns = self.__dict__.get("_columns")
        if columns is None:
            yield from self.edges(keys=True, data=True)
        else:
            names = list(self._node)
            for source, target, key, data in columns.rows():
                yield names[source], names[target], key, data

    def edge_columns(self) -> EdgeColumns:
        """All edges as columns, for views that fold thousands of nodes. Do not change them."""
        found: EdgeColumns | None = self.__dict__.get("_columns")
        return EdgeColumns.of(self._node, self._succ) if found is None else found

    def take_columns(self, columns: EdgeColumns) -> Self:
        """Replace all edges by these columns; returns the graph."""
        for name in ("_adj", "_succ", "_pred", "adj", "succ", "pred"):
            self.__dict__.pop(name, None)
        self.__dict__["_columns"] = columns
        return self

    @property
    def roots(self) -> list[str]:
        """Keys of the root nodes, in the order in which they were passed."""
        found = [(data["root"], key) for key, data in self.nodes(data=True) if "root" in data]
        return [key for _, key in sorted(found)]

    @property
    def leaves(self) -> list[str]:
        """Keys of the leaves that require grad, each once, in visit order."""
        kinds = (NodeKind.PARAMETER, NodeKind.LEAF)
        return [
            key
            for key, data in self.nodes(data=True)
            if data["kind"] in kinds and "clone_of" not in data
        ]

    @property
    def saved_bytes(self) -> int:
        """Bytes saved for backward by the whole graph, each storage counted once."""
        return sum(data.get("saved_bytes", 0) for _, data in self.nodes(data=True))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the views have hidden, one line each."""
        return tuple(self.graph.get("notes", ()))

    def with_note(self, note: str) -> Self:
        """Add a line that says what was hidden; returns the graph itself."""
        self.graph["notes"] = (*self.notes, note)
        return self

    def to_networkx(self) -> Any:
        """Convert to a plain ``networkx.MultiDiGraph`` that networkx's exporters can write.

        ``write_graphml``, ``write_gexf``, ``write_gml`` and ``node_link_data`` take it: all
        attributes are text, numbers and booleans. Enums become their values, a tensor becomes its
        one-line summary, other values become text; None and empty values are left out. The
        ``source`` of a cut edge is renamed to ``line``: exporters use ``source`` for a node.

        Example:
            >>> graph = GradGraph()
            >>> graph.add_node("n0", kind=NodeKind.LEAF, name="x", shape=(3,))
            >>> list(graph.to_networkx().nodes(data=True))
            [('n0', {'kind': 'leaf', 'name': 'x', 'shape': '[3]'})]
        """
        plain = nx.MultiDiGraph()
        plain.graph.update(_plain(self.graph))
        for key, data in self.nodes(data=True):
            plain.add_node(key, **_plain(data))
        for source, target, key, data in self.edge_rows():
            values: dict[str, Any] = _plain(data)
            if "source" in values:
                values["line"] = values.pop("source")
            plain.add_edge(source, target, key, **values)
        return plain

    def find(self, name: str) -> str:
        """Key of the node called ``name`` (or one of its aliases).

        Raises:
            KeyError: if no node has that name.

        Example:
            >>> graph = GradGraph()
            >>> graph.add_node("n0", kind=NodeKind.LEAF, name="x")
            >>> graph.find("x")
            'n0'
        """
        for key, data in self.nodes(data=True):
            if data.get("name") == name or name in data.get("aliases", ()):
                return str(key)
        known = sorted({n for _, d in self.nodes(data=True) if (n := d.get("name"))})
        raise KeyError(f"no node is called {name!r}; the names are: {', '.join(known) or 'none'}")

    def inputs(self, key: str) -> Iterator[tuple[str, EdgeData]]:
        """Yield each incoming edge of ``key``, in input order, as (source, attributes).

        The direction is that of the data, also if `reverse_flow` has reversed the arrows.
        """
        edges: list[tuple[str, str, Any]]
        if self.graph.get("flow") == "gradient":
            edges = [(source, key, data) for _, source, data in self.out_edges(key, data=True)]
        else:
            edges = list(self.in_edges(key, data=True))
        for source, _, data in sorted(edges, key=lambda edge: edge[2].get("input", 0)):
            yield source, data


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the attributes that have a value to text, numbers or booleans."""
    plain = {}
    for name, value in values.items():
        if isinstance(value, Enum):
            value = value.value
        elif name == "shape":
            value = shape_text(value)
        elif isinstance(value, TensorSummary):
            value = summary_text(value)
        elif isinstance(value, Mapping):
            value = ", ".join(f"{key}={each}" for key, each in value.items())
        elif isinstance(value, (tuple, list)):
            value = ", ".join(map(str, value))
        elif value is not None and not isinstance(value, (str, int, float)):
            value = str(value)
        if value is not None and value != "":
            plain[name] = value
    return plain


def _plural(word: str, count: int) -> str:
    if count == 1 or word in ("untracked", "saved"):
        return word
    return {"leaf": "leaves"}.get(word, word + "s")
