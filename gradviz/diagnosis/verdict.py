"""What can be the matter with a gradient, or with a backward pass that raised."""

from __future__ import annotations

from enum import Enum

__all__ = ["Group", "Verdict"]


class Group(str, Enum):
    """What a verdict is about."""

    NO_GRADIENT = "no gradient"
    """The ``.grad`` is None."""
    GRADIENT = "gradient"
    """The ``.grad`` is a tensor."""
    TRAINING = "training"
    """How a tensor is trained, whether or not it has a gradient."""
    ERROR = "error"
    """An exception."""


class Verdict(str, Enum):
    """Why a gradient is what it is, or what an error means.

    Example:
        >>> Verdict("cut") is Verdict.CUT, Verdict.CUT.group.value
        (True, 'no gradient')
    """

    group: Group
    """What it is about."""

    def __new__(cls, value: str, group: Group) -> Verdict:
        """Make a member whose value is the text alone."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.group = group
        return member

    NOT_RUN = "backward not run", Group.NO_GRADIENT
    """Connected, and no backward pass has added anything."""
    NOT_CONNECTED = "not connected", Group.NO_GRADIENT
    """No way for a gradient leads to it from the root."""
    CUT = "cut", Group.NO_GRADIENT
    """Data flowed from it to the root, but every way back is cut."""
    FROZEN = "frozen", Group.NO_GRADIENT
    """A parameter, or a leaf whose ``requires_grad`` was switched off."""
    UNTRACKED = "does not require grad", Group.NO_GRADIENT
    """A tensor that autograd does not follow, for a reason that was not recorded."""
    INTEGER = "integer dtype", Group.NO_GRADIENT
    """Integers and booleans have no gradient."""
    INFERENCE = "inference tensor", Group.NO_GRADIENT
    """Made under ``inference_mode``."""
    NON_LEAF = "not a leaf", Group.NO_GRADIENT
    """The result of an operation, on which ``retain_grad()`` was not called."""
    CLEARED = "cleared", Group.NO_GRADIENT
    """There was a gradient, and ``zero_grad`` or the like has taken it away."""
    LEFT_OUT = "left out", Group.NO_GRADIENT
    """``backward(inputs=...)`` did not list it, or ``torch.autograd.grad`` ran instead."""
    NOT_KNOWN = "cause not recorded", Group.NO_GRADIENT
    """No gradient, and what is left of the program does not tell why."""
    ZERO = "zero", Group.GRADIENT
    """The gradient is all zeros."""
    ACCUMULATED = "accumulated", Group.GRADIENT
    """Several backward passes have been added up."""
    NAN = "NaN", Group.GRADIENT
    """The gradient has NaN elements."""
    INFINITE = "infinite", Group.GRADIENT
    """The gradient has infinite elements, and no NaN."""
    EXPLODING = "exploding", Group.GRADIENT
    """Over a thousand times larger than at the parameter next to the root."""
    VANISHING = "vanishing", Group.GRADIENT
    """Over a thousand times smaller than at the parameter next to the root."""
    HOOK = "hook returned another", Group.GRADIENT
    """A hook put another gradient in place of the one that came to it."""
    STALE = "stale", Group.GRADIENT
    """The gradient is older than the values of the tensor, and will not be used for them."""
    SPARSE = "sparse", Group.GRADIENT
    """The gradient is a sparse tensor."""
    FINE = "fine", Group.GRADIENT
    """A gradient as it should be."""

    NOT_TRAINED = "left out of the optimizer", Group.TRAINING
    """It has a gradient, and no optimizer that stepped holds it."""
    NOT_REGISTERED = "not registered", Group.TRAINING
    """A parameter that the model uses, and does not list among its parameters."""
    MOVED = "frozen but updated", Group.TRAINING
    """``requires_grad`` is False, and an optimizer still changes it."""
    WITHOUT_EFFECT = "attribute without effect", Group.TRAINING
    """An attribute like ``requires_grad`` was set that nothing reads."""
    NOT_IN_A_GRAPH = "in no graph", Group.TRAINING
    """An optimizer holds parameters that no recorded result depends on."""
    CLIPPED_SCALED = "clipped while scaled", Group.TRAINING
    """Its gradient was clipped before ``GradScaler`` unscaled it."""

    NO_GRAPH = "nothing to differentiate", Group.ERROR
    """An error: a gradient was asked for from, or of, a tensor that does not require grad."""
    USED_UP = "backward a second time", Group.ERROR
    """An error: the saved tensors were freed by an earlier backward pass."""
    CHANGED_IN_PLACE = "changed in place", Group.ERROR
    """An error: a saved tensor has been changed since."""
    NOT_SCALAR = "not a scalar", Group.ERROR
    """An error: one number is needed, as backward needs it, and there are several."""
    LEAF_CHANGED = "leaf changed in place", Group.ERROR
    """An error: an in-place operation on a leaf that requires grad, or on a view of it."""
    VIEW_CHANGED = "view changed in place", Group.ERROR
    """An error: an in-place operation on one of several views that came from one call."""
    INFERENCE_USED = "inference tensor used", Group.ERROR
    """An error: autograd was given a tensor made under ``inference_mode``."""
    NOT_USED = "input not used", Group.ERROR
    """An error: ``torch.autograd.grad`` was asked for an input that the output has not."""
    UNUSED_PARAMETERS = "unused parameters", Group.ERROR
    """An error: ``DistributedDataParallel`` waits for gradients that never come."""
    WRONG_BACKWARD = "wrong backward", Group.ERROR
    """An error: a custom ``backward`` returned what does not fit its forward."""
    NAN_RETURNED = "NaN in backward", Group.ERROR
    """An error: anomaly mode found NaN in what the backward of an operation returned."""
    NOT_FLOATING = "not floating point", Group.ERROR
    """An error: ``requires_grad`` was asked of integers."""
    NOT_A_LEAF = "no leaf", Group.ERROR
    """An error: something that only a leaf can do was asked of the result of an operation."""
    NUMPY = "numpy", Group.ERROR
    """An error: ``numpy()`` of a tensor that requires grad."""
    WRONG_GRADIENT = "wrong gradient", Group.ERROR
    """An error: a gradient given to backward, returned by a hook or assigned does not fit."""
    NOT_A_TENSOR = "no tensor", Group.ERROR
    """An error: a number, an array or None stands where a tensor is needed."""
    OPTIMIZER = "optimizer refused", Group.ERROR
    """An error: an optimizer was given no parameters, or something that it cannot update."""
    NO_DERIVATIVE = "no derivative", Group.ERROR
    """An error: an operation that cannot be differentiated, or not once more."""
    CHECKPOINT = "checkpoint", Group.ERROR
    """An error: a checkpoint that cannot be computed again as it was, or not in this way."""
    DISTRIBUTED = "distributed", Group.ERROR
    """An error: several processes, or ``DistributedDataParallel``, do not fit together."""
    BACKWARD_RAISED = "backward raised", Group.ERROR
    """An error: a backward pass raised something that no other verdict is about."""
    OTHER_ERROR = "another error", Group.ERROR
    """An error that has to do with none of the above."""

    @property
    def state(self) -> str:
        """What a table says of it: ``no gradient``, ``zero``, ``error``, ...

        Example:
            >>> Verdict.CUT.state, Verdict.ZERO.state, Verdict.NOT_SCALAR.state
            ('no gradient', 'zero', 'error')
        """
        is_its_own = self.group in (Group.GRADIENT, Group.TRAINING)
        return str(self.value if is_its_own else self.group.value)

    @property
    def anchor(self) -> str:
        """The name of its section in the docs, and of its example: ``docs/verdicts/cut.py``.

        Example:
            >>> Verdict.CUT.anchor, Verdict.NOT_RUN.anchor
            ('cut', 'backward-not-run')
        """
        return str(self.value).lower().replace(" ", "-")

    @property
    def is_error(self) -> bool:
        """Whether it is about an exception."""
        return self.group is Group.ERROR
