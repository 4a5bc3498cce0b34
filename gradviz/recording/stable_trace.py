"""A trace within a recording: with source lines, and a stable key for each node.

Keys are assigned in the order in which nodes first appear: the first frame of a recording has the
keys of a plain trace.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from typing import Any, NamedTuple

import torch

from gradviz.capture.autograd.nodes import (
    operation_type,
    read_saved,
    sequence_number,
    visit_ancestors,
)
from gradviz.capture.autograd.sharded import waiting_gradient
from gradviz.capture.autograd.tensors import storage_address, version_of
from gradviz.capture.tensors.names import Names
from gradviz.capture.tensors.summary import summarize
from gradviz.capture.tracer import copy_graph, trace_subjects
from gradviz.capture.walk import NO_GRADIENT, Walk, key_at
from gradviz.graph import Buffers, GradGraph, NodeKind
from gradviz.graph.operations import OF_A_LIBRARY
from gradviz.recording.source_lines import NO_LINE, NOWHERE
from gradviz.recording.state import RecordingState
from gradviz.recording.tensor_records import Leaf, UntrackedTensor, leaves_in

_SPARE = 4_096  # identities that are kept although they are in no recent frame
_ROUNDS = 8
_NEVER = sys.maxsize
_UNKNOWN = (None, None)
_LESS_KNOWN = (Buffers.FREED, Buffers.UNKNOWN)


class Keys(dict[Hashable, str]):
    """The key of each node that a recording has shown, by the identity of the node."""

    def __init__(self) -> None:
        super().__init__()
        self._rounds: deque[Iterable[Hashable]] = deque(maxlen=_ROUNDS)
        self._loose: list[Hashable] = []
        self._count = 0

    def of(self, identity: Hashable) -> str:
        """The key of a node; a new one on its first appearance."""
        self._loose.append(identity)
        key = self.get(identity)
        if key is None:
            key = self[identity] = f"n{self._count}"
            self._count += 1
        return key

    def __missing__(self, identity: Hashable) -> str:
        return ""  # it is in no frame

    def merge(self, pairs: list[tuple[Hashable, Hashable]]) -> None:
        """Give each second identity the key of the first one, unless it has a key."""
        for old, new in pairs:
            if (key := self.get(old)) is not None:
                self.setdefault(new, key)
        pairs.clear()

    def assign(self, identities: Mapping[str, Hashable]) -> dict[str, str]:
        """Keys for a whole graph, from the identity of each node by its key in that graph."""
        new = [key for key, identity in identities.items() if identity not in self]
        for identity in (identities[key] for key in sorted(new, key=number_of)):
            if identity not in self:
                self[identity] = f"n{self._count}"
                self._count += 1
        self._rounds.append(identities.values())
        return {key: self[identity] for key, identity in identities.items()}

    def turn(self) -> None:
        """A frame is complete: forget nodes that are in no recent frame."""
        self._rounds.append(self._loose)
        self._loose = []
        if len(self) > _SPARE:
            recent = {identity for each in self._rounds for identity in each}
            if 2 * len(recent) < len(self):
                recent.update(islice(self, _SPARE // 4))  # those of the first frames
                for identity in [each for each in self if each not in recent]:
                    del self[identity]


def identities_of(
    graph: GradGraph, created: Mapping[str, int], known: Mapping[str, Hashable]
) -> dict[str, Hashable]:
    """The identity of each node.

    Args:
        graph: a trace.
        created: the sequence numbers of the operations.
        known: the identities of tensors that the recording has a record of.
    """
    found: dict[str, Hashable] = {**created}
    if len(set(created.values())) < len(created):  # each thread has its own counter
        found = {key: (number, key) for key, number in created.items()}
    rest = [key for key in graph if key not in found]
    neighbors = _Neighbors.of(graph, {key for key in rest if key not in known})
    for key in rest:
        found[key] = known[key] if key in known else _of_tensor(graph, key, neighbors, created)
    if len(set(found.values())) < len(found):  # two nodes must not share an identity
        used: set[Hashable] = set()
        for key, identity in found.items():
            if identity in used:
                found[key] = identity, "again", key
            used.add(identity)
    return found


def number_of(key: str) -> int:
    """The number in the key of a node."""
    return int(key[1:])


class _Neighbors(NamedTuple):
    """The neighbors of some nodes, read without creating the attributes of the edges.

    Args:
        makers: by the key of a result: the operation that created it, and the output number.
        users: by the key of a tensor: number, key and input of the first operation that uses it.
    """

    makers: dict[str, tuple[str, int]]
    users: dict[str, tuple[int, str, int]]

    @classmethod
    def of(cls, graph: GradGraph, keys: Container[str]) -> _Neighbors:
        found = cls({}, {})
        for source, target, position, data in graph.edge_rows():
            if target in keys:
                found.makers.setdefault(target, (source, data.get("output", 0)))
            if source in keys:
                user = number_of(target), target, position
                found.users[source] = min(user, found.users.get(source, user))
        return found


def _of_tensor(
    graph: GradGraph, key: str, neighbors: _Neighbors, created: Mapping[str, int]
) -> Hashable:
    """The identity of a result from its operation, of a saved tensor from the one that saved it."""
    kind: NodeKind = graph.nodes[key]["kind"]
    if kind is NodeKind.RESULT and key in neighbors.makers:
        source, output = neighbors.makers[key]
        return "result", created.get(source), output
    if key in neighbors.users:
        _, target, position = neighbors.users[key]
        return "saved", created.get(target), position
    return kind.value, key


@dataclass(eq=False)
class Snapshot:
    """A graph, and the records of the recording for its nodes.

    Args:
        graph: its keys are stable.
        operations: keys of operations by sequence number.
        leaves: keys and records of leaves, by number.
        holes: of operations with untracked inputs, by the end of their sequence numbers: nodes
            and the positions of the inputs without a gradient.
        untracked_roots: records of untracked roots.
        roots: weak references to the traced roots.
        identities: by key; those of untracked tensors that the trace does not show are absent.
    """

    graph: GradGraph = field(default_factory=GradGraph)
    operations: dict[int, str] = field(default_factory=dict)
    leaves: dict[int, tuple[str, Leaf]] = field(default_factory=dict)
    holes: dict[int, list[tuple[str, list[int]]]] = field(default_factory=dict)
    untracked_roots: dict[str, UntrackedTensor] = field(default_factory=dict)
    roots: Sequence[Callable[[], Any]] = ()
    identities: Mapping[str, Hashable] = field(default_factory=dict)


class _NodeRecords:
    """Reads the nodes of a trace: sequence numbers, source lines, and records of leaves."""

    def __init__(self, state: RecordingState) -> None:
        self._state = state
        self.created: dict[str, int] = {}
        self.leaves: dict[str, Leaf] = {}
        self.accumulate: dict[str, Leaf] = {}
        self.holes: dict[int, list[tuple[int, str, list[int]]]] = {}

    def __call__(self, walk: Walk) -> None:
        for node, tensor in walk.leaves.items():
            leaf = self._state.provenance.leaf(tensor)
            self.accumulate[key_at(walk.positions[node])] = leaf
            self.leaves[key_at(walk.leaf_positions[id(tensor)])] = leaf
        for node, position in walk.positions.items():
            data = walk.nodes[key_at(position)]
            if "sequence_nr" in data:  # a trace counts from zero
                self._read_operations(walk, sequence_number(node) - data["sequence_nr"])
                break

    def _read_operations(self, walk: Walk, first: int) -> None:
        """Add to each operation the line that called it, and the variable that holds its result."""
        state, created_of = self._state, self.created
        mixed, in_place, start = state.mixed, state.in_place, state.started_at
        find, line_of, span_of = state.event_log.find, state.event_log.line, state.module_stack.of
        in_question: dict[str, tuple[int, int]] = {}
        for key, data in walk.nodes.items():
            if "sequence_nr" not in data:
                continue
            created = created_of[key] = data["sequence_nr"] + first
            data["sequence_nr"] = created - start
            if (span := span_of(created)) is not None:
                data["module"], data["calls"] = span.module, span.calls
            index = find(created)
            if index < 0:
                continue
            line, end = line_of(index)
            if not data["grad_fn"][-1].isdigit() and _is_foreign(data, state.event_log.word(index)):
                continue
            if line.location:
                data["source"] = line.source
            if created == end - 1:
                if "name" not in data and (name := line.variable(data.get("outputs", 1))):
                    data["name"] = name
                if end in in_place:
                    data["op"] = in_place[end]
            word = state.event_log.word(index)
            if data["op"] == "to" and _is_autocast(data, word):
                data["options"] = {**data.get("options", {}), "by": "autocast"}
            if data["op"] == "mul" and "dropout" in word:
                data["called"] = word  # on a CPU it is a product
            elif word == "linear" and data["op"] in ("addmm", "mm"):
                data["called"] = word
            if end in mixed:
                in_question[key] = created, end
        if in_question:
            for node, position in walk.positions.items():
                if (key := key_at(position)) in in_question:
                    created, end = in_question[key]
                    edges = node.next_functions
                    positions = [at for at, edge in enumerate(edges) if edge == NO_GRADIENT]
                    self.holes.setdefault(end, []).append((created, key, positions))


def _is_foreign(data: Mapping[str, Any], word: str) -> bool:
    """Whether a function cannot have created a node: only ``apply`` creates custom ones.

    Most names of torch's own nodes end in a number.
    """
    is_own = data["grad_fn"] in _NOT_NUMBERED or "::" in data["grad_fn"]
    is_own |= data["grad_fn"].startswith("Foreach")
    is_own |= data["grad_fn"].startswith(OF_A_LIBRARY) and data["op"] == word
    return not is_own and word not in ("apply", "backward", "grad")


def _is_autocast(data: Mapping[str, Any], word: str) -> bool:
    """Whether autocast inserted a conversion: a layer, which takes no dtype, uses 16 bits.

    A conversion to 32 bits can also be the ``dtype`` argument of a softmax or a sum.
    """
    return data.get("dtype") in ("float16", "bfloat16") and word in _CAST_BY_AUTOCAST


# https://docs.pytorch.org/docs/stable/amp.html, the operations that autocast to 16 bits
_CAST_BY_AUTOCAST = frozenset(
    (
        *("addbmm", "addmm", "addmv", "addr", "baddbmm", "bilinear", "bmm", "chain_matmul"),
        *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d"),
        *("conv_transpose3d", "einsum", "gru", "gru_cell", "linear", "lstm", "lstm_cell"),
        *("matmul", "mm", "mv", "multi_head_attention_forward", "multi_dot", "prelu"),
        *("rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell"),
        "scaled_dot_product_attention",
    )
)

_NOT_NUMBERED = ("CopySlices", "CopyBackwards", "AsStridedBackward", "UnbindBackward")


def keep_options(snapshot: Snapshot, before: GradGraph) -> None:
    """Keep facts about operations from the frame before, whose tensors backward has freed.

    These are the numbers that the operation was called with, and that it saved nothing.
    """
    for key, data in snapshot.graph.nodes(data=True):
        had = before.nodes[key].get("buffers") if key in before else None
        if had is Buffers.NOTHING_SAVED and data.get("buffers") in _LESS_KNOWN:
            data["buffers"] = had
        if "untracked_inputs" in data and key in before:
            old = before.nodes[key]
            had, has = old.get("options", {}), data.get("options", {})
            if any(side in had and side not in has for side in ("other", "self")):
                data["options"] = had
                data.pop("untracked_inputs")
                if "untracked_inputs" in old:
                    data["untracked_inputs"] = old["untracked_inputs"]


@dataclass(eq=False)
class Additions:
    """Tensors that a snapshot shows in addition to its roots.

    Args:
        results: live outputs that share operations with the roots.
        branches: tensors of cut branches; only their operations are shown.
    """

    results: Sequence[torch.Tensor] = ()
    branches: list[torch.Tensor] = field(default_factory=list)


def take(
    roots: Sequence[Any], additions: Additions, names: Names, state: RecordingState, keys: Keys
) -> Snapshot:
    """Take a snapshot.

    Args:
        roots: tensors without duplicates, or ``GradientEdge``s; they may be untracked.
        additions: further tensors to show.
        names: the names of tensors.
        state: has the source lines and the records of leaves.
        keys: assigns the keys.
    """
    keys.merge(state.provenance.same_node)
    everything = (*roots, *additions.results, *additions.branches)
    if not everything:
        return Snapshot()
    records = _NodeRecords(state)
    graph = trace_subjects(everything, names, records)
    untracked_roots: dict[str, UntrackedTensor] = {}
    for root, key in zip(everything, graph.roots, strict=False):
        if isinstance(root, torch.Tensor) and root.is_leaf:
            if root.requires_grad:
                records.leaves.setdefault(key, state.provenance.leaf(root))
            else:
                untracked_roots[key] = state.provenance.untracked(root)
    _name_results(graph)
    for number, key in enumerate(graph.roots[len(roots) :]):
        if number >= len(additions.results) and graph.nodes[key]["kind"] is NodeKind.RESULT:
            graph.remove_node(key)
        else:
            del graph.nodes[key]["root"]
    identities = identities_of(graph, records.created, _known(records, untracked_roots))
    new_keys = keys.assign(identities)
    if any(old != new for old, new in new_keys.items()):
        graph = copy_graph(graph, new_keys)
    snapshot = Snapshot(graph, roots=[weakly(each) for each in everything])
    snapshot.identities = {new_keys[key]: identity for key, identity in identities.items()}
    snapshot.untracked_roots = {
        new_keys[key]: untracked for key, untracked in untracked_roots.items()
    }
    snapshot.operations = {created: new_keys[key] for key, created in records.created.items()}
    for end, leaves in state.function_calls.reads.items():
        if (key := snapshot.operations.get(end - 1, "")) in graph:
            graph.nodes[key]["uses_inside"] = tuple(map(keys.of, leaves_in(leaves)))
    for key, leaf in records.leaves.items():
        snapshot.leaves[leaf.number] = new_keys[key], leaf
        _add_leaf_facts(graph.nodes[new_keys[key]], leaf, state)
    _mark_stale(snapshot, state)
    for end, rows in records.holes.items():
        snapshot.holes[end] = [(new_keys[key], positions) for _, key, positions in sorted(rows)]
    return snapshot


def weakly(root: Any) -> Callable[[], Any]:
    """A reference to a root that does not keep it alive."""
    return weakref.ref(root) if isinstance(root, torch.Tensor) else _nothing


def _nothing() -> None:
    """The reference to a ``GradientEdge``, which would keep the graph alive."""


def _name_results(graph: GradGraph) -> None:
    """Name a result that no variable holds after the variable that its line assigns."""
    nodes = graph._node
    unnamed = [key for key in graph.roots if "name" not in nodes[key]]
    unnamed = [key for key in unnamed if nodes[key]["kind"] is NodeKind.RESULT]
    for key, (source, _) in (_Neighbors.of(graph, unnamed).makers if unnamed else {}).items():
        made = nodes[source]
        if "name" in made and made.get("outputs", 1) == 1:
            nodes[key]["name"] = made["name"]


def _known(
    records: _NodeRecords, untracked_roots: Mapping[str, UntrackedTensor]
) -> dict[str, Hashable]:
    """The identities of the tensors that a recording has a record of."""
    known: dict[str, Hashable] = {
        key: untracked.identity for key, untracked in untracked_roots.items()
    }
    known.update((key, ("accumulate", leaf.number)) for key, leaf in records.accumulate.items())
    known.update((key, leaf.identity) for key, leaf in records.leaves.items())
    return known


def _add_leaf_facts(data: dict[str, Any], leaf: Leaf, state: RecordingState) -> None:
    """Add the recorded facts about a leaf; keep the name in the frame."""
    line = NO_LINE if leaf.location is NOWHERE else state.lines.at(leaf.location)
    if line.location:
        data["source"] = line.source
    name = data.get("name") or leaf.name or line.target
    if name:
        data["name"] = leaf.name = name
    if leaf.passes:
        data["accumulations"] = leaf.passes
    else:
        data.pop("accumulations", None)
    tensor = leaf.ref() if state.provenance.arrays else None
    if tensor is not None and storage_address(tensor) in state.provenance.arrays:
        data["in_array"] = True


def _mark_stale(snapshot: Snapshot, state: RecordingState) -> None:
    """Mark the leaves that were changed in place after an operation of the graph used them.

    A leaf that was changed before is marked as not stale, if every change was recorded. So is one
    that only operations behind a cut use, if the recording saw no change of it.
    """
    changes, leaves = state.changes, snapshot.leaves.values()
    first = min(snapshot.operations, default=0)
    latest: dict[object, int] = {}
    for change in takewhile(lambda change: change.created > first, reversed(changes)):
        latest.setdefault(change.storage, change.created)
    is_known = first >= state.changes_since and (
        len(changes) != changes.maxlen or changes[0].created <= first
    )
    nodes: dict[str, Any] = snapshot.graph._node
    asked = [(key, leaf.ref()) for key, leaf in leaves if latest or "version" in nodes[key]]
    used = _first_uses(snapshot) if asked else {}
    for key, tensor in asked:
        if tensor is None:
            continue
        if used[key] == _NEVER:
            if "version" in nodes[key] and _is_untouched(tensor, state):
                nodes[key]["stale"] = False
        elif latest and latest.get(storage_address(tensor), -1) > used[key]:
            nodes[key]["stale"] = True
        elif is_known and "version" in nodes[key]:
            nodes[key]["stale"] = False


def _is_untouched(tensor: torch.Tensor, state: RecordingState) -> bool:
    """Whether no operation changed a tensor in place since the recording began."""
    changes = state.changes
    has_all = state.changes_since == state.started_at and len(changes) != changes.maxlen
    return has_all and all(change.storage != storage_address(tensor) for change in changes)


def _first_uses(snapshot: Snapshot) -> dict[str, int]:
    """The sequence number of the first operation that uses each node."""
    created = {key: number for number, key in snapshot.operations.items()}
    keys, columns = list(snapshot.graph), snapshot.graph.edge_columns()
    found = [created.get(key, _NEVER) for key in keys]
    for _ in range(2):  # an ``AccumulateGrad`` node is between a leaf and its operations
        for source, target in zip(columns.sources, columns.targets, strict=True):
            if keys[source] not in created and found[target] < found[source]:
                found[source] = found[target]
    return dict(zip(keys, found, strict=True))


def renew(snapshot: Snapshot, state: RecordingState) -> Snapshot:
    """The same graph with updated leaves.

    Args:
        snapshot: the last one; its graph is not modified.
        state: has the records of leaves.
    """
    alive = [
        (key, leaf, tensor)
        for key, leaf in snapshot.leaves.values()
        if (tensor := leaf.ref()) is not None
    ]
    graph = copy_graph(snapshot.graph)
    nodes = graph._node
    small = [(key, tensor) for key, _, tensor in alive if "value" in nodes[key]]
    grads = [tensor.grad for *_, tensor in alive]
    present = [grad for grad in grads if grad is not None]
    only_small = [*(True for _ in small), *(False for _ in present)]
    summaries = iter(
        summarize([*(tensor for _, tensor in small), *present], only_small, with_bins=True)
    )
    for key, _ in small:
        nodes[key]["value"] = next(summaries)
    for (key, leaf, tensor), grad in zip(alive, grads, strict=True):
        data = nodes[key]
        data["grad"] = None if grad is None else next(summaries)
        data.pop("unreduced", None)
        if grad is None and waiting_gradient(tensor) is not None:
            data["unreduced"] = True
        version = version_of(tensor)
        if version != data.get("version", 0):
            data["version"], data["stale"] = version, True
        if not tensor.requires_grad:
            data["requires_grad"] = False
        _add_leaf_facts(data, leaf, state)
    return replace(snapshot, graph=graph)


def renew_after_backward(
    snapshot: Snapshot, state: RecordingState, has_run: bool = True
) -> Snapshot | None:
    """The same graph after a backward pass, which may have freed saved tensors.

    It takes a third of the time of another trace. None if a trace is needed: a root is gone, the
    graph has changed, or a non-leaf tensor retains its gradient.

    Args:
        snapshot: the latest one.
        state: has the records of leaves.
        has_run: whether a backward pass ran since; otherwise only the leaves can have changed.
    """
    roots = [ref() for ref in snapshot.roots]
    if not roots or any(root is None for root in roots):
        return None
    renewed = renew(snapshot, state)
    nodes = renewed.graph._node
    if any("retains_grad" in data for data in nodes.values()):
        return None
    if not has_run:
        return renewed
    kinds: dict[str, tuple[Any, Any]] = {}
    operations = snapshot.operations
    for node, edges in visit_ancestors(root.grad_fn for root in roots if root.grad_fn is not None):
        key = operations.get(sequence_number(node))
        if key is None:
            if edges:
                return None
            continue
        data = nodes[key]
        if data["buffers"] is not Buffers.NOTHING_SAVED:
            cls, kind = kinds.get(data["grad_fn"], _UNKNOWN)
            if cls is not type(node):
                kind = operation_type(node)
                kinds[data["grad_fn"]] = type(node), kind
            data["buffers"] = read_saved(node, kind)[0]
            if data["buffers"] is not Buffers.HELD:
                data.pop("saved_bytes", None)
                data.pop("saved", None)
    kept = {each.storage for data in nodes.values() for each in data.get("saved", ())}
    for key, _ in snapshot.leaves.values():
        if nodes[key].get("storage") not in kept:
            nodes[key].pop("storage", None)
    return renewed
