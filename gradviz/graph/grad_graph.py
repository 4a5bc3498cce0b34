"""`GradGraph`: a snapshot of the autograd graph in plain Python values.

A `GradGraph` is a ``networkx.MultiDiGraph``. Its nodes are the tensors and operations that
autograd recorded; its edges run in the direction of the data, from input to output. It contains
no tensors: it does not change when training goes on, and can be saved and drawn elsewhere.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping
from enum import Enum
from threading import RLock
from typing import TYPE_CHECKING, Any, TypeVar

import networkx as nx
import numpy as np
from networkx.classes.reportviews import (
    DiMultiDegreeView,
    InMultiDegreeView,
    InMultiEdgeView,
    OutMultiDegreeView,
    OutMultiEdgeView,
)

from gradviz.errors import UnknownNameError
from gradviz.graph.columns import EdgeColumns, Neighbors
from gradviz.graph.operations import operation
from gradviz.graph.schema import (
    LEAVES,
    Buffers,
    EdgeData,
    EdgeKind,
    NodeData,
    NodeKind,
    TensorSummary,
)
from gradviz.graph.text import shape_text, summary_text

if TYPE_CHECKING:
    from typing_extensions import Self

_writing = RLock()


class _EdgeDictionaries:
    """Descriptor of networkx's edge dictionaries; creates them from the columns on first access."""

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
        rows = self.nodes(data=True)
        counts = Counter(data["kind"].value if "kind" in data else "node" for _, data in rows)
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
        return [
            key
            for key, data in self.nodes(data=True)
            if data["kind"] in LEAVES and "clone_of" not in data
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
            UnknownNameError: if no node has that name; it is a KeyError.

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
        said = f"no node is called {name!r}; the names are: {', '.join(known) or 'none'}"
        raise UnknownNameError(said)

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


K = TypeVar("K", bound=Hashable)

Follow = Callable[[str, str, EdgeData], bool]
"""Whether to follow an edge: called with its source, its target and its attributes."""

_CHUNK = 256
_BROADCAST = ("add", "sub", "rsub", "mul", "div", "expand")


class Insertion:
    """Adds nodes and edges directly to the dictionaries in which networkx stores a new graph.

    It does not check for existing entries, and does not copy the attributes.

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
        """Add a new node; ``data`` becomes its attributes."""
        self.nodes[key] = data
        self.successors[key] = {}
        self.predecessors[key] = {}

    def add_edge(self, source: str, target: str, position: int, data: dict[str, Any]) -> None:
        """Add an edge between two existing nodes; ``data`` becomes its attributes."""
        targets = self.successors[source]
        if target in targets:
            targets[target][position] = data
        else:
            targets[target] = self.predecessors[target][source] = {position: data}


def has_cycle(graph: GradGraph) -> bool:
    """Whether some node depends on itself, which autograd never records.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edge("x", "y"), graph.add_edge("y", "x")
        >>> has_cycle(graph)
        True
    """
    starts, ends = _numbered(graph)
    waiting = array("i", bytes(ends.itemsize * len(graph)))
    for target in ends:
        waiting[target] += 1
    ready = array("i", (node for node, count in enumerate(waiting) if not count))
    done = 0
    while ready:
        node = ready.pop()
        done += 1
        for at in range(starts[node], starts[node + 1]):
            target = ends[at]
            waiting[target] -= 1
            if not waiting[target]:
                ready.append(target)
    return done < len(graph)


def _numbered(graph: GradGraph) -> tuple[array[int], array[int]]:
    """The users of each node, all in one row, and where those of each node begin in it.

    Nodes are found by the hashes of their keys: a dictionary takes ten times the memory.
    """
    hashes = np.fromiter(map(hash, graph), np.int64, len(graph))
    order = np.argsort(hashes).astype(np.int32)
    hashes.sort()
    starts, ends, chunk = array("i", [0]), array("i"), array("q")
    for users in graph._succ.values():
        chunk.extend(map(hash, users))
        starts.append(len(ends) + len(chunk))
        if len(chunk) > _CHUNK:
            ends.frombytes(order[np.searchsorted(hashes, chunk)].tobytes())
            chunk = array("q")
    ends.frombytes(order[np.searchsorted(hashes, chunk)].tobytes())
    return starts, ends


def is_box_of_leaves(data: NodeData) -> bool:
    """Whether a node is a group of leaves without operations, as `views.dock_leaves` makes it."""
    return data["kind"] is NodeKind.GROUP and not data.get("members") and "grad" in data


def is_gradient(source: str, target: str, edge: EdgeData) -> bool:
    """Whether a gradient flows back along the edge."""
    return edge["kind"] is EdgeKind.GRADIENT


def is_data(source: str, target: str, edge: EdgeData) -> bool:
    """Whether data flows along the edge, whether or not a gradient flows back."""
    return edge["kind"] in (EdgeKind.GRADIENT, EdgeKind.CUT)


def every(source: str, target: str, edge: EdgeData) -> bool:
    """Follow every edge."""
    return True


def leave_out_drawn(graph: GradGraph) -> None:
    """Leave out of the parameters that are not in the graph those that were added to it."""
    if unreached := graph.graph.get("unreached"):
        drawn = {data.get("name") for data in graph._node.values()}
        graph.graph["unreached"] = {k: n for k, n in unreached.items() if k not in drawn}


def ancestors(graph: GradGraph, starts: Iterable[str], follow: Follow = is_gradient) -> set[str]:
    """The start nodes and all nodes that they were computed from.

    Args:
        graph: edges run from input to output.
        starts: keys; keys that are not in the graph are ignored.
        follow: which edges to follow.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edge("x", "y", 0, kind=EdgeKind.GRADIENT)
        >>> _ = graph.add_edge("y", "z", 0, kind=EdgeKind.CUT)
        >>> sorted(ancestors(graph, "z")), sorted(ancestors(graph, "z", is_data))
        (['z'], ['x', 'y', 'z'])
    """
    return _reached(graph._pred, starts, lambda key, source, edge: follow(source, key, edge))


def ancestors_of_each(graph: GradGraph, starts: Iterable[str]) -> dict[str, set[str]]:
    """The `ancestors` of each start node, by its key."""
    return {start: ancestors(graph, [start]) for start in starts}


def leads_to_a_root(graph: GradGraph, key: str, most: int = 24) -> bool:
    """Whether a gradient of a root can come to a node; yes if more users follow than are looked at.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("x"), graph.add_node("loss", root=0)
        (None, None)
        >>> _ = graph.add_edge("x", "loss", 0, kind=EdgeKind.CUT)
        >>> leads_to_a_root(graph, "x"), leads_to_a_root(graph, "loss")
        (False, True)
    """
    found = [key]
    for each in found:  # which grows
        if "root" in graph.nodes[each] or len(found) > most:
            return True
        edges = graph.out_edges(each, data=True)
        found += [user for _, user, edge in edges if is_gradient(each, user, edge)]
    return False


def descendants(graph: GradGraph, starts: Iterable[str], follow: Follow = is_gradient) -> set[str]:
    """The start nodes and all nodes computed from them; same arguments as `ancestors`.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edge("x", "y", 0, kind=EdgeKind.GRADIENT)
        >>> sorted(descendants(graph, "x"))
        ['x', 'y']
    """
    return _reached(graph._succ, starts, follow)


def _reached(
    neighbors: Mapping[str, Mapping[str, Mapping[int, EdgeData]]],
    starts: Iterable[str],
    follow: Follow,
) -> set[str]:
    seen = {key for key in starts if key in neighbors}
    stack = list(seen)
    while stack:
        key = stack.pop()
        for other, edges in neighbors[key].items():
            if other not in seen and any(follow(key, other, edge) for edge in edges.values()):
                seen.add(other)
                stack.append(other)
    return seen


def longest_paths(after: Mapping[K, Iterable[K]]) -> dict[K, int]:
    """The number of edges on the longest path to each node; nothing may form a cycle.

    Args:
        after: the nodes that follow each node, one entry per edge.

    Example:
        >>> longest_paths({"x": ["y", "z"], "y": ["z"], "z": []})
        {'x': 0, 'y': 1, 'z': 2}
    """
    longest = dict.fromkeys(after, 0)
    waiting = dict.fromkeys(after, 0)
    for others in after.values():
        for other in others:
            waiting[other] += 1
    ready = [node for node, count in waiting.items() if not count]
    while ready:
        node = ready.pop()
        for other in after[node]:
            longest[other] = max(longest[other], longest[node] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                ready.append(other)
    return longest


def leaf_of_node(graph: GradGraph, key: str) -> str:
    """The leaf of an ``AccumulateGrad`` node; any other node itself."""
    if graph.nodes[key]["kind"] is NodeKind.ACCUMULATE:
        return next((source for source, _ in graph.inputs(key)), key)
    return key


def leaf_uses(graph: GradGraph, key: str) -> list[tuple[str, EdgeData]]:
    """The operations that use a leaf, behind its ``AccumulateGrad`` node, with their edges."""
    nodes = graph.nodes
    holders = [user for user in graph.successors(key) if nodes[user]["kind"] is NodeKind.ACCUMULATE]
    edges = graph.out_edges([key, *holders], data=True)
    return [(user, edge) for _, user, edge in edges if user not in holders]


def base_of_view(graph: GradGraph, key: str) -> str:
    """The tensor that a view was taken of, through other views; itself for no view."""
    while operation(graph.nodes[key].get("op", "")).views:
        inputs = [source for source, _ in graph.inputs(key)]
        if len(inputs) != 1 or graph.nodes[inputs[0]]["kind"] is not NodeKind.OPERATION:
            break
        key = inputs[0]
    return key


def is_broadcast(graph: GradGraph, key: str) -> bool:
    """Whether an operation broadcasts the elements of a leaf to a larger shape.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("bias", kind=NodeKind.LEAF, shape=(3,))
        >>> graph.add_node("sum", kind=NodeKind.OPERATION, op="add", shape=(8, 3))
        >>> _ = graph.add_edge("bias", "sum", 0, kind=EdgeKind.GRADIENT)
        >>> is_broadcast(graph, "bias")
        True
    """
    nodes = graph._node
    shape = nodes[key].get("shape", ()) if key in nodes else ()

    def is_same(_: str, node: str, edge: EdgeData) -> bool:
        return nodes[node]["kind"] is NodeKind.ACCUMULATE or nodes[node].get("shape") == shape

    users = {user for each in descendants(graph, [key], is_same) for user in graph._succ[each]}
    wide = [nodes[user] for user in users if len(nodes[user].get("shape", ())) > len(shape)]
    return any(data.get("op") in _BROADCAST and data["shape"][-1:] == shape[-1:] for data in wide)


def first_not_freed(graph: GradGraph, keys: Iterable[str]) -> str:
    """The first of some operations that backward did not run to its end; "" if unknown.

    Backward runs the latest operation first and frees the tensors of each one after it.
    """
    operations = [
        (data["sequence_nr"], key, data.get("buffers"))
        for key in keys
        if "sequence_nr" in (data := graph.nodes[key]) and data["kind"] is NodeKind.OPERATION
    ]
    ordered = sorted(operations, reverse=True)
    states = [buffers for *_, buffers in ordered]
    if Buffers.FREED not in states or Buffers.HELD not in states:
        return ""
    first = states.index(Buffers.HELD)
    return ordered[first][1] if states[first - 1] is Buffers.FREED else ""


def stops_on_every_way(
    graph: GradGraph, roots: Iterable[str], key: str, stops: Container[tuple[str, int]]
) -> list[str]:
    """The operations that stop the gradient on every way from some roots to a node.

    Args:
        graph: where they are.
        roots: where the gradient starts.
        key: the node.
        stops: operations with the number of an input that gets nothing from them.

    Returns:
        Each once, those nearest to the node last; none when a way leads past all of them.
    """
    path = {key, *descendants(graph, [key])}
    stack = [root for root in roots if root in path]
    reached, found = set(stack), []
    while stack:
        target = stack.pop()
        for source, _, edge in graph.in_edges(target, data=True):
            if source not in path or not is_gradient(source, target, edge):
                continue
            if (target, edge.get("input", 0)) in stops:
                found.append(target)
            elif source not in reached:
                reached.add(source)
                stack.append(source)
    return [] if key in reached else list(dict.fromkeys(found))


def is_scaled_away(graph: GradGraph, key: str) -> bool:
    """Whether a leaf only multiplies what a batch norm divides by its deviation."""
    found = False
    for user, _ in leaf_uses(graph, key):
        found = graph.nodes[user].get("op") in ("mul", "div")
        for _ in range(4 if found else 0):
            if (op := graph.nodes[user].get("op", "")) == "batch_norm":
                break
            users = [edge for edge in graph.out_edges(user, data=True) if is_gradient(*edge)]
            if len(users) != 1 or not (op in ("mul", "div", "add") or operation(op).rearranges):
                return False
            user = users[0][1]
        else:
            return False
    return found


def word_of(data: NodeData) -> str:
    """The name of a node: the user's name for it, else its operation."""
    return data.get("name") or data.get("op") or data["kind"].value


def most_saved(graphs: Iterable[GradGraph]) -> GradGraph | None:
    """The first of some graphs that saved the most bytes for backward; None for none."""
    return max(graphs, key=lambda graph: graph.saved_bytes, default=None)


def in_order(graph: GradGraph, keys: Iterable[str]) -> list[str]:
    """The keys of nodes in the order in which the forward pass ran them."""
    return sorted(keys, key=lambda key: graph.nodes[key].get("sequence_nr", -1))
