"""Tensors as plain facts: what is told of one after it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["SavedTensor", "TensorSummary"]


@dataclass(frozen=True)
class TensorSummary:
    """A tensor as facts: what fits in one line, with no storage kept alive.

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
        note: what is special ("sparse", "meta: no values", "values not read: ..."), or "".

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

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count


class SavedTensor(NamedTuple):
    """A tensor that an operation keeps for its backward.

    Args:
        argument: what the operation calls it: ``"self"``, ``"mat1"``, ``"result"``.
        input: which input of the operation it is; -1 when it is none, or that cannot be told.
        shape: its sizes; it may be a view of a larger tensor.
        dtype: as in torch, without the prefix; ``""`` when a hook has packed it.
        storage: the number of its storage in the graph: equal for tensors that share it; -1 when
            it has none.
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
