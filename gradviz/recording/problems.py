"""Find why backward raised: the node, what happened to its saved tensor, and the line."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from traceback import walk_tb
from typing import Any

import torch
from torch.autograd.graph import GradientEdge, Node

from gradviz.capture.autograd.nodes import leaf_of, operation_type, read_saved, sequence_number
from gradviz.capture.autograd.tensors import Several, memory_of, storage_address, version_of
from gradviz.capture.walk import Walk, make_safe_to_drop
from gradviz.facts import ErrorDetails, Problem, ProblemKind, SourceLocation
from gradviz.graph import Buffers, GradGraph, ancestors
from gradviz.recording.source_lines import CodeLocation, UserFiles
from gradviz.recording.state import InPlaceChange, RecordingState
from gradviz.torch_messages import MessageKind, TorchMessage, read_message

Freed = tuple[SourceLocation, Container[int]]
"""The line of a backward pass that freed saved tensors, and the operations it ran through."""


@dataclass(frozen=True, eq=False)
class History:
    """The state before a failed backward pass."""

    before: GradGraph  # the frame before it
    state: RecordingState  # has the in-place changes
    freed: Iterable[Freed]  # earlier backward passes


def error_details(
    error: BaseException,
    graph: GradGraph,
    roots: Sequence[Any],
    operations: Mapping[int, str],
    history: History,
) -> ErrorDetails:
    """Find the node at which backward failed, and why.

    Args:
        error: the exception.
        graph: the frame of that moment; the node gets its ``problem``.
        roots: the roots of the backward pass.
        operations: keys of operations, by sequence number.
        history: the state before.

    Returns:
        The error, with the problem if it is known.
    """
    message = str(error)
    problem: Problem | None = None
    read = read_message(message)
    if read is not None and read.kind is MessageKind.CHANGED_IN_PLACE:
        problem = _changed(read, graph, roots, operations, history.state)
    elif read is not None and read.kind is MessageKind.FREED:
        problem = _used_up(operations, history)
    if problem is not None:
        op = problem.op or graph.nodes[problem.node].get("op", "")
        problem = replace(problem, op=op)
        graph.nodes[problem.node]["problem"] = problem
    return ErrorDetails(type(error).__name__, message, problem)


@dataclass(frozen=True, eq=False)
class _Suspect:
    """A node that saved a tensor with the version in torch's message."""

    created: int  # its sequence number
    argument: str  # the node's name for the tensor
    storage: object  # the address of the tensor's storage
    fits: bool  # whether the node in the message can have created it
    leaf: Any = None  # the leaf that it is, or is a view of

    @property
    def is_result(self) -> bool:
        """Whether the tensor is a result of the node."""
        return self.argument.startswith(("result", "output"))


def _changed(
    found: TorchMessage,
    graph: GradGraph,
    roots: Sequence[Any],
    operations: Mapping[int, str],
    state: RecordingState,
) -> Problem | None:
    """Find the node whose saved tensor was changed; backward runs the latest node first."""
    suspects = [each for each in _suspects(found, roots) if each.created in operations]
    if not suspects:
        return _changed_in_a_copy(found, graph, operations, state)
    wanted, version = found.wanted, found.found
    changes = {each: _change_of(each, wanted, state) for each in suspects}
    suspect = max(suspects, key=lambda each: (each.fits, changes[each] is not None, each.created))
    key = operations[suspect.created]
    name = _name(graph, key, suspect, state, found.shape or ())
    problem = Problem(
        ProblemKind.CHANGED_IN_PLACE,
        key,
        saved=suspect.argument,
        name=name,
        is_result=suspect.is_result,
        wanted=wanted,
        found=version,
    )
    change = changes[suspect]
    return problem if change is None else _with_change(problem, change, state)


def _changed_in_a_copy(
    found: TorchMessage, graph: GradGraph, operations: Mapping[int, str], state: RecordingState
) -> Problem | None:
    """Find the change of what cannot be read, if one recorded tensor alone has those versions.

    If an operation wrote into a view, its node is inside of a ``CopySlices``. A checkpoint saves
    its inputs itself, and hooks pack what the operations inside save.
    """
    nodes = graph.nodes
    copies = [n for n, key in operations.items() if nodes[key].get("op") == "copy_slices"]
    packed = [  # of what a hook keeps nothing is known
        n
        for n, key in operations.items()
        if any(not each.dtype for each in nodes[key].get("saved", ()))
    ]
    copies += packed
    latest = {change.storage: change.after for change in state.changes}
    first = {change.created: change for change in reversed(state.changes)}
    find = state.event_log.find

    def is_later(change: InPlaceChange, created: int) -> bool:
        is_recorded = change.created in state.in_place and first[change.created] is change
        is_own = is_recorded and find(created) == find(change.created - 1)
        return created < change.created and not is_own

    fits = [
        change
        for change in state.changes
        if change.before <= found.wanted < change.after
        and latest[change.storage] == found.found
        and any(is_later(change, created) for created in copies)
    ]
    fits = [change for change in fits if not change.is_alias] or fits
    if len({change.storage for change in fits}) != 1:
        return None
    created = max(created for created in copies if is_later(fits[0], created))
    problem = Problem(
        ProblemKind.CHANGED_IN_PLACE,
        operations[created],
        op="checkpoint" if created in packed else "",
        name=_leaf_name(fits[0].storage, graph, state),
        wanted=found.wanted,
        found=found.found,
    )
    return _with_change(problem, fits[0], state)


def _leaf_name(storage: object, graph: GradGraph, state: RecordingState) -> str:
    """The name of the leaf with that storage; "" if there is none."""
    for leaf, tensor in state.provenance.alive_leaves():
        if storage_address(tensor) == storage:
            node = state.event_log.key_of(leaf.identity)
            return str(graph.nodes[node].get("name", "")) if node in graph else ""
    return ""


def _with_change(problem: Problem, change: InPlaceChange, state: RecordingState) -> Problem:
    line = state.lines.at(change.location)
    return replace(
        problem,
        changed_to=change.after,
        changed_by=change.word,
        location=line.location,
        inside=line.inside,
    )


def _change_of(suspect: _Suspect, wanted: int, state: RecordingState) -> InPlaceChange | None:
    """The first change of a saved tensor after the node saved it."""
    changes = [
        change
        for change in state.changes
        if change.storage == suspect.storage
        and change.before <= wanted < change.after
        and change.created > suspect.created
    ]
    return min(changes, key=lambda change: change.is_alias, default=None)


def _suspects(found: TorchMessage, roots: Sequence[Any]) -> list[_Suspect]:
    shape = found.shape or ()
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
                    if version_of(tensor) != found.found:
                        continue
                    memory = memory_of(tensor)
                    fits = any(each.startswith(found.node) for each in makers)
                    storage = memory[0] if memory is not None else None
                    leaf = _leaf_at(storage, edges)
                    created = sequence_number(node)
                    suspects.append(_Suspect(created, argument, storage, fits, leaf))
    finally:
        make_safe_to_drop(walk)
    return suspects


def _node_of(root: Any) -> Node | None:
    return root.node if isinstance(root, GradientEdge) else root.grad_fn


_DEEPEST_VIEW = 4


def _leaf_at(storage: object, edges: Iterable[Any]) -> Any:
    """The leaf with that storage among the inputs of a node, also if the input is a view of it."""
    level = [child for child, _ in edges if child is not None]
    for _ in range(_DEEPEST_VIEW):
        next_level = []
        for node in level:
            leaf = leaf_of(node)
            if leaf is not None and (memory := memory_of(leaf)) and memory[0] == storage:
                return leaf
            next_level += [child for child, _ in node.next_functions if child is not None]
        level = next_level
    return None


def _name(
    graph: GradGraph, key: str, suspect: _Suspect, state: RecordingState, shape: tuple[int, ...]
) -> str:
    """The user's name of a saved tensor, or "".

    Several non-leaf inputs of the same shape are indistinguishable: they get no name.
    """
    data = graph.nodes[key]
    if suspect.is_result:
        return str(data.get("name", ""))
    if suspect.leaf is not None:
        known = state.provenance.leaf(suspect.leaf)
        node = state.event_log.key_of(known.identity)
        return str(graph.nodes[node].get("name", "")) if node in graph else known.name
    names = [
        graph.nodes[source].get("name", "")
        for source in dict(graph.inputs(key))
        if graph.nodes[source].get("shape") == shape
        and graph.nodes[source].get("op") != "accumulate_grad"
    ]
    return names[0] if len(names) == 1 else ""


def _used_up(operations: Mapping[int, str], history: History) -> Problem | None:
    """Find the first node of the backward pass whose saved tensors were freed before it ran."""
    graph = history.before
    on_the_way = ancestors(graph, graph.roots)
    gone = [
        created
        for created, key in operations.items()
        if key in on_the_way and graph.nodes[key].get("buffers") is Buffers.FREED
    ]
    if not gone:
        return None
    created = max(gone)
    problem = Problem(ProblemKind.FREED, operations[created])
    for location, passed in history.freed:
        if created in passed:
            return replace(problem, location=location)
    return problem


_BACKWARD_FILE = str(torch.autograd.__file__)


def is_from_backward(error: BaseException) -> bool:
    """Whether ``backward()`` or ``autograd.grad`` raised an error."""
    frames = walk_tb(error.__traceback__)
    return any(frame.f_code.co_filename == _BACKWARD_FILE for frame, _ in frames)


def location_of(error: BaseException, verdicts: UserFiles) -> CodeLocation:
    """The innermost location of the user's code in the traceback of an error."""
    location, trace = CodeLocation(None, 0), error.__traceback__
    user = None
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if verdicts[name]:
            location = CodeLocation(trace.tb_frame.f_code, trace.tb_lasti, user)
            if not verdicts.is_library(name):
                location = user = location._replace(caller=None)
        trace = trace.tb_next
    return location
