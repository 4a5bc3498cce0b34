"""The tensors that operations saved for backward, each storage counted once per graph."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.operations import OperationType, plain_shape, type_text
from gradviz.capture.autograd.sharded import shard_of
from gradviz.graph.schema import SavedTensor

__all__ = ["KeptStorages", "Several"]

_new = tuple.__new__  # calling the class would double the time


class Several(list[Any]):
    """The tensors that an operation saved under one name; a plain list can come from a hook."""


class _Storage(NamedTuple):
    """A storage: its number in the graph, its size, and the operation that it is counted for."""

    number: int
    bytes: int
    keeper: dict[str, Any]


class KeptStorages:
    """The tensors that operations saved for backward, each storage counted once per graph.

    Args:
        shapes: interns equal shapes.
    """

    def __init__(self, shapes: dict[tuple[int, ...], tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._known: dict[int, _Storage] = {}  # by address
        self._spared: set[int] = set()  # numbers

    def note(
        self,
        kind: OperationType,
        saved: Sequence[Any],
        edges: Sequence[tuple[Node | None, int]],
        data: dict[str, Any],
    ) -> None:
        """Add the saved tensors to the attributes of an operation.

        Args:
            kind: its type.
            saved: the value under each saved name of its type: a tensor, `Several`, the result of a
                pack hook, or None.
            edges: its ``next_functions``.
            data: its attributes.
        """
        found, inputs = [], kind.arguments
        for name, held in zip(kind.saved, saved, strict=False):
            if held is None:
                continue
            if type(held) is Several:
                for number, item in enumerate(held):
                    if item is not None:
                        found.append(self._look(f"{name}[{number}]", item, edges, data, -1))
            else:
                place = inputs.index(name) if name in inputs else -1
                found.append(self._look(name, held, edges, data, place))
        if found:
            data["saved"] = tuple(found)

    def _look(
        self,
        name: str,
        held: Any,
        edges: Sequence[tuple[Node | None, int]],
        data: dict[str, Any],
        place: int,
    ) -> SavedTensor:
        """A saved tensor; its name, or the node that created it, determines the input number.

        The ``grad_fn`` of a view that was changed in place, or whose base was, is not read: torch
        would create a new node. A tensor changed after it was saved has another one.

        Private: ``_cdata``, the address of the storage itself; ``data_ptr()`` is 0 for every
        empty or meta tensor. Sparse tensors and those of ``torch.func`` have no storage.
        ``_version``, as in `version_of`; ``_is_view``.
        """
        if not isinstance(held, torch.Tensor):  # a pack hook of the user's returned it
            return SavedTensor(name)
        try:
            shard = None if type(held) is torch.Tensor else shard_of(held)
            storage = (held if shard is None else shard.local).untyped_storage()
            address = storage._cdata
            known = self._known.get(address)
            if known is None:
                size = storage.nbytes()
                known = self._known[address] = _Storage(len(self._known), size, data)
                if size:
                    data["saved_bytes"] = data.get("saved_bytes", 0) + size
            sizes: tuple[int, ...] = held.shape
            shape = self._shapes.get(sizes)
            if shape is None:
                sizes = plain_shape(sizes)
                shape = self._shapes.setdefault(sizes, sizes)
            text = type_text(held.dtype)
            if place < 0 and held.requires_grad and not (held._version and held._is_view()):
                maker = held.grad_fn
                if maker is not None:
                    made = maker, held.output_nr
                    place = edges.index(made) if made in edges else -1
            return _new(SavedTensor, (name, place, shape, text, known[0], known[1]))
        except Exception:  # it has no storage
            return SavedTensor(name, dtype=type_text(held.dtype))

    def spare(self, leaf: torch.Tensor, data: dict[str, Any]) -> None:
        """Do not count a leaf among the saved bytes: its storage stays in memory anyway.

        Private: ``_cdata``, as in `_look`.

        Args:
            leaf: the tensor.
            data: its attributes, which get the number of the storage.
        """
        with suppress(NotImplementedError, RuntimeError):
            shard = shard_of(leaf)
            storage = (leaf if shard is None else shard.local).untyped_storage()
            known = self._known.get(storage._cdata)
            if known is None:
                return
            number, size, keeper = known
            if size and number not in self._spared:
                self._spared.add(number)
                keeper["saved_bytes"] -= size
                if not keeper["saved_bytes"]:
                    del keeper["saved_bytes"]
            data["storage"] = number
