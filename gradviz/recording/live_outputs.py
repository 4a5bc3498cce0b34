"""Finds the live outputs: recorded tensors that are alive and that no recorded operation uses.

They are the roots of a snapshot without a backward pass. A snapshot with a backward pass includes
those that share operations with its root (other losses of the same network). A view is skipped if
its base was changed in place: reading its ``grad_fn`` would create a node.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

import torch

from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import is_unsure, memory_of
from gradviz.capture.tensors.names import Names
from gradviz.capture.tracing.walk import Walk, make_safe_to_drop
from gradviz.recording.provenance import Leaf
from gradviz.recording.state import RecordingState

__all__ = ["live_outputs", "sharing_outputs"]

_LATEST = 10_000  # operations that are searched
_MOST = 50
_MOST_SHARING = 8


def live_outputs(
    state: RecordingState, since: int, known: Sequence[torch.Tensor], names: Names
) -> list[torch.Tensor]:
    """Find the live outputs, in the order of creation.

    Args:
        state: of the recording.
        since: the first sequence number to search.
        known: live outputs that are already known; they are not returned.
        names: tensors that variables hold, including those whose creation was not recorded.

    Returns:
        The live outputs; if there are none, the leaves that untracked tensors were computed from.
    """
    state.event_log.flush()
    candidates: dict[int, tuple[int, torch.Tensor]] = {}
    for end, tensor in (*_named(names), *_recorded(state)):
        if end > since and _may_ask(state, end, tensor) and tensor.grad_fn is not None:
            candidates.setdefault(id(tensor), (end, tensor))
    latest_first = sorted(candidates.values(), key=lambda found: -found[0])
    walk = Walk()
    try:
        for tensor in known:
            _visit(walk, tensor)
        found = [tensor for _, tensor in latest_first if _visit(walk, tensor)]
    finally:
        make_safe_to_drop(walk)
    return found[_MOST - 1 :: -1] if found or known else _leaves(state)


def sharing_outputs(
    state: RecordingState, operations: Mapping[int, str], roots: Sequence[object]
) -> list[torch.Tensor]:
    """Find the live outputs that share operations with a graph and are not in it.

    Args:
        state: of the recording; its event log has been flushed.
        operations: the operations of the graph, by sequence number.
        roots: of the graph.

    Returns:
        The latest few, in the order of creation.
    """
    if not operations:
        return []
    first = min(operations)  # a tensor that shares an operation was created after it
    walk = Walk()
    found: list[torch.Tensor] = []
    try:
        for end, tensor in _recorded(state):
            if end <= first or len(found) == _MOST_SHARING:
                break
            if end - 1 in operations or any(tensor is root for root in roots):
                continue
            if _may_ask(state, end, tensor) and _reaches(walk, tensor, operations):
                found.append(tensor)
    finally:
        make_safe_to_drop(walk)
    return found[::-1]


def _may_ask(state: RecordingState, end: int, tensor: torch.Tensor) -> bool:
    """Whether reading the ``grad_fn`` of a result creates no node."""
    if not is_unsure(tensor):
        return True
    memory = memory_of(tensor)
    changes = [each for each in state.changes if memory and each.storage == memory[0]]
    return bool(changes) and all(each.created < end for each in changes)


def _reaches(walk: Walk, tensor: torch.Tensor, operations: Container[int]) -> bool:
    """Walk the ancestors of an output; whether any of ``operations`` is among them."""
    node = tensor.grad_fn
    if node is None or node in walk.positions or sequence_number(node) in operations:
        return False
    is_shared = False
    for _, _, edges in walk.visit([node]):
        children = (child for child, _ in edges if child is not None)
        is_shared = is_shared or any(sequence_number(child) in operations for child in children)
    return is_shared


def _named(names: Names) -> Iterator[tuple[int, torch.Tensor]]:
    for named in names:
        node = named.tensor.grad_fn
        if node is not None:
            yield sequence_number(node) + 1, named.tensor


def _recorded(state: RecordingState) -> Iterator[tuple[int, torch.Tensor]]:
    for operation in state.event_log.latest(_LATEST):
        refs = operation[5]
        for ref in refs if isinstance(refs, tuple) else (refs,):
            tensor = ref()
            if tensor is not None:
                yield operation[1], tensor


def _visit(walk: Walk, tensor: torch.Tensor) -> bool:
    """Walk the ancestors of a tensor; False if an earlier walk visited it."""
    node = tensor.grad_fn
    if node is None or node in walk.positions:
        return False
    for _ in walk.visit([node]):
        pass
    return True


def _leaves(state: RecordingState) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for untracked in state.provenance.shown:
        for data in untracked.inputs:
            if isinstance(data.source, Leaf) and (tensor := data.source.ref()) is not None:
                found[data.source.number] = tensor
    if not found:  # tensors were created, but not used
        for record in state.provenance.tensors.values():
            tensor = record.ref()
            if isinstance(record, Leaf) and record.location.code is not None and tensor is not None:
                found[record.number] = tensor
    return [found[number] for number in sorted(found)][:_MOST]
