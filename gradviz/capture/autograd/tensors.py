"""Reads what autograd knows about a tensor, and which tensors operations saved; no side effects.

Every function says which private attribute it reads and why there is no public way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import Node
from torch.multiprocessing.reductions import StorageWeakRef

from gradviz.capture.autograd.sharded import shard_of
from gradviz.graph.operations import OperationType, plain_shape, type_text
from gradviz.graph.schema import SavedTensor

_ORDINARY = frozenset({torch.Tensor, torch.nn.Parameter})
_BATCHED: Any = getattr(torch._C, "_parse_dispatch_key", lambda _: None)("Batched")
_no_function: Any = torch._C.DisableTorchFunction
_no_dispatch: Any = torch._C._DisableTorchDispatch


class quietly:  # noqa: N801
    """Hide reads from ``TorchFunctionMode``, ``TorchDispatchMode`` and subclasses.

    Private: ``torch._C.DisableTorchFunction``, ``torch._C._DisableTorchDispatch``: no public way.
    """

    __slots__ = ("_dispatch", "_function")

    def __enter__(self) -> None:
        self._function = function = _no_function()
        function.__enter__()
        self._dispatch = dispatch = _no_dispatch()
        dispatch.__enter__()

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


def memory_is_gone(tensor: torch.Tensor) -> Callable[[], bool]:
    """A function that says whether the storage of a tensor is gone; it keeps its address reserved.

    Private: ``StorageWeakRef``; Python's weak references end with the Python object.
    """
    expired: Callable[[], bool] = StorageWeakRef(tensor.untyped_storage()).expired  # type: ignore[no-untyped-call]
    return expired


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


Table = dict[int, Callable[..., Any]]
"""The hooks of a tensor, by the ``id`` of their handle; torch calls them in this order."""


def tables_of(tensor: torch.Tensor) -> tuple[Table | None, Table | None]:
    """The hooks of a tensor: those on its gradient, and its post-accumulate-grad hooks.

    Private: ``_backward_hooks`` and ``_post_accumulate_grad_hooks``; hooks have no public list.
    """
    before: Any = getattr(tensor, "_backward_hooks", None)
    after: Any = getattr(tensor, "_post_accumulate_grad_hooks", None)
    return before, after


def counts_of(tensor: torch.Tensor) -> dict[str, int]:
    """The ``version`` of a tensor and the number of its ``hooks``, where they are not 0."""
    before, after = tables_of(tensor)
    version = version_of(tensor)
    counts = {"version": version} if version else {}
    if before or after:
        counts["hooks"] = len(before or ()) + len(after or ())
    return counts


is_transformed: Callable[[torch.Tensor], bool] = torch._C._functorch.is_functorch_wrapped_tensor
"""Whether ``torch.func`` wrapped a tensor, which hides its history.

Private: ``torch._C._functorch``; a wrapped tensor is of the ordinary class.
"""


def is_batched(tensor: torch.Tensor) -> bool:
    """Whether ``torch.autograd.grad(..., is_grads_batched=True)`` made it: it has no one value.

    Private: ``torch._C._dispatch_keys``; a batched tensor is of the ordinary class.
    """
    return _BATCHED is not None and bool(torch._C._dispatch_keys(tensor).has(_BATCHED))


def unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor that transforms of ``torch.func`` have wrapped; outside of them, the same one."""
    while is_transformed(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


transform_level: Callable[[], int | None] = getattr(
    getattr(torch._C, "_functorch", None), "maybe_current_level", lambda: None
)
"""The depth of the running transforms of ``torch.func``; None outside of them.

Private: ``torch._C._functorch``; there is no public way.
"""


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


def is_cut_view(new: torch.Tensor) -> bool:
    """Whether a tensor, just created, is a view in no_grad mode of one that requires grad.

    It requires grad as its base does, but no gradient reaches it: no operation has an edge to it.
    """
    return new.is_leaf and base_of(new) is not new and base_of(new).requires_grad


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


def is_function_of_torch(name: str) -> bool:
    """Whether torch has a function of a name, and not only the user's program."""
    return any(hasattr(each, name) for each in (torch, torch.Tensor, torch.nn.functional))


def is_method_of_torch(name: str) -> bool:
    """Whether a tensor has a method of a name: it has ``fill_``, and no ``fill``."""
    return hasattr(torch.Tensor, name)


def written_by(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any] | None:
    """The arguments that an operator of ``torch.ops`` changes in place; None for other functions.

    Private: ``_schema``, where an operator declares it, also one registered by ``torch.library``.
    """
    schema = getattr(func, "_schema", None) or getattr(getattr(func, "default", None), "_schema", 0)
    if not isinstance(schema, torch.FunctionSchema):
        return None
    rows = ((number, each.name, each.alias_info) for number, each in enumerate(schema.arguments))
    return [
        args[number] if number < len(args) else kwargs.get(name)
        for number, name, alias in rows
        if alias is not None and alias.is_write
    ]


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
        shard = shard_of(leaf)
        address = storage_address(leaf if shard is None else shard.local)
        known = None if address is None else self._known.get(address)
        if known is None:
            return
        number, size, keeper = known
        if size and number not in self._spared:
            self._spared.add(number)
            keeper["saved_bytes"] -= size
            if not keeper["saved_bytes"]:
                del keeper["saved_bytes"]
        data["storage"] = number


def shape_of(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape; -1 for a dimension without a single size."""
    if not tensor.is_nested:
        return plain_shape(tensor.shape)
    sizes = []
    for dim in range(tensor.dim()):
        try:
            size = tensor.size(dim)
        except RuntimeError:
            size = -1
        sizes.append(size if type(size) is int else -1)
    return tuple(sizes)


def is_capturing() -> bool:
    """Whether kernels become part of a CUDA graph now, which a copy to the host would break."""
    is_ready = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return bool(is_ready and torch.cuda.is_current_stream_capturing())


def is_freed(data: torch.Tensor) -> bool:
    """Whether the storage of a tensor is freed, as FSDP2 does between uses."""
    try:
        return not data.untyped_storage().nbytes()
    except (NotImplementedError, RuntimeError):  # torch.func has wrapped it: it has no storage
        return False


def with_memory(data: torch.Tensor) -> torch.Tensor:
    """The same values in memory: some derivatives, such as that of ``sgn``, have none for zeros.

    Private: ``_is_zerotensor``; without it, such zeros are not read.
    """
    is_bare = getattr(data, "_is_zerotensor", None)
    return data.clone() if is_bare is not None and is_bare() else data


def without_repeats(data: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Undo `expand`: the elements of a broadcast tensor are read once."""
    repeats = 1
    for dim, (size, stride) in enumerate(zip(data.shape, data.stride(), strict=True)):
        if stride == 0 and size > 1:
            data, repeats = data.narrow(dim, 0, 1), repeats * size
    return data, repeats


def countable(data: torch.Tensor) -> torch.Tensor:
    """The same values in a dtype that supports sums and norms; magnitudes of complex ones.

    Example:
        >>> countable(torch.tensor([True, False]))
        tensor([1., 0.])
    """
    if data.is_complex():
        return data.abs()
    if data.dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        return data
    if data.is_floating_point() or data.dtype == torch.bool:
        return data.to(torch.float32)
    return data.to(widest(data))


def widest(data: torch.Tensor) -> torch.dtype:
    """The widest floating dtype of the device; Apple's GPUs have no float64."""
    return torch.float32 if data.device.type == "mps" else torch.float64
