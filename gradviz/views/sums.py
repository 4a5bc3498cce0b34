"""What a group says of what is in it: sums."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Any

from gradviz.graph import Buffers, GradGraph, NodeKind, TensorSummary

__all__ = [
    "count_of",
    "count_of_nodes",
    "fingerprint",
    "is_known",
    "norm_of",
    "norms_of_repeats",
    "sums_of",
    "words_of",
]

_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)
_MOST_CONTENTS = 12
_MOST_WORDS = 4
_SAME_FOR_ALL = ("new", "cleared", "zeroed", "freed")


def is_known(summary: TensorSummary) -> bool:
    """Whether anything was read of the values."""
    has_values = summary.norm is not None or summary.values is not None
    return has_values or bool(summary.nan or summary.inf)


def norm_of(summary: TensorSummary) -> float:
    """Euclidean norm of the finite elements; 0 where it is not known.

    Example:
        >>> norm_of(TensorSummary((2,), "float32", "cpu", values=(3.0, 4.0)))
        5.0
    """
    if summary.norm is not None:
        return summary.norm if math.isfinite(summary.norm) else 0.0
    finite = [abs(value) for value in summary.values or () if math.isfinite(abs(value))]
    return math.hypot(*finite)


def count_of(graph: GradGraph) -> int:
    """Number of operations, those in groups included.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.OPERATION)
        >>> graph.add_node("g0", kind=NodeKind.GROUP, members=11)
        >>> count_of(graph)
        12
    """
    return count_of_nodes(graph._node.values())


def count_of_nodes(nodes: Iterable[dict[str, Any]]) -> int:
    """Number of operations among nodes, by their attributes, those in groups included."""
    return sum(_members(data) for data in nodes)


def _members(data: dict[str, Any]) -> int:
    if data["kind"] is NodeKind.OPERATION:
        return 1
    return int(data.get("members", 0)) if data["kind"] is NodeKind.GROUP else 0


def fingerprint(*facts: object) -> str:
    """The same short text for the same facts, in any process."""
    return hashlib.blake2b(repr(facts).encode(), digest_size=8).hexdigest()


def words_of(nodes: Sequence[Any]) -> str:
    """The first few of a row of operations, in words.

    Example:
        >>> words_of([{"op": "exp"}, {"op": "sum"}])
        'exp → sum'
    """
    words = [str(node.get("op", node.get("name", "?"))) for node in nodes[:_MOST_WORDS]]
    return " → ".join(words) + (" …" if len(nodes) > _MOST_WORDS else "")


def sums_of(nodes: Sequence[dict[str, Any]], last: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a group.

    Args:
        nodes: the attributes of what is in it.
        last: those of the operation that makes what goes out of it.
    """
    found = _Count(nodes)
    data: dict[str, Any] = {"kind": NodeKind.GROUP}
    data.update((fact, last[fact]) for fact in ("shape", "dtype", "device") if fact in last)
    groups = [node for node in found.others if node["kind"] is NodeKind.GROUP]
    leaves = [node for node in found.others if node["kind"] in _LEAVES]
    data["members"] = found.operations + sum(node.get("members", 0) for node in groups)
    holders = [*leaves, *(group for group in groups if "grad" in group)]
    if holders:
        data["parameters"] = sum(math.prod(leaf.get("shape", (0,))) for leaf in leaves)
        data["parameters"] += sum(group.get("parameters", 0) for group in groups)
        data["grad"] = _gradient([held["grad"] for held in holders if held.get("grad")])
    for fact, total in (("saved_bytes", found.saved_bytes), ("hooks", found.hooks)):
        if total:
            data[fact] = total
    if found.first is not None:
        data["sequence_nr"] = found.first
    for state in (Buffers.FREED, Buffers.HELD, Buffers.UNKNOWN):
        if id(state) in found.states:
            data["buffers"] = state
            break
    if changes := _changes(nodes):
        data["changes"] = changes
    if contents := found.contents():
        more = ("…",) if len(contents) > _MOST_CONTENTS else ()
        data["contents"] = (*contents[:_MOST_CONTENTS], *more)
    return data


def _changes(nodes: Sequence[dict[str, Any]]) -> dict[str, str]:
    """What changed in a group since the frame before: in how many nodes, or the same words."""
    marked = [node for node in nodes if "changes" in node]
    found: dict[str, str] = {}
    for attribute in ("grad", "buffers"):
        told = [node["changes"][attribute] for node in marked if attribute in node["changes"]]
        if told:
            same = len(set(told)) == 1 and told[0] in _SAME_FOR_ALL
            found[attribute] = told[0] if same else f"{len(told):,} changed"
    if written := sum(1 for node in marked if node["kind"] in _LEAVES and _is_written(node)):
        found["node"] = f"{written:,} {'leaf' if written == 1 else 'leaves'} changed in place"
    elif any("node" in node["changes"] for node in marked):
        found["node"] = "new"
    return found


def _is_written(node: dict[str, Any]) -> bool:
    return not node["changes"].keys().isdisjoint({"version", "value"})


def norms_of_repeats(
    nodes: Sequence[dict[str, Any]], module: str, count: int
) -> tuple[float, float] | None:
    """The least and the greatest norm of the gradients of one of ``count`` like modules.

    Args:
        nodes: the attributes of what is in all of them.
        module: the path of the list that they are in.
        count: how many there are.

    Returns:
        None unless all are known.
    """
    norms: dict[str, list[float]] = {}
    prefix = f"{module}." if module else ""
    for node in nodes:
        if "grad" not in node or node["kind"] not in (*_LEAVES, NodeKind.GROUP):
            continue
        path = str(node.get("name" if node["kind"] in _LEAVES else "module", ""))
        if not path.startswith(prefix) or not node["grad"]:
            return None
        repeat = path[len(prefix) :].partition(".")[0]
        norms.setdefault(repeat, []).append(norm_of(node["grad"]))
    totals = [math.hypot(*found) for found in norms.values()]
    return (min(totals), max(totals)) if len(totals) == count else None


class _Count:
    """What is added up over nodes, in one pass: of a million, each pass costs a second.

    Args:
        nodes: their attributes.

    Attributes:
        operations: how many of them are operations.
        others: the rest.
        saved_bytes, hooks: sums.
        first: the lowest number of creation, if any is known.
        states: the `Buffers` among them, by ``id``: to hash an enum takes Python a call.
        modules: in which they ran.
        words: how many operations have which word.
    """

    def __init__(self, nodes: Sequence[dict[str, Any]]) -> None:
        self.others: list[dict[str, Any]] = []
        self.states: dict[int, object] = {}
        self.modules: dict[str | None, None] = {}
        self.words: dict[str | None, int] = {}
        states, modules, words = self.states, self.modules, self.words
        operation = NodeKind.OPERATION  # to look it up would take longer than all the rest
        saved_bytes = hooks = 0
        first = None
        for node in nodes:
            get = node.get
            if node["kind"] is operation:
                word = get("op")
                words[word] = words.get(word, 0) + 1
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
        self.operations = len(nodes) - len(self.others)
        self.saved_bytes, self.hooks, self.first = saved_bytes, hooks, first

    def contents(self) -> list[str]:
        """The modules in a group; of one that is less than two modules, its operations."""
        known = list(filter(None, self.modules))
        if len(known) > 1:
            return known
        words = sorted(self.words.items(), key=lambda item: -item[1])  # of equals the first
        return [f"{count:,} × {word}" if count > 1 else str(word) for word, count in words]


def _gradient(gradients: Sequence[TensorSummary]) -> TensorSummary | None:
    """All gradients as one long tensor."""
    if not gradients:
        return None
    return TensorSummary(
        (sum(gradient.numel for gradient in gradients),),
        gradients[0].dtype,
        gradients[0].device,
        norm=math.hypot(*map(norm_of, gradients)),
        nan=sum(gradient.nan for gradient in gradients),
        inf=sum(gradient.inf for gradient in gradients),
    )
