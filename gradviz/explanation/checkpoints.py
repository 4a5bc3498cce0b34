"""What checkpointing a module would free of the memory that is kept for backward."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod

from gradviz.explanation.origins import Origin, owner_of
from gradviz.graph import EdgeKind, GradGraph, NodeData, NodeKind
from gradviz.paths import Path
from gradviz.views.inference import root_of

__all__ = ["blocks_of", "freed_by_checkpointing"]


def blocks_of(paths: Mapping[str, Path]) -> dict[str, str]:
    """By the key of an operation, the module to checkpoint that it ran in.

    That is the first of a list of modules on its path, ``blocks.0`` of ``blocks.0.mlp.fc``, or
    else the first module that not all have in common.

    Example:
        >>> blocks_of({"a": ("net", "blocks", "0", "fc"), "b": ("net", "head")})
        {'a': 'net.blocks.0', 'b': 'net.head'}
    """
    root = root_of(list(paths.values()))
    found = {}
    for key, path in paths.items():
        count = next((n for n, part in enumerate(path, 1) if part.isdecimal()), root + 1)
        if len(path) >= count:
            found[key] = ".".join(path[:count])
    return found


def freed_by_checkpointing(
    graph: GradGraph, blocks: Mapping[str, str], kept: Sequence[tuple[Origin, list[str], int]]
) -> dict[str, int]:
    """Bytes that checkpointing each module alone would free at least, largest first.

    That is what was made inside and is saved inside alone; less what goes into the module and is
    kept by nothing yet, since the module is computed from it again. Of a saved tensor that
    requires no grad it is not known whether it was made inside: it is not counted.

    Args:
        graph: what was recorded.
        blocks: by the key of an operation, its module.
        kept: of each storage, where it came from, the operations that keep it, and its size.
    """
    found: dict[str, int] = {}
    for origin, savers, size in kept:
        inside = {blocks.get(key) for key in savers}
        if origin.is_made and inside == {blocks.get(origin.key)} != {None}:
            block = blocks[origin.key]
            found[block] = found.get(block, 0) + size
    known = {origin.key for origin, *_ in kept}
    inputs: dict[str, set[str]] = {}
    for source, target, edge in graph.edges(data=True):
        block = blocks.get(target, "")
        if edge["kind"] is EdgeKind.GRADIENT and block in found and blocks.get(source) != block:
            inputs.setdefault(block, set()).add(owner_of(graph, source))
    for block, owners in inputs.items():
        new = [graph.nodes[key] for key in owners - known if blocks.get(key) != block]
        found[block] -= sum(_size(data) for data in new)
    freed = {block: size for block, size in found.items() if size > 0}
    return dict(sorted(freed.items(), key=lambda item: -item[1]))


def _size(data: NodeData) -> int:
    """Bytes of what an operation made; those of a leaf are there anyway."""
    if data["kind"] is not NodeKind.OPERATION:
        return 0
    bits = re.search(r"\d+", data.get("dtype", ""))
    each = int(bits[0]) // 8 if bits else 1
    return prod(data.get("shape", ())) * each
