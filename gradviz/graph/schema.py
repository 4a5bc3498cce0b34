"""The schema of the graph: kinds of nodes and edges, and their attributes.

All values are plain: there are no tensors, and everything can be saved as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, TypedDict


class NodeKind(str, Enum):
    """The kind of a node."""

    PARAMETER = "parameter"
    """A leaf that is an ``nn.Parameter`` and requires grad."""
    LEAF = "leaf"
    """Any other leaf that requires grad: backward accumulates into its ``.grad``."""
    ACCUMULATE = "accumulate"
    """The ``AccumulateGrad`` node between a leaf and the operations that use it."""
    OPERATION = "operation"
    """A ``grad_fn``: an operation that autograd recorded."""
    RESULT = "result"
    """A root of the graph, that is, a tensor to draw, that has a ``grad_fn``."""
    UNTRACKED = "untracked"
    """A tensor that autograd does not track: no gradient flows to it."""
    SAVED = "saved"
    """A tensor that an operation saved for backward."""
    GROUP = "group"
    """Several nodes folded into one by a view."""


LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)
TENSORS = (*LEAVES, NodeKind.UNTRACKED, NodeKind.SAVED)


class EdgeKind(str, Enum):
    """The kind of an edge."""

    GRADIENT = "gradient"
    """Data flows along the edge, and the gradient flows back."""
    CUT = "cut"
    """Data flows along the edge, but no gradient flows back; `Cause` is the reason, if known."""
    ALIAS = "alias"
    """Two tensors share their storage."""
    SAVED = "saved"
    """A tensor was saved for the backward of an operation."""


class Cause(str, Enum):
    """Why no gradient flows along a cut edge. All but the first are known only from a recording."""

    NOT_RECORDED = "not recorded"
    """There was no recording: the autograd graph does not contain the reason."""
    DETACH = "detach"
    """``detach()`` or ``detach_()``."""
    NO_GRAD = "no_grad"
    """Computed while gradient mode was off: ``no_grad`` or ``set_grad_enabled(False)``."""
    INFERENCE_MODE = "inference_mode"
    """Computed under ``inference_mode``."""
    REQUIRES_GRAD = "requires_grad_"
    """``requires_grad`` of the leaf was switched off."""
    DATA = "data"
    """Read through ``.data``."""
    ITEM = "item"
    """Converted to a Python number: ``item()``, ``tolist()``, ``float()``, ``int()``."""
    NUMPY = "numpy"
    """Converted to a numpy array."""
    COPY = "torch.tensor"
    """A new tensor was created from the values, by ``torch.tensor`` or a similar function."""
    AUTOGRAD_GRAD = "autograd.grad"
    """Returned by ``torch.autograd.grad`` without ``create_graph=True``."""
    NOT_DIFFERENTIABLE = "not differentiable"
    """The operation has no gradient: a comparison, ``argmax``, a cast to integers."""
    VALUES_COPIED = "values copied"
    """Its values were copied into a leaf: ``copy_`` under ``no_grad``, ``.data = ``,
    ``load_state_dict``, ``deepcopy``, ``nn.Parameter(x)``."""
    CUSTOM_FUNCTION = "autograd.Function"
    """Used inside a ``torch.autograd.Function``, or a reentrant checkpoint, none of whose inputs
    requires grad: nothing is recorded then."""
    COLLECTIVE = "collective"
    """It went through a function of ``torch.distributed``, which autograd does not record."""
    CONSTANT = "constant"
    """Created during the recording without ``requires_grad``, from no tensor that requires grad."""


class Buffers(str, Enum):
    """The state of the tensors that an operation saved for backward."""

    NOTHING_SAVED = "nothing saved"
    HELD = "held"
    FREED = "freed"
    UNKNOWN = "unknown"


class Mark(str, Enum):
    """A gradient that `color_by` cannot place on its scale."""

    ZERO = "zero"
    """All zeros, or a node through which every leaf got zeros."""
    NOT_FINITE = "not finite"
    """NaN or infinite."""
    FIRST = "first not finite"
    """Not finite, and backward computed it before the other known ones."""


@dataclass(frozen=True)
class TensorSummary:
    """The facts about a tensor that fit in one line; keeps no storage alive.

    Args:
        shape: sizes, one per dimension; ``()`` for a scalar.
        dtype: as in torch, without the prefix: ``"float32"``.
        device: ``"cpu"``, ``"cuda:0"``, ``"meta"``, ...
        values: every element in row-major order when there are few, else None.
        norm: Euclidean norm; None when the values could not be read.
        mean: arithmetic mean, or None.
        std: standard deviation (of the population), or None.
        min: smallest element, or None.
        max: largest element, or None.
        nan: number of NaN elements.
        inf: number of infinite elements.
        note: a special state in words ("meta: no values", "values not read: ..."), or "".
        is_sparse: whether its layout is sparse.
        is_part: whether the values are only those of this rank's part of the tensor.
        bins: how many elements of a sample lie in each of equal intervals from ``min`` to
            ``max``, or None. It is not compared: what is equal without it is equal.

    Example:
        >>> TensorSummary((3,), "float32", "cpu", values=(1.0, 2.0, 3.0)).numel
        3
    """

    shape: tuple[int, ...]
    dtype: str
    device: str
    values: tuple[float | int | bool | complex, ...] | None = None
    norm: float | None = None
    mean: float | None = None
    std: float | None = None
    min: float | None = None
    max: float | None = None
    nan: int = 0
    inf: int = 0
    note: str = ""
    is_sparse: bool = False
    is_part: bool = False
    bins: tuple[int, ...] | None = field(default=None, compare=False)

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def is_finite(self) -> bool:
        """Whether no element is known to be NaN or infinite."""
        return not (self.nan or self.inf)

    @property
    def is_read(self) -> bool:
        """Whether any value of the tensor was read."""
        return self.norm is not None or self.values is not None or not self.is_finite

    @property
    def finite_norm(self) -> float:
        """Euclidean norm of the finite elements; 0 if unknown."""
        if self.norm is not None:
            return self.norm if math.isfinite(self.norm) else 0.0
        return math.hypot(*(abs(each) for each in self.values or () if math.isfinite(abs(each))))


class SavedTensor(NamedTuple):
    """A tensor that an operation saved for backward.

    Args:
        argument: its name in the operation: ``"self"``, ``"mat1"``, ``"result"``.
        input: which input of the operation it is; -1 if it is not an input, or this is unknown.
        shape: its sizes; it may be a view of a larger tensor.
        dtype: as in torch, without the prefix; ``""`` if a saved-tensor hook packed it.
        storage: the number of its storage in the graph, equal for tensors that share it; -1 if it
            has none.
        bytes: size of the whole storage.

    Example:
        >>> SavedTensor("mat1", 1, (4, 128), "float32", 0, 2048).storage
        0
    """

    argument: str
    input: int = -1
    shape: tuple[int, ...] = ()
    dtype: str = ""
    storage: int = -1
    bytes: int = 0


@dataclass(frozen=True)
class RankSpread:
    """What differs between the ranks in the ``.grad`` of a tensor, or in a group of tensors.

    Args:
        norms: the least and the greatest norm, if they differ; None for a group.
        odd: the rank whose norm is far from all others; -1 for none.
        odd_norm: the norm of that rank.
        missing: the ranks where it is None, if it is a tensor on others.
        not_finite: the ranks where it is NaN or infinite, if it is finite on others.
        absent: the ranks whose graph does not have the node.
        tensors: number of tensors that differ; for a group it may be larger than 1.
    """

    norms: tuple[float, float] | None = None
    odd: int = -1
    odd_norm: float = 0.0
    missing: tuple[int, ...] = ()
    not_finite: tuple[int, ...] = ()
    absent: tuple[int, ...] = ()
    tensors: int = 1

    @staticmethod
    def of_group(spreads: Sequence[RankSpread]) -> RankSpread:
        """What differs in a group, from what differs in its nodes; there is at least one."""
        odd = {each.odd for each in spreads}
        return RankSpread(
            odd=odd.pop() if len(odd) == 1 else -1,
            missing=_union(each.missing for each in spreads),
            not_finite=_union(each.not_finite for each in spreads),
            absent=_union(each.absent for each in spreads),
            tensors=sum(each.tensors for each in spreads),
        )


def _union(ranks: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted({rank for each in ranks for rank in each}))


class NodeData(TypedDict, total=False):
    """The attributes of a node. Attributes without information are left out.

    ================  ==========================================================================
    attribute         meaning
    ================  ==========================================================================
    kind              `NodeKind`; the only attribute that every node has
    op                the forward word of an operation: ``mul``, ``linear``
    grad_fn           the class name in torch: ``MulBackward0``
    called            the function that the program called, where ``op`` does not say it:
                      ``"dropout"`` for a ``mul``
    options           the plain arguments of an operation, as text: ``{"dim": "1"}``
    opaque            why the inside of an operation is not visible: ``"torch.compile"``
    name              the user's name of the tensor; for an operation, the name of its result
    aliases           the other names of the same tensor (shared parameters)
    shape             sizes of the tensor, or of the first output of an operation
    shapes            of a group with several outputs, their shapes, if they differ
    input_shape       of a group, the shape of its input, where the class of its module says it
    dtype, device     same: ``"float32"``, ``"cuda:0"``
    outputs           number of outputs of an operation, when there is more than one
    runs_with         names of the parameters of the module that a reentrant checkpoint runs
    uses_inside       keys of leaves that the forward of a ``Function``, or a reentrant checkpoint,
                      uses although they are not its inputs: no edge leads to them
    untracked_inputs  number of inputs of an operation about which only this is known: no
                      gradient flows to them (constants, detached tensors, absent arguments)
    root              0, 1, ... for a root, in the order in which the roots were passed
    value             `TensorSummary` of the tensor
    grad              `TensorSummary` of ``.grad``; None when ``.grad`` is None; left out for
                      tensors that have no ``.grad``
    accumulations     number of times a gradient was added to ``.grad``; only when recorded
    requires_grad     False for an untracked tensor, and for a leaf that was frozen after the graph
                      was built: its ``.grad`` gets nothing
    is_leaf           of an untracked tensor
    inference         True for a tensor made under ``inference_mode``
    unreduced         True for a parameter whose gradient FSDP2 has not reduced over the ranks:
                      ``grad`` is None
    retains_grad      True for a non-leaf after ``retain_grad()``
    version           the tensor's version counter: how often it was changed in place
    hooks             number of hooks on the tensor or operation
    buffers           `Buffers` of an operation
    saved_bytes       bytes of storage that the operation saved, each storage counted once in
                      the graph, at the operation that comes first
    saved_total       the same with each storage counted at every operation that saved it; set by
                      ``color_by("saved_bytes")``
    saved             each `SavedTensor` of an operation, unless freed
    storage           of a leaf whose storage an operation saved too: the number of that storage
    sequence_nr       order of creation within the thread that ran the forward pass, counted
                      from the first operation of the graph, or from the start of the recording:
                      negative for what ran before
    module            path of the module that created it: ``encoder.layers.3``; ``""`` if it is
                      known to be the model itself, or no module
    calls             which call of each module it ran in, when recorded: the number of the
                      innermost call of the model itself, then of each part of the path
    source            line that created it: ``train.py:31``
    inside            of an untracked tensor, when that line called a library: the line of the
                      library that created it
    clone_of          key of the node that this one is a copy of (`clone_shared_leaves`)
    members           of a group: how many operations were folded into it
    reshapes          how many reshaping operations before it `hide_bookkeeping` hid
    grad_range        of a repeated group: the least and the greatest norm of the ``.grad`` of
                      one repetition
    repeat            of a group: how many times the same part follows itself (``×12``)
    first_step        of a group of steps of a loop: the number of its first one
    whole             True for steps of a loop, each of which has whole calls of modules
    in_modules        of repeated modules: how many of its operations ran in them, if recorded and
                      not all did
    parameters        of a group: number of elements of its parameters (``nn.Parameter``)
    frozen            of a group of modules: number of elements of their frozen parameters
    unreached         of a group of modules: number of elements of their other parameters that are
                      not in the graph
    leaf_elements     of a group: number of elements of its other leaves
    leaves            of a group with leaves: their keys
    leaf              of a group with one leaf: the name of the leaf
    structure         of a group: a fingerprint, equal for groups of the same operations
    first             of a group: key of the first operation that was folded into it
    module_class      of a group: the class of its module, or of each that repeats
    part_of           of a group that is no whole module: the class of the one that it is part of
    contents          of a group: its modules, or else its operations; the first 12
    inferred          True when ``module`` was inferred from names and order, not recorded
    changes           what changed since the previous frame, in few words, by attribute:
                      ``{"grad": "+3", "buffers": "freed"}``; ``{"node": "new"}`` for a new node
    stale             of a leaf: whether it was changed in place after an operation of the graph
                      used it; left out when it is not known
    in_array          True for a recorded leaf that shares its memory with a NumPy array
    used_value        of a stale leaf: its `TensorSummary` when the operations used it
    ranks             `RankSpread` of a gathered story, where its ranks differ
    problem           ``gradviz.facts.Problem``: backward failed at this node
    asked             True for an explained tensor without a known fault
    verdict           the verdict of a diagnosis or check for this node, in few words
    level             the value that `color_by` shows, from 0 (least) to 1 (most)
    mark              `Mark`: a gradient that `color_by` cannot place on the scale
    color             the color that a caller has chosen for the node: ``"#d55e00"``
    highlight         True for a node that a caller highlights, and those its gradient comes through
    ================  ==========================================================================
    """

    kind: NodeKind
    op: str
    grad_fn: str
    called: str
    options: dict[str, str]
    opaque: str
    name: str
    aliases: tuple[str, ...]
    shape: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    input_shape: tuple[int, ...]
    dtype: str
    device: str
    outputs: int
    runs_with: tuple[str, ...]
    uses_inside: tuple[str, ...]
    untracked_inputs: int
    root: int
    value: TensorSummary
    grad: TensorSummary | None
    accumulations: int
    requires_grad: bool
    is_leaf: bool
    inference: bool
    unreduced: bool
    retains_grad: bool
    version: int
    hooks: int
    buffers: Buffers
    saved_bytes: int
    saved_total: int
    saved: tuple[SavedTensor, ...]
    storage: int
    sequence_nr: int
    module: str
    calls: tuple[int, ...]
    source: str
    inside: str
    clone_of: str
    members: int
    reshapes: int
    repeat: int
    first_step: int
    whole: bool
    in_modules: int
    grad_range: tuple[float, float]
    parameters: int
    frozen: int
    unreached: int
    leaf_elements: int
    leaf: str
    leaves: tuple[str, ...]
    structure: str
    first: str
    module_class: str
    part_of: str
    contents: tuple[str, ...]
    inferred: bool
    changes: dict[str, str]
    stale: bool
    in_array: bool
    used_value: TensorSummary
    ranks: RankSpread
    problem: Any
    asked: bool
    verdict: str
    level: float
    mark: Mark
    color: str
    highlight: bool


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
    reshaped   of each of these, where modules are known: its module, "" if not sure, and its shape
    source     of a cut edge, the line that cut it, when it was recorded: ``train.py:12``
    inside     of the same, when that line called a library: the line of the library
    is_own     whether that library is a folder of the program, not an installed package
    word       of a cut edge, the function that cut it: ``argmin``
    grad       of an edge out of a group, the `TensorSummary` of the retained ``.grad`` of the
               tensor; the operation that created it is in the group. Of an edge out of a leaf,
               what this use added to ``.grad``, if the leaf has several and it was recorded
    times      of an edge out of a group, how many edges it replaces, if several
    norm       of the gradient along it, as far as known (`color_by`)
    level      where that norm lies on the scale: 0 the least, 1 the most
    mark       `Mark`: a gradient that `color_by` cannot place on the scale
    highlight  True for an edge on the path of the gradient to a highlighted node
    =========  =================================================================================
    """

    kind: EdgeKind
    input: int
    output: int
    cause: Cause
    through: tuple[str, ...]
    reshaped: tuple[tuple[str, tuple[int, ...]], ...]
    source: str
    inside: str
    is_own: bool
    word: str
    grad: TensorSummary
    times: int
    norm: float
    level: float
    mark: Mark
    highlight: bool
