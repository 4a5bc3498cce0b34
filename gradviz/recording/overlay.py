"""Puts the tensors outside the graph into a snapshot, with why each of them gets no gradient."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch

from gradviz.capture.autograd.tensors import place_of, version_of
from gradviz.capture.tensors.summary import summarize
from gradviz.capture.tracing.copying import copy_graph
from gradviz.capture.tracing.labels import Labels
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind
from gradviz.recording.insertion import Insertion
from gradviz.recording.loops import open_loops
from gradviz.recording.op_records import OpRecord
from gradviz.recording.provenance import Input, Leaf, Made, UntrackedTensor
from gradviz.recording.reach import Lost
from gradviz.recording.snapshots import Keys, Snapshot
from gradviz.recording.source_lines import NOWHERE, CodeLocation
from gradviz.recording.state import RecordingState

__all__ = ["UntrackedOverlay"]


class UntrackedOverlay:
    """Adds to one snapshot what the recording knows of the tensors around it.

    Args:
        snapshot: the snapshot; its graph is not changed.
        watch: knows the ghosts.
        keys: gives out the keys.
        labels: names of tensors.
        since: operations that are gone are shown if they were created from this count on.

    Attributes:
        lost: by the keys of what got data without a gradient to hand back: the leaves it is from.
    """

    def __init__(
        self, snapshot: Snapshot, watch: RecordingState, keys: Keys, labels: Labels, since: int
    ) -> None:
        self._snapshot = snapshot
        self._watch = watch
        self._keys = keys
        self._labels = labels
        self._since = since
        self.lost: dict[str, Lost] = {}
        self._stubs: dict[int, str] = {}
        self._graph = GradGraph()
        self._insertion = Insertion(self._graph)
        self._ghosts: dict[int, tuple[str, UntrackedTensor]] = {}
        self._late: list[tuple[str, str, int]] = []  # edges that can close a loop

    def behind(self) -> list[torch.Tensor]:
        """Tensors of the graph, alive, that led to ghosts of this frame but are not in it."""
        found: dict[int, torch.Tensor] = {}
        stack = [data.source for end in self._snapshot.holes for data in self._mixed(end)]
        stack += [leaf.ghost for _, leaf in self._snapshot.leaves.values() if leaf.ghost]
        stack += self._snapshot.ghosts.values()
        seen: set[int] = set()
        while stack:
            ghost = stack.pop()
            if not isinstance(ghost, UntrackedTensor) or ghost.number in seen:
                continue
            seen.add(ghost.number)
            for data in ghost.inputs:
                stack.append(data.source)
                if not isinstance(data.source, UntrackedTensor) and not self._is_here(data, {}):
                    behind = [data.ref()]
                    if behind[0] is None:
                        behind = [
                            s.ref() for u in data.stubs for s, *_ in u.inputs if isinstance(s, Leaf)
                        ]
                    for tensor in behind:
                        if tensor is not None and tensor.requires_grad:
                            found[id(tensor)] = tensor
        return list(found.values())

    def _mixed(self, end: int) -> list[Input]:
        return self._watch.mixed.get(end, [])

    def graph(self) -> GradGraph:
        """The snapshot's graph with the ghosts in it."""
        direct = [(end, data) for end in self._snapshot.holes for data in self._mixed(end)]
        drawn = self._drawn(
            [data.source for _, data in direct if isinstance(data.source, UntrackedTensor)]
        )
        leaves = [leaf for _, leaf in self._snapshot.leaves.values() if _was_ghost(leaf)]
        if not drawn and not direct and not leaves:
            return self._snapshot.graph
        self._graph = copy_graph(self._snapshot.graph)
        self._insertion = Insertion(self._graph)
        for ghost in drawn:
            self._add(ghost)
        for _, ghost in self._ghosts.values():
            self._join(self._key_of(ghost), ghost)
        for leaf in leaves:
            if leaf.ghost is not None:
                self._join(self._snapshot.leaves[leaf.number][0], leaf.ghost)
                self.lost[self._snapshot.leaves[leaf.number][0]] = leaf.ghost.lost
        for end in self._snapshot.holes:
            self._fill(end)
        self._add_aliases()
        self._add_values()
        return self._graph

    def _drawn(self, direct: list[UntrackedTensor]) -> list[UntrackedTensor]:
        """The ghosts that belong to this frame, in the order of their making."""
        snapshot = self._snapshot
        everything = not snapshot.graph
        chosen: dict[int, UntrackedTensor] = {}
        for ghost in self._watch.ghosts.drawn:
            is_here = any(self._is_here(each, chosen) for each in ghost.inputs)
            if everything or is_here or (not ghost.inputs and ghost.ref() is not None):
                chosen[ghost.number] = ghost
        roots = [*direct, *snapshot.ghosts.values()]
        used = {ghost.number for ghost in roots}
        kept: dict[int, UntrackedTensor] = {ghost.number: ghost for ghost in roots}
        for leaf in (leaf for _, leaf in snapshot.leaves.values() if leaf.ghost):
            used.update(_parents(leaf.ghost))
        for number in sorted({*chosen, *kept}, reverse=True):
            found = kept.get(number) or chosen[number]
            if number in used or found.is_end or found.ref() is not None:
                kept[number] = found
                for each in found.inputs:
                    if isinstance(each.source, UntrackedTensor) and each.source.matters:
                        used.add(each.source.number)
                        kept.setdefault(each.source.number, each.source)
        return [kept[number] for number in sorted(kept)]

    def _is_here(self, data: Input, chosen: dict[int, UntrackedTensor]) -> bool:
        source = data.source
        if isinstance(source, Made):
            if source.created in self._snapshot.operations:
                return True
            return source.created >= self._since and any(self._stub_is_here(data.stubs))
        if isinstance(source, Leaf):
            return source.number in self._snapshot.leaves
        return source.number in chosen

    def _stub_is_here(self, stubs: Sequence[OpRecord]) -> Iterator[bool]:
        for stub in stubs:
            for source, *_ in stub.inputs:
                if isinstance(source, Leaf):
                    yield source.number in self._snapshot.leaves
                else:
                    yield source in self._snapshot.operations

    def _key_of(self, ghost: UntrackedTensor) -> str:
        return self._ghosts[ghost.number][0]

    def _add(self, ghost: UntrackedTensor) -> None:
        key = self._keys.of(ghost.identity)
        self._ghosts[ghost.number] = key, ghost
        self.lost[key] = ghost.lost
        tensor = ghost.ref()
        data: dict[str, Any] = {"kind": NodeKind.UNTRACKED}
        if key in self._graph:  # a root
            data = dict(self._graph.nodes[key])
        if ghost.word:
            data["op"] = ", ".join([ghost.word, *ghost.changes])
        line = self._watch.lines.line(*ghost.place)
        name = self._name(ghost, tensor) or line.target
        if name:
            data["name"] = ghost.name = name
        if ghost.shape is not None:
            data.update(shape=ghost.shape, dtype=ghost.dtype, device=ghost.device)
        if ghost.value is not None:
            data["value"] = ghost.value
        if not ghost.is_end:
            data["requires_grad"] = False
        if ghost.cause is Cause.INFERENCE_MODE:
            data["inference"] = True
        if tensor is not None and (version := version_of(tensor)):
            data["version"] = version
        if line.source:
            data["source"] = line.source
        if key in self._graph:
            self._graph.nodes[key].update(data)
        else:
            self._insertion.add_node(key, data)

    def _name(self, ghost: UntrackedTensor, tensor: torch.Tensor | None) -> str:
        if tensor is not None and (named := self._labels.of(tensor)) is not None:
            return named.name
        if ghost.grad_of is not None and ghost.grad_of.name:
            return f"{ghost.grad_of.name}.grad"
        return ghost.name or (ghost.was.name if ghost.was is not None else "")

    def _join(self, key: str, ghost: UntrackedTensor) -> None:
        """Add the ways by which data came to a ghost, or to the leaf that it became."""
        for position, data in enumerate(ghost.inputs):
            source = self._source(data)
            if source:
                self._cut(source, key, position, data)
                if data.is_late and not _was_there(data, ghost):
                    self._late.append((source, key, position))

    def _source(self, data: Input) -> str:
        source = data.source
        if isinstance(source, Made):
            return self._snapshot.operations.get(source.created) or self._stub(data)
        if isinstance(source, Leaf):
            return self._snapshot.leaves.get(source.number, ("", None))[0]
        return self._ghosts[source.number][0] if source.number in self._ghosts else ""

    def _stub(self, data: Input) -> str:
        """The operation behind a cut that is gone; "" if it was not taken down."""
        for stub in reversed(data.stubs):
            if stub.created in self._stubs or stub.created in self._snapshot.operations:
                continue
            key = self._stubs[stub.created] = self._keys.of(stub.created)
            attributes = dict(stub.data)
            if (span := self._watch.spans.of(stub.created)) is not None:
                attributes.update(module=span.module, calls=span.calls)
            index = self._watch.journal.find(stub.created)
            if index >= 0:
                line, end = self._watch.journal.line(index)
                if line.source:
                    attributes["source"] = line.source
                if line.target and stub.created == end - 1:
                    attributes["name"] = line.target
            self._insertion.add_node(key, attributes)
            for source, position, output in stub.inputs:
                origin = self._origin(source)
                if origin:
                    edge = {"kind": EdgeKind.GRADIENT, "input": position, "output": output}
                    self._insertion.add_edge(origin, key, position, edge)
        made = data.source
        return self._stubs.get(made.created, "") if isinstance(made, Made) else ""

    def _origin(self, source: Leaf | int) -> str:
        if isinstance(source, Leaf):
            return self._snapshot.leaves.get(source.number, ("", None))[0]
        return self._snapshot.operations.get(source) or self._stubs.get(source, "")

    def _cut(self, source: str, target: str, position: int, data: Input) -> None:
        output = data.source.output if isinstance(data.source, Made) else 0
        edge: dict[str, Any] = {
            "kind": EdgeKind.CUT,
            "input": position,
            "output": output,
            "cause": data.cause,
        }
        place = data.place
        if place.code is None and isinstance(data.source, UntrackedTensor) and data.source.matters:
            place = _lost_at(data.source, data.cause)
        line = self._watch.lines.line(*place)
        if line.source:
            edge["source"] = line.source
        self._insertion.add_edge(source, target, position, edge)

    def _fill(self, end: int) -> None:
        """Join what flowed into an operation from outside to the inputs without gradient."""
        rows = self._snapshot.holes[end]
        holes = [(key, position) for key, positions in rows for position in positions]
        inputs = list(self._mixed(end))
        if len(holes) != len(inputs):
            pairs = self._match(holes, inputs)
        else:
            pairs = list(zip(holes, inputs, strict=True))
        for (key, position), data in pairs:
            self._fill_one(key, position, data)
            inputs.remove(data)
        first = rows[0][0]
        for data in inputs:  # torch has no input for it: the classes of a loss, say
            taken = [each.get("input", 0) for *_, each in self._graph.in_edges(first, data=True)]
            self._cut(self._source(data), first, max([*taken, *rows[0][1]], default=-1) + 1, data)

    def _match(
        self, holes: list[tuple[str, int]], inputs: list[Input]
    ) -> list[tuple[tuple[str, int], Input]]:
        """Pairs that are sure by their shape, and then by there being as many of both."""
        pairs = []
        holes, inputs = list(holes), list(inputs)
        for hole in holes[:]:
            known = self._known(*hole)
            shape = self._graph.nodes[known].get("shape") if known else None
            for data in inputs:
                if (
                    known
                    and isinstance(data.source, UntrackedTensor)
                    and data.source.shape == shape
                ):
                    pairs.append((hole, data))
                    holes.remove(hole)
                    inputs.remove(data)
                    break
        if len(holes) == len(inputs):
            pairs += zip(holes, inputs, strict=True)
        return pairs

    def _known(self, key: str, position: int) -> str:
        """The key of the saved tensor that the trace has found for an input, or ""."""
        for source in self._graph.predecessors(key):
            edge = self._graph[source][key].get(position)
            if edge is not None and edge["kind"] is EdgeKind.CUT and source not in self._own:
                return str(source)
        return ""

    @property
    def _own(self) -> set[str]:
        return {key for key, _ in self._ghosts.values()}

    def _fill_one(self, key: str, position: int, data: Input) -> None:
        known = self._known(key, position)
        node = dict(self._graph.nodes[key])
        if known:
            self._graph.remove_edge(known, key, position)
            if not self._graph.degree(known):
                self._graph.remove_node(known)
        elif node.get("untracked_inputs", 0) > 1:
            node["untracked_inputs"] -= 1
        elif "untracked_inputs" in node:
            del node["untracked_inputs"]
        elif "other" in node.get("options", {}):  # it was a tensor, not a number
            options = {name: text for name, text in node["options"].items() if name != "other"}
            node["options"] = options
            if not options:
                del node["options"]
        self._graph._node[key] = node
        self._insertion.nodes[key] = node
        self._cut(self._source(data), key, position, data)

    def _sharing(self) -> list[list[str]]:
        """The keys of tensors that share memory, where one of them was changed in place."""
        changed = {change.storage for change in self._watch.changes}
        groups: dict[object, dict[str, None]] = {}  # a frozen leaf is known twice by one key
        known: Iterable[tuple[str, Leaf | UntrackedTensor]] = (
            *self._snapshot.leaves.values(),
            *self._ghosts.values(),
        )
        for key, record in known if changed else ():
            tensor = record.ref()
            place = place_of(tensor) if tensor is not None else None
            if place is not None and place[0] in changed:
                groups.setdefault(place[0], {})[key] = None
        return [[*keys] for keys in groups.values() if len(keys) > 1]

    def _add_aliases(self) -> None:
        """Join tensors that share memory to the first of them, along with the data."""
        groups = self._sharing()
        if not groups and not self._late:
            return
        rank = open_loops(self._graph, self._late)
        for keys in groups:
            base, *others = sorted(keys, key=rank.__getitem__)
            for other in others:
                self._insertion.add_edge(base, other, -1, {"kind": EdgeKind.ALIAS})

    def _add_values(self) -> None:
        alive = [
            (key, ghost, tensor)
            for key, ghost in self._ghosts.values()
            if not ghost.is_end and (tensor := ghost.ref()) is not None
        ]
        summaries = summarize([tensor for *_, tensor in alive], values_only_if_small=True)
        for (key, ghost, _), summary in zip(alive, summaries, strict=True):
            data = self._graph.nodes[key]
            data.update(shape=summary.shape, dtype=summary.dtype, device=summary.device)
            if summary.values is not None or summary.note:
                data["value"] = ghost.value = summary


def _lost_at(ghost: UntrackedTensor, cause: Cause) -> CodeLocation:
    """Where the gradient was lost that a ghost cannot hand on, for a cause that it hands on."""
    seen: set[int] = set()  # data can have flowed in a circle
    while cause is not Cause.NOT_RECORDED and ghost.number not in seen:
        seen.add(ghost.number)
        ways = [data for data in ghost.inputs if data.cause is cause]
        if not ways:
            return ghost.place
        first = ways[0]
        if not isinstance(first.source, UntrackedTensor) or first.place.code is not None:
            return first.place
        ghost = first.source
    return NOWHERE


def _was_there(data: Input, ghost: UntrackedTensor) -> bool:
    """Whether what flowed into a ghost in place was made before it."""
    source = data.source
    return (
        isinstance(source, UntrackedTensor) and ghost.was is None and source.number < ghost.number
    )


def _was_ghost(leaf: Leaf) -> bool:
    return leaf.ghost is not None and leaf.ghost.matters


def _parents(ghost: UntrackedTensor | None) -> list[int]:
    inputs = ghost.inputs if ghost is not None else ()
    return [each.source.number for each in inputs if isinstance(each.source, UntrackedTensor)]
