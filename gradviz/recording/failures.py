"""Backward raised: which node is to blame, what was done to its saved tensor, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, Node

from gradviz.capture.autograd.nodes import (
    Several,
    leaf_of,
    operation_type,
    read_saved,
    sequence_number,
)
from gradviz.capture.autograd.tensors import place_of, version_of
from gradviz.capture.tracing.walk import Walk, let_go_safely
from gradviz.graph import Buffers, EdgeKind, GradGraph
from gradviz.recording.state import RecordingState

__all__ = ["Freed", "explain"]

Freed = tuple[str, Mapping[int, str]]
"""The line of a backward pass that freed what it used, and the operations that it went through."""


@dataclass(frozen=True, eq=False)
class History:
    """What had happened before a backward pass failed.

    Args:
        before: the frame before it.
        watch: knows what was changed in place.
        freed: earlier backward passes.
    """

    before: GradGraph
    watch: RecordingState
    freed: Iterable[Freed]


_IN_PLACE = re.compile(
    r"modified by an inplace operation: \[[\w.]+(?: \[(?P<shape>[\d, ]*)\])?\]"
    r"(?:, which is output \d+ of (?:\w+::)*(?P<node>\w+),)? is at version (?P<found>\d+); "
    r"expected version (?P<wanted>\d+)"
)


def explain(
    error: BaseException,
    graph: GradGraph,
    roots: Sequence[Any],
    operations: Mapping[int, str],
    history: History,
) -> str:
    """Mark the node at which backward failed, and say why.

    Args:
        error: what was raised.
        graph: the frame of that moment; the node gets its ``problem``.
        roots: what backward started from.
        operations: keys of operations, by the number of their creation.
        history: what had happened before.

    Returns:
        A sentence; for an error of another kind, the first line of its message.
    """
    message = str(error)
    problem: tuple[str, str] | None = None
    if found := _IN_PLACE.search(message):
        problem = _changed(found, graph, roots, operations, history.watch)
    elif "backward through the graph a second time" in message:
        problem = _used_up(operations, history)
    if problem is None:
        return message.partition("\n")[0][:200]
    key, text = problem
    graph.nodes[key]["problem"] = text
    return f"{graph.nodes[key].get('op', key)} {text}"


@dataclass(frozen=True, eq=False)
class _Suspect:
    """A node that saved a tensor of the version that backward has complained of.

    Args:
        created: the number of its creation.
        argument: what the node calls the tensor.
        storage: where the tensor is.
        fits: whether it can have been made by the node of which the message speaks.
        leaf: the leaf that it is, or is a view of.
    """

    created: int
    argument: str
    storage: object
    fits: bool
    leaf: Any = None


def _changed(
    found: re.Match[str],
    graph: GradGraph,
    roots: Sequence[Any],
    operations: Mapping[int, str],
    watch: RecordingState,
) -> tuple[str, str] | None:
    """Find the node whose saved tensor was changed; backward runs the latest node first."""
    suspects = [each for each in _suspects(found, roots) if each.created in operations]
    if not suspects:
        return None
    suspect = max(suspects, key=lambda each: (each.fits, each.created))
    key = operations[suspect.created]
    wanted, version = int(found["wanted"]), int(found["found"])
    name = _name(graph, key, suspect, watch, tuple(_sizes(found)))
    text = f"needs {name} as it was at version {wanted}; "
    for change in watch.changes:
        if change.storage == suspect.storage and change.before <= wanted < change.after:
            line = watch.lines.line(*change.place).source
            where = f" at {line}" if line else ""
            made = f"{change.word}{where} made it version {change.after}"
            last = "" if change.after == version else f", and it is at version {version} now"
            return key, text + made + last
    return key, f"{text}it is at version {version}, changed by something that was not recorded"


def _suspects(found: re.Match[str], roots: Sequence[Any]) -> list[_Suspect]:
    shape = tuple(_sizes(found))
    suspects = []
    walk = Walk()
    try:
        for node, _, edges in walk.visit(filter(None, map(_node_of, roots))):
            kind = operation_type(node)
            if not kind.raw:
                continue
            inputs = (child for child, _ in edges if child is not None)
            makers = {each.name().rpartition("::")[2] for each in (node, *inputs)}
            for argument, held in zip(kind.saved, read_saved(node, kind)[1], strict=False):
                for tensor in held if isinstance(held, Several) else (held,):
                    if not isinstance(tensor, torch.Tensor) or tuple(tensor.shape) != shape:
                        continue
                    if version_of(tensor) != int(found["found"]):
                        continue
                    place = place_of(tensor)
                    fits = found["node"] is None or any(m.startswith(found["node"]) for m in makers)
                    storage = place[0] if place is not None else None
                    leaf = _leaf_at(storage, edges)
                    created = sequence_number(node)
                    suspects.append(_Suspect(created, argument, storage, fits, leaf))
    finally:
        let_go_safely(walk)
    return suspects


def _node_of(root: Any) -> Node | None:
    return root.node if isinstance(root, GradientEdge) else root.grad_fn


def _sizes(found: re.Match[str]) -> Iterator[int]:
    for size in (found["shape"] or "").split(","):
        if size.strip():
            yield int(size)


_DEEPEST_VIEW = 4


def _leaf_at(storage: object, edges: Iterable[Any]) -> Any:
    """The leaf in that place of memory among the inputs of a node, also behind views of it."""
    level = [child for child, _ in edges if child is not None]
    for _ in range(_DEEPEST_VIEW):
        behind = []
        for node in level:
            leaf = leaf_of(node)
            if leaf is not None and (place := place_of(leaf)) and place[0] == storage:
                return leaf
            behind += [child for child, _ in node.next_functions if child is not None]
        level = behind
    return None


def _name(
    graph: GradGraph, key: str, suspect: _Suspect, watch: RecordingState, shape: tuple[int, ...]
) -> str:
    """What to call a saved tensor: by its name in quotes, else as the result or an input.

    An input that is no leaf cannot be told for sure from another of the same shape.
    """
    data = graph.nodes[key]
    if suspect.argument.startswith(("result", "output")):
        return _quoted(data.get("name")) or "its own result"
    if suspect.leaf is not None:
        known = watch.provenance.leaf(suspect.leaf)
        node = watch.journal.key_of(known.identity)
        name = graph.nodes[node].get("name") if node in graph else known.name
        return _quoted(name) or "one of its inputs"
    names = [
        graph.nodes[source].get("name", "")
        for source in dict(graph.inputs(key))
        if graph.nodes[source].get("shape") == shape
        and graph.nodes[source].get("op") != "accumulate_grad"
    ]
    return (_quoted(names[0]) if len(names) == 1 else "") or "one of its inputs"


def _quoted(name: str | None) -> str:
    return f"'{name}'" if name else ""


def _used_up(operations: Mapping[int, str], history: History) -> tuple[str, str] | None:
    """Find the first node on the way of backward whose saved tensors were gone before it ran."""
    graph = history.before
    on_the_way = _below_roots(graph)
    gone = [
        created
        for created, key in operations.items()
        if key in on_the_way and graph.nodes[key].get("buffers") is Buffers.FREED
    ]
    if not gone:
        return None
    created = max(gone)
    for line, passed in history.freed:
        if created in passed:
            return operations[created], f"freed by backward at {line}" if line else "freed"
    return operations[created], "freed before, by something that was not recorded"


def _below_roots(graph: GradGraph) -> set[str]:
    """The nodes to which a backward pass from the roots comes."""
    found = set(graph.roots)
    stack = list(found)
    while stack:
        for source, data in graph.inputs(stack.pop()):
            if data["kind"] is EdgeKind.GRADIENT and source not in found:
                found.add(source)
                stack.append(source)
    return found
