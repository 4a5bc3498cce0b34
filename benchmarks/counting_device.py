"""A device written in Python that counts its copies to the host, each of which a GPU waits for.

A tensor of the device has its own storage object over host memory, so that views, versions and
storages behave as on any accelerator. A kernel runs on a CPU tensor over the same memory.

    import counting_device
    x = torch.ones(3, device="counting", requires_grad=True)
    counting_device.copies, counting_device.kernels
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("counting")

copies: Counter[str] = Counter()
"""How often an operation copied to the host."""

kernels: Counter[str] = Counter()
"""How often each operation ran."""

_DEVICE = torch.device("counting:0")
_memory: dict[int, Tensor] = {}  # the CPU tensor whose memory a storage of the device uses
_VIEWS = ("aten.as_strided.default", "aten.view.default", "aten._reshape_alias.default")
_CPU = torch._C.DispatchKey.CPU  # its kernels for views and set_ touch no memory


def _fill(made: Tensor, host: Tensor) -> Tensor:
    """Give a tensor of the device the memory, shape and strides of a CPU tensor."""
    memory = host.untyped_storage()
    storage = torch._C._construct_storage_from_data_pointer(
        memory.data_ptr(), _DEVICE, memory.nbytes()
    )
    _memory[storage._cdata] = host
    layout = (host.storage_offset(), host.shape, host.stride())
    torch.ops.aten.set_.source_Storage_storage_offset._op_dk(_CPU, made, storage, *layout)
    return made


def _on_host(tensor: Tensor) -> Tensor:
    """A CPU tensor over the memory of a tensor of the device."""
    memory = _memory[tensor.untyped_storage()._cdata].untyped_storage()
    layout = (tensor.storage_offset(), tensor.shape, tensor.stride())
    return torch.empty(0, dtype=tensor.dtype).set_(memory, *layout)


def _is_here(tensor: Tensor) -> bool:
    return tensor.device.type == "counting"


def _run(op: Any, *args: Any, **kwargs: Any) -> Any:
    """The kernel of every operation: on CPU tensors over the same memory."""
    name = str(op)
    kernels[name] += 1
    if name in _VIEWS:
        return op._op_dk(_CPU, *args, **kwargs)
    if name == "aten._local_scalar_dense.default":
        copies["item"] += 1
    if name == "aten._copy_from.default":
        source, target = args[:2]
        copies["copy"] += _is_here(source) and not _is_here(target)
        _lowered(target).copy_(_lowered(source))
        return target
    lowered: dict[int, tuple[Tensor, Tensor]] = {}

    def lower(tensor: Tensor) -> Tensor:
        host = _lowered(tensor)
        lowered[id(host)] = (host, tensor)
        return host

    def lift(host: Tensor) -> Tensor:
        made = lowered.get(id(host), (None, None))[1]
        return (
            _fill(torch._C._acc.create_empty_tensor((0,), host.dtype), host)
            if made is None
            else made
        )

    args, kwargs = tree_map_only(Tensor, lower, (args, kwargs))
    if "device" in kwargs:
        kwargs["device"] = torch.device("cpu")
    result = op(*args, **kwargs)
    for host, tensor in lowered.values():
        if host.shape != tensor.shape:  # ``out=`` with a tensor of another size
            _fill(tensor, host)
    return tree_map_only(Tensor, lift, result)


def _lowered(tensor: Tensor) -> Tensor:
    return _on_host(tensor) if _is_here(tensor) else tensor


_library = torch.library.Library("_", "IMPL")  # type: ignore[no-untyped-call]
_library.fallback(_run, "PrivateUse1")  # type: ignore[no-untyped-call]
