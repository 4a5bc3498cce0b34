"""The table of what is kept for backward, as data and as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from gradviz.graph.text import bytes_text, counted, listed

__all__ = ["SavedRow", "SavedTable"]

_FEW = 4


@dataclass(frozen=True)
class SavedRow:
    """A tensor that is kept for backward.

    Args:
        key: node of the operation that made it; where that is not known, that keeps it.
        what: what it is: ``"output of gelu"``.
        name: what the user calls it; may be empty.
        tensor: type and sizes: ``"f32[4,128,1024]"``. What is kept may be a view of it.
        bytes: size of its storage, which several operations may share.
        source: the line of the operation ``key``; only when it was recorded.
        module: path of its module; empty when it is not known.
        savers: the operations that keep it, in the order in which they ran.
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
        """Who keeps it, if that is another: ``"kept by mul, shared with sin"``; else ``""``."""
        first, *others = self.savers or ("",)
        said = [] if self.is_own else [f"kept by {first}"]
        if others:
            counts = {op: others.count(op) for op in others}
            words = [f"{op} ({count}×)" if count > 1 else op for op, count in counts.items()]
            more = f" and {len(words) - _FEW} more" if len(words) > _FEW else ""
            said.append(f"shared with {', '.join(words[:_FEW])}{more}")
        return ", ".join(said)


@dataclass(frozen=True)
class SavedTable:
    """What a graph keeps for backward; ``str()`` has one line per tensor, and the total.

    Args:
        rows: the tensors that are kept, largest first; those that share a storage are one.
        leaves: names of leaves, frozen parameters and buffers that are saved as well, and are held
            anyway; "" for one without.
        leaf_bytes: the size of these, which counts nowhere else.
        freed: how many operations have let go of what they kept.
        unknown: how many operations keep something that cannot be seen.
        packed: how many operations keep something that a hook has packed.
        modules: bytes that checkpointing a module would free at least, largest first.
        sizeless: how many tensors are kept whose size is not known: sparse ones, and those inside
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
        """Bytes kept in all, each storage counted once, and that of leaves not at all."""
        return sum(row.bytes for row in self.rows)

    def text(self, most: int | None = None) -> str:
        """The table as aligned lines.

        Args:
            most: how many tensors to list; None for all. The rest is summed up in a line.
        """
        shown = self.rows[:most]
        cells = [
            (
                row.tensor,
                bytes_text(row.bytes),
                ", ".join(filter(None, (row.what, row.name))),
                row.where,
                row.shared,
            )
            for row in shown
        ]
        lines = _aligned(cells)
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

    def __str__(self) -> str:
        return self.text()


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines; the second cell, a number, is flushed right, and empty columns vanish."""
    columns = [at for at in range(5) if any(row[at] for row in rows)]
    widths = {at: max(len(row[at]) for row in rows) for at in columns}
    return [
        "  ".join(
            f"{row[at]:>{widths[at]}}" if at == 1 else f"{row[at]:<{widths[at]}}" for at in columns
        ).rstrip()
        for row in rows
    ]
