"""Draw parts of the graph as one node each, with the sums of their attributes."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import chain, takewhile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradviz.graph import (
    LEAVES,
    TENSORS,
    Buffers,
    EdgeData,
    EdgeKind,
    GradGraph,
    NodeData,
    NodeKind,
    RankSpread,
    TensorSummary,
)
from gradviz.graph.operations import operation
from gradviz.graph.text import counted
from gradviz.views.module_classes import (
    FACTS,
    ModuleEnds,
    edge_behind,
    elements_of,
    facts_of_modules,
    output_facts,
    shape_leaving,
)

_MOST_CONTENTS = 12
_SAME_FOR_ALL = ("new", "cleared", "zeroed", "freed")
_WRITTEN = frozenset(("version", "value"))

INSIDE = "inside_group"  # not "inside", which is a line of a library
"""Under `keep_inside`, the attribute of a group that holds its nodes: their attributes by key."""
_keeps_inside: ContextVar[bool] = ContextVar("keeps_inside", default=False)


@contextlib.contextmanager
def keep_inside() -> Iterator[None]:
    """While active, new groups store their content, so that a viewer can open them."""
    token = _keeps_inside.set(True)
    try:
        yield
    finally:
        _keeps_inside.reset(token)


def count_of(graph: GradGraph) -> int:
    """Number of operations, including those in groups and reshaping ones on edges.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.OPERATION)
        >>> graph.add_node("g0", kind=NodeKind.GROUP, members=11)
        >>> count_of(graph)
        12
    """
    return count_of_nodes(graph._node.values())


def count_of_nodes(nodes: Iterable[dict[str, Any]]) -> int:
    """Number of operations among nodes, given by their attributes, including those in groups."""
    return sum(_members(data) for data in nodes)


def _members(data: dict[str, Any]) -> int:
    if data["kind"] is NodeKind.OPERATION:
        return 1 + int(data.get("reshapes", 0))
    is_group = data["kind"] is NodeKind.GROUP
    return int(data.get("members", 0)) + int(data.get("reshapes", 0)) if is_group else 0


def fingerprint(*facts: object) -> str:
    """A short text that is equal for equal facts, in any process."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def operations_in(data: Mapping[str, Any]) -> str:
    """Of a group a text that is equal for groups of the same operations, whatever their shapes."""
    structure = str(data.get("structure", ""))
    return structure[: len(structure) // 2]


def sums_of(nodes: Sequence[dict[str, Any]], last: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a group.

    Args:
        nodes: the attributes of its nodes.
        last: the attributes of the operation that computes its output.
    """
    found = _Count(nodes)
    data: dict[str, Any] = {"kind": NodeKind.GROUP}
    data.update((fact, last[fact]) for fact in (*FACTS, "shapes") if fact in last)
    groups = [node for node in found.others if node["kind"] is NodeKind.GROUP]
    leaves = [node for node in found.others if node["kind"] in LEAVES]
    data["members"] = found.operations + count_of_nodes(groups)
    holders = [*leaves, *(group for group in groups if "grad" in group)]
    if holders:
        data.update(elements_of(holders))
        data["grad"] = _gradient([held["grad"] for held in holders if held.get("grad")])
        if len(holders) == 1 and (own := holders[0].get("name" if leaves else "leaf")):
            data["leaf"] = own
    for fact, total in (("saved_bytes", found.saved_bytes), ("hooks", found.hooks)):
        if total:
            data[fact] = total
    if found.first is not None:
        data["sequence_nr"] = found.first
    for state in (Buffers.UNKNOWN, Buffers.HELD, Buffers.FREED):
        data |= {"buffers": state} if id(state) in found.states else {}
    if changes := _changes(nodes):
        data["changes"] = changes
    if spreads := [node["ranks"] for node in nodes if "ranks" in node]:
        data["ranks"] = RankSpread.of_group(spreads)
    if calls := _common_calls(found.calls):
        data["calls"] = calls
    if contents := found.contents():
        more = ("…",) if len(contents) > _MOST_CONTENTS else ()
        data["contents"] = (*contents[:_MOST_CONTENTS], *more)
    return data


def _common_calls(calls: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """The calls of modules around all operations, from the outermost on."""
    same = takewhile(lambda level: level.count(level[0]) == len(level), zip(*calls, strict=False))
    return tuple(level[0] for level in same)


def _changes(nodes: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The changes in a group since the previous frame: number of nodes, or their common text."""
    marked = [node for node in nodes if "changes" in node]
    found: dict[str, str] = {}
    for attribute in ("grad", "buffers"):
        changes = [node["changes"][attribute] for node in marked if attribute in node["changes"]]
        if changes:
            same = len(set(changes)) == 1 and changes[0] in _SAME_FOR_ALL
            found[attribute] = changes[0] if same else f"{len(changes):,} changed"
    leaves = [node for node in marked if node["kind"] in LEAVES]
    if written := sum(not _WRITTEN.isdisjoint(leaf["changes"]) for leaf in leaves):
        found["node"] = f"{counted(written, 'leaf', 'leaves')} changed in place"
    elif stale := sum(bool(node.get("stale")) for node in nodes):
        found["node"] = f"{counted(stale, 'leaf', 'leaves')} changed since"
    elif texts := {node["changes"]["node"] for node in marked if "node" in node["changes"]}:
        found["node"] = "new" if "new" in texts else "changed"
    return found


class _Count:
    """Sums over nodes, in one pass; each pass over a million nodes takes a second.

    Args:
        nodes: their attributes.

    Attributes:
        operations: the number of operations.
        others: the other nodes.
        saved_bytes, hooks: sums.
        first: the lowest sequence number, if any is known.
        states: their `Buffers`, by ``id``, because hashing an enum takes a Python call.
        calls: the calls of modules in which its operations ran; () for none.
        modules: the modules in which they ran.
        words: the number of operations by word.
    """

    def __init__(self, nodes: Sequence[dict[str, Any]]) -> None:
        self.others: list[dict[str, Any]] = []
        self.states: dict[int, object] = {}
        self.modules: dict[str | None, None] = {}
        self.words: dict[str | None, int] = {}
        self.calls: dict[tuple[int, ...], None] = {}
        states, modules, words, calls = self.states, self.modules, self.words, self.calls
        operation = NodeKind.OPERATION  # a lookup per node would take longer than everything else
        saved_bytes = hooks = reshapes = 0
        first = None
        for node in nodes:
            get = node.get
            if node["kind"] is operation:
                word = get("op")
                words[word] = words.get(word, 0) + 1
                calls[get("calls", ())] = None
                if "reshapes" in node:
                    reshapes += node["reshapes"]
            else:
                self.others.append(node)
            if "saved_bytes" in node:
                saved_bytes += node["saved_bytes"]
            if "hooks" in node:
                hooks += node["hooks"]
            number = get("sequence_nr")
            if number is not None and (first is None or number < first):
                first = number
            state = get("buffers")
            states[id(state)] = state
            modules[get("module")] = None
        groups = (node for node in self.others if node["kind"] is NodeKind.GROUP)
        calls.update((node.get("calls", ()), None) for node in groups)
        self.operations = len(nodes) - len(self.others) + reshapes
        self.saved_bytes, self.hooks, self.first = saved_bytes, hooks, first

    def contents(self) -> list[str]:
        """The modules in a group; its operations, if it is not at least two modules."""
        known = list(filter(None, self.modules))
        if len(known) > 1:
            return known
        words = sorted(self.words.items(), key=lambda item: -item[1])  # of equal counts the first
        return [f"{count:,} × {word}" if count > 1 else str(word) for word, count in words]


def _gradient(gradients: Sequence[TensorSummary]) -> TensorSummary | None:
    """All gradients as one long tensor; its norm is None when any of them was not read."""
    if not gradients:
        return None
    unread = sum(not gradient.is_read for gradient in gradients)
    return TensorSummary(
        (sum(gradient.numel for gradient in gradients),),
        gradients[0].dtype,
        gradients[0].device,
        norm=None if unread else math.hypot(*(each.finite_norm for each in gradients)),
        nan=sum(gradient.nan for gradient in gradients),
        inf=sum(gradient.inf for gradient in gradients),
        note=f"{unread:,} not read" if unread else "",
    )


_OUTSIDE = -1  # the part number of nodes in no part


@dataclass(frozen=True)
class Part:
    """Nodes that become one node.

    Args:
        keys: of the operations and groups, in the order of the data.
        data: attributes of the group in addition to the sums: ``name``, ``module``, ``repeat``, ...
        once: the number of keys, from the first, in one repetition; 0 for all.
        modules: the modules that it is, each as a whole; None for the one that the data names.
        everything: include named inputs that nothing else uses, not only parameters.
    """

    keys: Sequence[str]
    data: NodeData = field(default_factory=NodeData)
    once: int = 0
    everything: bool = False
    modules: tuple[str, ...] | None = None


def contract(
    graph: GradGraph, parts: Sequence[Part], hidden: Callable[[set[int | None]], bool] | None = None
) -> GradGraph:
    """Draw each part of the graph as one node.

    A leaf that only one part uses becomes part of it. Copies of a leaf that `clone_shared_leaves`
    made are merged again.

    Args:
        graph: is not modified.
        parts: no node is in two of them, and no path leads from a part through other nodes back
            to it.
        hidden: receives the numbers of the parts that use a leaf (None for other nodes) and
            returns whether to leave out the leaf; None to leave out none.

    Returns:
        A new graph. The groups have the keys ``g0``, ``g1``, ..., and one edge per neighbor.
    """
    inside = _PartInside(graph, parts)
    gone = _take_in_leaves(inside, parts, hidden)
    names = _group_keys(graph, len(parts))
    members: list[list[dict[str, Any]]] = [[] for _ in parts]
    leaves: list[list[str]] = [[] for _ in parts]
    kept: list[dict[str, Any]] | None = [{} for _ in parts] if _keeps_inside.get() else None
    seen = GradGraph()
    seen.graph.update(graph.graph)
    for place, (number, (key, data)) in enumerate(zip(inside.owner, inside.nodes, strict=True)):
        if number != _OUTSIDE:
            if not members[number]:
                seen.add_node(names[number])
            if place not in inside.original:
                members[number].append(data)
                leaves[number] += data.get("leaves", [key] * (data["kind"] in LEAVES))
                if kept is not None:
                    kept[number][key] = data
        elif place not in gone and place not in inside.original:
            seen.add_node(key, **data)
    structures, outputs = inside.structures(parts), inside.outputs(parts)
    for number, part in enumerate(parts):
        first = _first_seen(graph, part)
        is_leaf = graph._node[part.keys[-1]]["kind"] in TENSORS
        unused = part.keys if is_leaf else part.keys[-1:]
        last = output_facts(outputs.get(number, [graph._node[key] for key in unused]))
        found = {**sums_of(members[number], last), "structure": structures[number]}
        found["first"] = graph._node[first].get("first", first)
        module = part.data.get("module", "")
        modules = (module,) if part.modules is None else part.modules
        if found["members"]:
            found.update(facts_of_modules(graph, modules, module))
            if part.modules is None and "shape" in found:
                given = inside.ends.shape_given(members[number], module, found["shape"])
                found |= {} if given is None else {"input_shape": given}
        else:  # a box of leaves
            found.pop("shapes", None)
        found |= {"leaves": tuple(leaves[number])} if leaves[number] else {}
        if found.get("grad") and (each := inside.norms_of_repeats(number, part)) is not None:
            found["grad_range"] = each
        if graph.graph.get("marked"):
            found |= _marks(members[number])
        seen._node[names[number]].update({**found, **part.data})
        if kept is not None:
            seen._node[names[number]][INSIDE] = kept[number]
    _add_edges(inside, seen, parts, names, gone)
    return seen


def _marks(nodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The highlight of any node in a group, and the color that all its operations have."""
    found: dict[str, Any] = {}
    if any("highlight" in node for node in nodes):
        found["highlight"] = True
    colors = {node.get("color") for node in nodes if node["kind"] not in LEAVES}
    if len(colors) == 1 and None not in colors:
        found["color"] = colors.pop()
    return found


class _PartInside:
    """The nodes and edges of a graph as columns, with the part of each node.

    Attributes:
        nodes: keys and attributes.
        edges: source and target as positions in ``nodes``.
        owner: the number of the part that contains each node, or -1.
        original: the position of the leaf that the node is a copy of.
    """

    def __init__(self, graph: GradGraph, parts: Sequence[Part]) -> None:
        self.nodes: list[tuple[str, dict[str, Any]]] = list(graph._node.items())
        self.edges = graph.edge_columns()
        self.apart: frozenset[str] = graph.graph.get("apart", frozenset())  # leaves in no part
        self.ends = ModuleEnds(graph.graph.get("modules", {}))
        self.sources = np.asarray(self.edges.sources)
        self.targets = np.asarray(self.edges.targets)
        self.place = {key: place for place, (key, _) in enumerate(self.nodes)}
        self.owner = [_OUTSIDE] * len(self.nodes)
        for number, part in enumerate(parts):
            for key in part.keys:
                self.owner[self.place[key]] = number
        self.original = {
            place: self.place[data["clone_of"]]
            for place, (_, data) in enumerate(self.nodes)
            if "clone_of" in data and data["clone_of"] in self.place
        }
        for place, first in self.original.items():  # a copy goes where its leaf goes
            self.owner[place] = max(self.owner[place], self.owner[first])

    def outputs(self, parts: Sequence[Part]) -> dict[int, list[Any]]:
        """For each part, the facts of what leaves it, once each; not ``weight.t()`` if others do.

        What its own modules do to the shape of a result is on the edge to the first other one.
        """
        owner = np.asarray(self.owner)
        begins, ends = owner[self.sources], owner[self.targets]
        rows = np.flatnonzero((begins != _OUTSIDE) & (begins != ends))
        rows = rows[np.argsort(self.sources[rows], kind="stable")].tolist()
        found: dict[int, dict[int, list[Any]]] = {}
        plain = self.ends.plain(
            (self.modules_of(row, parts)[0], place, "reshaped" in self.edges.data(row))
            for row, place in zip(rows, self.sources[rows].tolist(), strict=True)
        )
        for row in rows:
            place = self.edges.sources[row]
            number, data, edge = self.owner[place], self.nodes[place][1], self.edges.data(row)
            facts: Any = {fact: data[fact] for fact in FACTS if fact in data}
            module, user = self.modules_of(row, parts)
            is_plain = parts[number].modules == () or self.ends.last(module) in plain
            facts.update(shape_leaving(edge, facts, module, user, is_plain))
            each = found.setdefault(number, {}).setdefault(place, [])
            each += [facts] * (facts not in each)
        for number, places in found.items():
            if len(places) > 1:
                rest = {p: each for p, each in places.items() if not self._is_turned_leaf(p)}
                found[number] = rest or places

        def sure(each: list[Any]) -> list[Any]:  # what also leaves as it is, is the output
            return [facts for facts in each if "shape" in facts] or each

        return {n: list(chain(*map(sure, places.values()))) for n, places in found.items()}

    def modules_of(self, row: int, parts: Sequence[Part]) -> tuple[str, str]:
        """The modules of the ends of an edge, each of the part that it is in, if any."""
        one, other = (
            self.nodes[end][1] if self.owner[end] == _OUTSIDE else parts[self.owner[end]].data
            for end in (self.edges.sources[row], self.edges.targets[row])
        )
        return one.get("module", ""), other.get("module", "")

    def _is_turned_leaf(self, place: int) -> bool:
        if not operation(self.nodes[place][1].get("op", "")).rearranges:
            return False
        inputs = self.sources[np.asarray(self.targets) == place].tolist()
        kinds = {self.nodes[each][1]["kind"] for each in inputs}
        return kinds <= {*LEAVES, NodeKind.ACCUMULATE}

    def norms_of_repeats(self, number: int, part: Part) -> tuple[float, float] | None:
        """The least and the greatest gradient norm of a repetition; None unless all are known."""
        count = part.data.get("repeat", 0)
        if not part.once or count < 2 or part.once * count != len(part.keys):
            return None
        step_of = {self.place[key]: at // part.once for at, key in enumerate(part.keys)}
        rows = np.flatnonzero(np.asarray(self.owner)[self.targets] == number)[::-1]
        users: dict[int, set[int]] = {place: {step} for place, step in step_of.items()}
        for _ in range(2):  # between a leaf and its operation there can be an ``AccumulateGrad``
            for row in rows.tolist():
                source, target = self.edges.sources[row], self.edges.targets[row]
                if source not in step_of and self.owner[source] == number:
                    source = self.original.get(source, source)
                    users.setdefault(source, set()).update(users.get(target, ()))
        norms: list[list[float]] = [[] for _ in range(count)]
        for place, steps in users.items():
            data = self.nodes[place][1]
            if "grad" not in data or data["kind"] not in (*LEAVES, NodeKind.GROUP):
                continue
            if len(steps) != 1 or not data["grad"] or not data["grad"].is_read:
                return None
            norms[min(steps)].append(data["grad"].finite_norm)
        totals = [math.hypot(*found) for found in norms]
        return (min(totals), max(totals)) if all(norms) else None

    def structures(self, parts: Sequence[Part]) -> list[str]:
        """For each part two fingerprints, of its operations and of their shapes, in one text."""
        order = np.argsort(self.targets, kind="stable")
        begins = np.searchsorted(self.targets[order], np.arange(len(self.nodes) + 1))
        return [self._structure(part, order, begins) for part in parts]

    def _structure(self, part: Part, order: NDArray[Any], begins: NDArray[Any]) -> str:
        places = [self.place[key] for key in part.keys[: part.once or None]]
        number = {place: number for number, place in enumerate(places)}
        rows, shapes = [], []
        for place in places:
            data = self.nodes[place][1]
            facts = [*map(data.get, ("op", "dtype", "repeat")), operations_in(data)]
            shapes.append((data.get("shape"), data.get("structure")))
            edges = sorted(
                (
                    self.edges.inputs[row],
                    number.get(self.edges.sources[row], -1),
                    self.edges.kind(row) is EdgeKind.CUT,
                )
                for row in order[begins[place] : begins[place + 1]].tolist()
            )
            rows.append((data["kind"].value, *facts, edges))
        return fingerprint(rows) + fingerprint(shapes)


def _first_seen(graph: GradGraph, part: Part) -> str:
    """The first key in a part that `hide_bookkeeping` does not remove."""
    seen = (key for key in part.keys if not operation(graph._node[key].get("op", "")).rearranges)
    return next(seen, part.keys[0])


def _group_keys(graph: GradGraph, count: int) -> list[str]:
    """Keys that are unused."""
    taken = [int(key[1:]) for key in graph if key[:1] == "g" and key[1:].isdecimal()]
    first = max(taken, default=-1) + 1
    return [f"g{first + number}" for number in range(count)]


def _take_in_leaves(
    inside: _PartInside, parts: Sequence[Part], hidden: Callable[[set[int | None]], bool] | None
) -> set[int]:
    """Add to each part the leaves that nothing else uses; returns the leaves to leave out."""
    owner, original = inside.owner, inside.original
    part_of = [None if number == _OUTSIDE else number for number in owner]
    (leaves, accumulates), gone = _aside(inside), set[int]()
    users: dict[int, set[int | None]] = {place: set() for place in accumulates}
    ways: dict[int, list[int]] = {}
    aside = np.zeros(len(inside.nodes), bool)
    aside[[*leaves, *accumulates]] = True
    rows = np.flatnonzero(aside[inside.sources] | aside[inside.targets])
    pairs = list(zip(inside.sources[rows].tolist(), inside.targets[rows].tolist(), strict=True))
    for source, user in pairs:
        if user in users:
            ways.setdefault(source, []).append(user)
        if source in users:
            users[source].add(part_of[user])
    own = dict.fromkeys(leaves)
    for source, user in pairs:
        if source in own:
            found = users.setdefault(original.get(source, source), set())
            found |= users[user] if user in accumulates else {part_of[user]}
    for place in leaves:
        found = users.get(original.get(place, place), set())
        key, data = inside.nodes[original.get(place, place)]
        if not found or "root" in data or key in inside.apart:
            continue
        ends = place, *ways.get(place, ())
        if len(found) == 1 and None not in found:
            (number,) = found
            if number is not None and _belongs(data, parts[number]):
                for end in ends:
                    owner[end] = number
        elif hidden is not None and hidden(found):
            gone.update(ends)
    return gone


def _aside(inside: _PartInside) -> tuple[list[int], dict[int, None]]:
    """The positions of the leaves that are in no part, and of the ``AccumulateGrad`` nodes."""
    operation, accumulate = NodeKind.OPERATION, NodeKind.ACCUMULATE
    others = [
        (place, data["kind"])
        for place, (_, data) in enumerate(inside.nodes)
        if data["kind"] is not operation
    ]
    has_inputs = np.bincount(inside.targets, minlength=len(inside.nodes)) > 0
    leaves = [
        place
        for place, kind in others
        if kind in TENSORS and not has_inputs[place] and inside.owner[place] == _OUTSIDE
    ]
    return leaves, dict.fromkeys(place for place, kind in others if kind is accumulate)


def _belongs(data: dict[str, Any], part: Part) -> bool:
    """Whether a leaf can be in the group; an input with .grad or a name is drawn: data enters."""
    module, kind = part.data.get("module", ""), data["kind"]
    if part.everything or kind is NodeKind.PARAMETER or "name" not in data:
        return kind is not NodeKind.LEAF or part.everything or not module
    # What the module itself made is no input of it, whatever the name of its variable.
    places = str(data["name"]), str(data.get("module", ""))
    return bool(module) and any(f"{place}.".startswith(f"{module}.") for place in places)


def _add_edges(
    inside: _PartInside,
    seen: GradGraph,
    parts: Sequence[Part],
    groups: Sequence[str],
    gone: set[int],
) -> None:
    def name(place: int, number: int) -> str:
        if number != _OUTSIDE:
            return groups[number]
        return inside.nodes[inside.original.get(place, place)][0]

    inputs: dict[str, int] = {}
    found: dict[tuple[str, str, EdgeKind | None], Any] = {}
    for place, user, row in _edges_to_draw(inside):
        number, into = inside.owner[place], inside.owner[user]
        source, target = name(place, number), name(user, into)
        if source not in seen or user in gone:
            continue
        data, slot = inside.edges.data(row), inside.edges.inputs[row]
        edge: dict[str, Any] = {**data}
        if number != _OUTSIDE:
            edge = edge_behind(edge, *inside.modules_of(row, parts))
            edge.update(_carried(inside.nodes[place][1], data), output=0)
        if into != _OUTSIDE or number != _OUTSIDE:
            ends = source, target, data.get("kind")
            if into == _OUTSIDE:
                edge["input"] = slot
            if ends in found:
                same = seen.edges[source, target, found[ends]]
                if same.get("grad") is not edge.get("grad"):
                    same.pop("grad", None)
                same["times"] = same.get("times", 1) + edge.get("times", 1)
                continue
            if into != _OUTSIDE:
                slot = edge["input"] = inputs.get(target, 0)
                inputs[target] = slot + 1
            found[ends] = slot
        seen.add_edge(source, target, slot, **edge)


def _carried(node: dict[str, Any], edge: EdgeData) -> dict[str, Any]:
    """The gradient of an edge whose source becomes part of a group."""
    kept = node.get("grad") if node["kind"] is NodeKind.OPERATION else None
    return {"grad": kept} if kept and kept.is_read and not edge.get("output") else {}


def _edges_to_draw(inside: _PartInside) -> Iterator[tuple[int, int, int]]:
    """The edges that are not inside one part, as positions of their ends, and their rows.

    They are sorted by node, because the order in which edges were added can vary.
    """
    owner = np.array(inside.owner)
    begins, ends = owner[inside.sources], owner[inside.targets]
    rows = np.flatnonzero((begins == _OUTSIDE) | (begins != ends))
    rows = rows[np.lexsort((inside.targets[rows], inside.sources[rows]))]
    columns = (column.tolist() for column in (inside.sources[rows], inside.targets[rows], rows))
    return zip(*columns, strict=True)
