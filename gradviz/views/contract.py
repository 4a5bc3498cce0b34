"""Draws several nodes as one: the one place where a view makes a group."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradviz.graph import EdgeData, EdgeKind, GradGraph, NodeData, NodeKind
from gradviz.graph.operations import operation
from gradviz.views.sums import fingerprint, is_known, sums_of

__all__ = ["Part", "contract"]

_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED, NodeKind.SAVED)
_OUTSIDE = -1  # the number of no part


@dataclass(frozen=True)
class Part:
    """Nodes that become one.

    Args:
        keys: of the operations and groups, in the order of the data.
        data: what is known of the group beyond the sums: ``name``, ``module``, ``repeat``, ...
        once: the number of keys, from the first, that are the same part once; 0 for all.
        everything: also take in the named inputs that nothing else uses, not only parameters.
    """

    keys: Sequence[str]
    data: NodeData = field(default_factory=NodeData)
    once: int = 0
    everything: bool = False


def contract(
    graph: GradGraph, parts: Sequence[Part], hidden: Callable[[set[int | None]], bool] | None = None
) -> GradGraph:
    """The graph with each part drawn as one node, and all else as it was.

    A leaf that only one part uses goes into it. Leaves that `clone_shared_leaves` drew again
    are one leaf each once more.

    Args:
        graph: it is not changed.
        parts: no node in two of them, and no way from a part to itself by nodes outside it.
        hidden: of the numbers of the parts that use a leaf (None for a node outside), whether
            the leaf is left out; None to leave out none.

    Returns:
        A new graph. The groups have the keys ``g0``, ``g1``, ...; their edges are one per
        node they come from or go to.
    """
    inside = _PartInside(graph, parts)
    gone = _take_in_leaves(inside, parts, hidden)
    names = _group_keys(graph, len(parts))
    members: list[list[dict[str, Any]]] = [[] for _ in parts]
    seen = GradGraph()
    seen.graph.update(graph.graph)
    for place, (number, (key, data)) in enumerate(zip(inside.owner, inside.nodes, strict=True)):
        if number != _OUTSIDE:
            if not members[number]:
                seen.add_node(names[number])
            if place not in inside.original:
                members[number].append(data)
        elif place not in gone and place not in inside.original:
            seen.add_node(key, **data)
    structures = inside.structures(parts)
    for number, part in enumerate(parts):
        first, last = _first_seen(graph, part), graph._node[part.keys[-1]]
        found = {**sums_of(members[number], last), "structure": structures[number]}
        found["first"] = graph._node[first].get("first", first)
        seen._node[names[number]].update({**found, **part.data})
    _add_edges(inside, seen, names, gone)
    return seen


class _PartInside:
    """The inside of a graph in columns, and what becomes of it.

    Args:
        graph: the graph.
        parts: what is drawn as one.

    Attributes:
        nodes: keys and attributes.
        edges: from place to place in ``nodes``.
        owner: the number of the part that each node belongs to, or -1.
        original: the place of the leaf that another one repeats.
    """

    def __init__(self, graph: GradGraph, parts: Sequence[Part]) -> None:
        self.nodes: list[tuple[str, dict[str, Any]]] = list(graph._node.items())
        self.edges = graph.edge_columns()
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

    def structures(self, parts: Sequence[Part]) -> list[str]:
        """For each part a fingerprint, which two parts share when they do the same."""
        order = np.argsort(self.targets, kind="stable")
        begins = np.searchsorted(self.targets[order], np.arange(len(self.nodes) + 1))
        return [self._structure(part, order, begins) for part in parts]

    def _structure(self, part: Part, order: NDArray[Any], begins: NDArray[Any]) -> str:
        places = [self.place[key] for key in part.keys[: part.once or None]]
        number = {place: number for number, place in enumerate(places)}
        rows = []
        for place in places:
            data = self.nodes[place][1]
            facts = [data.get(fact) for fact in ("op", "shape", "dtype", "structure", "repeat")]
            edges = sorted(
                (
                    self.edges.inputs[row],
                    number.get(self.edges.sources[row], -1),
                    self.edges.kind(row) is EdgeKind.CUT,
                )
                for row in order[begins[place] : begins[place + 1]].tolist()
            )
            rows.append((data["kind"].value, *facts, edges))
        return fingerprint(rows)


def _first_seen(graph: GradGraph, part: Part) -> str:
    """The first key in a part that `hide_bookkeeping` leaves to be seen."""
    seen = (key for key in part.keys if not operation(graph._node[key].get("op", "")).rearranges)
    return next(seen, part.keys[0])


def _group_keys(graph: GradGraph, count: int) -> list[str]:
    """Keys that are not taken yet."""
    taken = [int(key[1:]) for key in graph if key[:1] == "g" and key[1:].isdecimal()]
    first = max(taken, default=-1) + 1
    return [f"g{first + number}" for number in range(count)]


def _take_in_leaves(
    inside: _PartInside,
    parts: Sequence[Part],
    hidden: Callable[[set[int | None]], bool] | None,
) -> set[int]:
    """Give each part the leaves that nothing else uses; returns the leaves that are left out."""
    owner, original = inside.owner, inside.original
    leaves, accumulates = _aside(inside)
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
            users[source].add(_or_none(owner[user]))
    own = dict.fromkeys(leaves)
    for source, user in pairs:
        if source in own:
            found = users.setdefault(original.get(source, source), set())
            found |= users[user] if user in accumulates else {_or_none(owner[user])}
    gone: set[int] = set()
    for place in leaves:
        found = users.get(original.get(place, place), set())
        data = inside.nodes[original.get(place, place)][1]
        if not found or "root" in data:
            continue
        ends = (place, *ways.get(place, ()))
        if len(found) == 1 and None not in found:
            (number,) = found
            if number is not None and _belongs(data, parts[number]):
                for end in ends:
                    owner[end] = number
        elif hidden is not None and hidden(found):
            gone.update(ends)
    return gone


def _aside(inside: _PartInside) -> tuple[list[int], dict[int, None]]:
    """The places of the leaves that are in no part, and of the ``AccumulateGrad`` nodes."""
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
        if kind in _LEAVES and not has_inputs[place] and inside.owner[place] == _OUTSIDE
    ]
    return leaves, dict.fromkeys(place for place, kind in others if kind is accumulate)


def _or_none(number: int) -> int | None:
    return None if number == _OUTSIDE else number


def _belongs(data: dict[str, Any], part: Part) -> bool:
    """Whether a leaf says little beside its group; an input with a name says where data enters."""
    if part.everything or data["kind"] is NodeKind.PARAMETER or "name" not in data:
        return True
    module = part.data.get("module", "")
    return bool(module) and str(data["name"]).startswith(f"{module}.")


def _add_edges(inside: _PartInside, seen: GradGraph, groups: Sequence[str], gone: set[int]) -> None:
    def name(place: int, number: int) -> str:
        if number != _OUTSIDE:
            return groups[number]
        return inside.nodes[inside.original.get(place, place)][0]

    inputs: dict[str, int] = {}
    found: dict[tuple[str, str, EdgeKind | None], dict[str, Any]] = {}
    for place, user, row in _edges_to_draw(inside):
        number, into = inside.owner[place], inside.owner[user]
        source, target = name(place, number), name(user, into)
        if source not in seen or user in gone:
            continue
        data, slot = inside.edges.data(row), inside.edges.inputs[row]
        edge: dict[str, Any] = {**data}
        if number != _OUTSIDE:
            edge.update(_carried(inside.nodes[place][1], data), output=0)
        if into != _OUTSIDE:
            same = found.setdefault((source, target, data.get("kind")), edge)
            if same is not edge:
                if same.get("grad") is not edge.get("grad"):
                    seen.edges[source, target, same["input"]].pop("grad", None)
                continue
            slot = edge["input"] = inputs.get(target, 0)
            inputs[target] = slot + 1
        seen.add_edge(source, target, slot, **edge)


def _carried(node: dict[str, Any], edge: EdgeData) -> dict[str, Any]:
    """What is known of the gradient along an edge whose beginning goes into a group."""
    kept = node.get("grad") if node["kind"] is NodeKind.OPERATION else None
    return {"grad": kept} if kept and is_known(kept) and not edge.get("output") else {}


def _edges_to_draw(inside: _PartInside) -> Iterator[tuple[int, int, int]]:
    """The edges that do not lie within one part: where they begin and end, and their rows.

    In the order of the nodes: that in which the edges were added depends on who added them.
    """
    owner = np.array(inside.owner)
    begins, ends = owner[inside.sources], owner[inside.targets]
    rows = np.flatnonzero((begins == _OUTSIDE) | (begins != ends))
    rows = rows[np.lexsort((inside.targets[rows], inside.sources[rows]))]
    columns = (column.tolist() for column in (inside.sources[rows], inside.targets[rows], rows))
    return zip(*columns, strict=True)
