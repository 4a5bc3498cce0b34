"""What can be the matter with a gradient, or with a backward pass that raised."""

from __future__ import annotations

from enum import Enum

__all__ = ["Verdict"]


class Verdict(str, Enum):
    """Why a gradient is what it is, or what an error means."""

    NOT_RUN = "backward not run"
    """Connected, and no backward pass has added anything."""
    NOT_CONNECTED = "not connected"
    """No way for a gradient leads to it from the root."""
    CUT = "cut"
    """Data flowed from it to the root, but every way back is cut."""
    FROZEN = "frozen"
    """A parameter, or a leaf whose ``requires_grad`` was switched off."""
    UNTRACKED = "does not require grad"
    """A tensor that autograd does not follow, for a reason that was not recorded."""
    INTEGER = "integer dtype"
    """Integers and booleans have no gradient."""
    INFERENCE = "inference tensor"
    """Made under ``inference_mode``."""
    NON_LEAF = "not a leaf"
    """The result of an operation, on which ``retain_grad()`` was not called."""
    CLEARED = "cleared"
    """There was a gradient, and ``zero_grad`` or the like has taken it away."""
    LEFT_OUT = "left out"
    """``backward(inputs=...)`` did not list it, or ``torch.autograd.grad`` ran instead."""
    NOT_KNOWN = "cause not recorded"
    """No gradient, and what is left of the program does not tell why."""
    ZERO = "zero"
    """The gradient is all zeros."""
    ACCUMULATED = "accumulated"
    """Several backward passes have been added up."""
    NAN = "NaN"
    """The gradient has NaN elements."""
    INFINITE = "infinite"
    """The gradient has infinite elements, and no NaN."""
    EXPLODING = "exploding"
    """Over a thousand times larger than at the parameter next to the root."""
    VANISHING = "vanishing"
    """Over a thousand times smaller than at the parameter next to the root."""
    HOOK = "hook returned another"
    """A hook put another gradient in place of the one that came to it."""
    STALE = "stale"
    """The gradient is older than the values of the tensor, and will not be used for them."""
    SPARSE = "sparse"
    """The gradient is a sparse tensor."""
    FINE = "fine"
    """A gradient as it should be."""

    NO_GRAPH = "nothing to differentiate"
    """An error: a gradient was asked for from, or of, a tensor that does not require grad."""
    USED_UP = "backward a second time"
    """An error: the saved tensors were freed by an earlier backward pass."""
    CHANGED_IN_PLACE = "changed in place"
    """An error: a saved tensor has been changed since."""
    NOT_SCALAR = "not a scalar"
    """An error: one number is needed, as backward needs it, and there are several."""
    LEAF_CHANGED = "leaf changed in place"
    """An error: an in-place operation on a leaf that requires grad, or on a view of it."""
    VIEW_CHANGED = "view changed in place"
    """An error: an in-place operation on one of several views that came from one call."""
    INFERENCE_USED = "inference tensor used"
    """An error: autograd was given a tensor made under ``inference_mode``."""
    NOT_USED = "input not used"
    """An error: ``torch.autograd.grad`` was asked for an input that the output has not."""
    UNUSED_PARAMETERS = "unused parameters"
    """An error: ``DistributedDataParallel`` waits for gradients that never come."""
    WRONG_BACKWARD = "wrong backward"
    """An error: a custom ``backward`` returned what does not fit its forward."""
    NAN_RETURNED = "NaN in backward"
    """An error: anomaly mode found NaN in what the backward of an operation returned."""
    NOT_FLOATING = "not floating point"
    """An error: ``requires_grad`` was asked of integers."""
    NOT_A_LEAF = "no leaf"
    """An error: something that only a leaf can do was asked of the result of an operation."""
    NUMPY = "numpy"
    """An error: ``numpy()`` of a tensor that requires grad."""
    WRONG_GRADIENT = "wrong gradient"
    """An error: a gradient given to backward, returned by a hook or assigned does not fit."""
    NOT_A_TENSOR = "no tensor"
    """An error: a number, an array or None stands where a tensor is needed."""
    OPTIMIZER = "optimizer refused"
    """An error: an optimizer was given no parameters, or something that it cannot update."""
    NO_DERIVATIVE = "no derivative"
    """An error: an operation that cannot be differentiated, or not once more."""
    CHECKPOINT = "checkpoint"
    """An error: a checkpoint that cannot be computed again as it was, or not in this way."""
    OTHER_ERROR = "another error"
    """An error that has to do with none of the above."""

    @property
    def state(self) -> str:
        """What a table says of it: ``no gradient``, ``zero``, ``error``, ...

        Example:
            >>> Verdict.CUT.state, Verdict.ZERO.state, Verdict.NOT_SCALAR.state
            ('no gradient', 'zero', 'error')
        """
        if self.is_error:
            return "error"
        return "no gradient" if self in _WITHOUT else self.value

    @property
    def anchor(self) -> str:
        """The name of its section in the docs, and of its example: ``docs/verdicts/cut.py``.

        Example:
            >>> Verdict.CUT.anchor, Verdict.NOT_RUN.anchor
            ('cut', 'backward-not-run')
        """
        return self.value.lower().replace(" ", "-")

    @property
    def is_error(self) -> bool:
        """Whether it is about an exception."""
        return self in _ERRORS


_ALL = list(Verdict)
_WITHOUT = frozenset(_ALL[: _ALL.index(Verdict.ZERO)])
_ERRORS = frozenset(_ALL[_ALL.index(Verdict.NO_GRAPH) :])
