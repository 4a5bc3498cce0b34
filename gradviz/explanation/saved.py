"""What operations keep in memory for backward: which, where, and how much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx

from gradviz.graph import Buffers, GradGraph, NodeData
from gradviz.numbers import bytes_text, shape_text
from gradviz.views.inference import module_paths
from gradviz.views.units import units_of

if TYPE_CHECKING:
    from gradviz.story import Frame

__all__ = ["SavedRow", "SavedTable", "saved", "saved_at_most"]

_FEW_MODULES = 4


@dataclass(frozen=True)
class SavedRow:
    """An operation and what it keeps.

    Args:
        key: of its node.
        op: the forward word: ``"gelu"``.
        name: what the user calls the tensor that it made; may be empty.
        made: type and sizes of that tensor: ``"f32[4,128,1024]"``. What is kept may be another,
            as an input.
        bytes: size of the storage that it keeps. What several operations share is counted at
            one of them, and the storage of leaves at none.
        source: the line that made it; only when it was recorded.
        module: path of its module; empty when it is not known.
    """

    key: str
    op: str
    name: str
    made: str
    bytes: int
    source: str
    module: str

    @property
    def where(self) -> str:
        """Line and module: ``"train.py:27 (blocks.0.mlp)"``."""
        module = f"({self.module})" if self.module else ""
        return " ".join(filter(None, (self.source, module)))


@dataclass(frozen=True)
class SavedTable:
    """What a graph keeps for backward; ``str()`` has one line per operation, and the total.

    Args:
        rows: the operations that keep something, largest first.
        freed: how many operations have let go of what they kept.
        unknown: how many operations keep something that cannot be seen.
    """

    rows: tuple[SavedRow, ...]
    freed: int = 0
    unknown: int = 0

    @property
    def total(self) -> int:
        """Bytes kept in all, each storage counted once."""
        return sum(row.bytes for row in self.rows)

    @property
    def modules(self) -> dict[str, int]:
        """Bytes kept within each module, largest first; of a list of modules, within each entry.

        Checkpointing a module frees that much at most: its inputs stay, and so does what
        operations outside of it keep as well.
        """
        found: dict[str, int] = {}
        for row in self.rows:
            if block := _block(row.module):
                found[block] = found.get(block, 0) + row.bytes
        return dict(sorted(found.items(), key=lambda item: -item[1]))

    def text(self, most: int | None = None) -> str:
        """The table as aligned lines.

        Args:
            most: how many operations to list; None for all. The rest is summed up in a line.
        """
        shown = self.rows[:most]
        cells = [(row.made, bytes_text(row.bytes), f"{row.op} {row.name}".strip()) for row in shown]
        widths = [max((len(row[column]) for row in cells), default=0) for column in range(3)]
        lines = [
            f"{made:<{widths[0]}}  {size:>{widths[1]}}  {what:<{widths[2]}}  {row.where}".rstrip()
            for (made, size, what), row in zip(cells, shown, strict=True)
        ]
        rest = self.rows[len(shown) :]
        if rest:
            size = bytes_text(sum(row.bytes for row in rest))
            lines.append(f"… and {_counted(len(rest), 'more operation')} with {size}")
        lines += self._summary()
        return "\n".join(lines)

    def _summary(self) -> list[str]:
        lines = []
        if self.rows:
            many = _counted(len(self.rows), "operation")
            lines.append(f"total {bytes_text(self.total)}, kept for backward by {many}")
        elif not self.freed and not self.unknown:
            lines.append("nothing is kept for backward")
        if self.freed:
            lines.append(f"freed: {_counted(self.freed, 'operation')}, by a backward pass")
        if self.unknown:
            lines.append(f"not known: what {_counted(self.unknown, 'operation')} may keep")
        if len(modules := self.modules) > 1:
            some = list(modules.items())[:_FEW_MODULES]
            said = ", ".join(f"{name} {bytes_text(count)}" for name, count in some)
            more = f", and {len(modules) - len(some):,} more" if len(modules) > len(some) else ""
            lines.append(f"checkpointing a module frees at most: {said}{more}")
        return lines

    def __str__(self) -> str:
        return self.text()


def saved(graph: GradGraph) -> SavedTable:
    """List what the operations of a graph keep for their backward.

    Args:
        graph: as it was traced or recorded. Lines are known when it was recorded; modules also
            when its parameters are named by their paths.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.OPERATION, op="gelu", shape=(4, 128),
        ...                dtype="float32", saved_bytes=2048, source="train.py:27",
        ...                module="blocks.0.mlp")
        >>> print(saved(graph))
        f32[4,128]  2.05 kB  gelu  train.py:27 (blocks.0.mlp)
        total 2.05 kB, kept for backward by 1 operation
    """
    units = units_of(graph)
    paths = zip(units.keys, module_paths(units), strict=True)
    modules = {key: ".".join(path) for key, path in paths}
    rows = [
        _row(key, data, modules.get(key, data.get("module", "")))
        for key, data in graph.nodes(data=True)
        if data.get("saved_bytes")
    ]
    rows.sort(key=lambda row: -row.bytes)
    states = [data.get("buffers") for _, data in graph.nodes(data=True)]
    return SavedTable(tuple(rows), states.count(Buffers.FREED), states.count(Buffers.UNKNOWN))


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
        part = frame.graph.subgraph({key, *nx.ancestors(frame.graph, key)})
        found.append((frame.title, saved(part)))
    return max(found, key=lambda pair: pair[1].total, default=None)


def _row(key: str, data: NodeData, module: str) -> SavedRow:
    return SavedRow(
        key=key,
        op=data.get("op", data["kind"].value),
        name=data.get("name", ""),
        made=shape_text(data["shape"], data.get("dtype", "")) if "shape" in data else "?",
        bytes=data["saved_bytes"],
        source=data.get("source", ""),
        module=module,
    )


def _block(module: str) -> str:
    """The module to checkpoint: up to the first number, ``blocks.0`` of ``blocks.0.mlp.fc``."""
    parts = module.split(".")
    for count, part in enumerate(parts, 1):
        if part.isdigit():
            return ".".join(parts[:count])
    return parts[0]


def _counted(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
