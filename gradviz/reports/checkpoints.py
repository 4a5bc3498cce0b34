"""What checkpointing a module would free of the memory that is kept for backward."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from math import prod

from gradviz.graph import EdgeKind, GradGraph, NodeData, NodeKind
from gradviz.graph.module_paths import Path
from gradviz.reports.origins import Origin
from gradviz.views.modules import is_inferred, root_of

__all__ = ["blocks_of", "freed_by_checkpointing", "is_of_module"]


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
    graph: GradGraph,
    blocks: Mapping[str, str],
    kept: Sequence[tuple[Origin, list[str], int]],
    owner: Callable[[str], str],
) -> dict[str, int]:
    """Bytes that checkpointing each module alone would free at least, largest first.

    That is what was made inside and is saved inside alone; less what goes into the module and is
    kept by nothing yet, since the module is computed from it again. Of a saved tensor that
    requires no grad it is not known whether it was made inside: it is not counted. A module that
    uses a tensor of unknown size is left out, and so is one that would free next to nothing.

    Args:
        graph: what was recorded.
        blocks: by the key of an operation, its module.
        kept: of each storage, where it came from, the operations that keep it, and its size.
        owner: tells by the key of a result which node made its storage.
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
        if edge["kind"] in _DATA and block in found and blocks.get(source) != block:
            inputs.setdefault(block, set()).add(owner(source))
    for block, owners in inputs.items():
        new = [graph.nodes[key] for key in owners - known if blocks.get(key) != block]
        found[block] -= sum(_size(data) for data in new)
    total = sum(size for *_, size in kept)
    members: dict[str, list[str]] = {}
    for key, block in blocks.items():
        members.setdefault(block, []).append(key)
    for block in found:
        perhaps = _perhaps(graph, members[block])
        found[block] -= sum(_unseen(graph.nodes[key], total) for key in perhaps)
    freed = {block: size for block, size in found.items() if size > total * _LEAST}
    return dict(sorted(freed.items(), key=lambda item: -item[1]))


def _perhaps(graph: GradGraph, inside: Sequence[str]) -> set[str]:
    """Operations of a module, and those before it that may be of it as well.

    Where modules are inferred, only the use of a parameter tells for sure where another one ends.
    """
    seen, stack = set(inside), list(inside)
    while stack:
        for source, _ in graph.inputs(stack.pop()):
            data: NodeData = graph.nodes[source]
            is_open = data["kind"] is NodeKind.OPERATION and is_inferred(data)
            if is_open and source not in seen and not _uses_leaf(graph, source):
                seen.add(source)
                stack.append(source)
    return seen


def _uses_leaf(graph: GradGraph, key: str) -> bool:
    """Whether an operation uses a leaf, itself or transposed."""
    sources = [source for source, _ in graph.inputs(key)]
    behind = [s for each in sources for s, _ in graph.inputs(each) if graph.in_degree(each) == 1]
    return any(graph.nodes[each]["kind"] is NodeKind.ACCUMULATE for each in (*sources, *behind))


_DATA = (EdgeKind.GRADIENT, EdgeKind.CUT)
_LEAST = 0.01  # of all that is kept
_LARGEST_ITEM = 16  # bytes of an element, of complex128


def _size(data: NodeData) -> int:
    """Bytes of what went into a module; those of leaves and of a module's own are there anyway."""
    if data["kind"] not in (NodeKind.OPERATION, NodeKind.UNTRACKED) or is_of_module(data):
        return 0
    bits = re.search(r"\d+", data.get("dtype", ""))
    each = int(bits[0]) // 8 if bits else 1
    return prod(data.get("shape", ())) * each


def _unseen(data: NodeData, total: int) -> int:
    """Bytes, at most, of what an operation got and does not show; ``total`` if nobody knows.

    To what it adds, an operation shows no number and no tensor: neither is larger than the sum.
    """
    count = data.get("untracked_inputs", 0)
    if count and (data.get("op") not in ("add", "sub", "rsub") or "shape" not in data):
        return total
    return count * prod(data.get("shape", ())) * _LARGEST_ITEM


def is_of_module(data: NodeData) -> bool:
    """Whether something without a gradient is a frozen parameter or a buffer: it has a path."""
    name = data.get("name", "").removesuffix(".t()")
    return data["kind"] is NodeKind.UNTRACKED and "." in name
