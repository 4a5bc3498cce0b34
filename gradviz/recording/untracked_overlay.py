"""Adds the untracked tensors to a snapshot, with the cause of each cut."""

from __future__ import annotations

import sys
from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import networkx as nx
import torch

from gradviz.capture.autograd.tensors import storage_address, version_of
from gradviz.capture.tensors.summary import summarize
from gradviz.capture.tracer import Labels, copy_graph
from gradviz.graph import Cause, EdgeKind, GradGraph, NodeKind, leaf_uses
from gradviz.graph.grad_graph import Insertion
from gradviz.graph.operations import operation, words
from gradviz.recording.source_lines import NOWHERE, CodeLocation
from gradviz.recording.stable_trace import Keys, Snapshot
from gradviz.recording.state import RecordingState
from gradviz.recording.tensor_records import (
    CutLeaves,
    Input,
    Leaf,
    OperationOutput,
    OpRecord,
    UntrackedTensor,
    names_apart,
)

Span = tuple[int, int]
Flows = dict[str, list[tuple[str, CutLeaves]]]
_UNINITIALIZED = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_INDEXED = "setitem_ index index_put nll_loss nll_loss2d embedding masked_fill where"
_HIDDEN_FIRST = ("lstm_cell", "rnn_tanh_cell", "rnn_relu_cell")  # its product comes first
_RANK: dict[str | None, int] = {  # which operation of a call takes an index or a condition
    **dict.fromkeys(_INDEXED.split(), 0),
    **dict.fromkeys(words(lambda row: row.rearranges), 2),
}


class UntrackedOverlay:
    """Adds the recorded untracked tensors to one snapshot.

    Args:
        snapshot: the snapshot; its graph is not modified.
        state: has the records of untracked tensors.
        keys: assigns the keys.
        labels: names of tensors.
        span: numbers of the operations it is about; what is older is shown if it is used or alive.

    Attributes:
        flows: by the key of a node, the tensors whose data it used without a gradient, with the
            leaves of that data at that time.
    """

    def __init__(
        self, snapshot: Snapshot, state: RecordingState, keys: Keys, labels: Labels, span: Span
    ) -> None:
        self._snapshot = snapshot
        self._state = state
        self._keys = keys
        self._labels = labels
        self._since, self._until = span
        self.flows: Flows = {}
        self._recorded: dict[int, str] = {}  # keys of operations known only from their records
        self._graph = GradGraph()
        self._insertion = Insertion(self._graph)
        self._untracked: dict[int, tuple[str, UntrackedTensor]] = {}
        self._own: set[str] = set()  # the keys of these nodes
        self._by_line: list[tuple[str, UntrackedTensor]] = []  # named as their line's variable
        self._in_place: list[tuple[str, str, int]] = []  # edges that can create a cycle

    def missing_tensors(self) -> list[torch.Tensor]:
        """Tensors that untracked tensors were computed from, and that are not in the graph."""
        found: dict[int, torch.Tensor] = {}
        snapshot = self._snapshot
        stack = [each for end in snapshot.holes for each in self._inputs_of(end)]
        stack += [each for _, each in self._written]
        known = [leaf.untracked for _, leaf in snapshot.leaves.values() if leaf.untracked]
        if not snapshot.graph:  # nothing is tracked any more: all that is known is shown
            known += self._state.provenance.shown
        for each in (*known, *snapshot.untracked_roots.values()):
            stack += each.inputs
        seen: set[int] = set()
        while stack:
            if isinstance((data := stack.pop()).source, UntrackedTensor):
                if data.source.number not in seen:
                    seen.add(data.source.number)
                    stack += data.source.inputs
                continue
            is_here = self._is_here(data, {})
            tensors = [] if is_here else [data.ref()]
            if tensors == [None] or (is_here and not self._is_known(data.source)):
                leaves = _recorded_leaves(data)
                tensors = [leaf.ref() for leaf in leaves if leaf.number not in snapshot.leaves]
            for tensor in tensors:
                if tensor is not None and tensor.requires_grad:
                    found[id(tensor)] = tensor
        return list(found.values())

    def _is_known(self, source: object) -> bool:
        """Whether the frame shows what made an input, and not only records of it."""
        is_output = isinstance(source, OperationOutput)
        return not is_output or source.created in self._snapshot.operations  # type: ignore[attr-defined]

    def _inputs_of(self, end: int) -> list[Input]:
        return self._state.mixed.get(end, [])

    def graph(self) -> GradGraph:
        """The snapshot's graph with the untracked tensors."""
        direct = [(end, data) for end in self._snapshot.holes for data in self._inputs_of(end)]
        sources = (data.source for _, data in (*direct, *self._written))
        shown = self._shown([each for each in sources if isinstance(each, UntrackedTensor)])
        leaves = [leaf for _, leaf in self._snapshot.leaves.values() if leaf.was_untracked]
        if not shown and not direct and not leaves and not self._written:
            return self._snapshot.graph
        self._graph = copy_graph(self._snapshot.graph)
        self._insertion = Insertion(self._graph)
        for untracked in shown:
            self._add(untracked)
        for key, untracked in list(self._untracked.values()):
            self._add_inputs(key, untracked)
        for leaf in leaves:
            if leaf.untracked is not None:
                key = self._snapshot.leaves[leaf.number][0]
                uses = self._uses(key)
                self._add_inputs(key, leaf.untracked, leaf.untracked.inputs_at(*uses.values()))
                self.flows.pop(key, None)
                for user, number in uses.items():
                    self._add_flow(user, key, leaf.untracked.cut_leaves_at(number))
        for end in self._snapshot.holes:
            self._fill(end)
        for key, data in self._written:
            self._add_written(key, data)
        for add in (self._add_aliases, self._add_values, self._keep_names, self._drop_unused):
            add()
        return self._graph

    def _drop_unused(self) -> None:
        """Beside operations, leave out untracked tensors that no line of the picture reaches."""
        graph = self._graph
        if any(data["kind"] is NodeKind.OPERATION for data in graph._node.values()):
            unused = [key for key in self._own if not graph.degree(key)]
            graph.remove_nodes_from(key for key in unused if "root" not in graph._node[key])

    def _keep_names(self) -> None:
        """Of the tensors that one call made, only what it returned has the variable's name."""
        nodes = [self._graph._node[key] for key, _ in self._by_line]
        names = names_apart([each for _, each in self._by_line], [n["name"] for n in nodes])
        for (key, untracked), data, name in zip(self._by_line, nodes, names, strict=True):
            used_at = [_called_at(self._graph._node[user]) for user in self._graph._succ[key]]
            if not name or (untracked.location.offset < 0 and _called_at(data) in used_at):
                del data["name"]
            else:
                untracked.name = data["name"] = name

    def _shown(self, direct: list[UntrackedTensor]) -> list[UntrackedTensor]:
        """The untracked tensors of this frame, in the order of their creation."""
        snapshot = self._snapshot
        everything, chosen = not snapshot.graph, dict[int, UntrackedTensor]()
        for untracked in self._state.provenance.shown:
            is_alone = not untracked.inputs and untracked.ref() is not None
            if everything or is_alone or any(self._is_here(i, chosen) for i in untracked.inputs):
                chosen[untracked.number] = untracked
        roots = [*direct, *snapshot.untracked_roots.values()]
        used = {untracked.number for untracked in roots}
        kept: dict[int, UntrackedTensor] = {untracked.number: untracked for untracked in roots}
        for leaf in (leaf for _, leaf in snapshot.leaves.values() if leaf.untracked):
            used.update(_untracked_inputs(leaf.untracked))
        waiting = sorted({*chosen, *kept})
        while waiting:
            found = kept.get(number := waiting.pop()) or chosen[number]
            if number in used or self._is_recent_number(found) or found.ref() is not None:
                kept[number] = found
                for each in found.inputs:
                    if isinstance(source := each.source, UntrackedTensor) and source.matters:
                        used.add(number := source.number)
                        is_new = number not in chosen and number not in kept
                        kept.setdefault(number, source)
                        if is_new and source.is_of_a_derivative:  # of a pass that is over
                            insort(waiting, number)
        return [kept[number] for number in sorted(kept)]

    def _is_recent_number(self, found: UntrackedTensor) -> bool:
        """Whether a number was read since the pass, of results that are not gone with the pass."""
        is_recent = found.is_plain_value and found.read_at >= self._since
        return is_recent and any(
            not isinstance((source := each.source), OperationOutput)
            or source.created >= self._since
            or source.created in self._snapshot.operations
            for each in found.inputs
        )

    def _is_here(self, data: Input, chosen: dict[int, UntrackedTensor]) -> bool:
        """Whether the source of an input is in this frame."""
        source, snapshot = data.source, self._snapshot
        if isinstance(source, Leaf):
            return source.number in snapshot.leaves
        if isinstance(source, UntrackedTensor):
            return source.number in chosen
        if source.created in snapshot.operations:
            return True
        return self._since <= source.created < self._until and any(
            each.number in snapshot.leaves
            if isinstance(each, Leaf)
            else each in snapshot.operations
            for record in data.op_records
            for each, *_ in record.inputs
        )

    def _add(self, untracked: UntrackedTensor) -> None:
        key = self._keys.of(untracked.identity)
        self._untracked[untracked.number] = key, untracked
        self._own.add(key)
        self._add_flow(key, key, untracked.cut_leaves)
        tensor = untracked.ref()
        data: dict[str, Any] = {"kind": NodeKind.UNTRACKED}
        if key in self._graph:  # a root, or a leaf that was or is frozen
            data = dict(self._graph.nodes[key])
        leaf = untracked.leaf
        is_tracked = leaf is not None and isinstance(self._record(leaf), Leaf)
        if tensor is not None:
            untracked.version = version_of(tensor)
        version = untracked.version
        # Something wrote into it that was not seen, as a loader that receives a batch of a worker.
        is_filled = untracked.word in _UNINITIALIZED and untracked.location.offset < 0
        is_filled |= version > 0 and operation(untracked.word).from_nothing
        if untracked.word and not is_tracked and (untracked.changes or not is_filled):
            data["op"] = ", ".join([untracked.word, *untracked.changes])
        line = self._state.lines.at(untracked.location)
        if name := self._name(untracked, tensor):
            data["name"] = untracked.name = name
        elif line.target:
            data["name"] = line.target
            self._by_line.append((key, untracked))
        data.update(untracked.facts)
        if untracked.value is not None:
            data["value"] = untracked.value() if callable(untracked.value) else untracked.value
        if not untracked.is_plain_value and not is_tracked:
            data["requires_grad"] = False
        more = {"version": version, "source": line.source, "inside": str(line.inside or "")}
        more |= {"inference": untracked.cause is Cause.INFERENCE_MODE}
        more["module"], more["calls"] = ("", ()) if is_tracked else untracked.ran_in
        data.update({name: value for name, value in more.items() if value})
        if key in self._graph:
            self._graph.nodes[key].update(data)
        else:
            self._insertion.add_node(key, data)

    def _record(self, leaf: Leaf) -> UntrackedTensor | Leaf | None:
        """The current record of a tensor that is or was a leaf."""
        return None if (t := leaf.ref()) is None else self._state.provenance.tensors.of(t)

    def _name(self, untracked: UntrackedTensor, tensor: torch.Tensor | None) -> str:
        if tensor is not None and (named := self._labels.of(tensor)) is not None:
            return named.name
        if untracked.grad_of is not None and untracked.grad_of.name:
            return f"{untracked.grad_of.name}.grad"
        return untracked.name or (untracked.leaf.name if untracked.leaf is not None else "")

    @cached_property
    def _written(self) -> list[tuple[str, Input]]:
        """What was written into results of the graph, and the nodes that used those since."""
        found = []
        graph, operations = self._snapshot.graph, self._snapshot.operations
        for number, rows in self._state.provenance.written.items():
            if number not in operations:
                continue
            for user, edges in graph._succ[operations[number]].items():
                outputs = {edge.get("output", 0) for edge in edges.values()}
                for output, data in rows:
                    if output in outputs:
                        found += [(each, data) for each in self._users_since(data.written_at, user)]
        return found

    def _users_since(self, written_at: int, user: str) -> Iterator[str]:
        """A user of a result if it is no older than a change; else, of a view, its users."""
        stack, nodes = [user], self._snapshot.graph._node
        while stack:
            key = stack.pop()
            if self._created.get(key, sys.maxsize) >= written_at:
                yield key
            elif operation(nodes[key].get("op", "")).views:
                stack += self._snapshot.graph._succ[key]

    def _add_written(self, key: str, data: Input) -> None:
        """Add the edge of data that was written into an input of an operation."""
        self._add_flow(key, key, data.cut_leaves)
        if source := self._source(data):
            taken = [each.get("input", 0) for *_, each in self._graph.in_edges(key, data=True)]
            self._add_cut(source, key, max(taken, default=-1) + 1, data)
            self._in_place.append((source, key, max(taken, default=-1) + 1))

    def _add_flow(self, user: str, key: str, cut_leaves: CutLeaves) -> None:
        if cut_leaves:
            self.flows.setdefault(user, []).append((key, cut_leaves))

    def _uses(self, key: str) -> dict[str, int]:
        """The operations of this frame that use a leaf, with their sequence numbers."""
        created, users = self._created, (user for user, _ in leaf_uses(self._graph, key))
        return {each: created[each] for each in users if each in created} or {key: sys.maxsize}

    @cached_property
    def _created(self) -> dict[str, int]:
        """The sequence numbers of the operations, by their keys."""
        return {key: number for number, key in self._snapshot.operations.items()}

    def _add_inputs(
        self, key: str, untracked: UntrackedTensor, inputs: Sequence[Input] | None = None
    ) -> None:
        """Add the edges into an untracked tensor, or into the leaf that it became."""
        for position, data in enumerate(untracked.inputs if inputs is None else inputs):
            source = self._source(data)
            if source:
                self._add_cut(source, key, position, data)
                writes = data.is_in_place or data.word == "detach_"
                if writes and not _is_older(data, untracked):
                    self._in_place.append((source, key, position))

    def _source(self, data: Input) -> str:
        """The key of the source of an input; "" if it is not in this frame."""
        source = data.source
        if isinstance(source, OperationOutput):
            return self._snapshot.operations.get(source.created) or self._operation(data)
        if isinstance(source, Leaf):
            return self._snapshot.leaves.get(source.number, ("", None))[0]
        return self._untracked[source.number][0] if source.number in self._untracked else ""

    def _operation(self, data: Input) -> str:
        """The key of an operation before a cut whose node is gone; "" if not recorded."""
        for record in reversed(data.op_records):
            created = record.created
            if created in self._recorded or created in self._snapshot.operations:
                continue
            key = self._recorded[created] = self._keys.of(created)
            attributes = dict(record.data)
            if (span := self._state.module_stack.of(created)) is not None:
                attributes.update(module=span.module, calls=span.calls)
            if (index := self._state.event_log.find(created)) >= 0:
                line, end = self._state.event_log.line(index)
                if line.source:
                    attributes["source"] = line.source
                if created == end - 1 and (name := line.variable(attributes.get("outputs", 1))):
                    attributes["name"] = name
            self._insertion.add_node(key, attributes)
            self._fill_recorded(key, record)
        for record in data.op_records:  # a cut before may have had fewer of its inputs
            key = self._recorded.get(record.created, "")
            for source, position, output in record.inputs if key else ():
                origin = self._recorded_input(source)
                if origin and not self._graph.has_edge(origin, key, position):
                    edge = {"kind": EdgeKind.GRADIENT, "input": position, "output": output}
                    self._insertion.add_edge(origin, key, position, edge)
        made = data.source
        return self._recorded.get(made.created, "") if isinstance(made, OperationOutput) else ""

    def _fill_recorded(self, key: str, record: OpRecord) -> None:
        """Join the untracked inputs of an operation that is gone to it, where they are known."""
        index = self._state.event_log.find(record.created)
        end = self._state.event_log.line(index)[1] if index >= 0 else -1
        inputs = self._inputs_of(end) if record.created == end - 1 else []
        if len(inputs) != len(record.holes):
            row = operation(str(record.data.get("op", "")))
            # Of other operations an input may be absent: the bias of a convolution.
            constants = [at for at in record.holes if row.number or at in (row.factors or ())]
            if constants and "options" not in record.data:
                self._graph._node[key]["untracked_inputs"] = len(constants)
            return
        for position, data in zip(record.holes, inputs, strict=True):
            source = data.source
            if isinstance(source, UntrackedTensor) and source.number not in self._untracked:
                self._add(source)
            if found := self._source(data):
                self._add_cut(found, key, position, data)

    def _recorded_input(self, source: Leaf | int) -> str:
        if isinstance(source, Leaf):
            return self._snapshot.leaves.get(source.number, ("", None))[0]
        return self._snapshot.operations.get(source) or self._recorded.get(source, "")

    def _add_cut(self, source: str, target: str, position: int, data: Input) -> None:
        output = data.source.output if isinstance(data.source, OperationOutput) else 0
        edge: dict[str, Any] = {"kind": EdgeKind.CUT, "input": position, "output": output}
        edge["cause"] = data.cause
        location, word = data.location, data.word
        made = data.source
        if location.code is None and isinstance(made, UntrackedTensor) and made.matters:
            location, word = _site_of_cut(made, data.cause)
        if word:
            edge["word"] = word
        line = self._state.lines.at(location)
        if line.inside:
            edge["inside"], edge["is_own"] = str(line.inside), line.inside.is_own
        if line.source:
            edge["source"] = line.source
        self._insertion.add_edge(source, target, position, edge)

    def _fill(self, end: int) -> None:
        """Match the untracked input tensors of an operation to its inputs without a gradient."""
        rows = self._snapshot.holes[end]
        holes = [(key, position) for key, positions in rows for position in positions]
        inputs = list(self._inputs_of(end))
        for data in inputs:
            for key, _ in rows:
                self._add_flow(key, self._source(data) or key, data.cut_leaves)
        ranks = [(_RANK.get(self._graph.nodes[key].get("op"), 1), key, at) for key, at in rows]
        least, user, slots = min(ranks, key=lambda row: row[0])
        dtypes = [str(_fact(data, "dtype")) for data in inputs]
        is_index = [dtype.startswith(("int", "uint", "bool")) for dtype in dtypes]
        fits = [data for data, no in zip(inputs, is_index, strict=True) if not no]
        if least and len(holes) != len(fits):  # else torch has no input for an index, a condition
            fits = inputs
        at = self._state.event_log.find(end - 1)
        is_cell = at >= 0 and self._state.event_log.word(at) in _HIDDEN_FIRST
        if is_cell and all(self._graph.nodes[k].get("op") in ("addmm", "mm") for k, _ in holes[:2]):
            fits = [*fits[1::-1], *fits[2:]]
        for (key, position), data in self._match(holes, fits):
            self._fill_one(key, position, data)
            inputs.remove(data)
        for data in inputs:  # torch has no input for it, for example the classes of a loss
            taken = [each.get("input", 0) for *_, each in self._graph.in_edges(user, data=True)]
            position = max([*taken, *slots], default=-1) + 1
            self._add_cut(self._source(data), user, position, data)

    def _match(
        self, holes: list[tuple[str, int]], inputs: list[Input]
    ) -> list[tuple[tuple[str, int], Input]]:
        """The pairs in their order if none is known to be another; else by shape, then the rest."""
        in_order = list(zip(holes, inputs, strict=True)) if len(holes) == len(inputs) else []
        keys = {hole: self._tensor_saved_at(*hole) for hole in holes}
        shapes = {hole: self._graph.nodes[key].get("shape") for hole, key in keys.items() if key}
        known = [(shapes[h], _fact(data, "shape")) for h, data in in_order if h in shapes]
        if in_order and all(saved == given for saved, given in known):
            return in_order
        pairs, left = [], list(inputs)
        for hole, shape in shapes.items():
            fitting = [data for data in left if _fact(data, "shape") == shape]
            if in_order and not fitting:  # reshaped on the way
                return in_order
            for data in fitting[:1]:
                pairs.append((hole, data))
                left.remove(data)
        rest = [hole for hole in holes if hole not in shapes] if in_order else []
        return [*pairs, *zip(rest, left[: len(rest)], strict=True)]

    def _tensor_saved_at(self, key: str, position: int) -> str:
        """The key of the saved tensor that the trace found for an input, or ""."""
        for source in self._graph.predecessors(key):
            edge = self._graph[source][key].get(position)
            if edge is not None and edge["kind"] is EdgeKind.CUT and source not in self._own:
                return str(source)
        return ""

    def _fill_one(self, key: str, position: int, data: Input) -> None:
        saved = self._tensor_saved_at(key, position)
        node = dict(self._graph.nodes[key])
        if saved:
            self._graph.remove_edge(saved, key, position)
            if not (self._graph.pred[saved] or self._graph.succ[saved]):
                self._graph.remove_node(saved)
        elif node.get("untracked_inputs", 0) > 1:
            node["untracked_inputs"] -= 1
        elif "untracked_inputs" in node:
            del node["untracked_inputs"]
        elif not {"other", "self"}.isdisjoint(node.get("options", {})):  # a tensor, not a number
            options = {k: v for k, v in node["options"].items() if k not in ("other", "self")}
            node["options"] = options
            if not options:
                del node["options"]
        self._graph._node[key] = node
        self._insertion.nodes[key] = node
        self._add_cut(self._source(data), key, position, data)

    def _sharing(self) -> list[list[str]]:
        """The keys of tensors that share memory, if one of them was changed in place."""
        changes = self._state.changes
        leaves, untracked = self._snapshot.leaves.values(), self._untracked.values()
        known: Iterable[tuple[str, Leaf | UntrackedTensor]] = (*leaves, *untracked)
        groups: dict[object, dict[str, None]] = {}  # a frozen leaf has two records and one key
        written: set[object] = set()  # a tensor may have the address of one that is gone
        for key, record in known if changes else ():
            tensor = record.ref()
            address = storage_address(tensor) if tensor is not None else None
            if tensor is not None and address is not None:
                groups.setdefault(address, {})[key] = None
                if version_of(tensor) or tensor.is_inference():
                    written.add(address)
        groups = {address: keys for address, keys in groups.items() if len(keys) > 1}
        changed = {change.storage for change in changes} & written if groups else set()
        return [[*keys] for address, keys in groups.items() if address in changed]

    def _add_aliases(self) -> None:
        """Connect tensors that share memory to the first of them, in the direction of the data."""
        groups = self._sharing()
        if not groups and not self._in_place:
            return
        rank = open_loops(self._graph, self._in_place)
        for keys in groups:
            base, *others = sorted(keys, key=rank.__getitem__)
            for other in others:
                self._insertion.add_edge(base, other, -1, {"kind": EdgeKind.ALIAS})

    def _add_values(self) -> None:
        alive = [
            (key, untracked, tensor)
            for key, untracked in self._untracked.values()
            if not untracked.is_plain_value and (tensor := untracked.ref()) is not None
        ]
        summaries = summarize([tensor for *_, tensor in alive], values_only_if_small=True)
        for (key, untracked, _), summary in zip(alive, summaries, strict=True):
            data = self._graph.nodes[key]
            data.update(shape=summary.shape, dtype=summary.dtype, device=summary.device)
            if summary.values is not None or summary.note:
                data["value"] = untracked.value = summary


def _called_at(data: Mapping[str, Any]) -> str | None:
    """The innermost line that a node was made from; of some nodes only that one is known."""
    return data.get("inside") or data.get("source")


def _site_of_cut(untracked: UntrackedTensor, cause: Cause) -> tuple[CodeLocation, str]:
    """Where the cause of an untracked tensor comes from: the location and function of the cut."""
    seen: set[int] = set()  # in-place operations can create a cycle
    while cause is not Cause.NOT_RECORDED and untracked.number not in seen:
        seen.add(untracked.number)
        inputs = [data for data in untracked.inputs if data.cause is cause]
        if not inputs:
            return untracked.location, untracked.word
        first = inputs[0]
        if not isinstance(first.source, UntrackedTensor) or first.location.code is not None:
            return first.location, first.word
        untracked = first.source
    return NOWHERE, ""


def _is_older(data: Input, untracked: UntrackedTensor) -> bool:
    """Whether data written into an untracked tensor was created before that tensor."""
    source = data.source
    is_untracked = isinstance(source, UntrackedTensor) and untracked.leaf is None
    return is_untracked and source.number < untracked.number  # type: ignore[union-attr]


def _recorded_leaves(data: Input) -> Iterable[Leaf]:
    sources = (source for record in data.op_records for source, *_ in record.inputs)
    return (source for source in sources if isinstance(source, Leaf))


def _fact(data: Input, name: str) -> Any:
    source = data.source
    return source.facts.get(name) if isinstance(source, UntrackedTensor) else None


def _untracked_inputs(untracked: UntrackedTensor | None) -> list[int]:
    inputs = untracked.inputs if untracked is not None else ()
    return [each.source.number for each in inputs if isinstance(each.source, UntrackedTensor)]


def ranks(graph: GradGraph) -> dict[str, int]:
    """The position of each node in a topological order, without nodes in or after a cycle.

    Example:
        >>> graph = GradGraph()
        >>> _ = graph.add_edges_from([("n1", "n0", 0), ("n2", "n1", 0)])
        >>> ranks(graph)
        {'n2': 0, 'n1': 1, 'n0': 2}
    """
    waiting = {key: len(sources) for key, sources in graph._pred.items()}
    order = [key for key, count in waiting.items() if not count]
    for key in order:
        for user in graph._succ[key]:
            waiting[user] -= 1
            if not waiting[user]:
                order.append(user)
    return {key: rank for rank, key in enumerate(order)}


def open_loops(graph: GradGraph, in_place: Sequence[tuple[str, str, int]]) -> dict[str, int]:
    """Remove the edges that create a cycle: in-place operations can write data back.

    Args:
        graph: is modified.
        in_place: edges by which data was written into an existing tensor; each cycle has one.

    Returns:
        The ranks of all nodes.
    """
    found = ranks(graph)
    if len(found) == len(graph):
        return found
    rest = graph.subgraph([key for key in graph if key not in found])
    parts = enumerate(nx.strongly_connected_components(rest))
    part_of = {key: number for number, part in parts for key in part}
    for source, target, position in dict.fromkeys(in_place):
        if source in part_of and part_of[source] == part_of.get(target):
            graph.remove_edge(source, target, position)
    return ranks(graph)
