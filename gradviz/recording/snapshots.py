"""A snapshot within a recording: the trace of some roots, with keys that stay and with lines.

The same node has the same key in every frame. Keys are given out in the order in which nodes
first appear: the first frame of a recording has those of a plain trace.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch

from gradviz.capture.autograd.nodes import operation_type, read_saved, sequence_number
from gradviz.capture.autograd.tensors import version_of
from gradviz.capture.tensors.names import Names
from gradviz.capture.tensors.summary import summarize
from gradviz.capture.tracing.copying import copy_graph
from gradviz.capture.tracing.tracer import trace_subjects
from gradviz.capture.tracing.walk import NO_GRADIENT, Walk, key_at
from gradviz.graph import Buffers, GradGraph, NodeKind
from gradviz.recording.identities import identities_of, number_of
from gradviz.recording.provenance import Leaf, UntrackedTensor
from gradviz.recording.state import RecordingState

__all__ = [
    "Around",
    "Keys",
    "Snapshot",
    "keep_options",
    "renew",
    "renew_after_backward",
    "take",
    "weakly",
]

_SPARE = 4_096  # identities that are kept although no frame shows them
_ROUNDS = 8
_UNKNOWN = (None, None)


class Keys:
    """The key of each node that a recording has shown, by what makes it the same node."""

    def __init__(self) -> None:
        self._keys: dict[Hashable, str] = {}
        self._rounds: deque[Iterable[Hashable]] = deque(maxlen=_ROUNDS)
        self._loose: list[Hashable] = []
        self._count = 0

    def of(self, identity: Hashable) -> str:
        """The key of a node; a new one when it appears for the first time."""
        self._loose.append(identity)
        key = self._keys.get(identity)
        if key is None:
            key = self._keys[identity] = f"n{self._count}"
            self._count += 1
        return key

    def known(self, identity: Hashable) -> str:
        """The key of a node, "" if no frame has shown it."""
        return self._keys.get(identity, "")

    def assign(self, identities: Mapping[str, Hashable]) -> dict[str, str]:
        """Keys for a whole graph, given the identity of each node by its key there."""
        keys = self._keys
        new = [key for key, identity in identities.items() if identity not in keys]
        for key in sorted(new, key=number_of):
            identity = identities[key]
            if identity not in keys:
                keys[identity] = f"n{self._count}"
                self._count += 1
        self._rounds.append(identities.values())
        return {key: keys[identity] for key, identity in identities.items()}

    def turn(self) -> None:
        """A frame is complete: forget nodes that have long been gone."""
        self._rounds.append(self._loose)
        self._loose = []
        if len(self._keys) > _SPARE:
            recent = {identity for each in self._rounds for identity in each}
            if 2 * len(recent) < len(self._keys):
                first = islice(self._keys.items(), _SPARE // 4)  # those of the first frames
                recent_items = [item for item in self._keys.items() if item[0] in recent]
                self._keys = {**dict(first), **dict(recent_items)}


@dataclass(eq=False)
class Snapshot:
    """A graph, and what leads from it back to the recording.

    Args:
        graph: with keys that stay.
        operations: keys of operations by the number of their creation.
        leaves: keys and records of leaves, by number.
        holes: for operations of the graph into which something flowed from outside, by the end
            of their numbers: nodes and the positions of the inputs without gradient.
        untracked_roots: records of roots outside the graph.
        roots: what was traced, as long as it lives.
    """

    graph: GradGraph = field(default_factory=GradGraph)
    operations: dict[int, str] = field(default_factory=dict)
    leaves: dict[int, tuple[str, Leaf]] = field(default_factory=dict)
    holes: dict[int, list[tuple[str, list[int]]]] = field(default_factory=dict)
    untracked_roots: dict[str, UntrackedTensor] = field(default_factory=dict)
    roots: Sequence[Callable[[], Any]] = ()


class _Look:
    """What a trace shows of the nodes behind its keys: numbers, lines, and records of leaves."""

    def __init__(self, watch: RecordingState) -> None:
        self._watch = watch
        self.created: dict[str, int] = {}
        self.leaves: dict[str, Leaf] = {}
        self.accumulate: dict[str, Leaf] = {}
        self.holes: dict[int, list[tuple[int, str, list[int]]]] = {}

    def __call__(self, walk: Walk) -> None:
        for node, tensor in walk.leaves.items():
            leaf = self._watch.provenance.leaf(tensor)
            self.accumulate[key_at(walk.places[node])] = leaf
            self.leaves[key_at(walk.leaf_places[id(tensor)])] = leaf
        for node, place in walk.places.items():
            data = walk.nodes[key_at(place)]
            if "sequence_nr" in data:  # a trace counts from zero
                self._look_at_operations(walk, sequence_number(node) - data["sequence_nr"])
                break

    def _look_at_operations(self, walk: Walk, first: int) -> None:
        """Put on each operation the line that made it, and the variable that got its result."""
        watch, created_of = self._watch, self.created
        mixed, in_place, start = watch.mixed, watch.in_place, watch.started_at
        find, line_of, span_of = watch.journal.find, watch.journal.line, watch.spans.of
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
            if not data["grad_fn"][-1].isdigit() and _is_foreign(data, watch.journal.word(index)):
                continue
            if line.source:
                data["source"] = line.source
            if created == end - 1:
                if line.target and "name" not in data:
                    data["name"] = line.target
                if end in in_place:
                    data["op"] = in_place[end]
            if end in mixed:
                in_question[key] = created, end
        if in_question:
            for node, place in walk.places.items():
                if (key := key_at(place)) in in_question:
                    created, end = in_question[key]
                    edges = node.next_functions
                    positions = [at for at, edge in enumerate(edges) if edge == NO_GRADIENT]
                    self.holes.setdefault(end, []).append((created, key, positions))


def _is_foreign(data: Mapping[str, Any], word: str) -> bool:
    """Whether a node cannot be what a function has made: ``apply`` makes those of the user's.

    Torch's own are numbered, but for a few that copy.
    """
    is_own = data["grad_fn"] in _NOT_NUMBERED or "::" in data["grad_fn"]
    return not is_own and word not in ("apply", "backward", "grad")


_NOT_NUMBERED = ("CopySlices", "CopyBackwards", "AsStridedBackward", "UnbindBackward")


def keep_options(snapshot: Snapshot, before: GradGraph) -> None:
    """Keep a number that an operation was called with: it is freed with the saved tensors."""
    for key, data in snapshot.graph.nodes(data=True):
        if "untracked_inputs" in data and key in before:
            old = before.nodes[key]
            if "other" in old.get("options", {}) and "other" not in data.get("options", {}):
                data["options"] = old["options"]
                data.pop("untracked_inputs")
                if "untracked_inputs" in old:
                    data["untracked_inputs"] = old["untracked_inputs"]


@dataclass(eq=False)
class Around:
    """Tensors to be shown in a snapshot although nobody asked for them.

    Args:
        beside: heads that share operations with the roots: they stay results, but are no roots.
        behind: tensors of branches that were cut off: their operations alone are shown.
    """

    beside: Sequence[torch.Tensor] = ()
    behind: list[torch.Tensor] = field(default_factory=list)


def take(
    roots: Sequence[Any], around: Around, names: Names, watch: RecordingState, keys: Keys
) -> Snapshot:
    """Take a snapshot.

    Args:
        roots: tensors, each once, or ``GradientEdge``s; they may lie outside the graph.
        around: what else is shown.
        names: what to call the tensors.
        watch: knows the lines and the leaves.
        keys: gives out the keys.
    """
    everything = (*roots, *around.beside, *around.behind)
    if not everything:
        return Snapshot()
    look = _Look(watch)
    graph = trace_subjects(everything, names, look)
    untracked_roots: dict[str, UntrackedTensor] = {}
    for root, key in zip(everything, graph.roots, strict=False):
        if isinstance(root, torch.Tensor) and root.is_leaf:
            if root.requires_grad:
                look.leaves.setdefault(key, watch.provenance.leaf(root))
            else:
                untracked_roots[key] = watch.provenance.untracked(root)
    for key in graph.roots:
        _name_result(graph, key)
    for number, key in enumerate(graph.roots[len(roots) :]):
        if number >= len(around.beside) and graph.nodes[key]["kind"] is NodeKind.RESULT:
            graph.remove_node(key)
        else:
            del graph.nodes[key]["root"]
    stay = keys.assign(identities_of(graph, look.created, _known(look, untracked_roots)))
    if any(old != new for old, new in stay.items()):
        graph = copy_graph(graph, stay)
    snapshot = Snapshot(graph, roots=[weakly(each) for each in everything])
    snapshot.untracked_roots = {stay[key]: untracked for key, untracked in untracked_roots.items()}
    snapshot.operations = {created: stay[key] for key, created in look.created.items()}
    for key, leaf in look.leaves.items():
        snapshot.leaves[leaf.number] = stay[key], leaf
        _add_leaf_facts(graph.nodes[stay[key]], leaf, watch)
    for end, rows in look.holes.items():
        snapshot.holes[end] = [(stay[key], positions) for _, key, positions in sorted(rows)]
    return snapshot


def weakly(root: Any) -> Callable[[], Any]:
    """A reference to a root that does not keep it alive."""
    return weakref.ref(root) if isinstance(root, torch.Tensor) else _nothing


def _nothing() -> None:
    """The reference to a ``GradientEdge``: that would keep the graph alive."""


def _name_result(graph: GradGraph, key: str) -> None:
    """Call a result that no variable holds by what the line that made it assigns."""
    data = graph.nodes[key]
    if data["kind"] is NodeKind.RESULT and "name" not in data:
        for source, _ in graph.inputs(key):
            made = graph.nodes[source]
            if "name" in made and made.get("outputs", 1) == 1:
                data["name"] = made["name"]


def _known(look: _Look, untracked_roots: Mapping[str, UntrackedTensor]) -> dict[str, Hashable]:
    """What makes those tensors the same in every frame that a recording has a record of."""
    known: dict[str, Hashable] = {
        key: untracked.identity for key, untracked in untracked_roots.items()
    }
    known.update((key, ("accumulate", leaf.number)) for key, leaf in look.accumulate.items())
    known.update((key, leaf.identity) for key, leaf in look.leaves.items())
    return known


def _add_leaf_facts(data: dict[str, Any], leaf: Leaf, watch: RecordingState) -> None:
    """Put on a leaf what the recording knows of it; remember what a frame calls it."""
    line = watch.lines.line(*leaf.place)
    if line.source:
        data["source"] = line.source
    name = data.get("name") or leaf.name or line.target
    if name:
        data["name"] = leaf.name = name
    if leaf.passes:
        data["accumulations"] = leaf.passes
    else:
        data.pop("accumulations", None)


def renew(snapshot: Snapshot, watch: RecordingState) -> Snapshot:
    """The same nodes as they were, with the leaves as they are now.

    Args:
        snapshot: the last one; its graph is not changed.
        watch: knows the leaves.
    """
    alive = [
        (key, leaf, tensor)
        for key, leaf in snapshot.leaves.values()
        if (tensor := leaf.ref()) is not None
    ]
    graph = copy_graph(snapshot.graph)
    nodes = graph._node
    told = [(key, tensor) for key, _, tensor in alive if "value" in nodes[key]]  # the small ones
    values = summarize([tensor for _, tensor in told], values_only_if_small=True)
    for (key, _), value in zip(told, values, strict=True):
        nodes[key]["value"] = value
    grads = [tensor.grad for *_, tensor in alive]
    summaries = iter(summarize([grad for grad in grads if grad is not None]))
    for (key, leaf, tensor), grad in zip(alive, grads, strict=True):
        data = nodes[key]
        data["grad"] = None if grad is None else next(summaries)
        if version := version_of(tensor):
            data["version"] = version
        _add_leaf_facts(data, leaf, watch)
    return replace(snapshot, graph=graph)


def renew_after_backward(snapshot: Snapshot, watch: RecordingState) -> Snapshot | None:
    """The same nodes after a backward pass, which can have freed what they had saved.

    That is a third of the work of another trace. None when it would not be enough: a root is
    gone, the graph is another, or a tensor that is no leaf keeps its gradient.
    """
    roots = [ref() for ref in snapshot.roots]
    if not roots or any(root is None for root in roots):
        return None
    renewed = renew(snapshot, watch)
    nodes = renewed.graph._node
    if any("retains_grad" in data for data in nodes.values()):
        return None
    stack = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen = set(stack)
    kinds: dict[str, tuple[Any, Any]] = {}
    operations = snapshot.operations
    while stack:
        node = stack.pop()
        edges = node.next_functions
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
        for child, _ in edges:
            if child is not None and child not in seen:
                seen.add(child)
                stack.append(child)
    kept = {each.storage for data in nodes.values() for each in data.get("saved", ())}
    for key, _ in snapshot.leaves.values():
        if nodes[key].get("storage") not in kept:
            nodes[key].pop("storage", None)
    return renewed
