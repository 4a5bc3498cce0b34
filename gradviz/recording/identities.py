"""What makes a node of a trace the same node in every frame."""

from __future__ import annotations

from collections.abc import Container, Hashable, Mapping
from typing import NamedTuple

from gradviz.graph import GradGraph, NodeKind

__all__ = ["identities_of", "number_of"]


def identities_of(
    graph: GradGraph, created: Mapping[str, int], known: Mapping[str, Hashable]
) -> dict[str, Hashable]:
    """The identity of each node.

    Args:
        graph: a trace.
        created: the numbers of the operations.
        known: the identities of tensors that the recording has a record of.
    """
    found: dict[str, Hashable] = {**created}
    if len(set(created.values())) < len(created):  # threads count each for themselves
        found = {key: (number, key) for key, number in created.items()}
    rest = [key for key in graph if key not in found]
    joined = _Joined.of(graph, {key for key in rest if key not in known})
    for key in rest:
        found[key] = known[key] if key in known else _of_tensor(graph, key, joined, created)
    return found


def number_of(key: str) -> int:
    """The number in the key of a node."""
    return int(key[1:])


class _Joined(NamedTuple):
    """What some nodes are joined to, read off without having the edges written out.

    Args:
        makers: by the key of a result, what made it, and as which output.
        users: by the key of a tensor, of the first that uses it: its number, key and input.
    """

    makers: dict[str, tuple[str, int]]
    users: dict[str, tuple[int, str, int]]

    @classmethod
    def of(cls, graph: GradGraph, keys: Container[str]) -> _Joined:
        found = cls({}, {})
        for source, target, position, data in graph.edge_rows():
            if target in keys:
                found.makers.setdefault(target, (source, data.get("output", 0)))
            if source in keys:
                user = number_of(target), target, position
                found.users[source] = min(user, found.users.get(source, user))
        return found


def _of_tensor(graph: GradGraph, key: str, joined: _Joined, created: Mapping[str, int]) -> Hashable:
    """Results are known by what made them, saved tensors by what keeps them."""
    kind: NodeKind = graph.nodes[key]["kind"]
    if kind is NodeKind.RESULT and key in joined.makers:
        source, output = joined.makers[key]
        return "result", created.get(source), output
    if key in joined.users:
        _, target, position = joined.users[key]
        return "saved", created.get(target), position
    return kind.value, key
