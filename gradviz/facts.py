"""Facts about what a program did, as typed data: nothing here is a sentence.

The recorder writes these records, diagnosis and the renderers read them. Only `gradviz.wording`
converts them to text for people. All values are plain and can be saved as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gradviz.graph import Cause, EdgeData, NodeKind, TensorSummary

SCALER = "GradScaler"
"""The operation of the node of the tensor by which ``GradScaler`` multiplies a loss."""

SENDING = ("send", "isend")
"""The functions that give data to another rank, and write nothing in this one."""

RECEIVING = ("broadcast", "irecv", "recv", "scatter")
"""The functions that write the values of another rank, without those of this one."""


@dataclass(frozen=True)
class SourceLocation:
    """A line of the user's program.

    Args:
        file: relative to the working directory, or a notebook cell, ``"In[3]"``.
        line: 1, 2, ...; 0 when unknown.
        column: 0, 1, ... of the call; -1 when unknown (Python 3.10).
        text: the code of the line; "" when the file cannot be read.
        is_own: whether the file is in a folder of the program, and not of an installed package.

    Example:
        >>> str(SourceLocation("my project/train.py", 12)), bool(SourceLocation())
        ('my project/train.py:12', False)
    """

    file: str = ""
    line: int = 0
    column: int = -1
    text: str = ""
    is_own: bool = True

    def __bool__(self) -> bool:
        return bool(self.file)

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


NOWHERE = SourceLocation()
"""The unknown location."""


class EventKind(str, Enum):
    """The kind of an event in a recorded program."""

    OPERATION = "operation"
    """An operation, recorded by autograd or not."""
    CUT = "cut"
    """Data left the graph: ``detach``, ``.data``, ``.item()``, ``.numpy()``, ``torch.tensor``."""
    MODE = "mode"
    """Gradient mode was switched: ``no_grad``, ``inference_mode``, ``set_grad_enabled``."""
    REQUIRES_GRAD = "requires_grad"
    """``requires_grad`` of a tensor was switched on or off."""
    IN_PLACE = "in-place"
    """A tensor was changed in place; its version counter went up."""
    BACKWARD = "backward"
    """``backward`` or ``torch.autograd.grad`` ran."""
    ACCUMULATE = "accumulate"
    """A gradient was accumulated into the ``.grad`` of a leaf."""
    GRAD = "grad"
    """``.grad`` was zeroed, set to None, assigned, or changed in place."""
    STEP = "step"
    """An optimizer changed the parameters."""
    HOOK = "hook"
    """A hook returned a different gradient than it received."""
    ERROR = "error"
    """An exception ended the recording, or a backward pass."""
    MARK = "mark"
    """A frame that the program requested: ``run.mark("now")``."""


class Action(str, Enum):
    """What an event did, where its kind does not determine it."""

    GRADIENTS_OFF = "gradients off"
    GRADIENTS_ON = "gradients on"
    INFERENCE_ON = "inference mode on"
    INFERENCE_OFF = "inference mode off"
    REQUIRES_GRAD_ON = "requires_grad on"
    REQUIRES_GRAD_OFF = "requires_grad off"
    SET_TO_NONE = "set to None"
    ZEROED = "zeroed"
    ASSIGNED = "assigned"
    CHANGED_IN_PLACE = "changed in place"
    UNSCALED = "unscaled"
    """``GradScaler`` divided the gradients by its scale; before, they were scaled."""
    CLIPPED = "clipped"
    """``clip_grad_norm_`` or ``clip_grad_value_``."""
    NOTHING_CLIPPED = "None: nothing clipped"
    """A function that clips gradients ran while each of them was None."""
    SKIPPED = "skipped"
    """A step that ``GradScaler`` skipped: a gradient was infinite or NaN."""
    AVERAGED = "averaged over the ranks"
    """``DistributedDataParallel`` averaged ``.grad`` after a backward pass."""
    HOOKED = "from its communication hook"
    """A communication hook of the program returned what it wrote into ``.grad`` instead."""
    NOT_COMBINED = "from its communication hook, which called no collective"
    """Such a hook returned what is of this rank alone."""
    REDUCED = "combined over the ranks"
    """A function of ``torch.distributed`` wrote gradients of several ranks into ``.grad``."""
    RECEIVED = "received from another rank"
    """A function of ``torch.distributed`` replaced values by those of another rank."""
    SENT = "sent to other ranks"
    """A function of ``torch.distributed`` read values, and wrote none on this rank."""
    NOT_SEEN = "autograd does not see it"
    """A function of ``torch.distributed`` wrote into a tensor of the graph."""
    DATA_REPLACED = "data replaced"
    """``x.data = ...``: other values, and the version counter does not change."""
    IN_STEP = "part of a step"
    """Code of an optimizer wrote values in place; the event of its step is about all of them."""
    REGISTERED = "registered"
    """A hook was registered."""
    BACKWARD = "backward"
    """``Tensor.backward`` or ``torch.autograd.backward``: accumulates into ``.grad``."""
    AUTOGRAD_GRAD = "autograd.grad"
    """``torch.autograd.grad``: returns gradients."""
    BEFORE_ACCUMULATION = "before accumulation"
    """A hook that runs before the gradient is accumulated into ``.grad``."""
    AFTER_ACCUMULATION = "after accumulation"
    """A hook that runs after it (``register_post_accumulate_grad_hook``)."""


FROM_OTHERS = (Action.REDUCED, Action.RECEIVED)
"""What wrote values of other ranks."""


@dataclass(frozen=True)
class VersionDetails:
    """A tensor was changed in place.

    Args:
        before, after: its version counter before and after the change.
        alias: if its own values were written into it, the line that made the alias with them.
    """

    before: int
    after: int
    alias: str = ""


class Loss(str, Enum):
    """What an operation returned in backward, to which a finite, nonzero gradient came."""

    ZERO = "zero"
    """All zeros."""
    NOT_FINITE = "not finite"
    """NaN or infinite elements."""
    MISSING = "missing"
    """None, from the backward of an ``autograd.Function``."""
    CANCELLED = "cancelled"
    """All zeros, because the gradients from the uses of its result add up to zeros."""
    ROUNDED = "rounded"
    """Rounding errors, because those gradients add up to zeros but for them."""
    UNIFORM = "uniform"
    """Zeros or rounding errors, of a softmax or layer norm: the same came for each entry."""


@dataclass(frozen=True)
class LostGradient:
    """A gradient that came to an operation in backward, finite and not zero, and went no further.

    Args:
        node: key of the operation.
        input: the input of it whose gradient was lost: 0, 1, ...
        loss: what it returned for that input.
    """

    node: str
    input: int
    loss: Loss


@dataclass(frozen=True)
class LeafGradient:
    """What one use of a leaf added to its ``.grad`` in a backward pass.

    Args:
        node: key of the operation that uses the leaf.
        input: which input of it: 0, 1, ...
        norm: Euclidean norm of what was added.
    """

    node: str
    input: int
    norm: float


@dataclass(frozen=True)
class BackwardDetails:
    """A backward pass.

    Args:
        pass_number: 1, 2, ... counts the passes that accumulate into ``.grad``; for
            ``autograd.grad``, the number of the latest of those.
        roots: keys of the tensors on which backward was called.
        inputs: keys of the tensors in ``inputs=``, "" for one that is in no frame; None without
            ``inputs=``. Of ``autograd.grad``, those whose gradient it returned.
        gradient_given, retain_graph, create_graph: the arguments of the call.
        has_failed: whether it raised an exception.
        zeros_given: whether all elements of the gradient that was passed are 0, where it was read.
        lost: where it lost a gradient, as far as that was watched.
        shares: what each use of a leaf with several uses, or passes, added, as far as watched.
    """

    pass_number: int
    roots: tuple[str, ...] = ()
    inputs: tuple[str, ...] | None = None
    gradient_given: bool = False
    retain_graph: bool = False
    create_graph: bool = False
    has_failed: bool = False
    lost: tuple[LostGradient, ...] = ()
    shares: tuple[LeafGradient, ...] = ()
    zeros_given: bool = False


@dataclass(frozen=True)
class GradientDetails:
    """A gradient was accumulated into the ``.grad`` of a leaf.

    Args:
        before, after: ``.grad``; None for no gradient.
        accumulations: number of passes accumulated in it; None when unknown.
        pass_number: of the backward pass.
        ranks: number of ranks over which ``DistributedDataParallel`` averaged it; 0 for none.
        unaveraged: number of ranks of a ``DistributedDataParallel`` module that contains the leaf
            and did not average it in this pass; 0 for none.
        is_beside: whether it is FSDP2 instead that reduced others in this pass, and not it.
    """

    before: TensorSummary | None
    after: TensorSummary | None
    accumulations: int | None = None
    pass_number: int = 0
    ranks: int = 0
    unaveraged: int = 0
    is_beside: bool = False


@dataclass(frozen=True)
class StepDetails:
    """An optimizer ran a step.

    Args:
        optimizer: the class name: ``"SGD"``.
        held: keys of the optimizer's parameters that are in a frame.
        changed: keys of those whose version counter increased.
        count: number of the optimizer's parameters.
        changed_count: number of those whose version counter increased.
        changed_values: number of those in which a value changed; None when not compared.
        names: names of those whose version counter increased, in order; "" for one without a name.
        same: keys of those whose version counter increased and in which no value changed.
        at_rest: keys of the parameters whose learning rate is 0.
        is_new: whether the optimizer had no state before it, and has one since.
        erased: keys of the parameters that it multiplied by 0 or less, by its weight decay.
        maximizes: whether it followed gradients upwards: ``maximize=True``.
        amplified: keys of the parameters with a momentum of 1 or more.
        undone: keys of those of whose change little was left when the next step began.
        plain: keys of the tensors, other than parameters, that do not require grad and have no
            gradient; "" for one that is in no frame.
    """

    optimizer: str
    held: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    count: int = 0
    changed_count: int = 0
    changed_values: int | None = None
    names: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    at_rest: tuple[str, ...] = ()
    is_new: bool = False
    erased: tuple[str, ...] = ()
    maximizes: bool = False
    amplified: tuple[str, ...] = ()
    undone: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()

    def argument_of(self, key: str) -> str:
        """The argument of the optimizer by which a parameter is likeliest to grow."""
        if key in self.erased:
            return "weight_decay"
        return "momentum" if key in self.amplified else "lr"


@dataclass(frozen=True)
class HookDetails:
    """A hook returned a different gradient than it received.

    Args:
        function: name of the hook function; "" for a lambda.
        before, after: the gradient that it received and returned; None for no gradient.
    """

    function: str
    before: TensorSummary | None
    after: TensorSummary | None


class ProblemKind(str, Enum):
    """Why a backward pass failed."""

    CHANGED_IN_PLACE = "changed in place"
    """A saved tensor was changed in place after the operation saved it."""
    FREED = "freed"
    """Saved tensors were freed by an earlier backward pass."""


@dataclass(frozen=True)
class Problem:
    """The node at which a backward pass failed, and why.

    Args:
        kind: the reason.
        node: key of the operation.
        op: its forward word: ``"exp"``.
        saved: the saved tensor's name in the operation: ``"self"``, ``"result"``.
        name: the user's name of the saved tensor, or "".
        is_result: whether the saved tensor is the result of the operation.
        wanted, found: its version counter when it was saved, and at the failure.
        changed_to: the version counter after the first later change; -1 when not recorded.
        changed_by: the function that made that change: ``"add_"``, ``"step"``; or "", not recorded.
        location: the line of that change, or of the backward pass that freed the tensors.
        inside: when that line called a library, the line of the library.
    """

    kind: ProblemKind
    node: str
    op: str = ""
    saved: str = ""
    name: str = ""
    is_result: bool = False
    wanted: int = -1
    found: int = -1
    changed_to: int = -1
    changed_by: str = ""
    location: SourceLocation = NOWHERE
    inside: SourceLocation = NOWHERE


@dataclass(frozen=True)
class ErrorDetails:
    """An exception.

    Args:
        error: the class name: ``"RuntimeError"``.
        message: the whole text.
        problem: the node at which backward failed, if known.
    """

    error: str
    message: str
    problem: Problem | None = None


Details = (
    VersionDetails | BackwardDetails | GradientDetails | StepDetails | HookDetails | ErrorDetails
)


@dataclass(frozen=True)
class SavedVerdict:
    """An answer of a diagnosis, as it is saved with a recording.

    Args:
        verdict: value of the ``Verdict``.
        name: the tensor, or the kind of error.
        reason, fix: as in an ``Explanation``.
        nodes: keys of nodes.
        locations: lines of the program.
        culprit: key of the node to mark; "" for none.
        frame: number of the frame that it is about, from 0; -1 when it is none of the saved ones.
        rule: name of the rule that answered.
        kind: of the tensor; None for an error, or if unknown.
        ranks: of a gathered story, the ranks that it is about; none if it is about all of them.
    """

    verdict: str
    name: str
    reason: str
    fix: str = ""
    nodes: tuple[str, ...] = ()
    locations: tuple[SourceLocation, ...] = ()
    culprit: str = ""
    frame: int = -1
    rule: str = ""
    kind: NodeKind | None = None
    ranks: tuple[int, ...] = ()


class RankState(str, Enum):
    """What `gradviz.gather` has received from a rank."""

    GATHERED = "gathered"
    """Its graph and its gradients."""
    NO_GRAPH = "no graph"
    """It answered, and has recorded no graph."""
    NO_ANSWER = "no answer"
    """It did not answer within the time limit."""
    STOPPED = "stopped"
    """It had not answered when this process received SIGTERM."""


@dataclass(frozen=True)
class RankTensor:
    """A tensor of one rank, where it differs from that in the frame.

    Args:
        node: key of the node in the frame.
        grad: its ``.grad``; None when that is None.
        value: its value; None when it is not read, or is that in the frame.
    """

    node: str
    grad: TensorSummary | None = None
    value: TensorSummary | None = None


@dataclass(frozen=True)
class RankRecord:
    """One rank of a gathered story.

    Args:
        rank: 0, 1, ...
        state: what was received from it.
        frame: number of the frame with its structure, from 0; -1 without a graph.
        pass_number: the backward pass after which its graph was taken; 0 before the first.
        tensors: those that differ from the frame.
        absent: keys of nodes of the first frame that its graph does not have.
        added: number of nodes of its graph that the first frame does not have.
        seconds: without an answer, how long it was waited for.
    """

    rank: int
    state: RankState
    frame: int = -1
    pass_number: int = 0
    tensors: tuple[RankTensor, ...] = ()
    absent: tuple[str, ...] = ()
    added: int = 0
    seconds: float = 0.0


class FrameKind(str, Enum):
    """When a frame was taken."""

    SNAPSHOT = "snapshot"
    """Outside of a recording, by the user or by `trace`."""
    FORWARD = "forward"
    """At the end of a forward pass, just before a backward pass."""
    AFTER_BACKWARD = "after backward"
    AFTER_AUTOGRAD_GRAD = "after autograd.grad"
    AFTER_GRADIENT_CHANGE = "after gradient change"
    """After ``zero_grad``, ``clip_grad_norm_``, ``w.grad = None``, ..."""
    AFTER_STEP = "after step"
    FAILED_BACKWARD = "failed backward"
    REFUSED_BACKWARD = "refused backward"
    """``backward()`` or ``autograd.grad`` raised before any node ran, and ended the recording."""
    ERROR = "error"
    """An exception ended the recording outside of backward."""
    RESULT = "result"
    """Before a cut, in a recording without backward pass: results that variables lost since."""
    MARK = "mark"
    END = "end"


class PlainContainer(NamedTuple):
    """Where a model stores a parameter that ``parameters()`` does not include.

    Args:
        container: its path in the model: ``"layers"``.
        kind: ``"list"``, ``"tuple"``, ``"dict"``, or the class of an object that is no module.
        owner: the class of the model: ``"Net"``.
        of_modules: whether it contains modules; otherwise parameters.
        inner: type of the container in it that contains them; "" for none.
    """

    container: str
    kind: str
    owner: str
    of_modules: bool
    inner: str = ""


class Flag(NamedTuple):
    """An attribute that was set in order to freeze a parameter, but has no effect.

    Args:
        attribute: ``"require_grad"``.
        owner: the class of the module that has it; "" if the parameter itself has it.
        parameter: path of the parameter within that module.
    """

    attribute: str
    owner: str
    parameter: str


class TrainingSets(NamedTuple):
    """What the modules and optimizers of a program held while it ran, by the keys of leaves.

    Args:
        plain: parameters in a plain container of a module.
        flags: parameters for which an attribute without effect was set.
        waiting: parameters of optimizers that made no step, with the class of the optimizer.
        held: the parameters of all optimizers.
        elsewhere: the number of steps of optimizers in other threads, which are not recorded.
        names: the names of the parameters of optimizers.
    """

    plain: Mapping[str, PlainContainer]
    flags: Mapping[str, Flag]
    waiting: Mapping[str, str]
    held: frozenset[str]
    elsewhere: int
    names: Mapping[str, str]


class CutEdge(NamedTuple):
    """An edge at which data was cut from the graph."""

    source: str
    target: str
    edge: EdgeData


class ValueRead(NamedTuple):
    """Where data of a leaf became a number or an array.

    Args:
        cut: where the gradient was cut, there or before.
        word: what read it: ``"item"``.
        source: the line.
        inside: when that line called a library, the line of the library; else "".
    """

    cut: CutEdge
    word: str
    source: str
    inside: str = ""

    @property
    def has_no_gradient(self) -> bool:
        """Whether the data was an index or a sign before, which has no gradient in any case."""
        return self.cut.edge.get("cause") is Cause.NOT_DIFFERENTIABLE


class DataFlow(NamedTuple):
    """Where data of leaves went, other than along gradient edges, by the keys of the leaves.

    Args:
        lost: the cuts of their paths to the roots; also for leaves that are not in the graph.
        numbers: where their data became numbers or arrays.
        copies: for leaves into which values of others were written, those others.
        flat: for parameters that FSDP1 has merged into a flat one, the key of that one.
    """

    lost: Mapping[str, Sequence[CutEdge]]
    numbers: Mapping[str, Sequence[ValueRead]]
    copies: Mapping[str, Sequence[str]]
    flat: Mapping[str, str]


class PartCall(NamedTuple):
    """Which parts of a module were not called, for a parameter in one of them.

    Args:
        path: the path of the parameter in the module.
        uncalled: the parts; none if the part with the parameter was called.
    """

    path: str = ""
    uncalled: tuple[str, ...] = ()
