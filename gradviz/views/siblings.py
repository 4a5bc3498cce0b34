"""Fold equal branches (experts, embedding tables), chains of operations, and chunks of them.

Two nodes are equal when they do the same with equal inputs, and their results go to the same node
or to equal nodes. Equal nodes have the same depth, so merging each set of them creates no cycle.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain, pairwise
from typing import Any, TypeVar

import networkx as nx
import numpy as np

from gradviz.errors import UsageError
from gradviz.graph import (
    LEAVES,
    TENSORS,
    GradGraph,
    NodeKind,
    TensorSummary,
    is_box_of_leaves,
)
from gradviz.graph.text import counted, is_zero, listed, must_be, ranges_text, shared_by
from gradviz.views.details import clone_shared_leaves
from gradviz.views.groups import Part, contract, operations_in
from gradviz.views.modules import module_paths
from gradviz.views.op_sequence import OpSequence, chunk_ends, op_sequence, words_of
from gradviz.views.view import along_the_data, view

_SUMS = ("add", "sub", "maximum", "minimum", "logaddexp")
_LONGEST_TITLE = 48  # characters; a longer one is cut in the picture
_FEW_INPUTS = 3  # with more inputs, the input number is ignored
_PLACES = frozenset(("index", "start", "end"))  # options that only select one branch
_MOST_NAMES = 3
_MOST_NODES = 500  # of a graph in which calls of a module are searched
_FEW_OUTSIDE = 2  # operations that need not be folded
_DIGITS = re.compile(r"\d+")
_Place = TypeVar("_Place", int, str)


@view
@along_the_data
def fold_siblings(
    graph: GradGraph, *, fewest: int = 3, shapes: bool = True, names: bool = True
) -> GradGraph:
    """Draw parallel branches with the same operations as one branch, with ``×26``.

    A leaf without a gradient, with zeros or NaN in it, a frozen parameter, or a leaf on another
    device differs from the rest: its branch is drawn, with its name. A chain of additions, as
    ``sum(...)`` over a list creates it, becomes one node.

    Args:
        graph: results and nodes with problems are not folded.
        fewest: the smallest number of branches to fold; 2 or more.
        shapes: whether branches with other shapes and names are different; False draws a penalty
            over all parameters of a model as one branch.
        names: whether modules of one list or module with other names are different; False draws
            ``heads.age``, ``heads.city`` and ``heads.job`` as one branch.

    Returns:
        A graph in which each set of equal nodes is a group. Applying the view again changes
        nothing.

    Raises:
        UsageError: if ``fewest`` is less than 2.

    Example:
        >>> graph = GradGraph()
        >>> for n in range(5):
        ...     graph.add_node(f"w{n}", kind=NodeKind.LEAF, name=f"w{n}")
        >>> graph.add_node("n", kind=NodeKind.OPERATION, op="stack")
        >>> for n in range(5): _ = graph.add_edge(f"w{n}", "n", n)
        >>> seen = fold_siblings(graph)
        >>> len(seen), seen.nodes["g0"]["name"], seen.nodes["g0"]["repeat"]
        (2, 'w0…4', 5)
    """
    if type(fewest) is not int or fewest < 2:
        raise UsageError(must_be("fewest", "an integer >= 2", fewest))
    before = graph
    sums = list(_chains_of_sums(graph, fewest))
    if sums:
        graph = contract(graph, sums)
    parts = []
    for keys in (keys for keys in _alike(graph, shapes, names) if len(keys) >= fewest):
        data = _described(graph, keys)
        if graph._node[keys[0]]["kind"] in LEAVES:
            data["leaves"] = tuple(keys)
        parts.append(Part(keys, data, 1, True))
    if not parts:
        return graph if sums else graph.copy()
    count = max(len(part.keys) for part in parts)
    seen = contract(graph, parts)
    left = len(before) - len(seen)
    return seen.with_note(f"alike branches drawn once: {left:,} nodes fewer, up to ×{count:,}")


@view
@along_the_data
def dock_leaves(graph: GradGraph, *, fewest: int = 2) -> GradGraph:
    """Draw leaves with the same users as one box: ``parameters of fc (2)``.

    This includes those that are drawn as one already. Leaves without a gradient, with zeros or NaN
    in it, and frozen ones stay separate.

    Args:
        graph: any graph.
        fewest: the smallest number of leaves to merge; 2 or more.

    Raises:
        UsageError: if ``fewest`` is less than 2.

    Example:
        >>> graph = GradGraph()
        >>> for name in ("fc.weight", "fc.bias"):
        ...     graph.add_node(name, kind=NodeKind.PARAMETER, name=name)
        ...     _ = graph.add_edge(name, "n")
        >>> graph.nodes["n"].update(kind=NodeKind.OPERATION, op="linear")
        >>> dock_leaves(graph).nodes["g0"]["name"]
        'parameters of fc (2)'
    """
    if type(fewest) is not int or fewest < 2:
        raise UsageError(must_be("fewest", "an integer >= 2", fewest))
    sets: dict[tuple[object, ...], list[str]] = {}
    clones = ((key, data.get("clone_of")) for key, data in graph._node.items())
    copies = {key: first for key, first in clones if first in graph._node}
    users = {first: set(graph._succ[first]) for first in copies.values()}
    for key, first in copies.items():
        users[first].update(graph._succ[key])
    for key, data in graph._node.items():
        is_folded = is_box_of_leaves(data) and data.keys() >= {"leaves", "repeat", "name"}
        is_leaf = (data["kind"] in LEAVES or is_folded) and key not in copies
        if is_leaf and "root" not in data and not graph._pred[key]:
            facts = (*_state(data), frozenset(users.get(key, graph._succ[key])))
            sets.setdefault(facts, []).append(key)
    parts = []
    rows = [keys for keys in sets.values() if len(keys) >= fewest]
    leaves = [[graph._node[key] for key in keys] for keys in rows]
    names = [_called(each) for each in leaves]
    for keys, each, name in zip(rows, leaves, names, strict=True):
        called: Any = {"name": name if names.count(name) == 1 else _called_apart(each)}
        called["leaves"] = tuple(chain(*(graph._node[key].get("leaves", [key]) for key in keys)))
        if verdict := each[0].get("verdict"):
            called["verdict"] = verdict
        parts.append(Part(keys, called, 0, True))
    docked: GradGraph = contract(graph, parts) if parts else graph.copy()
    return clone_shared_leaves(docked) if copies and parts else docked


def dock_alike(graphs: Sequence[GradGraph], runs: Sequence[int]) -> list[GradGraph]:
    """Draw leaves as boxes in all frames of one graph, if one of the frames has such boxes.

    Args:
        graphs: of the frames.
        runs: for each, a number that frames of the same graph share.
    """
    have = [any(map(is_box_of_leaves, graph._node.values())) for graph in graphs]
    boxed = {run for run, has in zip(runs, have, strict=True) if has}
    rows = zip(graphs, runs, have, strict=True)
    return [dock_leaves(each) if run in boxed and not has else each for each, run, has in rows]


def fold_rows_of_leaves(graph: GradGraph, fewest: int = 100) -> GradGraph:
    """Draw equal leaves whose only user is the same node as one.

    It reads the edges as columns: a hundred thousand leaves in one ``stack`` take a second.
    """
    nodes, columns = list(graph._node.items()), graph.edge_columns()
    sources, targets = np.asarray(columns.sources), np.asarray(columns.targets)
    uses = np.bincount(sources, minlength=len(nodes)).tolist()
    inputs = np.bincount(targets, minlength=len(nodes)).tolist()
    users = np.zeros(len(nodes), np.int64)
    users[sources] = targets
    user_of = users.tolist()
    rows: dict[tuple[object, ...], tuple[list[str], list[str]]] = {}
    for place, (key, data) in enumerate(nodes):
        if data["kind"] not in TENSORS or uses[place] != 1 or inputs[place] or "root" in data:
            continue
        user = user_of[place]
        between, there = nodes[user]
        via = there["kind"] is NodeKind.ACCUMULATE
        if via and uses[user] == 1 and inputs[user] == 1:
            user = user_of[user]
        facts = (user, *_state(data), data.get("shape"), _plain(str(data.get("name", ""))))
        leaves, accumulates = rows.setdefault(facts, ([], []))
        leaves.append(key)
        if via:
            accumulates.append(between)
    parts = [
        Part([*accumulates, *leaves], _described(graph, leaves), 1, True)
        for leaves, accumulates in rows.values()
        if len(leaves) >= fewest
    ]
    return contract(graph, parts) if parts else graph


def _called(leaves: Sequence[Any]) -> str:
    """The name of a box of leaves: ``parameters of layers.0 (12)``."""
    is_all = not any(leaf["kind"] is NodeKind.LEAF or "leaf_elements" in leaf for leaf in leaves)
    count = _count(leaves)
    what = "parameters" if is_all else "leaves"
    modules = [tuple(str(leaf.get("name", "")).split(".")[:-1]) for leaf in leaves]
    common = shared_by(modules)
    of = f" of {'.'.join(common)}" if common else ""
    if not common and all(modules):
        of = f" of {listed(list(dict.fromkeys(map('.'.join, modules))), 2)}"
    title = f"{what}{of} ({count:,})"
    return title if len(title) <= _LONGEST_TITLE else f"{what} ({count:,})"


def _count(leaves: Sequence[Any]) -> int:
    return sum(len(leaf.get("leaves", ("",))) for leaf in leaves)


def _called_apart(leaves: Sequence[Any]) -> str:
    """The name of a box if another box has the same one: ``cell: weight_hh, bias_hh (2)``."""
    paths = [tuple(str(leaf.get("name", "")).split(".")) for leaf in leaves]
    common = shared_by([path[:-1] for path in paths])
    parts = list(dict.fromkeys(path[len(common)] for path in paths))
    of = f"{'.'.join(common)}: " if common else ""
    titles = [
        f"{of}{listed(parts, most)} ({_count(leaves):,})" for most in range(_MOST_NAMES, 0, -1)
    ]
    return next((title for title in titles if len(title) <= _LONGEST_TITLE), titles[-1])


def _state(data: dict[str, Any]) -> tuple[object, ...]:
    """What distinguishes leaves of one kind: gradient, device, dtype."""
    gradient = data.get("grad", ...)
    state = gradient_state(data), isinstance(gradient, TensorSummary) and is_zero(gradient)
    changed = tuple(name for name in data.get("changes", {}) if name != "value")
    facts = ("dtype", "device", "requires_grad", "verdict", "mark")
    others = (data.get(fact) for fact in facts)
    return (data["kind"], state, changed, bool(data.get("stale")), *others)


def gradient_state(data: Mapping[str, Any]) -> object:
    """Equal for leaves that have no ``.grad``, one that is None, finite, with NaN, or infinite."""
    gradient = data.get("grad", ...)
    is_tensor = isinstance(gradient, TensorSummary)
    return (bool(gradient.nan), bool(gradient.inf)) if is_tensor else gradient


def _options(data: dict[str, Any]) -> tuple[object, ...]:
    """The plain arguments of an operation, except those that select one of many."""
    return tuple(each for each in data.get("options", {}).items() if each[0] not in _PLACES)


@lru_cache(maxsize=65536)
def _plain(text: str) -> str:
    return _DIGITS.sub("#", text)


def _chains_of_sums(graph: GradGraph, fewest: int) -> Iterator[Part]:
    """Chains of additions whose results, except the last, are used only by the next one."""
    after: dict[str, str] = {}
    for key, data in graph._node.items():
        users = graph._succ[key]
        is_plain = data.get("op") in _SUMS and not data.keys() & {"name", "root"}
        for user in users if is_plain and len(users) == 1 else ():
            there = graph._node[user]
            if there.get("op") == data["op"] and there["kind"] is NodeKind.OPERATION:
                after[key] = user
    for keys in _in_rows(after):
        alone = [key for key in keys if "root" not in graph._node[key]]
        if len(alone) >= fewest:
            total: Any = {"op": f"{graph._node[keys[0]]['op']} of {len(alone) + 1:,}"}
            yield Part(alone, total, 1, False)


def _in_rows(after: Mapping[_Place, _Place]) -> Iterator[list[_Place]]:
    """Chains, from the place that each is followed by; where two meet, one of them goes on."""
    taken: set[_Place] = set()
    for start in sorted(after.keys() - set(after.values())):
        row = [start]
        while row[-1] in after and after[row[-1]] not in taken:
            row.append(after[row[-1]])
        taken.update(row)
        yield row


def _alike(graph: GradGraph, shapes: bool, names: bool) -> list[list[str]]:
    """The sets of equal nodes, in the order of the data."""
    order = list(nx.topological_sort(graph))
    made = _made_alike(graph, order, shapes, names)
    groups: dict[object, int] = {}
    own: dict[str, int] = {}
    members: dict[int, list[str]] = {}
    for key in reversed(order):
        data = graph._node[key]
        users = graph._succ[key]
        facts: object = key
        if users and data["kind"] is not NodeKind.RESULT and "root" not in data:
            ways = set()
            for user, edges in users.items():
                slots: tuple[object, ...] = ()
                wide = len(graph._pred[user]) > _FEW_INPUTS
                if not wide and graph._node[user]["kind"] is not NodeKind.GROUP:
                    slots = tuple(edges)
                kinds = tuple(dict.fromkeys(edge.get("kind") for edge in edges.values()))
                ways.add((own[user], slots, kinds))
            facts = (made[key], frozenset(ways))
        elif _is_unused(data, graph, key):
            cuts = graph.in_edges(key, data=True)  # as each step of a loop reads its number
            ends = {(made[a], edge.get("cause"), edge.get("source")) for a, _, edge in cuts}
            facts = (made[key], frozenset(ends), ())
        number = own[key] = groups.setdefault(facts, len(groups))
        members.setdefault(number, []).append(key)
    return [keys[::-1] for keys in reversed(list(members.values()))]


def _is_unused(data: dict[str, Any], graph: GradGraph, key: str) -> bool:
    """Whether it is an untracked tensor without users, or a leaf that got values from others."""
    is_copy = data["kind"] in LEAVES and graph._pred[key]
    return (
        "root" not in data
        and not graph._succ[key]
        and bool(is_copy or data["kind"] is NodeKind.UNTRACKED)
    )


def _made_alike(
    graph: GradGraph, order: Sequence[str], shapes: bool, names: bool
) -> dict[str, int]:
    """A number for each node, equal for nodes with the same operation and equal inputs."""
    numbers: dict[object, int] = {}
    made: dict[str, int] = {}
    for key in order:
        data = graph._node[key]
        get = data.get
        if "problem" in data or "root" in data:
            facts: object = key
        elif data["kind"] in TENSORS:
            named = (get("shape"), _plain(str(get("name", ""))))
            facts = (*_state(data), *(named if shapes else ()))
        else:
            inputs = [(made[source], tuple(edges)) for source, edges in graph._pred[key].items()]
            if len(inputs) > _FEW_INPUTS or data["kind"] is NodeKind.GROUP:
                inputs = [(number, ()) for number, _ in inputs]
            name = _plain(str(get("name", "")))
            if not names:
                name = f"{get('module', '')}".rpartition(".")[0] + f" {get('module_class', '')}"
            known = [get("op"), get("shape") if shapes else None]
            known += [get("structure") if shapes else operations_in(data)]
            known += map(get, ("device", "repeat"))
            state = (*_state(data), get("buffers"), get("hooks"), _options(data))
            facts = (*known, *state, name, tuple(sorted(inputs, key=repr)))
        made[key] = numbers.setdefault(facts, len(numbers))
    return made


def _described(graph: GradGraph, keys: Sequence[str]) -> Any:
    """The name of a group of equal nodes: ``experts.0…7``, ``addmm``."""
    nodes = [graph._node[key] for key in keys]
    data: dict[str, Any] = {"repeat": len(keys)}
    first = nodes[0]
    if first["kind"] is NodeKind.OPERATION:
        data["op"] = first.get("op", "")
    for attribute in ("module", "name"):
        found = list(dict.fromkeys(str(node.get(attribute, "")) for node in nodes))
        if all(found):
            data["name"] = names_in_short(found)
            if first["kind"] in LEAVES and "…" not in data["name"]:
                data["name"] = _called(nodes)
                del data["repeat"]  # the name contains it
    if first["kind"] is NodeKind.OPERATION and "name" in data:
        data["name"] = f"{data['name']} {first.get('op', '')}"
    classes = {node.get("module_class", "") for node in nodes}
    if len(classes) == 1 and (word := classes.pop()):
        data["module_class"] = word
    if first["kind"] is NodeKind.UNTRACKED:
        data["op"] = ", ".join(filter(None, (first.get("op", ""), "not tracked")))
    elif first["kind"] in TENSORS and "name" not in data:
        data["op"] = "leaves"
    return data


def names_in_short(names: Sequence[str]) -> str:
    """Names that differ in one number as one; others as the first and the number of others.

    Example:
        >>> names_in_short(["experts.0.weight", "experts.1.weight", "experts.3.weight"])
        'experts.0…1,3.weight'
        >>> names_in_short(["a", "b", "c"])
        'a and 2 more'
    """
    split = [re.split(r"(\d+)", name) for name in names]
    first = split[0]
    alike = all(len(each) == len(first) for each in split)
    differ = [at for at in range(len(first)) if alike and len({each[at] for each in split}) > 1]
    if len(names) == 1:
        return names[0]
    if len(differ) != 1 or differ[0] % 2 == 0:
        return f"{names[0]} and {len(names) - 1:,} more"
    at = differ[0]
    text = ranges_text(sorted(int(each[at]) for each in split))
    return "".join((*first[:at], text, *first[at + 1 :]))


@view
@along_the_data
def fold_chains(graph: GradGraph, *, min_length: int = 3) -> GradGraph:
    """Draw operations that follow each other without a branch as one node.

    Args:
        graph: nodes that have a name (variables, module groups) are not folded.
        min_length: the length of the shortest chain to fold; 2 or more.

    Returns:
        A graph in which each chain is a group. Applying the view again changes nothing.

    Raises:
        UsageError: if ``min_length`` is less than 2.

    Example:
        >>> graph = GradGraph()
        >>> from gradviz.graph import NodeKind
        >>> for key in "abc": graph.add_node(key, kind=NodeKind.OPERATION, op="sin")
        >>> _ = graph.add_edge("a", "b", 0), graph.add_edge("b", "c", 0)
        >>> fold_chains(graph).nodes["g0"]["op"]
        'sin → sin → sin'
    """
    if type(min_length) is not int or min_length < 2:
        raise UsageError(must_be("min_length", "an integer >= 2", min_length))
    sequence = op_sequence(graph)
    parts = []
    for places in _chains(sequence):
        if len(places) >= min_length:
            nodes = [sequence.data[place] for place in places]
            data: Any = {"op": words_of(nodes)}
            parts.append(Part([sequence.keys[place] for place in places], data))
    if not parts:
        return graph.copy()  # type: ignore[no-any-return]
    count = sum(len(part.keys) for part in parts)
    return contract(graph, parts).with_note(
        f"{count:,} operations in chains drawn as {counted(len(parts), 'group')}"
    )


def _chains(sequence: OpSequence) -> Iterator[list[int]]:
    """Chains in which each operation has one input and one user, except at the two ends."""
    bounds, sources = sequence.starts.tolist(), sequence.sources.tolist()
    users = [0] * len(sequence)
    before = [-1] * len(sequence)
    for place in range(len(sequence)):
        inside = {source for source in sources[bounds[place] : bounds[place + 1]] if source >= 0}
        for source in inside:
            users[source] += 1
        if len(inside) == 1:
            (before[place],) = inside
    plain = [
        sequence.foldable(place) and "name" not in sequence.data[place]
        for place in range(len(sequence))
    ]
    after = {
        source: place
        for place, source in enumerate(before)
        if source >= 0 and users[source] == 1 and plain[source] and plain[place]
    }
    yield from _in_rows(after)


def fold_outside_of_modules(graph: GradGraph) -> GradGraph:
    """Draw connected operations that are in no module, with no module between them, as one node.

    Args:
        graph: with modules as groups; without any it is returned as it is.
    """
    nodes, order = graph._node, list(nx.topological_sort(graph))
    plain = _outside_of_modules(graph)
    if not any("module" in data and data.get("members") for data in nodes.values()):
        return graph
    between = {key for key in nodes if key not in plain and graph._pred[key]}
    # Of two nodes with the same level, no path from one to the other leaves the folded nodes.
    level: dict[str, int] = {}
    part_of: dict[str, list[str]] = {}
    for key in order:
        sources = graph._pred[key]
        level[key] = max((level[s] + (s in between) for s in sources), default=0)
        if key in plain:
            own = part_of[key] = [key]
            for source in sources:
                if source in plain and level[source] == level[key]:
                    less, own = sorted((own, part_of[source]), key=len)
                    if less is not own:
                        own += less
                        part_of.update(dict.fromkeys(less, own))
    rank = {key: number for number, key in enumerate(order)}
    parts = []
    for keys in {id(keys): keys for keys in part_of.values()}.values():
        keys.sort(key=rank.__getitem__)
        if len(keys) > _FEW_OUTSIDE:
            data: Any = {"op": words_of([nodes[key] for key in keys])}
            parts.append(Part(keys, data, 0, True))
    return contract(graph, parts) if parts else graph


def fold_calls(graph: GradGraph) -> GradGraph:
    """Draw all calls of one module as one node, with the plain operations between them.

    Args:
        graph: with modules as groups; those with other modules between their calls stay.
    """
    if len(graph) > _MOST_NODES:
        return graph
    names = [data.get("module", "") for data in graph._node.values() if data.get("members")]
    for name in dict.fromkeys(name for name in names if name and names.count(name) > 1):
        keys = {key for key, data in graph._node.items() if data.get("module") == name}
        after = set().union(*(nx.descendants(graph, key) for key in keys))
        before = set().union(*(nx.ancestors(graph, key) for key in keys))
        inner = (after & before) - keys
        if inner <= _outside_of_modules(graph):
            whole = inner | keys
            data: Any = {"name": name, "module": name, **({"inferred": True} if inner else {})}
            calls = [graph._node[key] for key in keys]
            if not inner and all("module_class" in call for call in calls):
                data["repeat"] = sum(call.get("repeat", 1) for call in calls)
            order = [key for key in nx.topological_sort(graph) if key in whole]
            graph = contract(graph, [Part(order, data, 0, True)])
    return graph


def _outside_of_modules(graph: GradGraph) -> set[str]:
    """The operations, folded or not, that are in no module and may be folded."""
    return {
        key
        for key, data in graph._node.items()
        if (data["kind"] is NodeKind.OPERATION or data.get("members"))
        and data.keys().isdisjoint(("root", "problem", "verdict", "module_class"))
        and not (data["kind"] is NodeKind.GROUP and "module" in data)
    }


@view
@along_the_data
def fold_chunks(graph: GradGraph, count: int = 30) -> GradGraph:
    """Draw the operations, in order of their creation, as so many groups of about equal size.

    Args:
        graph: of any kind.
        count: how many groups; each ends where the fewest values go on.

    Raises:
        UsageError: if ``count`` is less than 1.

    Example:
        >>> graph = GradGraph()
        >>> from gradviz.graph import NodeKind
        >>> for n in range(90): graph.add_node(f"n{n}", kind=NodeKind.OPERATION, op="sin")
        >>> for n in range(89): _ = graph.add_edge(f"n{n}", f"n{n + 1}", 0)
        >>> fold_chunks(graph, count=3)
        GradGraph(3 groups, 2 edges)
    """
    if type(count) is not int or count < 1:
        raise UsageError(must_be("count", "an integer >= 1", count))
    sequence = op_sequence(graph)
    if len(sequence) <= count:
        return graph.copy()  # type: ignore[no-any-return]
    paths = module_paths(sequence)
    parts = []
    cuts = chunk_ends(sequence, math.ceil(len(sequence) / count))
    for start, stop in pairwise(cuts):
        places = [place for place in range(start, stop) if sequence.foldable(place)]
        if len(places) < 2 or len(places) < stop - start:
            continue
        path = shared_by([paths[place] for place in places])
        nodes: list[Any] = [sequence.data[place] for place in places]
        boxes = [node for node in nodes if is_box_of_leaves(node)]
        # A module that ran without a gradient has leaves and no operations.
        named = [node for node in nodes if "module" in node or not is_box_of_leaves(node)]
        data: Any = {"op": words_of(named)}
        if not named:
            what = "leaves" if any("leaf_elements" in box for box in boxes) else "parameters"
            data = {"name": f"{what} ({_count(boxes):,})"}
        elif path:
            data = {"name": ".".join(path), "module": ".".join(path), "inferred": True}
        parts.append(Part([sequence.keys[place] for place in places], data, 0, True))
    _number_boxes([part for part in parts if "name" in part.data and "module" not in part.data])
    return contract(graph, parts).with_note(f"{len(sequence):,} operations in {len(parts)} chunks")


def _number_boxes(parts: Sequence[Part]) -> None:
    """Number boxes of leaves with one name; the first in the picture, which comes last, is #1."""
    names = [part.data["name"] for part in parts]
    for at, (part, name) in enumerate(zip(parts, names, strict=True)):
        if names.count(name) > 1:
            part.data["name"] = name.replace(" (", f" #{names[at:].count(name)} (")
