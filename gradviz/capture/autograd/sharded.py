"""Parameters and tensors sharded over ranks: FSDP2, tensor parallel (``DTensor``).

Nothing here communicates: only the data of this rank is read.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist

from gradviz.facts import Action

_STATES = "torch.distributed._composable_state"


class Shard(NamedTuple):
    """The part of a ``DTensor`` on this rank."""

    local: torch.Tensor  # the tensor of this rank
    text: str  # its shape, the placements and the mesh, as short text
    is_whole: bool  # whether it has the shape of the whole tensor


def shard_of(tensor: torch.Tensor) -> Shard | None:
    """The shard of a ``DTensor`` on this rank; None for any other tensor.

    Private: ``_local_tensor``; ``to_local()`` is an operation of the graph. A local tensor of
    another kind (whose communication has not ended) is not read.
    """
    if type(tensor).__name__ != "DTensor":
        return None
    local: Any = getattr(tensor, "_local_tensor", None)
    if type(local) is not torch.Tensor or local.is_meta:
        return None
    found: Any = tensor
    mesh = found.device_mesh
    placements = ", ".join(map(_placement_text, found.placements))
    names = getattr(mesh, "mesh_dim_names", None) or ()
    axes = [f"{name}={size}" for name, size in zip(names, mesh.shape, strict=False)]
    sizes = " × ".join(axes or map(str, mesh.shape))
    shape = ",".join(map(str, local.shape))
    text = f"local [{shape}], {placements}, mesh {sizes}"
    return Shard(local, text, local.shape == tensor.shape)


def is_part(tensor: torch.Tensor) -> bool:
    """Whether this rank has a tensor of another shape than the whole."""
    shard = shard_of(tensor)
    return shard is not None and not shard.is_whole


def _placement_text(placement: Any) -> str:
    """``Shard(0)``, ``Replicate()``, ``Partial(sum)``.

    Private: nothing; the ``repr`` of a placement contains argument names, which are omitted here.
    """
    name = type(placement).__name__
    argument = getattr(placement, "dim", getattr(placement, "reduce_op", ""))
    return f"{name.removeprefix('_')}({argument})"


class _Gathered:
    """The parameters that FSDP2 manages, by the ``id`` of the unsharded parameter.

    FSDP2 registers a sharded parameter, and computes with an unsharded one: the graph ends at the
    unsharded one, and the optimizer uses the gradient of the sharded one.
    """

    def __init__(self) -> None:
        self._by_unsharded: dict[int, weakref.ref[Any]] = {}
        self._others: weakref.WeakValueDictionary[int, torch.Tensor] = weakref.WeakValueDictionary()

    def find(self, tensor: torch.Tensor) -> Any:
        """The ``FSDPParam`` of an unsharded parameter, or None."""
        number = id(tensor)
        ref = self._by_unsharded.get(number)
        found = ref() if ref is not None else None
        if found is not None and getattr(found, "_unsharded_param", None) is tensor:
            return found
        if self._others.get(number) is tensor:
            return None
        self._by_unsharded = {id(each._unsharded_param): weakref.ref(each) for each in _managed()}
        ref = self._by_unsharded.get(number)
        if ref is None:
            self._others[number] = tensor
            return None
        return ref()


_known = _Gathered()


def _managed() -> Iterator[Any]:
    """The parameters that FSDP2 has gathered at least once.

    Private: ``_module_state_mapping``, ``_fsdp_param_groups`` (``_fsdp_param_group`` in older
    versions), ``fsdp_params`` and ``_unsharded_param``: the pairs have no public list.
    """
    states: Any = getattr(sys.modules.get(_STATES), "_module_state_mapping", None) or {}
    for ref in list(states.values()):
        state = ref() if isinstance(ref, weakref.ref) else ref
        groups = getattr(state, "_fsdp_param_groups", None)
        if groups is None:
            groups = (getattr(state, "_fsdp_param_group", None),)
        for group in groups:
            for each in getattr(group, "fsdp_params", ()):
                if getattr(each, "_unsharded_param", None) is not None:
                    yield each


def sharded_parameter(leaf: Any) -> Any:
    """The program's parameter for a leaf of the graph: for FSDP2, the sharded one.

    Private: as in `_managed`.
    """
    states = sys.modules.get(_STATES)
    if states is None or not getattr(states, "_module_state_mapping", None):
        return leaf
    if not isinstance(leaf, torch.Tensor):
        return leaf  # a ``GradientEdge``
    found = _known.find(leaf)
    sharded = getattr(found, "sharded_param", None)
    return leaf if sharded is None else sharded


_wrappers: weakref.WeakSet[Any] = weakref.WeakSet()


def data_parallel_modules(parameters: Iterable[torch.Tensor] = ()) -> list[weakref.ref[Any]]:
    """The ``DistributedDataParallel`` modules of more than one rank that are alive.

    Torch has no list of them: all objects of the process are searched, if ranks are connected.

    Args:
        parameters: if all of them are in modules that were found before, there is no new search;
            none for a new search.
    """
    if not has_other_ranks():
        return []
    wanted = set(map(id, parameters))
    known = {id(each) for module in _wrappers for each in module.parameters()}
    if not wanted or not wanted <= known:
        _wrappers.update(_all_data_parallel_modules())
    return [weakref.ref(each) for each in _wrappers]


def _all_data_parallel_modules() -> Iterator[Any]:
    """All of them in the process: `list.index` compares a million types in milliseconds."""
    kinds: list[type] = [torch.nn.parallel.DistributedDataParallel]
    for kind in kinds:
        kinds += kind.__subclasses__()
    objects = gc.get_objects()
    types = list(map(type, objects))
    for kind in dict.fromkeys(kinds):
        place = -1
        with contextlib.suppress(ValueError):  # there is no further one
            while True:
                place = types.index(kind, place + 1)
                yield objects[place]


def awaited_parameters() -> set[int]:
    """The ``id`` of each parameter without whose gradient ``DistributedDataParallel`` cannot end.

    With ``find_unused_parameters=True`` or ``static_graph=True`` it waits for no unused one.
    """
    return {
        id(parameter)
        for module in _all_data_parallel_modules()
        if not (module.find_unused_parameters or module.static_graph)
        for parameter in module.parameters()
        if parameter.requires_grad
    }


class Averaging:
    """Which gradients ``DistributedDataParallel`` averages in one backward pass.

    It averages only after a forward pass of its own, outside of ``no_sync``, and only the
    parameters that required grad when it was created.

    Private: ``reducer.get_backward_stats()``, the times of its parameters, which change in a pass
    that it takes part in; ``_static_graph_delay_allreduce_enqueued``, which the first pass with
    ``static_graph=True`` sets instead; ``_get_zeros_like_grad_buckets()``, which names its
    parameters, if some were frozen or unfrozen since; ``_comm_hooks``, its communication hooks;
    ``pg_map`` and ``_get_sequence_number_for_group``, whether a hook of the program communicated.

    Args:
        modules: from `data_parallel_modules`.
    """

    def __init__(self, modules: Iterable[weakref.ref[Any]]) -> None:
        alive = [module for ref in modules if (module := ref()) is not None]
        self._before = [(weakref.ref(module), _progress(module)) for module in alive]
        self._averaged: set[int] = set()
        self._ranks, self._is_sharding = 0, False
        is_sharded = _STATES in sys.modules and has_other_ranks()
        self._sharded = _reduced_gradients() if is_sharded else None
        hooks = (hook for each in alive for hook, _ in getattr(each, "_comm_hooks", ()))
        names = [getattr(hook, "__module__", "") for hook in hooks]
        # The hook of torch that ``post_localSGD`` names averages over some of the ranks only.
        is_own = any(not n.startswith("torch.") or "post_localSGD" in n for n in names)
        self.action = Action.HOOKED if is_own else Action.AVERAGED
        self._calls = _collectives() if is_own else None
        self._ignored: set[int] = set()
        self.possible: dict[int, int] = {}
        """The number of ranks, by the ``id`` of each parameter of these modules."""
        for module in alive:
            self._ranks = ranks = dist.get_world_size(module.process_group)
            ignored = getattr(module, "parameters_to_ignore", ())
            for name, each in module.module.named_parameters():
                if name in ignored:
                    self._ignored.add(id(each))
                else:
                    self.possible[id(each)] = ranks

    def end(self) -> None:
        """The pass has ended."""
        for ref, before in self._before:
            module = ref()
            if module is not None and (before is None or before != _progress(module)):
                self._averaged.update(map(id, reduced(module)))
                if self._calls is not None:  # it asks the ranks which parameters are unused
                    self._calls += module.find_unused_parameters
        after = _reduced_gradients() if self._sharded is not None else {}
        sizes = [each[-1] for key, each in after.items() if each != (self._sharded or {}).get(key)]
        self._is_sharding = bool(sizes)
        self._ranks = max((self._ranks, *sizes))
        if self._calls is not None and self._calls == _collectives():
            self.action = Action.NOT_COMBINED

    def ranks_of(self, leaf: torch.Tensor | None) -> tuple[int, int, bool]:
        """Over how many ranks a gradient was averaged, and was not; if FSDP2 averaged others.

        A parameter outside of all modules counts too, if the pass averaged others, or FSDP2 did.
        """
        is_beside = bool(self._averaged) or self._is_sharding
        is_beside &= type(leaf) is torch.nn.Parameter
        is_beside &= id(leaf) not in self._ignored
        ranks = self.possible.get(id(leaf), self._ranks if is_beside else 0)
        is_averaged = self.has_written(leaf) and self.action is not Action.NOT_COMBINED
        is_beside &= id(leaf) not in self.possible and not self._averaged
        return (ranks, 0, False) if is_averaged else (0, ranks, is_beside)

    def has_written(self, leaf: torch.Tensor | None) -> bool:
        """Whether it wrote the gradient of a leaf."""
        return id(leaf) in self._averaged


def _reduced_gradients() -> dict[int, tuple[int, int, int]]:
    """What changes in a pass in which FSDP2 reduces a gradient, and its number of ranks, by ``id``.

    Private: ``mesh_info``, and what `_managed` names.
    """
    found = ((each, each.sharded_param.grad) for each in _managed())
    return {
        id(each): (id(grad), grad._version, each.mesh_info.mesh.size())
        for each, grad in found
        if grad is not None
    }


def _collectives() -> int | None:
    """How often this process has communicated with others; None if a backend does not count it."""
    try:
        groups: Any = dist.distributed_c10d._world.pg_map
        return sum(int(group._get_sequence_number_for_group()) for group in groups)
    except Exception:
        return None


def _progress(module: Any) -> tuple[object, list[int]] | None:
    """What changes in a pass that it takes part in; None if it is not known."""
    times = _times(module)
    is_begun = getattr(module, "_static_graph_delay_allreduce_enqueued", None)
    return None if times is None else (is_begun, times)


def _times(module: Any) -> list[int] | None:
    times = getattr(getattr(module, "reducer", None), "get_backward_stats", None)
    return None if times is None else list(times())


def reduced(module: Any) -> list[torch.Tensor]:
    """The parameters whose gradients a ``DistributedDataParallel`` module averages.

    Private: ``_module_parameters``, those that the module had when it was wrapped.
    """
    every = getattr(module, "_module_parameters", None) or module.parameters()
    found = [each for each in every if each.requires_grad]
    times, buckets = _times(module), getattr(module.reducer, "_get_zeros_like_grad_buckets", None)
    if times is not None and len(times) != len(found) and buckets is not None:
        return [each for bucket in buckets() for each in bucket.parameters()]
    return found


def is_flat(tensor: torch.Tensor | None) -> bool:
    """Whether a tensor holds the parameters of a module of FSDP1, one after the other.

    Private: ``_is_flat_param``, with which torch marks it.
    """
    return bool(getattr(tensor, "_is_flat_param", False))


def flat_name(tensor: torch.Tensor) -> str:
    """What a flat parameter that no module registers is called, after its parts; else "".

    Private: ``_fqns``, the names of its parts in the module that FSDP1 wraps.
    """
    parts = getattr(tensor, "_fqns", ()) if is_flat(tensor) else ()
    return f"_flat_param({parts[0]}{', …' * (len(parts) > 1)})" if parts else ""


def flat_parameters(
    modules: Iterable[torch.nn.Module], leaves: Iterable[torch.Tensor | None] = ()
) -> dict[int, torch.Tensor]:
    """The flat parameters of FSDP1, of modules or among leaves, by the ``id`` of each part, if any.

    The graph ends at the flat parameter; the gradient of each part is a view of its gradient.

    Private: ``_handle``, ``flat_param`` and ``_params``: the parts have no public list.
    """
    handles = (getattr(each, "_handle", None) for module in modules for each in module.modules())
    found = [getattr(handle, "flat_param", None) for handle in handles]
    if "torch.distributed.fsdp" in sys.modules:
        found += [each for each in leaves if is_flat(each)]
    flat = {id(each): each for each in found if isinstance(each, torch.Tensor)}.values()
    return {id(part): each for each in flat for part in getattr(each, "_params", None) or (each,)}


def has_other_ranks() -> bool:
    """Whether this process is one of several ranks."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def waiting_gradient(leaf: torch.Tensor) -> torch.Tensor | None:
    """The gradient of a parameter that FSDP2 has not reduced over the ranks yet.

    This is the case after a backward pass under ``set_requires_gradient_sync(False)``.

    Private: ``_unsharded_param`` and ``unsharded_accumulated_grad``, and those of `_managed`.
    """
    if type(leaf).__name__ != "DTensor":
        return None
    for each in _managed():
        if each.sharded_param is leaf:
            waiting: torch.Tensor | None = each.unsharded_accumulated_grad
            return each._unsharded_param.grad if waiting is None else waiting
    return None


def waiting_parameters() -> set[int]:
    """The ``id`` of each parameter for which `waiting_gradient` returns a gradient."""
    return {
        id(each.sharded_param)
        for each in (_managed() if _STATES in sys.modules else ())
        if each.unsharded_accumulated_grad is not None or each._unsharded_param.grad is not None
    }
