"""The graph that everything else reads: a snapshot of autograd, in plain Python values.

A `GradGraph` is a ``networkx.MultiDiGraph``. Its nodes are the tensors and operations that
autograd recorded, its edges run in the direction of the data, input to output. Nothing in it
is a tensor: it stays as it was when training goes on, and can be saved and drawn elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict

import networkx as nx
from networkx.classes.reportviews import (
    DiMultiDegreeView,
    InMultiDegreeView,
    InMultiEdgeView,
    OutMultiDegreeView,
    OutMultiEdgeView,
)

from gradviz.facts import SavedTensor, TensorSummary

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


class NodeKind(str, Enum):
    """What a node stands for."""

    PARAMETER = "parameter"
    """A leaf that is an ``nn.Parameter`` and requires grad."""
    LEAF = "leaf"
    """Any other leaf that requires grad: backward adds to its ``.grad``."""
    ACCUMULATE = "accumulate"
    """The ``AccumulateGrad`` node between a leaf and the operations that use it."""
    OPERATION = "operation"
    """A ``grad_fn``: an operation that autograd recorded, to be run backwards."""
    RESULT = "result"
    """A tensor that was asked for (a root of the drawing) and has a ``grad_fn``."""
    UNTRACKED = "untracked"
    """A tensor outside the graph: no gradient flows to it."""
    SAVED = "saved"
    """A tensor that an operation keeps for its backward."""
    GROUP = "group"
    """Several nodes folded into one by a view."""


class EdgeKind(str, Enum):
    """What an edge stands for."""

    GRADIENT = "gradient"
    """Data flows along it, and the gradient flows back."""
    CUT = "cut"
    """Data flowed along it, but no gradient comes back; `Cause` says why, if known."""
    ALIAS = "alias"
    """Two tensors share their storage."""
    SAVED = "saved"
    """A tensor is kept for the backward of an operation."""


class Cause(str, Enum):
    """Why a cut edge carries no gradient. All but the first are known only from a recording."""

    NOT_RECORDED = "not recorded"
    """Nobody watched: the graph alone does not know."""
    DETACH = "detach"
    """``detach()`` or ``detach_()``."""
    NO_GRAD = "no_grad"
    """Computed while gradient mode was off: ``no_grad`` or ``set_grad_enabled(False)``."""
    INFERENCE_MODE = "inference_mode"
    """Computed under ``inference_mode``."""
    REQUIRES_GRAD = "requires_grad_"
    """``requires_grad`` of the leaf was switched off."""
    DATA = "data"
    """Taken through ``.data``."""
    ITEM = "item"
    """Became a Python number: ``item()``, ``tolist()``, ``float()``, ``int()``."""
    NUMPY = "numpy"
    """Became a numpy array."""
    COPY = "torch.tensor"
    """Built anew from the values, by ``torch.tensor`` and its like."""
    AUTOGRAD_GRAD = "autograd.grad"
    """Returned by ``torch.autograd.grad`` without ``create_graph=True``."""
    NOT_DIFFERENTIABLE = "not differentiable"
    """The operation has no gradient: a comparison, ``argmax``, a cast to integers."""
    CONSTANT = "constant"
    """Made during the recording without ``requires_grad``, from nothing that had it."""


class Buffers(str, Enum):
    """What became of the tensors that an operation saved for its backward."""

    NOTHING_SAVED = "nothing saved"
    HELD = "held"
    FREED = "freed"
    UNKNOWN = "unknown"


class Mark(str, Enum):
    """What `colour_by` found out about a gradient that has no place on its scale."""

    ZERO = "zero"
    """All zeros, or a node from which back every leaf got zeros."""
    NOT_FINITE = "not finite"
    """NaN or infinite."""
    FIRST = "first not finite"
    """The same, and backward came to it before the others that are known."""


class NodeData(TypedDict, total=False):
    """The attributes of a node. An attribute that says nothing is left out.

    ================  ==========================================================================
    attribute         meaning
    ================  ==========================================================================
    kind              `NodeKind`; the one attribute that every node has
    op                the forward word of an operation: ``mul``, ``linear``
    grad_fn           the class name in torch: ``MulBackward0``
    options           the plain arguments of an operation, as text: ``{"dim": "1"}``
    opaque            why the inside of an operation cannot be seen: ``"torch.compile"``
    name              what the user calls the tensor; for an operation, the tensor it made
    aliases           the other names of the same tensor (shared parameters)
    shape             sizes of the tensor, or of the first output of an operation
    dtype, device     of the same: ``"float32"``, ``"cuda:0"``
    outputs           number of outputs of an operation, when there is more than one
    untracked_inputs  number of inputs of an operation about which only this is known: no
                      gradient goes to them (constants, detached tensors, absent arguments)
    root              0, 1, ... when the node is what was asked for, in that order
    value             `TensorSummary` of the tensor
    grad              `TensorSummary` of ``.grad``; None when ``.grad`` is None; left out for
                      tensors that keep no gradient
    accumulations     number of times a gradient was added to ``.grad``; only when recorded
    requires_grad     of an untracked tensor: False
    is_leaf           of an untracked tensor
    inference         True for a tensor made under ``inference_mode``
    retains_grad      True for a non-leaf after ``retain_grad()``
    version           the tensor's version counter: how often it was changed in place
    hooks             number of hooks on the tensor or operation
    buffers           `Buffers` of an operation
    saved_bytes       bytes of storage that the operation keeps, each storage counted once in
                      the graph, at the operation that comes first
    saved             each `SavedTensor` of an operation, while they are held
    storage           of a leaf whose storage an operation keeps too: its number, as they have it
    sequence_nr       order of creation within the thread that ran the forward pass, counted
                      from the first operation of the graph
    module            path of the module that made it: ``encoder.layers.3``; ``""`` when it is
                      known to be the model itself, or none
    calls             which call of a module it ran in, when recorded: for the model itself and
                      then for each part of the path, the number of the innermost call around
    source            line that made it: ``train.py:31``
    clone_of          key of the node that this one repeats (`clone_shared_leaves`)
    members           of a group: how many operations were folded into it
    repeat            of a group: how many times the same part comes after itself (``×12``)
    parameters        of a group: number of elements of the parameters inside
    structure         of a group: a fingerprint, the same for groups that do the same
    first             of a group: key of the first operation that was folded into it
    contents          of a group: the modules in it, or else its operations; the first 12
    inferred          True when ``module`` was inferred from names and order, not recorded
    changes           what is new against the frame before, in few words, by attribute:
                      ``{"grad": "+3", "buffers": "freed"}``; ``{"node": "new"}`` for a new node
    problem           what went wrong here, when a recording ended in an error at this node
    level             how much it has of what `colour_by` shows: 0 the least, 1 the most
    mark              `Mark`: a gradient that has no place on that scale
    ================  ==========================================================================
    """

    kind: NodeKind
    op: str
    grad_fn: str
    options: dict[str, str]
    opaque: str
    name: str
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    device: str
    outputs: int
    untracked_inputs: int
    root: int
    value: TensorSummary
    grad: TensorSummary | None
    accumulations: int
    requires_grad: bool
    is_leaf: bool
    inference: bool
    retains_grad: bool
    version: int
    hooks: int
    buffers: Buffers
    saved_bytes: int
    saved: tuple[SavedTensor, ...]
    storage: int
    sequence_nr: int
    module: str
    calls: tuple[int, ...]
    source: str
    clone_of: str
    members: int
    repeat: int
    parameters: int
    structure: str
    first: str
    contents: tuple[str, ...]
    inferred: bool
    changes: dict[str, str]
    problem: str
    level: float
    mark: Mark


class EdgeData(TypedDict, total=False):
    """The attributes of an edge.

    =========  =================================================================================
    attribute  meaning
    =========  =================================================================================
    kind       `EdgeKind`
    input      which input of the target it is: 0, 1, ...; also the key of the edge
    output     which output of the source it is: 0, 1, ...
    cause      `Cause`, on cut edges only
    through    forward words of the operations that a view folded into the edge: ``("t",)``
    source     of a cut edge, the line that cut it, when it was recorded: ``train.py:12``
    norm       of the gradient in the ``.grad`` at its end, which is that of all uses (`colour_by`)
    level      where that norm lies on the scale: 0 the least, 1 the most
    mark       `Mark`: a gradient that has no place on the scale
    =========  =================================================================================
    """

    kind: EdgeKind
    input: int
    output: int
    cause: Cause
    through: tuple[str, ...]
    source: str
    norm: float
    level: float
    mark: Mark


class GradGraph(nx.MultiDiGraph):  # type: ignore[misc]
    """What autograd recorded, as a directed multigraph of plain values.

    Node keys are ``"n0"``, ``"n1"``, ... in visit order; the attributes are described by
    `NodeData` and `EdgeData`. ``graph.graph`` holds ``"torch"`` (the version that recorded it),
    ``"notes"`` (what views say they have hidden), ``"flow"`` (``"gradient"`` when the arrows are
    turned) and ``"scale"`` (what `colour_by` shows: its ``"low"`` and ``"high"``, or ``"values"``).

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

    # Views of the edges hold the graph. Networkx keeps them in it: a circle, which would leave
    # each graph to the garbage collector. Here they are made anew, and a graph goes at once.
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

    @property
    def roots(self) -> list[str]:
        """Keys of the nodes that were asked for, in the order in which they were given."""
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
        """Bytes kept for backward by the whole graph, each storage counted once."""
        return sum(data.get("saved_bytes", 0) for _, data in self.nodes(data=True))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the views applied so far have hidden, a line each."""
        return tuple(self.graph.get("notes", ()))

    def with_note(self, note: str) -> Self:
        """Add a line that says what was hidden; returns the graph itself."""
        self.graph["notes"] = (*self.notes, note)
        return self

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
        """Each edge that brings data into ``key``, in input order, as (source, attributes).

        The direction is that of the data, also in a graph whose arrows `reverse_flow` turned.
        """
        edges: list[tuple[str, str, Any]]
        if self.graph.get("flow") == "gradient":
            edges = [(source, key, data) for _, source, data in self.out_edges(key, data=True)]
        else:
            edges = list(self.in_edges(key, data=True))
        for source, _, data in sorted(edges, key=lambda edge: edge[2].get("input", 0)):
            yield source, data


def _plural(word: str, count: int) -> str:
    if count == 1 or word in ("untracked", "saved"):
        return word
    return {"leaf": "leaves"}.get(word, word + "s")
