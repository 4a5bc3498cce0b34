"""Reads the nodes of autograd's graph without touching them.

Every function says which private attribute it reads and why the public way would not do. None
of them runs a hook, recomputes anything, or keeps a tensor alive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import attrgetter, methodcaller
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.kept import KeptStorages, Several
from gradviz.capture.autograd.operations import (
    ADD_FAMILY,
    ARGUMENTS,
    OPTIONS,
    OperationType,
    custom_word,
    forward_word,
    option_text,
    plain_shape,
    type_text,
)
from gradviz.graph import Buffers, NodeKind
from gradviz.graph.templates import template
from gradviz.torch_messages import MessageKind

__all__ = [
    "ACCUMULATE",
    "ACCUMULATE_NR",
    "NodeReader",
    "forward_class",
    "has_no_bias",
    "leaf_of",
    "operation_type",
    "plain_shape",
    "sequence_number",
]

ACCUMULATE = "AccumulateGrad"  # the class of the node that adds a gradient to a leaf

sequence_number: Callable[[Node], int] = methodcaller("_sequence_nr")
"""When a node was created, counted within the thread that ran the forward pass.

Private: ``_sequence_nr``; nothing public tells. An ``AccumulateGrad`` gives `ACCUMULATE_NR`.
"""
ACCUMULATE_NR = 2**64 - 1

# To look a member up in its enum takes longer than all the rest of what is done with it here.
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
_MANY_TYPES = "CppFunction"  # the Python type of every node that has none of its own


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
    found = _known_types.get(cls)
    if found is None:
        found = _operation_type(node)
        if cls.__name__ != _MANY_TYPES:
            _known_types[cls] = found
    return found


def _operation_type(node: Node) -> OperationType:
    cls = type(node)
    forward = getattr(cls, "_forward_cls", None)
    if forward is not None:
        op, opaque = custom_word(forward.__module__, forward.__name__)
        only = ("_raw_saved_tensors",)
        return OperationType(cls.__name__, op, opaque, ("tensors",), only, _reader(only))
    name = node.name().rpartition("::")[2]
    attributes = dir(cls)
    raw = tuple(a for a in attributes if a.startswith("_raw_saved_"))
    saved = tuple(a.removeprefix("_raw_saved_") for a in raw)
    plain = {a.removeprefix("_saved_") for a in attributes if a.startswith("_saved_")}
    options = tuple(sorted(plain.difference(saved) & OPTIONS.keys()))
    return OperationType(
        grad_fn=name,
        op="accumulate_grad" if name == ACCUMULATE else forward_word(name),
        saved=saved,
        raw=raw,
        read_raw=_reader(raw),
        arguments=ARGUMENTS.get(name, ()),
        options=options,
        read_options=attrgetter(*(f"_saved_{o}" for o in options)) if options else None,
    )


def _reader(raw: Sequence[str]) -> Callable[[Node], Any] | None:
    return attrgetter(*(f"{name}.data" for name in raw)) if raw else None


class NodeReader:
    """Reads the facts of operations for one graph, and shares what repeats among them."""

    def __init__(self) -> None:
        self._types: dict[type, OperationType] = {}
        self._alike: dict[tuple[object, ...], dict[str, Any]] = {}
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._options: dict[object, dict[str, str]] = {}
        self._kept = KeptStorages(self._shapes)

    def read(
        self, node: Node, edges: Sequence[tuple[Node | None, int]]
    ) -> tuple[OperationType, dict[str, Any], Sequence[Any]]:
        """The type of an operation, its attributes, and what each of its ``raw`` attributes holds.

        Every node of the graph comes through here, so the common case is written out, and the
        rest is left to the methods below. Private: ``_sequence_nr`` and ``_input_metadata``, each
        explained there.

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
        data["sequence_nr"] = node._sequence_nr()
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
        """The attributes that operations of one type have in common, if they make the same.

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
        """Take a leaf, given with its attributes, off the count: it lives anyway."""
        self._kept.spare(leaf, data)

    def read_tensor(self, tensor: torch.Tensor, data: dict[str, Any]) -> bool:
        """Fill in shape, dtype and device of a tensor whose values are not asked for.

        Returns:
            Whether it is such a tensor: an ordinary one, of whose kind there is nothing to say.
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
        """Shape, dtype and device of one output of a node; None for what cannot be told.

        Private: ``_input_metadata``. The gradient that a node receives is shaped like the output
        that it once made; no tensor is left to ask.
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
        """Plain arguments as text; equal ones share a dict, which nobody changes."""
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


def _add_rare(kind: OperationType, outputs: int, data: dict[str, Any]) -> None:
    """Put in what few operations have, and take out what could not be told."""
    for name in ("shape", "dtype", "device"):
        if data[name] is None:
            del data[name]
    if outputs > 1:
        data["outputs"] = outputs
    if kind.opaque:
        data["opaque"] = kind.opaque


def read_saved(node: Node, kind: OperationType) -> tuple[Buffers, Sequence[Any]]:
    """What became of an operation's saved tensors, and what each attribute of ``raw`` holds now.

    Private: ``_raw_saved_*``, and ``.data`` of the ``SavedTensor`` in it. The public ``_saved_*``
    runs unpack hooks: it re-runs a checkpointed forward pass and copies what was offloaded. A
    ``SavedTensor`` must not outlive its node, so it is dropped here, while the caller holds the
    node.

    What is held is a tensor, `Several`, or whatever a pack hook made of it.
    """
    try:
        saved = kind.read_raw(node)
        if len(kind.raw) == 1:
            saved = (saved,)
    except AttributeError:
        return _read_saved_lists(node, kind)
    except RuntimeError as error:
        return (_FREED if MessageKind.FREED.matches(str(error)) else Buffers.UNKNOWN), ()
    except Exception:
        return Buffers.UNKNOWN, ()
    for held in saved:
        if held is not None:
            return _HELD, saved
    return _nothing_held(node, kind), saved


def _read_saved_lists(node: Node, kind: OperationType) -> tuple[Buffers, Sequence[Any]]:
    """The same where an attribute holds a tuple of ``SavedTensor``.

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
        return (_FREED if MessageKind.FREED.matches(str(error)) else Buffers.UNKNOWN), ()
    if any(held is not None for held in saved):
        return _HELD, saved
    return _nothing_held(node, kind), saved


def _nothing_held(node: Node, kind: OperationType) -> Buffers:
    """Tell an operation that never saved a tensor from one whose tensors were freed."""
    if kind.raw == ("_raw_saved_tensors",):
        return _NOTHING_SAVED  # a custom function raises once it is freed
    if kind.grad_fn in ADD_FAMILY:
        edges = node.next_functions
        if edges and all(child is None for child, _ in edges[1:]):
            return _NOTHING_SAVED
    return _FREED


def has_no_bias(node: Node) -> bool:
    """Whether a convolution was called without a bias, as its own record says.

    Private: ``_saved_bias_sym_sizes_opt``, plain numbers: to read it runs no hook.
    """
    sizes = getattr(node, "_saved_bias_sym_sizes_opt", ())
    return sizes is None or tuple(sizes) == (0,)


def leaf_of(node: Node) -> torch.Tensor | None:
    """The leaf that an ``AccumulateGrad`` node adds to; None for any other node.

    Private: ``variable``, documented nowhere; `next_functions` ends at the node, not the leaf.
    """
    leaf = getattr(node, "variable", None)
    return leaf if isinstance(leaf, torch.Tensor) else None


def forward_class(node: Node) -> type | None:
    """The ``torch.autograd.Function`` behind a node; None for torch's own operations.

    Private: ``_forward_cls``, the class that the user wrote; a node has no public way to it.
    """
    found: type | None = getattr(type(node), "_forward_cls", None)
    return found
