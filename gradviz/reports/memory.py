"""The tensors saved for backward: which, where, and how large."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradviz.errors import UsageError
from gradviz.graph import Buffers, GradGraph, NodeData, SavedTensor, ancestors, every
from gradviz.graph.text import bytes_text, counted, listed, shape_text
from gradviz.reports.modules import Origin, Origins, blocks_of, freed_by_checkpointing, is_of_module
from gradviz.story import Frame, Story
from gradviz.views.modules import module_paths
from gradviz.views.op_sequence import op_sequence

_FEW = 4


@dataclass(frozen=True)
class SavedRow:
    """A tensor that is saved for backward.

    Args:
        key: node of the operation that created it; if unknown, of the one that saved it.
        what: where it came from: ``"output of gelu"``.
        name: the user's name of the tensor; may be empty.
        tensor: dtype and shape: ``"f32[4,128,1024]"``. The saved tensor may be a view of it.
        bytes: size of its storage, which several operations may share.
        source: the line of the operation ``key``; only when recorded.
        module: path of its module; empty when unknown.
        savers: the operations that saved it, in the order in which they ran.
        is_own: whether the operation ``key`` is the first of them.
    """

    key: str
    what: str
    name: str
    tensor: str
    bytes: int
    source: str
    module: str
    savers: tuple[str, ...] = ()
    is_own: bool = False

    @property
    def where(self) -> str:
        """Line and module: ``"train.py:27 (blocks.0.mlp)"``."""
        module = f"({self.module})" if self.module else ""
        return " ".join(filter(None, (self.source, module)))

    @property
    def shared(self) -> str:
        """The other operations that saved it: ``"kept by mul, shared with sin"``; else ``""``."""
        first, *others = self.savers or ("",)
        said = [] if self.is_own else [f"kept by {first}"]
        if others:
            counts = {op: others.count(op) for op in others}
            words = [f"{op} ({count}×)" if count > 1 else op for op, count in counts.items()]
            said.append(f"shared with {listed(words, _FEW)}")
        return ", ".join(said)


@dataclass(frozen=True)
class SavedTable:
    """What a graph saved for backward; ``str()`` has one line per tensor, and the total.

    Args:
        rows: the saved tensors, largest first; one row for tensors that share a storage.
        leaves: names of saved leaves, frozen parameters, buffers, which stay in memory anyway; ""
            for one without a name.
        leaf_bytes: the size of these, which is counted nowhere else.
        freed: number of operations whose saved tensors were freed.
        unknown: number of operations whose saved tensors are not visible.
        packed: number of operations whose saved tensors a hook has packed.
        modules: the least number of bytes that checkpointing each module would free, largest first.
        sizeless: number of saved tensors of unknown size: sparse ones, and those inside
            ``torch.func``.
    """

    rows: tuple[SavedRow, ...]
    leaves: tuple[str, ...] = ()
    leaf_bytes: int = 0
    freed: int = 0
    unknown: int = 0
    packed: int = 0
    modules: Mapping[str, int] = field(default_factory=dict)
    sizeless: int = 0

    @property
    def total(self) -> int:
        """Bytes saved in total, each storage counted once, without leaves."""
        return sum(row.bytes for row in self.rows)

    def text(self, most: int | None = None) -> str:
        """The table as aligned lines.

        Args:
            most: how many tensors to list; None for all. One line sums up the rest.
        """
        shown = self.rows[:most]
        whats = [", ".join(filter(None, (row.what, row.name))) for row in shown]
        rows = zip(shown, whats, strict=True)
        lines = _aligned(
            [(e.tensor, bytes_text(e.bytes), what, e.where, e.shared) for e, what in rows]
        )
        rest = self.rows[len(shown) :]
        if rest:
            size = bytes_text(sum(row.bytes for row in rest))
            lines.append(f"… and {counted(len(rest), 'more tensor')} with {size}")
        return "\n".join([*lines, *self._summary()])

    def _summary(self) -> list[str]:
        lines = []
        if self.rows:
            many = counted(len(self.rows), "tensor")
            lines.append(f"total {bytes_text(self.total)}, kept for backward: {many}")
        elif not (self.freed or self.unknown or self.packed or self.sizeless):
            lines.append("nothing is kept for backward" + " but leaves" * bool(self.leaves))
        if self.leaves:
            names = listed([name for name in self.leaves if name])
            lines.append(
                f"held anyway, and not counted: {bytes_text(self.leaf_bytes)} of leaves that are "
                f"saved as well{f' ({names})' if names else ''}"
            )
        if self.freed:
            lines.append(f"freed: {counted(self.freed, 'operation')}, by a backward pass")
        if self.packed:
            lines.append(
                f"packed by a hook, as of a checkpoint: what {counted(self.packed, 'operation')} "
                "saved"
            )
        if self.unknown:
            lines.append(f"not known: what {counted(self.unknown, 'operation')} may keep")
        if self.sizeless:
            lines.append(f"not known: the size of {counted(self.sizeless, 'tensor')} kept as well")
        if self.modules:
            said = listed([f"{name} {bytes_text(size)}" for name, size in self.modules.items()])
            lines.append(f"checkpointing a module frees at least: {said}")
        return lines

    def _repr_pretty_(self, printer: Any, _cycle: bool) -> None:
        """The table, in a notebook and in IPython."""
        printer.text(str(self))

    def __str__(self) -> str:
        return self.text()


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines; the second cell, a number, is right-aligned; empty columns are left out."""
    columns = [at for at in range(5) if any(row[at] for row in rows)]
    widths = {at: max(len(row[at]) for row in rows) for at in columns}
    return [
        "  ".join(
            f"{row[at]:>{widths[at]}}" if at == 1 else f"{row[at]:<{widths[at]}}" for at in columns
        ).rstrip()
        for row in rows
    ]


# Running statistics of normalization layers: the module keeps them anyway.
_BUFFERS = ("running_mean", "running_var")
_OPERANDS = ("self", "other")
_NUMBERS = ("int64", "float64", "complex128", "bool")


@dataclass
class _StorageRow:
    """A storage, and the operations that saved it."""

    tensor: SavedTensor  # the saved tensor, from the operation that knows most about its origin
    origin: Origin  # where it came from
    savers: list[str]  # keys of the operations that saved it, in the order in which they ran


def saved(graph: GradGraph) -> SavedTable:
    """List the tensors that a graph saved for backward.

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
    sequence = op_sequence(graph)
    paths = dict(zip(sequence.keys, module_paths(sequence), strict=True))
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


def memory(subject: object, names: object = None) -> SavedTable:
    """List the tensors saved for backward: size, origin, and the operations that saved them.

    Args:
        subject: a tensor, which is traced now; a `GradGraph`, a `Frame`, a `Drawing`; or a `Story`
            or a `Recording`, of which the frame with the most saved bytes is used.
        names: names of tensors, as for `gradviz.trace`; None for the caller's variables.

    Returns:
        The table: ``str()`` has one line per tensor, largest first, and the total; ``.rows`` has
        the same as data, ``.total`` the bytes, ``.modules`` the bytes that checkpointing frees.

    Raises:
        SubjectError: if the subject is none of these, or autograd recorded nothing about it.
        UsageError: if a story has no frames.

    Example:
        >>> import torch
        >>> x = torch.ones(1000, requires_grad=True)
        >>> print(memory((x.exp() * 2).sum()))
        f32[1000]  4 kB  output of exp
        total 4 kB, kept for backward: 1 tensor
    """
    story = getattr(subject, "story", subject)  # of a drawing or a recording
    if isinstance(story, GradGraph):
        return saved(story)
    if isinstance(story, Story):
        tables = [saved(frame.graph) for frame in story]
        if not tables:
            raise UsageError("the story has no frames: nothing was recorded")
        return max(tables, key=lambda table: table.total)
    if isinstance(story, Frame):
        return saved(story.graph)
    # Imported here, because it needs torch, which is not needed for saved graphs.
    from gradviz.capture.tensors.names import Names
    from gradviz.capture.tracer import trace_subjects

    given: Any = names
    return saved(trace_subjects((subject,), Names.of(given, sys._getframe(1)), caller="list"))


def saved_at_most(frames: Iterable[Frame], name: str = "") -> tuple[str, SavedTable] | None:
    """The frame of a recording in which most bytes were saved, in all or for one tensor.

    Args:
        frames: the frames.
        name: of the tensor: only what it was computed from counts; "" for all.

    Returns:
        The title of the frame and its table; None if no frame has a tensor of that name.
    """
    found = []
    for frame in frames:
        if not name:
            found.append((frame.title, saved(frame.graph)))
            continue
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
    """The storages saved for backward; and names and bytes of those that stay in memory anyway."""
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
    """Whether it is a Python number, like the 2 of ``x * 2``, which torch saves as a tensor."""
    is_like_one = not tensor.shape and tensor.dtype in _NUMBERS and tensor.argument in _OPERANDS
    inputs = (edge.get("input") for _, edge in graph.inputs(key))
    return is_like_one and tensor.input not in inputs


def _storage(
    graph: GradGraph, entries: list[tuple[str, SavedTensor]], origins: Origins
) -> _StorageRow:
    entries = sorted(entries, key=lambda each: graph.nodes[each[0]].get("sequence_nr", -1))
    found = [(origins.of(key, tensor), tensor) for key, tensor in entries]
    # The operation that created it, or one that used it, knows its origin.
    origin, tensor = max(found, key=lambda each: (each[0].is_made, bool(each[0].key)))
    return _StorageRow(tensor, origin, list(dict.fromkeys(key for key, _ in entries)))


def _row(graph: GradGraph, storage: _StorageRow, modules: Mapping[str, str]) -> SavedRow:
    origin, savers = storage.origin, storage.savers
    maker: NodeData = graph.nodes[origin.key] if origin.key else {}
    place = origin.key if origin.is_made else savers[0]
    data: NodeData = graph.nodes[place]
    tensor = storage.tensor
    shape, dtype = tensor.shape, tensor.dtype
    is_main = origin.words == f"output of {maker.get('op')}" and maker.get("outputs", 1) == 1
    if is_main and "shape" in maker:  # the saved tensor may be a view of it
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
    """Rows of a graph that was saved by a version without the list of tensors."""
    for key, data in graph.nodes(data=True):
        if data.get("saved_bytes") and "saved" not in data:
            op = data.get("op", data["kind"].value)
            module = modules.get(key, data.get("module", ""))
            size, source = data["saved_bytes"], data.get("source", "")
            yield SavedRow(key, f"saved by {op}", "", "?", size, source, module, (op,), True)
