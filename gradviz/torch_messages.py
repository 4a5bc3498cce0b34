"""PyTorch's exception texts; this is the only file that parses them.

Each member of `MessageKind` is one text of PyTorch as a pattern, with the versions in which it
was seen. `read_message` converts the text of an exception to a typed `TorchMessage`. This file
does not import torch, so that a saved recording can be explained without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class MessagePattern:
    """A pattern for an exception text of PyTorch, or of Python about a tensor."""

    pattern: re.Pattern[str]  # a regular expression; its named groups are fields of `TorchMessage`
    seen: tuple[str, ...]  # versions of PyTorch in which the text was seen


def _seen(pattern: str) -> MessagePattern:
    return MessagePattern(re.compile(pattern, re.DOTALL), ("2.12", "2.13"))


_SIZE = r"\[[\d, ]*\]"
_NODE = r"(?:\w+::)*(?P<node>\w+)"
_BARE = r"(?:\w+::)*(?P<node>\w+?)(?:Backward\d*)?\b"


class MessageKind(Enum):
    """The exception texts, in the order in which they are tried."""

    def matches(self, text: str) -> bool:
        """Whether an exception text matches the pattern."""
        return self.value.pattern.search(text) is not None

    ROOT_WITHOUT_GRAPH = _seen(r"element \d+ of (?:tensors|variables) does not require grad")
    RETAIN_GRAD_WITHOUT_GRAPH = _seen(r"can't retain_grad on Tensor that has requires_grad=False")
    HOOK_WITHOUT_GRAPH = _seen(r"cannot register a hook on a tensor that doesn't require gradient")
    FREED = _seen(r"Trying to backward through the graph a second time")
    HOOKS_ON_FREED = _seen(r"register_hooks on a saved tensor after it has been freed")
    HOOKS_ON_NOTHING = _seen(r"register_hooks on a saved tensor with value None")
    CHANGED_IN_PLACE = _seen(
        r"modified by an inplace operation: \[[\w.]+(?: (?P<shape>" + _SIZE + r"))?\]"
        rf"(?:, which is output \d+ of {_BARE},)? is at version (?P<found>\d+); "
        r"expected version (?P<wanted>\d+)"
    )
    NOT_A_SCALAR = _seen(r"grad can be implicitly created only for scalar outputs")
    COMPLEX_ROOT = _seen(
        r"grad can be implicitly created only for real scalar outputs but got torch\.(?P<got>\w+)"
    )
    NAN_RETURNED = _seen(rf"Function '{_NODE}' returned nan values in its (?P<index>\d+)th output")
    LEAF_VIEW_CHANGED = _seen(
        r"a view of a leaf Variable that requires grad is being used in an in-place operation"
    )
    LEAF_CHANGED = _seen(
        r"a leaf Variable that requires grad is being used in an in-place operation"
    )
    RESIZED = _seen(r"cannot resize variables that require grad")
    LEAF_MOVED = _seen(r"leaf variable has been moved into the graph interior")
    SAVED_DETACHED = _seen(r"Trying to use a saved tensor that has been detached in-place")
    INFERENCE_SAVED = _seen(r"Inference tensors cannot be saved for backward")
    INFERENCE_CHANGED = _seen(r"Inplace update to inference tensor outside InferenceMode")
    INFERENCE_REQUIRES_GRAD = _seen(
        r"Setting requires_grad=True on inference tensor outside InferenceMode"
    )
    VIEW_FROM_NO_GRAD = _seen(
        r"view was created in no_grad mode and (?:is being|its base or another view of its base "
        r"has been) modified inplace"
    )
    VIEW_OF_HOOKED_MODULE = _seen(
        r"Output \d+ of (?P<node>BackwardHookFunction)(?:Backward)? is a view and (?:is being|its "
        r"base or another view of its base has been) modified inplace"
    )
    VIEW_FROM_FUNCTION = _seen(
        rf"Output \d+ of {_BARE} is a view and is being modified inplace\. This view was created "
        r"inside a custom Function"
    )
    BASE_OF_FUNCTION_VIEW = _seen(
        rf"Output \d+ of {_BARE} is a view and its base or another view of its base has been "
        r"modified inplace\. This view was created inside a custom Function"
    )
    BASE_OF_SEVERAL_VIEWS = _seen(
        rf"Output \d+ of {_BARE} is a view and its base or another view of its base has been "
        r"modified inplace"
    )
    ONE_OF_SEVERAL_VIEWS = _seen(rf"Output \d+ of {_BARE} is a view and is being modified inplace")
    VIEW_DETACHED = _seen(r"Can't detach views in-place")
    SHARED_MEMORY = _seen(
        r"more than one element of the written-to tensor refers to a single memory location"
    )
    NON_LEAF_OPTIMIZED = _seen(r"can't optimize a non-leaf Tensor")
    NON_LEAF_COPIED = _seen(r"Only Tensors created explicitly by the user .* deepcopy protocol")
    NON_LEAF_SENT = _seen(r"Cowardly refusing to serialize non-leaf tensor which requires_grad")
    NON_LEAF_FROZEN = _seen(r"you can only change requires_grad flags of leaf variables")
    NON_LEAF_HOOKED = _seen(r"post accumulate grad hooks cannot be registered on non-leaf tensors")
    PARAMETER_REPLACED = _seen(
        r"cannot assign '[\w.]*Tensor'(?: object)? (?:as|to) parameter '(?P<name>[^']+)'"
    )
    INPUT_WITHOUT_GRAPH = _seen(r"One of the differentiated Tensors does not require grad")
    INPUT_NOT_USED = _seen(
        r"(?:The differentiated Tensor at index (?P<index>\d+)|One of the differentiated Tensors) "
        r"appears to not have been used"
    )
    RETURNED_ANOTHER_SHAPE = _seen(
        rf"Function {_NODE} returned an invalid gradient at index (?P<index>\d+) - got "
        rf"(?P<got>{_SIZE}) but expected shape compatible with (?P<expected>{_SIZE})"
    )
    RETURNED_ANOTHER_DEVICE = _seen(
        rf"Function {_NODE} returned an invalid gradient at index (?P<index>\d+) - expected device "
        r"(?P<expected>\S+) but got (?P<got>\S+)"
    )
    RETURNED_ANOTHER_COUNT = _seen(
        rf"function {_NODE} returned an incorrect number of gradients \(expected (?P<wanted>\d+), "
        r"got (?P<found>\d+)\)"
    )
    RETURNED_NO_TENSOR = _seen(r"expected Variable or None \(got (?P<python_type>\w+)\)")
    NO_BACKWARD = _seen(r"You must implement either the backward or vjp method")
    SAVED_NO_TENSOR = _seen(
        r"save_for_backward can only save variables, but argument (?P<index>\d+) is of type "
        r"(?P<python_type>\w+)"
    )
    FORWARD_NOT_STATIC = _seen(r"Legacy autograd function with non-static forward method")
    DIFFERENTIATED_TWICE = _seen(
        r"trying to differentiate twice a function that was marked with @once_differentiable"
    )
    DIRTY_NOT_RETURNED = _seen(
        r"elements marked as dirty during the forward method were not returned as output"
    )
    GRADCHECK = _seen(
        r"Jacobian mismatch for output (?P<found>\d+) with respect to input (?P<index>\d+)"
    )
    NOT_FLOATING = _seen(
        r"[Oo]nly Tensors of floating point(?: and complex)? dtype can require gradients"
    )
    NUMPY = _seen(r"Can't call numpy\(\) on Tensor that requires grad")
    PYTHON_FUNCTION = _seen(
        r"Can't call (?P<operation>apply|map|map2)_\(\) on Variable that requires grad"
    )
    DATA_NOT_FLOATING = _seen(
        r"data set to a tensor that requires gradients must be floating point"
    )
    GIVEN_ANOTHER = _seen(
        r"Mismatch in (?P<aspect>shape|dtype): grad_output\[(?P<index>\d+)\] has a \w+ of "
        r"(?:torch\.Size\()?(?:torch\.)?(?P<got>[\w\[\], ]+?)\)? and output\[\d+\] has a \w+ of "
        r"(?:torch\.Size\()?(?:torch\.)?(?P<expected>[\w\[\], ]+?)\)?\."
    )
    GIVEN_ANOTHER_DEVICE = _seen(
        r"^invalid gradient at index (?P<index>\d+) - expected device (?P<expected>\S+) but got "
        r"(?P<got>\S+)"
    )
    ASSIGNED_ANOTHER_SHAPE = _seen(
        rf"attempting to assign a gradient of size '(?P<got>{_SIZE})' to a tensor of size "
        rf"'(?P<expected>{_SIZE})'"
    )
    ASSIGNED_ANOTHER_DTYPE = _seen(
        r"attempting to assign a gradient with dtype '(?P<got>\w+)' to a tensor with \w+ "
        r"'(?P<expected>\w+)'"
    )
    ASSIGNED_ANOTHER_DEVICE = _seen(
        r"attempting to assign a gradient (?:with|of) device type '(?P<got>\w+)' to a tensor "
        r"(?:with|of) device type '(?P<expected>\w+)'"
    )
    ASSIGNED_NO_TENSOR = _seen(
        r"assigned grad expected to be a Tensor or None but got grad of type (?P<python_type>\w+)"
    )
    HOOK_CHANGED_SHAPE = _seen(r"hook '(?P<name>.*)' has changed the size of value")
    HOOK_CHANGED_TYPE = _seen(
        r"hook '(?P<name>.*)' has changed the type of value "
        r"\(was (?P<expected>\S+) got (?P<got>\S+)\)"
    )
    HOOK_RETURNED_NO_TENSOR = _seen(r"expected Variable, but hook returned '(?P<python_type>\w+)'")
    MODULE_HOOK_COUNT = _seen(
        r"Backward hook returned an invalid number of grad_input, got (?P<found>\d+), but expected "
        r"(?P<wanted>\d+)"
    )
    MODULE_HOOK_OF_DATA = _seen(
        r"Backward hook for Modules where no input requires gradient should always return None"
    )
    NO_TENSOR = _seen(
        r"'(?:\w+\.)*(?P<python_type>\w+)' object has no attribute "
        r"'(?P<attribute>backward|requires_grad_|retain_grad)'"
    )
    NONE_ATTRIBUTE = _seen(r"'NoneType' object has no attribute '(?P<attribute>\w+)'")
    NONE_OPERAND = _seen(
        r"unsupported operand type\(s\) for (?P<operator>.+?): (?=.*'NoneType')"
        r"'(?P<left>[\w.]+)' and '(?P<right>[\w.]+)'"
    )
    NONE_COMPARED = _seen(
        r"(?=.*'NoneType')'(?P<operator>[<>]=?)' not supported between instances of "
        r"'(?P<left>[\w.]+)' and '(?P<right>[\w.]+)'"
    )
    NONE_NEGATED = _seen(r"bad operand type for (?P<operator>unary -|abs\(\)): 'NoneType'")
    NONE_INDEXED = _seen(
        r"'NoneType' object (?:is not subscriptable|does not support item assignment)"
    )
    NONE_ARGUMENT = _seen(r"but got (?:NoneType|<class 'NoneType'>)|must be Tensor, not NoneType")
    NONE_ITERATED = _seen(r"'NoneType' object is not iterable|object of type 'NoneType' has no len")
    NUMBER_GIVEN = _seen(r"'(?P<python_type>int|float)' object is not iterable")
    NO_PARAMETERS = _seen(r"optimizer got an empty parameter list")
    NOT_PARAMETERS = _seen(
        r"params argument given to the optimizer should be an iterable of Tensors or dicts, but got"
        r" (?P<python_type>[\w.]+)"
    )
    NOT_A_PARAMETER = _seen(
        r"optimizer can only optimize Tensors, but one of the params is (?P<python_type>[\w.]+)"
    )
    GRADIENT_LAYOUT = _seen(r"(?P<name>\w+) does not support (?P<got>sparse|dense) gradients")
    SPARSE_ADDED = _seen(r"add\(sparse, dense\) is not supported")
    STATE_OF_ANOTHER = _seen(
        r"loaded state dict (?:contains a parameter group that doesn't match the size of|has a "
        r"different number of parameter groups)"
    )
    NORM_NOT_FINITE = _seen(
        r"total norm of order \S+ for gradients from `parameters` is non-finite"
    )
    NOT_FINITE_GIVEN = _seen(
        r"to satisfy the constraint .*, but found invalid values|probability tensor contains either"
        r" `inf`, `nan` or element < 0|failed to converge because the input matrix|matrix contains "
        r"invalid numeric entries|must not contain infs or NaNs|[Ii]nput(?: \w+)? contains NaN|"
        r"normal expects all elements of std >= 0|Expected p_in >= 0 && p_in <= 1|invalid Poisson "
        r"rate|range (?:of )?\[\S+ \S+\] is not finite|cannot convert float (?:NaN|infinity) to "
        r"integer|because the input is not positive-definite"
    )
    PARAMETER_TWICE = _seen(r"some parameters appear in more than one parameter group")
    NO_CLOSURE = _seen(
        r"(?P<name>\w*)\.?step\(\) missing 1 required positional argument: 'closure'"
    )
    SCALER_WITHOUT_GRADIENTS = _seen(r"No inf checks were recorded for this optimizer")
    STEPPED_TWICE = _seen(
        r"step\(\) has already been called since|unscale_\(\) is being called after"
    )
    SCALER_WITHOUT_STEP = _seen(r"No inf checks were recorded prior to update")
    NOT_SCALED = _seen(r"Attempted (?P<operation>\w+) but _scale is None")
    EMPTY_LIST = _seen(r"Expected !nested_tensorlist\[0\]\.empty\(\) to be true")
    UNSCALED_TWICE = _seen(r"unscale_\(\) has already been called on this optimizer")
    UNSCALED_HALF = _seen(r"Attempting to unscale FP16 gradients")
    NO_DERIVATIVE = _seen(
        r"the derivative for '(?P<operation>\w+)(?:: (?P<argument>\w+))?' is not implemented"
    )
    NO_DERIVATIVE_ATEN = _seen(r"derivative for (?:\w+::)?(?P<operation>\w+) is not implemented")
    NO_DERIVATIVE_CUSTOM = _seen(
        r"Trying to backward through (?:(?P<library>\w+)\.)?(?P<operation>\w+)(?:\.\w+)? but no "
        r"autograd formula was registered"
    )
    NEGATIVE_SLOPE = _seen(r"In-place \w+ backward calculation is triggered with a negative slope")
    WHOLE_QR = _seen(r"QR decomposition is not differentiable when mode='(?P<argument>complete)'")
    QR_WITHOUT_Q = _seen(
        r"derivative of linalg\.qr depends on Q, which is not computed when mode='(?P<argument>r)'"
    )
    PHASE = _seen(
        r"(?P<operation>\w+)_backward: The (?P<argument>\w+ ?vectors) in the complex case are "
        r"specified up to"
    )
    BATCHED_IN_WORKER = _seen(
        r"in DataLoader worker process(?s:.*)stack\(\): functions with out=\.\.\. arguments don't"
    )
    TRACED_CONSTANT = _seen(r"Cannot insert a Tensor that requires grad as a constant")
    OUT_ARGUMENT = _seen(
        r"(?P<operation>\w+)\(\): functions with out=\.\.\. arguments don't support automatic "
        r"differentiation"
    )
    CHECKPOINT_METADATA = _seen(
        r"Recomputed values for the following tensors have different metadata(?:.*?saved metadata: "
        rf"\{{'shape': torch\.Size\((?P<expected>{_SIZE})\).*?recomputed metadata: \{{'shape': "
        rf"torch\.Size\((?P<got>{_SIZE})\))?"
    )
    CHECKPOINT_FEWER = _seen(
        r"A different number of tensors was saved during the original forward and recomputation"
        r"(?:.*?forward: (?P<wanted>\d+).*?recomputation: (?P<found>\d+))?"
    )
    CHECKPOINT_MORE = _seen(r"trying to save more tensors during recomputation")
    CHECKPOINT_REENTRANT = _seen(r"use_reentrant=True, torch.utils.checkpoint is incompatible with")
    NOT_ONE_ELEMENT = _seen(r"a Tensor with (?P<found>\d+) elements cannot be converted to Scalar")
    NOT_ONE_NUMBER = _seen(r"only one element tensors can be converted to Python scalars")
    NOT_ONE_BOOLEAN = _seen(r"Boolean value of Tensor with more than one value is ambiguous")
    FUNC_NOT_A_SCALAR = _seen(
        r"grad_and_value.*Expected f\(\*args\) to return a scalar Tensor, got tensor with "
        r"(?P<found>\d+) dims"
    )
    HESSIAN_NOT_A_SCALAR = _seen(
        r"returned by the function given to hessian should contain a single element"
    )
    TRANSFORMED_REQUIRES_GRAD = _seen(
        r"attempting to call Tensor\.requires_grad_\(\) .* being transformed"
    )
    TRANSFORMED_BACKWARD = _seen(r"backward\(\) called inside a functorch transform")
    VMAP_NUMBER = _seen(
        r"vmap: It looks like you're (?:either \(1\) )?(?:calling \.item\(\) on a Tensor|"
        r"attempting to use a Tensor in some data-dependent control flow)"
    )
    VMAP_RANDOM = _seen(r"vmap: called random operation while in randomness error mode")
    FUNC_SEVERAL = _seen(r"Expected f\(\*args\) to return a Tensor, got <class 'tuple'>")
    ONE_VALUE = _seen(r"Expected more than 1 (?:value per|spatial element) .*when training")
    NO_PROBABILITIES = _seen(r"all elements of input should be between 0 and 1")
    CLASSES_ARE_FLOATS = _seen(r"expected target dtype to be Long")
    INTEGERS_CHANGED = _seen(r"Float can't be cast to the desired output type (?:Long|Int)")
    OTHER_DTYPE = _seen(r"mat1 and mat2 must have the same dtype, but got")
    BFLOAT16_NUMPY = _seen(r"Got unsupported ScalarType BFloat16")
    NO_SUPER = _seen(r"cannot assign \w+ before Module.__init__\(\) call")
    DDP_UNUSED = _seen(
        r"Expected to have finished reduction in the prior iteration"
        r"(?:.*?did not receive grad for rank \d+: (?P<indices>[\d ]+))?"
    )
    DDP_MARKED_TWICE = _seen(
        r"Expected to mark a variable ready only once"
        r"(?:.*?Parameter at index (?P<index>\d+)(?: with name (?P<name>\S+))? has been marked as "
        r"ready)?"
    )
    MIXED_WITH_DTENSOR = _seen(
        r"aten\.(?P<operation>\w+)\.\w+:? got mixed torch\.Tensor and DTensor"
    )
    PEER_LOST = _seen(r"gloo/transport/.*Connection (?:closed|reset) by peer")
    PEER_DIFFERS = _seen(r"Detected mismatch between collectives on ranks")
    PEER_LATE = _seen(r"gloo/transport/.*Timed out waiting (?P<found>\d+)ms")


@dataclass(frozen=True)
class TorchMessage:
    """The content of an exception text; fields that its kind does not have keep their defaults.

    Args:
        kind: which text it is; None for another one.
        node: the class name of the node: ``"Exp"``, ``"SqrtBackward0"``, ``"ScaleBackward"``.
        name: the name of a hook, a parameter or an optimizer.
        operation: ``"igamma"``; argument: the one without a derivative; library: the namespace of
            an operation registered with ``torch.library``.
        shape: of the tensor.
        index: 0, 1, ... of an input, an output or an argument; -1 when there is none.
        indices: of parameters.
        found, wanted: version counters, numbers of tensors, milliseconds; -1 when there are none.
        got, expected: a shape, ``"[3]"``, a dtype, ``"float32"``, or a device, ``"cpu"``.
        aspect: what ``got`` and ``expected`` are: ``"shape"`` or ``"dtype"``.
        python_type: the class of the object that is not a tensor: ``"float"``.
        attribute: the attribute that was read from None.
        operator, left, right: an operator of Python, and the classes of its two operands.

    Example:
        >>> found = read_message("hook 'halve' has changed the size of value")
        >>> found.kind.name, found.name
        ('HOOK_CHANGED_SHAPE', 'halve')
    """

    kind: MessageKind | None = None
    node: str = ""
    name: str = ""
    operation: str = ""
    argument: str = ""
    library: str = ""
    shape: tuple[int, ...] | None = None
    index: int = -1
    indices: tuple[int, ...] = ()
    found: int = -1
    wanted: int = -1
    got: str = ""
    expected: str = ""
    aspect: str = ""
    python_type: str = ""
    attribute: str = ""
    operator: str = ""
    left: str = ""
    right: str = ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


_CONVERTED: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("index", "found", "wanted"), int),
    **dict.fromkeys(("shape", "indices"), _numbers),
}


def read_message(text: str) -> TorchMessage | None:
    """Parse the text of an exception.

    Args:
        text: the whole text of the exception.

    Returns:
        The parsed message, or None if no pattern matches.

    Example:
        >>> found = read_message(
        ...     "one of the variables needed for gradient computation has been modified by an "
        ...     "inplace operation: [torch.FloatTensor [3]], which is output 0 of Exp, is at "
        ...     "version 1; expected version 0 instead."
        ... )
        >>> found.node, found.shape, found.wanted, found.found
        ('Exp', (3,), 0, 1)
        >>> read_message("no such file")
    """
    for kind in MessageKind:
        match = kind.value.pattern.search(text)
        if match is not None:
            groups = {name: text for name, text in match.groupdict().items() if text}
            fields = {name: _CONVERTED.get(name, str)(text) for name, text in groups.items()}
            if kind is MessageKind.CHANGED_IN_PLACE:
                fields.setdefault("shape", ())
            return TorchMessage(kind, **fields)
    return None


_ABOUT_AUTOGRAD = re.compile(
    r"autograd|requires?_?[ _]grad|gradient|\bbackward\b|differentia|leaf [Vv]ariable|\.grad\b"
)


def is_about_autograd(text: str) -> bool:
    """Whether an exception text of PyTorch that no pattern matches names something of autograd.

    Example:
        >>> is_about_autograd("derivative of gradient is unknown"), is_about_autograd("shapes")
        (True, False)
    """
    return _ABOUT_AUTOGRAD.search(text) is not None
