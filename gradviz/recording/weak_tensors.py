"""The records of tensors that are alive; no tensor is kept alive by its record."""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

import torch

__all__ = ["WeakTensors"]


R = TypeVar("R", bound=Any)  # a record of a tensor, with a reference to it in ``ref``


class _Reference(weakref.ref[torch.Tensor]):
    __slots__ = ("key",)
    key: int


class WeakTensors(dict[int, R]):
    """The records of tensors that are alive, by the ``id`` of the tensor.

    An entry is removed when its tensor is deleted, before the ``id`` can be reused.

    Attributes:
        latest: a record that is entered when a record is next read: its tensor may be gone by then.
    """

    latest: Any = None

    def enter(self, tensor: torch.Tensor, record: R) -> None:
        """Store the record of a tensor, replacing any other."""
        self.settle()
        reference = _Reference(tensor, self._remove)
        reference.key = id(tensor)
        record.ref = reference
        self[id(tensor)] = record

    def _remove(self, reference: weakref.ref[torch.Tensor]) -> None:
        key: int = reference.key  # type: ignore[attr-defined]
        record = self.get(key)
        if record is not None and record.ref is reference:
            del self[key]

    def settle(self) -> None:
        """Enter the latest record, if its tensor is alive."""
        record, self.latest = self.latest, None
        tensor = record.ref() if record is not None else None
        if record is not None and tensor is not None:
            self.enter(tensor, record)

    def of(self, tensor: torch.Tensor) -> R | None:
        """The record of a tensor."""
        if self.latest is not None:
            self.settle()
        return self.get(id(tensor))
