"""Reads what autograd knows about a tensor, without side effects.

Every function says which private attribute it reads and why there is no public way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from gradviz.capture.autograd.sharded import shard_of

__all__ = [
    "hook_count",
    "is_quiet",
    "is_transformed",
    "base_of",
    "is_unsure",
    "memory_of",
    "quietly",
    "unsure_among",
    "storage_address",
    "version_of",
]

_ORDINARY = frozenset({torch.Tensor, torch.nn.Parameter})


class quietly:  # noqa: N801
    """Hide reads from ``TorchFunctionMode``, ``TorchDispatchMode`` and subclasses.

    Private: ``torch._C.DisableTorchFunction``, ``torch._C._DisableTorchDispatch``: no public way.
    """

    __slots__ = ("_dispatch", "_function")

    def __enter__(self) -> None:
        guards: list[Any] = [torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch()]
        self._function, self._dispatch = guards
        for guard in guards:
            guard.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._dispatch.__exit__(*error)
        self._function.__exit__(*error)


_SIMPLE = frozenset(
    {torch.Tensor, torch.nn.Parameter, int, float, bool, complex, str, type(None)}
    | {torch.Size, torch.dtype, torch.device}
)
_dispatch_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 1)


def is_quiet(values: Iterable[object]) -> bool:
    """Whether no ``TorchDispatchMode`` and no subclass can see reads of these values.

    Containers are not looked into: they count as subclasses.

    Private: ``torch._C._len_torch_dispatch_stack``; without it, the answer is no.
    """
    return not _dispatch_modes() and _SIMPLE.issuperset(map(type, values))


def storage_address(tensor: torch.Tensor) -> int | None:
    """The address of the storage of a tensor; None if it has none.

    Private: ``_cdata``, as in `memory_of`.
    """
    try:
        address: int = tensor.untyped_storage()._cdata
    except (NotImplementedError, RuntimeError):
        return None
    return address


def memory_of(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """The storage and the layout of a tensor: equal for equal views.

    Private: ``_cdata``, the address of the storage itself; ``data_ptr()`` is 0 for every empty
    or meta tensor. None for a tensor that has no storage (sparse, or inside ``torch.func``).
    """
    try:
        storage = tensor.untyped_storage()
        offset, shape, stride = tensor.storage_offset(), tuple(tensor.shape), tensor.stride()
    except (NotImplementedError, RuntimeError):
        return None
    return storage._cdata, offset, tensor.dtype, shape, stride


def hook_count(tensor: torch.Tensor) -> int:
    """Number of hooks on a tensor.

    Private: ``_backward_hooks`` and ``_post_accumulate_grad_hooks``; hooks have no public list.
    """
    before = getattr(tensor, "_backward_hooks", None) or ()
    after = getattr(tensor, "_post_accumulate_grad_hooks", None) or ()
    return len(before) + len(after)


def is_transformed(tensor: torch.Tensor) -> bool:
    """Whether ``torch.func`` wrapped a tensor, which hides its history.

    Private: ``torch._C._functorch``; a wrapped tensor is of the ordinary class.
    """
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def is_unsure(tensor: torch.Tensor) -> bool:
    """Whether reading ``grad_fn`` of a tensor could create a node, or raise.

    This is the case for a view if it, or its base, was changed in place after it was created. Torch
    does not record when, so every view counts that shares memory that was ever changed.

    Private: ``_is_view``, and ``_version`` as in `version_of`.
    """
    return tensor.requires_grad and version_of(tensor) > 0 and tensor._is_view()


def base_of(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor of which another is a view, whose ``grad_fn`` can always be read; else itself.

    Private: ``_base``.
    """
    return tensor if tensor._base is None else tensor._base


def unsure_among(tensors: Iterable[torch.Tensor]) -> set[int]:
    """The ids of the tensors for which `is_unsure` holds; modes see none of the reads."""
    with quietly():
        return {id(tensor) for tensor in tensors if is_unsure(tensor)}


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor was changed in place.

    Private: ``_version``. Inference tensors have no counter: 0. A ``DTensor`` is changed through
    its local tensor, which has its own counter.
    """
    try:
        if type(tensor) in _ORDINARY or (shard := shard_of(tensor)) is None:
            return tensor._version
        return tensor._version + shard.local._version
    except RuntimeError:
        return 0
