"""Reads the nodes of autograd's graph without side effects.

Every function says which private attribute it reads and why there is no public way. None of them
runs a hook, recomputes anything, or keeps a tensor alive.
"""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from operator import attrgetter, methodcaller
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.sharded import sharded_parameter
from gradviz.capture.autograd.tensors import KeptStorages, Several
from gradviz.graph import Buffers, NodeKind
from gradviz.graph.columns import template
from gradviz.graph.operations import (
    OPERATORS_OF_TORCH,
    OPTIONS,
    OperationType,
    custom_word,
    forward_word,
    operation,
    option_text,
    plain_shape,
    type_text,
)
from gradviz.graph.text import number_text
from gradviz.torch_messages import MessageKind

_CUSTOM = ("_raw_saved_tensors",)
ACCUMULATE = "AccumulateGrad"  # the class of the node that adds a gradient to a leaf

sequence_number: Callable[[Node], int] = methodcaller("_sequence_nr")
"""The sequence number of a node, within the thread that ran the forward pass.

Private: ``_sequence_nr``; there is no public way. An ``AccumulateGrad`` has `ACCUMULATE_NR`.
"""
ACCUMULATE_NR = 2**64 - 1

# A lookup in an enum takes longer than everything else done with the member here.
_NOTHING_SAVED, _HELD, _FREED = Buffers.NOTHING_SAVED, Buffers.HELD, Buffers.FREED

_OPERATION = template(
    {
        "kind": NodeKind.OPERATION,
        "op": "",
        "grad_fn": "",
        "shape": (),
        "dtype": "",
        "device": "",
        "sequence_nr": 0,
        "buffers": _NOTHING_SAVED,
    },
    later=("saved_bytes", "saved", "options"),
)
_ORDINARY = frozenset({torch.Tensor, torch.nn.Parameter})
_MANY_TYPES = "CppFunction"  # the Python type of nodes that share one type


Edges = tuple[tuple[Node | None, int], ...]
"""The ``next_functions`` of a node."""

_own_types: dict[type, OperationType] = {}  # of torch's own operations
_known_types: WeakKeyDictionary[type, OperationType] = WeakKeyDictionary()


def operation_type(node: Node) -> OperationType:
    """The `OperationType` of a node.

    Private: the attribute names that begin with ``_raw_saved_`` and ``_saved_``, taken from the
    type without reading any, and ``_forward_cls``, the class that the user wrote. A ``_saved_x``
    with no ``_raw_saved_x`` beside it is a plain argument: to read it runs no hook.

    Example:
        >>> node = torch.ones(2, requires_grad=True).sum(dim=-1).grad_fn
        >>> (operation_type(node).op, operation_type(node).options)
        ('sum', ('dim', 'keepdim'))
    """
    cls = type(node)
    found = _own_types.get(cls) or _known_types.get(cls)
    if found is None:
        found = _operation_type(node)
        if cls.__name__ != _MANY_TYPES:
            (_known_types if found.raw == _CUSTOM else _own_types)[cls] = found
    return found


def _operation_type(node: Node) -> OperationType:
    cls = type(node)
    forward = getattr(cls, "_forward_cls", None)
    if forward is not None:
        op, opaque = custom_word(forward.__module__, forward.__name__)
        op = _library_word(forward) or op
        return OperationType(
            grad_fn=cls.__name__,
            op=op,
            opaque=opaque,
            saved=("tensors",),
            raw=_CUSTOM,
            read_raw=_reader(_CUSTOM),
            saves_tensors=_saves_tensors(forward),
        )
    name = node_name(node)
    attributes = dir(cls)
    raw = tuple(a for a in attributes if a.startswith("_raw_saved_"))
    saved = tuple(a.removeprefix("_raw_saved_") for a in raw)
    plain = {a.removeprefix("_saved_") for a in attributes if a.startswith("_saved_")}
    word = "accumulate_grad" if name == ACCUMULATE else forward_word(name)
    row = operation(word)
    options = tuple(sorted(plain.difference(saved) & OPTIONS.keys()))
    return OperationType(
        grad_fn=name,
        op=word,
        saved=saved,
        raw=raw,
        read_raw=_reader(raw),
        arguments=row.saves if name.endswith(f"Backward{row.variant}") else (),
        options=options,
        read_options=attrgetter(*(f"_saved_{o}" for o in options)) if options else None,
    )


def _saves_tensors(forward: type) -> bool:
    """Whether a ``Function`` saves tensors; one of the user's does if its code says so."""
    if forward.__module__.partition(".")[0] == "torch":
        return True
    for method in (forward.forward, getattr(forward, "setup_context", None)):  # type: ignore[attr-defined]
        code = getattr(inspect.unwrap(method), "__code__", None) if method is not None else None
        if code is not None and "save_for_backward" in code.co_names:
            return True
    return False


def _library_word(forward: type) -> str:
    """The name of an operation registered with ``torch.library``; "" for another Function.

    Private: ``torch._library.autograd``, which creates a class for each such operation; its name
    joins namespace, operation and overload with ``_``; its closure has them separately.
    """
    if forward.__module__ != "torch._library.autograd":
        return ""
    for cell in getattr(getattr(forward, "forward", None), "__closure__", None) or ():
        word = getattr(cell.cell_contents, "_opname", "")
        if isinstance(word, str) and word:
            return OPERATORS_OF_TORCH.get(word, word)
    return forward.__name__.removeprefix("GeneratedBackwardFor_").removesuffix("_default")


def _reader(raw: Sequence[str]) -> Callable[[Node], Any] | None:
    return attrgetter(*(f"{name}.data" for name in raw)) if raw else None


def visit_ancestors(
    roots: Iterable[Node], nearest_first: bool = False
) -> Iterator[tuple[Node, Edges]]:
    """Visit each node from which some roots were computed, once, with a stack or a queue.

    It is meant for a few nodes, or for nodes of a traced graph: it does not make the graph safe to
    drop.

    Args:
        roots: where to begin; they are visited too.
        nearest_first: by distance from the roots, else by depth.

    Yields:
        The node and its ``next_functions``.
    """
    waiting = deque(dict.fromkeys(roots))
    seen = set(waiting)
    following = waiting.popleft if nearest_first else waiting.pop
    while waiting:
        node = following()
        edges = node.next_functions
        yield node, edges
        for child, _ in edges:
            if child is not None and child not in seen:
                seen.add(child)
                waiting.append(child)


def outline(root: Node, since: int, most: int) -> Hashable:
    """Equal for graphs with the same operations, shapes, arguments and leaves.

    Private: ``_sequence_nr`` and ``_input_metadata``, as explained in this file.

    Args:
        root: where the graph begins.
        since: the first sequence number; None is returned for a graph with older nodes.
        most: the number of nodes; None for a larger graph, and for one with custom functions.
    """
    rows: list[object] = []
    places: dict[Node, object] = {root: sequence_number(root) - since}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        kind, number = operation_type(node), places[node]
        if len(places) > most or kind.opaque or kind.raw == _CUSTOM or number < 0:  # type: ignore[operator]
            return None
        rows += kind.grad_fn, number
        if kind.read_options is not None:
            rows.append(repr(kind.read_options(node)))
        if operation(kind.op).number:
            rows.append(_number_in(node, kind))
        for each in node._input_metadata:
            rows += tuple(each.shape), each.dtype, each.device
        for child, output in node.next_functions:
            place = None if child is None else places.get(child)
            if child is not None and place is None:
                made = sequence_number(child)
                if made != ACCUMULATE_NR:
                    place = made - since
                    waiting.append(child)
                elif (leaf := leaf_of(child)) is not None:
                    place = f"leaf {id(leaf)}"
                else:
                    return None
                places[child] = place
            rows += place, output
    return tuple(rows)


class NodeReader:
    """Reads the attributes of operations for one graph; equal values are shared."""

    def __init__(self) -> None:
        self._types: dict[type, OperationType] = {}
        self._alike: dict[tuple[object, ...], dict[str, Any]] = {}
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._options: dict[object, dict[str, str]] = {}
        self._kept = KeptStorages(self._shapes)

    def read(
        self, node: Node, edges: Sequence[tuple[Node | None, int]]
    ) -> tuple[OperationType, dict[str, Any], Sequence[Any]]:
        """The type of an operation, its attributes, and the values of its ``raw`` attributes.

        Every node of the graph is read here, so the common case is written inline.

        Private: ``_sequence_nr`` and ``_input_metadata``, as explained in this file.

        Args:
            node: the operation.
            edges: its ``next_functions``.
        """
        kind = self._types.get(type(node)) or self._type_of(node)
        try:
            outputs = node._input_metadata
            made = outputs[0]
            data = self._alike[
                kind.op, kind.grad_fn, tuple(made.shape), made.dtype, made.device
            ].copy()
        except Exception:
            outputs = getattr(node, "_input_metadata", [])
            data = self._first_of_its_kind(node, kind)
        number = node._sequence_nr()
        if number == ACCUMULATE_NR:  # an operation without a derivative
            del data["sequence_nr"]
        else:
            data["sequence_nr"] = number
        saved: Sequence[Any] = ()
        if kind.raw:
            data["buffers"], saved = read_saved(node, kind)
            if saved:
                self._kept.note(kind, saved, edges, data)
        if kind.options and (options := self._read_options(node, kind)):
            data["options"] = options
        if len(outputs) != 1 or data["shape"] is None or kind.opaque:
            _add_rare(kind, len(outputs), data)
        return kind, data, saved

    def _first_of_its_kind(self, node: Node, kind: OperationType) -> dict[str, Any]:
        """The attributes shared by operations of one type with equal outputs.

        Private: ``_input_metadata``, as in `read_output`.
        """
        shape, dtype, device = self.read_output(node, 0)
        data = _OPERATION.copy()
        data.update(op=kind.op, grad_fn=kind.grad_fn, shape=shape, dtype=dtype, device=device)
        if shape is not None and -1 not in shape:
            made = node._input_metadata[0]
            self._alike[kind.op, kind.grad_fn, shape, made.dtype, made.device] = data.copy()
        return data

    def spare(self, leaf: torch.Tensor, data: dict[str, Any]) -> None:
        """Do not count a leaf among the saved bytes."""
        self._kept.spare(leaf, data)

    def read_tensor(self, tensor: torch.Tensor, data: dict[str, Any]) -> bool:
        """Fill in shape, dtype and device of an ordinary tensor.

        Returns:
            Whether the tensor is ordinary: plain, dense, and with values.
        """
        if (
            type(tensor) not in _ORDINARY
            or tensor.is_meta
            or tensor.is_nested
            or tensor.is_quantized
            or tensor.layout is not torch.strided
        ):
            return False
        sizes = plain_shape(tensor.shape)
        data["shape"] = self._shapes.setdefault(sizes, sizes)
        data["dtype"], data["device"] = type_text(tensor.dtype), type_text(tensor.device)
        return True

    def _type_of(self, node: Node) -> OperationType:
        found = operation_type(node)
        if type(node).__name__ != _MANY_TYPES:
            self._types[type(node)] = found
        return found

    def read_output(self, node: Node, number: int) -> tuple[Any, Any, Any]:
        """Shape, dtype and device of one output of a node; None for unknown ones.

        Private: ``_input_metadata``. The gradient that a node receives has the shape of the
        output that it created; the tensor itself may be gone.
        """
        shape = dtype = device = None
        outputs = getattr(node, "_input_metadata", [])
        if number < len(outputs):
            made = outputs[number]
            with suppress(AttributeError, RuntimeError, TypeError):
                dtype, device = type_text(made.dtype), type_text(made.device)
                shape = plain_shape(made.shape)  # a nested tensor has none
                shape = self._shapes.setdefault(shape, shape)
        return shape, dtype, device

    def _read_options(self, node: Node, kind: OperationType) -> dict[str, str]:
        """Plain arguments as text; equal ones share a dict."""
        values = kind.read_options(node)
        try:
            found = self._options.get((kind.grad_fn, values))
        except TypeError:
            found = None
        if found is None:
            rows = zip(kind.options, values if len(kind.options) > 1 else (values,), strict=True)
            found = {name: text for name, value in rows if (text := option_text(name, value))}
            with suppress(TypeError):
                self._options[kind.grad_fn, values] = found
        return found


def operations_before(node: Node, most: int) -> Iterator[tuple[Node, int, Edges]]:
    """The operations from which a node was computed, starting with itself, nearest first.

    Args:
        node: an operation.
        most: how many to yield.

    Yields:
        Each with its sequence number and its ``next_functions``.
    """
    count = 0
    for each, edges in visit_ancestors([node], nearest_first=True):
        number = sequence_number(each)
        if number == ACCUMULATE_NR and leaf_of(each) is not None:
            continue
        if count == most:
            return
        count += 1
        yield each, number, edges


def few_attributes(node: Node) -> dict[str, Any]:
    """The attributes of an operation that may be gone by the next trace."""
    kind = operation_type(node)
    data: dict[str, Any] = {"kind": NodeKind.OPERATION, "op": kind.op, "grad_fn": kind.grad_fn}
    shape, dtype, device = NodeReader().read_output(node, 0)
    if shape is not None:
        data.update(shape=shape, dtype=dtype, device=device)
    if operation(kind.op).number and (number := _number_in(node, kind)):
        data["options"] = {"other": number}
    return data


def _number_in(node: Node, kind: OperationType) -> str:
    """The number that an operation was called with, while it is held; "" for a tensor."""
    if "other" not in kind.saved or node.next_functions[-1][0] is not None:
        return ""
    _, saved = read_saved(node, kind)
    operand: Any = dict(zip(kind.saved, saved, strict=False)).get("other")
    if type(operand) is not torch.Tensor or operand.dim() or not operand.is_cpu:
        return ""
    try:
        return number_text(operand.item())
    except Exception:  # a tensor inside a transform of torch.func, say
        return ""


def dim_of_sum(node: Node) -> int:
    """The dimension over which the sum of a softmax, or of a layer norm, is the same for any input.

    Private: ``_saved_dim``, an unsigned number.
    """
    dim: int = getattr(node, "_saved_dim", -1)
    return dim - (1 << 64) if dim > 1 << 62 else dim


_MOST_INSIDE = 1_000  # parameters of a checkpointed module


def parameters_inside(node: Node) -> list[torch.Tensor]:
    """The parameters of the module that a reentrant checkpoint will run in backward.

    Private: ``run_function``, which torch stores on the node. It is read, not called; for a plain
    function it is unknown which modules it runs.
    """
    runs: object = getattr(node, "run_function", None)
    while isinstance(runs, functools.partial):
        runs = runs.func
    if not issubclass(type(runs), torch.nn.Module):
        return []
    found = (each for each in runs.parameters() if each.requires_grad)  # type: ignore[attr-defined]
    return list(islice(found, _MOST_INSIDE))


def _add_rare(kind: OperationType, outputs: int, data: dict[str, Any]) -> None:
    """Add attributes that few operations have, and remove unknown ones."""
    for name in ("shape", "dtype", "device"):
        if data[name] is None:
            del data[name]
    if outputs > 1:
        data["outputs"] = outputs
    if kind.opaque:
        data["opaque"] = kind.opaque


def read_saved(node: Node, kind: OperationType) -> tuple[Buffers, Sequence[Any]]:
    """The state of an operation's saved tensors, and the value of each attribute of ``raw``.

    Private: ``_raw_saved_*``, and ``.data`` of the ``SavedTensor`` in it. The public ``_saved_*``
    runs unpack hooks: it re-runs a checkpointed forward pass and copies what was offloaded. A
    ``SavedTensor`` must not outlive its node, so it is dropped here, while the caller holds the
    node.

    A value is a tensor, `Several`, or what a pack hook returned.
    """
    try:
        saved = kind.read_raw(node)
        if len(kind.raw) == 1:
            saved = (saved,)
    except AttributeError:
        return _read_saved_lists(node, kind)
    except Exception as error:
        return _after_error(kind, error), ()
    for held in saved:
        if held is not None:
            return _HELD, saved
    return _nothing_held(node, kind), saved


def _read_saved_lists(node: Node, kind: OperationType) -> tuple[Buffers, Sequence[Any]]:
    """`read_saved` where an attribute holds a tuple of ``SavedTensor``.

    Private: ``_raw_saved_*``, as in `read_saved`.
    """
    saved: list[Any] = []
    try:
        for name in kind.raw:
            raw = getattr(node, name)
            if isinstance(raw, tuple):
                items = Several(item.data for item in raw)
                saved.append(items if any(item is not None for item in items) else None)
            else:
                saved.append(raw.data)
    except Exception as error:
        return _after_error(kind, error), ()
    if any(held is not None for held in saved):
        return _HELD, saved
    return _nothing_held(node, kind), saved


def _after_error(kind: OperationType, error: Exception) -> Buffers:
    """The state of saved tensors that cannot be read."""
    is_freed = isinstance(error, RuntimeError) and MessageKind.FREED.matches(str(error))
    return _FREED if is_freed and kind.saves_tensors else Buffers.UNKNOWN


_saved_something: dict[tuple[str, int, tuple[int, ...]], Buffers] = {}
_ASKED_TYPES = 10_000


def _nothing_held(node: Node, kind: OperationType) -> Buffers:
    """Whether an operation without saved tensors saved none, or they were freed.

    What an operation saves depends on which of its inputs require grad. When all do, it saved
    something; otherwise its ``SavedTensor``s are asked.
    """
    if kind.raw == _CUSTOM:
        return _NOTHING_SAVED  # a custom function raises once its tensors are freed
    edges = node.next_functions
    untracked = tuple(number for number, (child, _) in enumerate(edges) if child is None)
    if not untracked:
        return _HELD if _has_unpack_hook(node, kind) else _FREED
    key = kind.grad_fn, len(edges), untracked
    found = _saved_something.get(key)
    if found is None:
        found = _was_freed(node, kind)
        if len(_saved_something) < _ASKED_TYPES and found in (_FREED, _NOTHING_SAVED):
            _saved_something[key] = found
    return found


def _has_unpack_hook(node: Node, kind: OperationType) -> bool:
    """Whether a pack hook returned None for a saved tensor, which is then not freed.

    Private: ``_raw_saved_*``; ``unpack_hook`` is None once the tensor is freed.
    """
    for name in kind.raw:
        raw = getattr(node, name)
        for each in raw if isinstance(raw, tuple) else (raw,):
            if getattr(each, "unpack_hook", None) is not None:
                return True
    return False


def _was_freed(node: Node, kind: OperationType) -> Buffers:
    """Ask ``SavedTensor``s without a tensor for the reason: ``register_hooks`` raises.

    Private: ``_raw_saved_*``. ``register_hooks`` always raises for a ``SavedTensor`` that holds
    nothing, so nothing is registered.
    """
    reasons = set()
    for name in kind.raw:
        raw = getattr(node, name)
        for each in raw if isinstance(raw, tuple) else (raw,):
            try:
                if each.data is not None:
                    return _HELD
                each.register_hooks(repr, repr)
            except RuntimeError as error:
                reasons.add(_state_in(str(error)))
            except Exception:
                reasons.add(Buffers.UNKNOWN)
    for state in (_FREED, _HELD, Buffers.UNKNOWN):
        if state in reasons:
            return state
    return _NOTHING_SAVED


def _state_in(message: str) -> Buffers:
    if MessageKind.HOOKS_ON_FREED.matches(message):
        return _FREED
    if MessageKind.HOOKS_ON_NOTHING.matches(message):
        return _NOTHING_SAVED
    return _HELD  # it has hooks: a pack hook returned None


def node_name(node: Node) -> str:
    """The class name of a node: ``"MulBackward0"``.

    Some versions of torch have no ``name`` for the node of a custom ``Function``.
    """
    try:
        return node.name().rpartition("::")[2]
    except (AttributeError, RuntimeError, NotImplementedError):
        return type(node).__name__


def has_no_bias(node: Node) -> bool:
    """Whether a convolution was called without a bias.

    Private: ``_saved_bias_sym_sizes_opt``, plain numbers: reading it runs no hook.
    """
    sizes = getattr(node, "_saved_bias_sym_sizes_opt", ())
    return sizes is None or tuple(sizes) == (0,)


def leaf_of(node: Node) -> torch.Tensor | None:
    """The leaf that an ``AccumulateGrad`` node accumulates into; None for any other node.

    Of a parameter that FSDP2 has gathered it is the sharded one, which the module registers.

    Private: ``variable``, undocumented; `next_functions` ends at the node, not the leaf.
    """
    leaf = getattr(node, "variable", None)
    return sharded_parameter(leaf) if isinstance(leaf, torch.Tensor) else None


def forward_class(node: Node) -> type | None:
    """The ``torch.autograd.Function`` of a node; None for torch's own operations.

    Private: ``_forward_cls``, the class that the user wrote; a node has no public way to it.
    """
    return getattr(type(node), "_forward_cls", None)
