"""Takes the snapshots of a recording: of the latest backward pass, or of the live outputs."""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Callable, Container, Hashable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from types import CodeType, FrameType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.sharded import flat_parameters
from gradviz.capture.autograd.tensors import is_unsure, memory_of
from gradviz.capture.tensors.names import Named, Names, locals_of, maker_of, variables_of
from gradviz.capture.tensors.summary import summarize
from gradviz.capture.tensors.training_sets import SeenSets, parameters_of
from gradviz.capture.tracer import Labels
from gradviz.capture.walk import Walk, make_safe_to_drop
from gradviz.errors import SubjectError
from gradviz.facts import CutEdge, DataFlow, PartCall, TrainingSets, ValueRead
from gradviz.graph import EdgeData, GradGraph, TensorSummary, leave_out_drawn
from gradviz.recording.hooks import Hook, held_with_hooks
from gradviz.recording.module_stack import holder_of
from gradviz.recording.pass_values import Contents, SavedValues, contents_of
from gradviz.recording.source_lines import outwards, user_frame
from gradviz.recording.stable_trace import (
    Additions,
    Keys,
    Snapshot,
    keep_options,
    renew,
    renew_after_backward,
    take,
    weakly,
)
from gradviz.recording.state import RecordingState
from gradviz.recording.tensor_records import (
    CutLeaves,
    CutSite,
    Leaf,
    UntrackedTensor,
    leaves_in,
    merge_cut_leaves,
)
from gradviz.recording.untracked_overlay import Flows, UntrackedOverlay


class SnapshotSeries:
    """Takes consecutive snapshots, with the same key for a node in all of them.

    Args:
        state: of the recording.
        modules: name their parameters by paths, by name; "" for a single one.

    Attributes:
        keys: assigns the keys.
        snapshot: the latest one.
        hooked: hooks of non-leaf tensors that variables held before the latest backward pass.
        sets: the modules and optimizers that variables held before backward passes.
        wrong: by the number of a pass with NaN, the graph before it, and values of leaves then.
    """

    def __init__(self, state: RecordingState, modules: Mapping[str, nn.Module]) -> None:
        self.keys = Keys()
        self.snapshot = Snapshot()
        self.hooked: Sequence[Hook] = ()
        self.sets = SeenSets(self._identity_of, self._enter)
        self._named: list[tuple[weakref.ref[torch.Tensor], str, tuple[str, ...]]] = []
        self._classes_before: Mapping[str, str] = {}
        self._state = state
        self._modules = [(name, weakref.ref(module)) for name, module in modules.items()]
        self._paths: dict[int, tuple[weakref.ref[nn.Module], str]] = {}  # by the module's id
        self._classes: dict[str, str] = {}
        self._entered: CodeType | None = None
        self._roots: Sequence[Callable[[], Any]] = ()
        self._since = self._before = 0
        self._until = sys.maxsize
        self._traced_until = -1
        self._flows: WeakKeyDictionary[GradGraph, Flows] = WeakKeyDictionary()
        self._contents: WeakKeyDictionary[GradGraph, Contents] = WeakKeyDictionary()
        self.wrong: dict[int, tuple[GradGraph, Mapping[str, TensorSummary]]] = {}

    def begin(self, code: CodeType) -> None:
        """The recording begins in some code of the user's."""
        self._entered = code
        self._since = self._before = creation_count()
        for named in self._of_modules().entries:
            if named.tensor.requires_grad and named.tensor.is_leaf:
                self._state.provenance.leaf(named.tensor).name = named.name

    @property
    def roots(self) -> list[Any]:
        """The roots of the latest backward pass that are alive."""
        return [root for ref in self._roots if (root := ref()) is not None and _is_traceable(root)]

    def before_backward(self, roots: Sequence[Any]) -> GradGraph:
        """The graph at the end of a forward pass."""
        roots = _distinct(roots)
        self._before, self._since = self._since, creation_count()
        self._paths = {}
        names = self._names()
        self.hooked = held_with_hooks(names)
        self._named = [(weakref.ref(each), name, more) for each, name, more in names.entries]
        self._classes_before = names.modules
        graph = self.trace(roots, names)
        held = {id(each): each for frame in self._frames() for each in variables_of(frame)}
        self.sets.look(held.values())
        self.sets.call((each, name) for each, name, _ in names.entries)
        self._contents[graph] = contents_of(roots, self.snapshot.operations, graph._node)
        self._roots = [weakly(root) for root in roots]
        return graph

    def after_backward(self, has_grown: bool) -> GradGraph:
        """The graph after a backward pass; if possible, the one before it with updates."""
        self._state.event_log.flush()
        renewed = None if has_grown else renew_after_backward(self.snapshot, self._state)
        names = self._names_before()
        if renewed is None:
            return self.trace(self.roots, names)
        self.snapshot = renewed
        return self._finish(self._overlay(names))

    def keep_wrong(self, number: int, graph: GradGraph) -> None:
        """Keep what a pass gave gradients that are not finite for: a step will change leaves."""
        if len(self.wrong) < _MOST_WRONG:
            keys, tensors = zip(*self.leaves(), strict=True)
            self.wrong[number] = graph, dict(zip(keys, summarize(tensors), strict=True))

    def now(self, with_outputs: bool = False) -> GradGraph:
        """The graph at this moment.

        Args:
            with_outputs: include tensors computed since the latest backward pass.
        """
        if with_outputs or not self._roots:
            return self._now(with_outputs=True)
        self._until = self._since  # the next forward pass may have begun: it has its own frame
        try:
            return self._now(with_outputs=False)
        finally:
            self._until = sys.maxsize

    def _now(self, with_outputs: bool) -> GradGraph:
        if not with_outputs and self._traced_until == creation_count():
            self._state.event_log.flush()  # no operation ran since the last one, as before a step
            renewed = renew_after_backward(self.snapshot, self._state, has_run=False)
            if renewed is None and len(self.roots) < len(self._roots):
                renewed = renew(self.snapshot, self._state)
            if renewed is not None:
                self.snapshot = renewed
                return self._finish(self._overlay(self._names_before()))
        names, roots = self._names(), self.roots
        new: list[torch.Tensor] = []
        if with_outputs:
            outputs = live_outputs(self._state, self._since, roots, names)
            new = [output for output in outputs if _is_traceable(output)]
        if len(roots) < len(self._roots) and not new:
            self._state.event_log.flush()
            self.snapshot = renew(self.snapshot, self._state)
            return self._finish(self._overlay(names))
        return self.trace([*roots, *new], names)

    def trace(self, roots: Sequence[Any], names: Names | None = None) -> GradGraph:
        """Trace roots, live outputs that share operations with them, and cut branches."""
        state, before = self._state, self.snapshot.graph
        names = self._names() if names is None else names
        state.event_log.flush()
        additions = Additions()
        self.snapshot = take(roots, additions, names, state, self.keys)
        additions.results = sharing_outputs(state, self.snapshot.operations, roots)
        if additions.results:
            self.snapshot = take(roots, additions, names, state, self.keys)
        overlay = self._overlay(names)
        for _ in range(2):
            known = set(map(id, additions.branches))
            more = [each for each in overlay.missing_tensors() if id(each) not in known]
            if not more:
                break
            additions.branches += more
            self.snapshot = take(roots, additions, names, state, self.keys)
            overlay = self._overlay(names)
        keep_options(self.snapshot, before)
        return self._finish(overlay)

    def skip(self, roots: Sequence[Any]) -> None:
        """A backward pass begins that repeats an earlier one: no snapshot is taken."""
        self._before, self._since = self._since, creation_count()
        self._traced_until = self._since
        self._paths, self.hooked = {}, ()
        self._roots = [weakly(root) for root in roots]

    def names_now(self) -> dict[int, str]:
        """The names of leaves, and of tensors in modules and variables, by ``id``."""
        known = self._state.provenance.tensors.items()
        leaves = {number: record.name for number, record in known if record.name}
        return {id(named.tensor): named.name for named in self._names().entries} | leaves

    def resume_at(self, count: int) -> None:
        """Operations before this sequence number were not recorded."""
        self._before = self._since = count

    def resume(self, snapshot: Snapshot) -> None:
        """Continue with the snapshot of a pass that was skipped."""
        self.snapshot = replace(snapshot, roots=self._roots)

    def copied(self, graph: GradGraph, copy: GradGraph, keys: Mapping[str, str]) -> None:
        """A graph was copied with other keys: what is known about its cuts holds for the copy."""
        if graph in self._flows:
            self._flows[copy] = {
                keys.get(user, user): [(keys.get(key, key), cuts) for key, cuts in rows]
                for user, rows in self._flows[graph].items()
            }

    @property
    def span(self) -> tuple[int, int]:
        """The sequence numbers of the nodes of the latest forward pass: the first, and the end."""
        return self._before, self._since

    def key_of(self, tensor: torch.Tensor, graph: GradGraph | None = None) -> str:
        """The key of a tensor in the frames, rather one in ``graph``; "" if it is in none."""
        identities = self._state.provenance.tensors.identities(tensor)
        known = [key for each in identities if (key := self.keys.get(each))]
        inside = [key for key in known if graph is not None and key in graph]
        return next(iter(inside or known), "")

    def data_flow(self, graph: GradGraph, nodes: Set[str]) -> DataFlow:
        """Where data of leaves left a graph, and how leaves hold those of others.

        Args:
            graph: of a frame.
            nodes: keys of the nodes that used the data that left it.
        """
        flat = self._flat_parts()
        lost, numbers = self._cut_off(graph, nodes), self._number_reads()
        for found in (lost, numbers):  # what holds for a flat parameter holds for its parts
            found.update({part: found[key] for part, key in flat.items() if key in found})
        rows = self._state.provenance.copied.items()
        copies = {self.keys.of(Leaf(of).identity): self._keys_of(bits) for of, bits in rows}
        return DataFlow(lost, numbers, copies, flat)

    def _cut_off(self, graph: GradGraph, nodes: Set[str]) -> dict[str, Any]:
        """Where leaves were cut off, by their keys, including leaves that are not in the graph."""
        flows = self._flows.get(graph, {})
        cut_leaves: dict[str, CutLeaves] = {}
        for user in sorted(flows.keys() & nodes):
            for key, cuts in flows[user]:
                known = cut_leaves.get(key)
                cut_leaves[key] = merge_cut_leaves(known, cuts) if known else cuts
        seen: dict[CutSite, int] = {}
        found: dict[str, list[CutEdge]] = {}
        for key in sorted(cut_leaves, key=lambda key: int(key[1:])):
            for where, leaves in cut_leaves[key].items():
                cut = self._cut_at(key, where)
                for leaf in self._keys_of(leaves & ~seen.get(where, 0)):
                    found.setdefault(leaf, []).append(cut)
                seen[where] = seen.get(where, 0) | leaves
        return found

    def _number_reads(self) -> dict[str, Any]:
        """Where data of leaves became numbers or arrays, by the keys of the leaves."""
        found: dict[str, list[ValueRead]] = {}
        for record in (each for each in self._state.provenance.shown if each.is_plain_value):
            read = self._state.lines.at(record.location)
            source = str(read.location)
            for where, leaves in record.cut_leaves.items() if source else ():
                cut = self._cut_at("", where)
                row = ValueRead(cut, record.word, source, str(read.inside))
                for leaf in self._keys_of(leaves):
                    found.setdefault(leaf, []).append(row)
        return found

    def _keys_of(self, leaves: int) -> list[str]:
        """The keys of the leaves in a set of bits."""
        return [self.keys.of(identity) for identity in leaves_in(leaves)]

    def cuts_behind(self, tensor: torch.Tensor) -> list[CutEdge]:
        """Where the data of a tensor outside the graph left it, whether or not a frame shows it.

        The nearest is the last: the one that cuts off most leaves, or created the tensor.
        """
        record = self._state.provenance.tensors.of(tensor)
        if not isinstance(record, UntrackedTensor):
            return []

        def nearness(where: CutSite) -> tuple[int, bool]:
            return record.cut_leaves[where].bit_count(), where.location == record.location

        return [self._cut_at("", where) for where in sorted(record.cut_leaves, key=nearness)]

    def _cut_at(self, target: str, where: CutSite) -> CutEdge:
        """The edge at which a leaf was cut off; ``target`` received its data."""
        line = self._state.lines.at(where.location)
        edge: EdgeData = {"cause": where.cause, "source": str(line.location)}
        if line.inside:
            edge["inside"], edge["is_own"] = str(line.inside), line.inside.is_own
        if where.word:
            edge["word"] = where.word
        return CutEdge(target, target, edge)

    def contents(self, graph: GradGraph) -> SavedValues:
        """The values of saved tensors before a backward pass, for the graph taken then."""
        contents = self._contents.get(graph)
        return {} if contents is None else contents.found

    def parameters(self) -> list[Named]:
        """The parameters of the modules that are alive and require grad.

        A library such as higher puts the results of updates, non-leaf tensors, into a module, and
        a buffer may hold a result.
        """
        names = self._of_modules()
        made = {id(each.tensor) for each in names if not each.tensor.is_leaf}
        once = {id(each.tensor): each for each in reversed(names.entries)}  # a traced copy has them
        named = (each for key, each in reversed(once.items()) if key not in made)
        return [each for each in named if each.tensor.requires_grad]

    def leaves(self) -> Iterator[tuple[str, torch.Tensor]]:
        """The recorded leaves that are alive, with their keys."""
        for leaf, tensor in self._state.provenance.alive_leaves():
            yield self.keys[leaf.identity], tensor

    def _flat_parts(self) -> dict[str, str]:
        """By the keys of the parts of flat parameters of FSDP1, the keys of those."""
        flat = flat_parameters(self.recorded_modules())
        if not flat:
            return {}
        parts = [each.tensor for each in self.parameters() if id(each.tensor) in flat]
        leaf = self._state.provenance.leaf  # a part that is in no frame gets its key here
        found = ((leaf(part).identity, self.key_of(flat[id(part)])) for part in parts)
        return {self.keys.of(identity): key for identity, key in found if key}

    def calls_of_parameters(self) -> dict[int, PartCall]:
        """Whether the modules of parameters were called, by the ``id`` of the parameters."""
        modules = self.recorded_modules()
        if flat_parameters(modules):
            return {}
        return self._state.module_stack.calls_of_parameters(modules)

    def recorded_modules(self) -> list[nn.Module]:
        """The modules that were passed to ``record``, and those that `know` added."""
        return [module for _, module in self._alive()]

    def training_sets(self) -> TrainingSets:
        """What the modules and optimizers among the program's variables held, by keys of leaves."""
        return self.sets.by_key(self.keys.of)

    def know(self, variables: Mapping[str, object]) -> None:
        """Also list the parameters of the modules among variables, the largest modules first."""
        modules: dict[str, Any] = {n: each for n, each in variables.items() if _is_module(each)}
        known = {id(named.tensor) for named in self._of_modules().entries}
        sizes = {name: parameters_of(each) for name, each in modules.items()}
        for name in sorted(sizes, key=lambda name: -len(sizes[name])):
            if not known.issuperset(map(id, sizes[name])):
                known.update(map(id, sizes[name]))
                self._modules.append((name, weakref.ref(modules[name])))

    def find_root(self, module: nn.Module) -> tuple[str, nn.Module] | None:
        """The module of a variable that contains a called one, which is known from then on.

        Returns:
            It and the name of the variable; None if no variable holds it, or if another recorded
            module has that name.
        """
        found = holder_of(module, self._state.verdicts)
        if found is None or any(name == found[0] for name, _ in self._alive()):
            return None
        alive = [(name, weakref.ref(each)) for name, each in self._alive()]
        self._modules = [*alive, (found[0], weakref.ref(found[1]))]
        return found

    def module_name(self, module: nn.Module) -> str:
        """The path of a module in the recorded ones, or its class."""
        if not self._paths:  # once per backward pass, because hooks ask for many modules
            for name, known in self._alive():
                for path, each in known.named_modules():
                    if each is not known or name:
                        path = ".".join(filter(None, (name, path)))
                        self._paths.setdefault(id(each), (weakref.ref(each), path))
        ref, path = self._paths.get(id(module), (None, ""))
        return path if ref is not None and ref() is module else type(module).__name__

    def _finish(self, overlay: UntrackedOverlay) -> GradGraph:
        graph = overlay.graph()
        self._traced_until = creation_count()
        if overlay.flows:
            self._flows[graph] = overlay.flows
        if self._classes and any(data.get("module") for data in graph._node.values()):
            graph.graph["modules"] = self._classes  # also of modules whose leaves are all frozen
        leave_out_drawn(graph)  # the overlay adds leaves behind a cut
        return graph

    def _overlay(self, names: Names) -> UntrackedOverlay:
        begin, end = self.span
        if not any(begin <= created < end for created in self.snapshot.operations):
            begin = end  # the graph of that pass is gone, so its numbers have no origin here
        span = begin, self._until
        return UntrackedOverlay(self.snapshot, self._state, self.keys, Labels(names), span)

    def _alive(self) -> list[tuple[str, nn.Module]]:
        return [(name, module) for name, ref in self._modules if (module := ref()) is not None]

    def _of_modules(self) -> Names:
        each = [Names.of({n: module} if n else module, None) for n, module in self._alive()]
        classes = {path: word for names in each for path, word in names.modules.items()}
        if classes != self._classes:  # the frames share one
            self._classes = classes
        return Names([named for names in each for named in names.entries], self._classes)

    def _names_before(self) -> Names:
        """The names before the backward pass."""
        found = ((ref(), name, aliases) for ref, name, aliases in self._named)
        entries = [Named(tensor, name, more) for tensor, name, more in found if tensor is not None]
        return Names(entries, self._classes_before)

    def _names(self) -> Names:
        """Names from the modules, from variables here, and from those where the recording began."""
        own = self._of_modules()
        entries, classes = own.entries, own.modules
        for frame in self._frames():
            around = Names.around(frame, self.recorded_modules())
            entries += around.entries
            classes = classes or around.modules
        found: dict[int, Named] = {}
        for named in entries:
            found.setdefault(id(named.tensor), named)
        return Names(list(found.values()), classes)

    def _frames(self) -> list[FrameType]:
        """The user's own frame, those of a library that it called, and where recording began."""
        here = user_frame(sys._getframe(1), self._state.verdicts)
        own: FrameType | None = here  # a trainer of a library may call backward
        while own is not None and self._state.verdicts.is_library(own.f_code.co_filename):
            own = user_frame(own.f_back, self._state.verdicts)
        began = next((each for each in outwards(here) if each.f_code is self._entered), None)
        trainer = here if own is not here else None  # a frame of a library that holds the model
        while trainer not in (own, None) and not any(map(_is_module, locals_of(trainer).values())):
            trainer = trainer.f_back
        return [each for each in dict.fromkeys((own, here, trainer, began)) if each is not None]

    def _identity_of(self, tensor: torch.Tensor) -> Hashable:
        record = self._state.provenance.tensors.of(tensor)
        return None if record is None else record.identity

    def _enter(self, tensor: torch.Tensor) -> Hashable:
        if tensor.requires_grad and tensor.is_leaf:
            return self._state.provenance.leaf(tensor).identity
        return self._identity_of(tensor)


def _is_module(value: object) -> bool:
    return issubclass(type(value), nn.Module)


def _is_traceable(root: torch.Tensor) -> bool:
    """Whether torch can return the ``grad_fn``: not if the base of a view was changed in place."""
    try:
        maker_of(root)
    except SubjectError:
        return False
    return True


def _distinct(roots: Sequence[Any]) -> list[Any]:
    """The roots of a backward pass without duplicates: ``backward([x, x], ...)`` is allowed."""
    found: dict[Hashable, Any] = {}
    for root in roots:
        if isinstance(root, torch.Tensor):
            node = root.grad_fn
            found.setdefault(id(root) if node is None else (node, root.output_nr), root)
        elif root is not None:
            found.setdefault((root.node, root.output_nr), root)
    return list(found.values())


_LATEST, _MOST, _MOST_SHARING, _MOST_WRONG = 10_000, 50, 8, 4


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
    rows = ((named.tensor.grad_fn, named.tensor) for named in names)
    return ((sequence_number(node) + 1, tensor) for node, tensor in rows if node is not None)


def _recorded(state: RecordingState) -> Iterator[tuple[int, torch.Tensor]]:
    for operation in state.event_log.latest(_LATEST):
        refs = operation[5]
        for ref in refs if isinstance(refs, tuple) else (refs,):
            if (tensor := ref()) is not None:
                yield operation[1], tensor


def _visit(walk: Walk, tensor: torch.Tensor) -> bool:
    """Walk the ancestors of a tensor; False if an earlier walk visited it."""
    node = tensor.grad_fn
    if node is None or node in walk.positions:
        return False
    deque(walk.visit([node]), 0)
    return True


def _leaves(state: RecordingState) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for untracked in state.provenance.shown:
        for data in untracked.inputs:
            if isinstance(data.source, Leaf) and (tensor := data.source.ref()) is not None:
                found[data.source.number] = tensor
    if not found:  # tensors were created, but not used
        for leaf, tensor in state.provenance.alive_leaves():
            if leaf.location.code is not None:
                found[leaf.number] = tensor
    return [found[number] for number in sorted(found)][:_MOST]
