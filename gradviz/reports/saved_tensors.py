"""What is kept in memory for backward: which tensors, where, and how much."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradviz.graph import Buffers, GradGraph, NodeData, SavedTensor
from gradviz.graph.algorithms import ancestors, every
from gradviz.graph.text import shape_text
from gradviz.reports.checkpoints import blocks_of, freed_by_checkpointing, is_of_module
from gradviz.reports.origins import Origin, Origins
from gradviz.reports.saved_table import SavedRow, SavedTable
from gradviz.views.inference import module_paths
from gradviz.views.units import units_of

if TYPE_CHECKING:
    from gradviz.story import Frame

__all__ = ["SavedRow", "SavedTable", "saved", "saved_at_most"]

# Of normalisation, which the module keeps as its own, whatever becomes of the graph.
_BUFFERS = ("running_mean", "running_var")
_OPERANDS = ("self", "other")
_NUMBERS = ("int64", "float64", "complex128", "bool")


@dataclass
class _StorageRow:
    """A storage, and all that keeps it.

    Args:
        tensor: what was saved of it, by the operation that tells most of where it came from.
        origin: where it came from.
        savers: keys of the operations that keep it, in the order in which they ran.
    """

    tensor: SavedTensor
    origin: Origin
    savers: list[str]


def saved(graph: GradGraph) -> SavedTable:
    """List the tensors that a graph keeps for backward.

    Args:
        graph: as it was traced or recorded. Lines are known when it was recorded; modules also
            when its parameters are named by their paths.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.OPERATION, op="exp", shape=(4, 128),
        ...                dtype="float32", saved_bytes=2048, source="train.py:27",
        ...                saved=(SavedTensor("result", -1, (4, 128), "float32", 0, 2048),))
        >>> print(saved(graph))
        f32[4,128]  2.05 kB  output of exp  train.py:27
        total 2.05 kB, kept for backward: 1 tensor
    """
    units = units_of(graph)
    paths = dict(zip(units.keys, module_paths(units), strict=True))
    origins = Origins(graph)
    storages, held = _storages(graph, origins)
    modules = {key: ".".join(path) for key, path in paths.items()}
    rows = [_row(graph, each, modules) for each in storages]
    rows += _without_tensors(graph, modules)
    rows.sort(key=lambda row: -row.bytes)
    states = [data.get("buffers") for _, data in graph.nodes(data=True)]
    tensors = [data.get("saved", ()) for _, data in graph.nodes(data=True)]
    kept = [(each.origin, each.savers, each.tensor.bytes) for each in storages]
    return SavedTable(
        tuple(rows),
        tuple(name for name, _ in held),
        sum(size for _, size in held),
        states.count(Buffers.FREED),
        states.count(Buffers.UNKNOWN),
        sum(any(not each.dtype for each in some) for some in tensors),
        freed_by_checkpointing(graph, blocks_of(paths), kept, origins.owner),
        sum(bool(each.dtype) and each.storage < 0 for some in tensors for each in some),
    )


def saved_at_most(frames: Iterable[Frame], name: str) -> tuple[str, SavedTable] | None:
    """The moment of a recording at which most was kept for one of its tensors.

    Args:
        frames: the moments.
        name: of the tensor: what it was computed from counts, and nothing else.

    Returns:
        The title of the moment and its table; None if no moment has a tensor of that name.
    """
    found = []
    for frame in frames:
        try:
            key = frame.graph.find(name)
        except KeyError:
            continue
        part = frame.graph.subgraph(ancestors(frame.graph, [key], every))
        found.append((frame.title, saved(part)))
    return max(found, key=lambda pair: pair[1].total, default=None)


def _storages(
    graph: GradGraph, origins: Origins
) -> tuple[list[_StorageRow], list[tuple[str, int]]]:
    """What is kept for backward alone; and names and bytes of what is kept anyway."""
    of_leaves: dict[int, list[str]] = {}
    for key, data in graph.nodes(data=True):
        if "storage" in data:
            of_leaves.setdefault(data["storage"], []).append(key)
    found: dict[int, list[tuple[str, SavedTensor]]] = {}
    leaves: dict[str, int] = {}
    for key, data in graph.nodes(data=True):
        for tensor in data.get("saved", ()):
            if tensor.storage in of_leaves:
                first, *others = of_leaves[tensor.storage]
                leaves.update({first: tensor.bytes, **dict.fromkeys(others, 0)})
            elif tensor.bytes and not _is_number(graph, key, tensor):
                found.setdefault(tensor.storage, []).append((key, tensor))
    ordered = sorted(leaves.items(), key=lambda item: int(item[0][1:]))
    held = [(graph.nodes[key].get("name", ""), size) for key, size in ordered]
    storages = []
    for entries in found.values():
        storage = _storage(graph, entries, origins)
        maker: NodeData | None = graph.nodes.get(storage.origin.key)
        if maker is not None and is_of_module(maker):
            held.append((maker["name"].removesuffix(".t()"), storage.tensor.bytes))
        elif storage.tensor.argument in _BUFFERS:
            held.append(("", storage.tensor.bytes))
        else:
            storages.append(storage)
    return storages, held


def _is_number(graph: GradGraph, key: str, tensor: SavedTensor) -> bool:
    """Whether it is the 2 of ``x * 2``, which torch keeps as a tensor."""
    is_like_one = not tensor.shape and tensor.dtype in _NUMBERS and tensor.argument in _OPERANDS
    return is_like_one and not any(
        edge.get("input") == tensor.input for _, edge in graph.inputs(key)
    )


def _storage(
    graph: GradGraph, entries: list[tuple[str, SavedTensor]], origins: Origins
) -> _StorageRow:
    entries = sorted(entries, key=lambda each: graph.nodes[each[0]].get("sequence_nr", -1))
    told = [(origins.of(key, tensor), tensor) for key, tensor in entries]
    # What made it is known by that operation itself, or by one that used it.
    origin, tensor = max(told, key=lambda each: _rank(each[0]))
    return _StorageRow(tensor, origin, list(dict.fromkeys(key for key, _ in entries)))


def _rank(origin: Origin) -> int:
    return 2 if origin.is_made else 1 if origin.key else 0


def _row(graph: GradGraph, storage: _StorageRow, modules: Mapping[str, str]) -> SavedRow:
    origin, savers = storage.origin, storage.savers
    maker: NodeData = graph.nodes[origin.key] if origin.key else {}
    place = origin.key if origin.is_made else savers[0]
    data: NodeData = graph.nodes[place]
    tensor = storage.tensor
    shape, dtype = tensor.shape, tensor.dtype
    is_main = origin.words == f"output of {maker.get('op')}" and maker.get("outputs", 1) == 1
    if is_main and "shape" in maker:  # what is kept may be a view of it
        shape, dtype = maker["shape"], maker.get("dtype", dtype)
    is_named = is_main or not origin.is_made
    return SavedRow(
        key=place,
        what=origin.words,
        name=maker.get("name", "") if is_named else "",
        tensor=shape_text(shape, dtype),
        bytes=tensor.bytes,
        source=data.get("source", ""),
        module=modules.get(place, data.get("module", "")),
        savers=tuple(graph.nodes[key].get("op", "") for key in savers),
        is_own=savers[0] == place,
    )


def _without_tensors(graph: GradGraph, modules: Mapping[str, str]) -> Iterator[SavedRow]:
    """Rows of a graph that was saved when it did not tell the tensors yet."""
    for key, data in graph.nodes(data=True):
        if data.get("saved_bytes") and "saved" not in data:
            op = data.get("op", data["kind"].value)
            module = modules.get(key, data.get("module", ""))
            size, source = data["saved_bytes"], data.get("source", "")
            yield SavedRow(key, f"saved by {op}", "", "?", size, source, module, (op,), True)
