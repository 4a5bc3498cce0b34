"""Draws several nodes as one: the one place where a view makes a group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradviz.graph import EdgeKind, GradGraph, NodeData, NodeKind
from gradviz.views.bookkeeping import RESHAPING
from gradviz.views.sums import fingerprint, sums_of

__all__ = ["Part", "contract"]

_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED, NodeKind.SAVED)


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
    owner = {key: number for number, part in enumerate(parts) for key in part.keys}
    original = {
        key: data["clone_of"]
        for key, data in graph.nodes(data=True)
        if "clone_of" in data and data["clone_of"] in graph
    }
    gone = _take_in_leaves(graph, parts, owner, original, hidden)
    names = _group_keys(graph, len(parts))
    inside: list[list[dict[str, Any]]] = [[] for _ in parts]
    seen = GradGraph()
    seen.graph.update(graph.graph)
    for key, data in graph._node.items():
        number = owner.get(key)
        if number is not None:
            if not inside[number]:
                seen.add_node(names[number])
            if key not in original:
                inside[number].append(data)
        elif key not in gone and key not in original:
            seen.add_node(key, **data)
    for number, part in enumerate(parts):
        first, last = _first_seen(graph, part), graph._node[part.keys[-1]]
        found = {**sums_of(inside[number], last), "structure": _structure(graph, part)}
        found["first"] = graph._node[first].get("first", first)
        seen._node[names[number]].update({**found, **part.data})
    _add_edges(graph, seen, _Names(owner, names, original, gone))
    return seen


def _first_seen(graph: GradGraph, part: Part) -> str:
    """The first key in a part that `hide_bookkeeping` leaves to be seen."""
    seen = (key for key in part.keys if graph._node[key].get("op") not in RESHAPING)
    return next(seen, part.keys[0])


def _structure(graph: GradGraph, part: Part) -> str:
    """A fingerprint that two parts share when they do the same."""
    keys = part.keys[: part.once or None]
    place = {key: number for number, key in enumerate(keys)}
    rows = []
    for key in keys:
        data = graph._node[key]
        facts = [data.get(fact) for fact in ("op", "shape", "dtype", "structure", "repeat")]
        edges = sorted(
            (slot, place.get(source, -1), edge.get("kind") is EdgeKind.CUT)
            for source, edges in graph._pred[key].items()
            for slot, edge in edges.items()
        )
        rows.append((data["kind"].value, *facts, edges))
    return fingerprint(rows)


def _group_keys(graph: GradGraph, count: int) -> list[str]:
    """Keys that are not taken yet."""
    taken = [int(key[1:]) for key in graph if key[:1] == "g" and key[1:].isdecimal()]
    first = max(taken, default=-1) + 1
    return [f"g{first + number}" for number in range(count)]


def _take_in_leaves(
    graph: GradGraph,
    parts: Sequence[Part],
    owner: dict[str, int],
    original: dict[str, str],
    hidden: Callable[[set[int | None]], bool] | None,
) -> set[str]:
    """Give each part the leaves that nothing else uses; returns the leaves that are left out."""
    users: dict[str, set[int | None]] = {}
    ways: dict[str, list[str]] = {}
    leaves: list[str] = []
    operation, accumulate = NodeKind.OPERATION, NodeKind.ACCUMULATE
    for key, data in graph._node.items():
        kind = data["kind"]
        if kind is operation:
            continue
        if kind is accumulate:
            for source in graph._pred[key]:
                ways.setdefault(source, []).append(key)
            users[key] = {owner.get(user) for user in graph._succ[key]}
        elif kind in _LEAVES and not graph._pred[key] and key not in owner:
            leaves.append(key)
    for key in leaves:
        found = users.setdefault(original.get(key, key), set())
        for user in graph._succ[key]:
            found |= users[user] if user in users else {owner.get(user)}
    gone: set[str] = set()
    for key in leaves:
        found = users[original.get(key, key)]
        data = graph._node[original.get(key, key)]
        if not found or "root" in data:
            continue
        if len(found) == 1 and None not in found:
            (number,) = found
            if number is not None and _belongs(data, parts[number]):
                owner.update(dict.fromkeys((key, *ways.get(key, ())), number))
        elif hidden is not None and hidden(found):
            gone.update((key, *ways.get(key, ())))
    return gone


def _belongs(data: dict[str, Any], part: Part) -> bool:
    """Whether a leaf says little beside its group; an input with a name says where data enters."""
    if part.everything or data["kind"] is NodeKind.PARAMETER or "name" not in data:
        return True
    module = part.data.get("module", "")
    return bool(module) and str(data["name"]).startswith(f"{module}.")


@dataclass(frozen=True)
class _Names:
    """What became of the nodes: their part, its key, the leaf of a copy, what is left out."""

    owner: dict[str, int]
    groups: list[str]
    original: dict[str, str]
    gone: set[str]

    def of(self, key: str) -> str:
        number = self.owner.get(key)
        return self.original.get(key, key) if number is None else self.groups[number]


def _add_edges(graph: GradGraph, seen: GradGraph, names: _Names) -> None:
    owner = names.owner
    inputs: dict[str, int] = {}
    found: set[tuple[str, str, EdgeKind | None]] = set()
    for key, users in graph._succ.items():
        number = owner.get(key)
        outside = users if number is None else [u for u in users if owner.get(u) != number]
        if not outside:
            continue
        source = names.of(key)
        if source not in seen:
            continue
        for user in outside:
            if user in names.gone:
                continue
            edges, into = users[user], owner.get(user)
            target = names.of(user)
            for slot, data in edges.items():
                edge = dict(data) if number is None else {**data, "output": 0}
                if into is not None:
                    if (source, target, data.get("kind")) in found:
                        continue
                    found.add((source, target, data.get("kind")))
                    slot = edge["input"] = inputs.get(target, 0)
                    inputs[target] = slot + 1
                seen.add_edge(source, target, slot, **edge)
