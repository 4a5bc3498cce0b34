"""Remove details from the graph: bookkeeping, crossing edges, numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import networkx as nx

from gradviz.graph import (
    Buffers,
    Cause,
    GradGraph,
    NodeKind,
    TensorSummary,
    is_box_of_leaves,
    leaf_of_node,
)
from gradviz.graph.operations import operation
from gradviz.graph.text import counted
from gradviz.views.module_classes import WORDS_KEPT
from gradviz.views.modules import module_paths
from gradviz.views.op_sequence import op_sequence
from gradviz.views.view import view


@view
def hide_bookkeeping(graph: GradGraph) -> GradGraph:
    """Merge every ``AccumulateGrad`` into its leaf, and fold reshaping operations into the edges.

    An operation that only rearranges its input (``view``, ``t``, ``expand``, ...) becomes a label
    of the edge, unless it has a name, is a root, or has several outputs.

    Args:
        graph: a recorded graph.

    Returns:
        A smaller graph with the same gradient paths. Folded operations are listed in the edge's
        ``through``, in order; ``addmm`` or ``mm`` with a transposed weight becomes ``linear``.
        Applying the view again changes nothing.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF)
        >>> graph.add_node("n1", kind=NodeKind.ACCUMULATE, op="accumulate_grad")
        >>> graph.add_node("n2", kind=NodeKind.OPERATION, op="sum")
        >>> _ = graph.add_edge("n0", "n1", key=0), graph.add_edge("n1", "n2", key=0)
        >>> list(hide_bookkeeping(graph).edges)
        [('n0', 'n2', 0)]
    """
    hidden: GradGraph = graph.copy()
    folded: Counter[str] = Counter()
    ran_in = _modules_of(graph)
    linear = _linear_layers(hidden, ran_in)
    rows = _join_rows(hidden, linear)
    for key in list(hidden.nodes):
        data = hidden.nodes[key]
        if data["kind"] is NodeKind.ACCUMULATE and hidden.in_degree(key) == 1:
            _bypass(hidden, key, ())
        elif operation(data.get("op", "")).rearranges and _only_rearranges(hidden, key, data):
            folded[data["op"]] += 1
            _bypass(hidden, key, (data["op"],), ran_in)
    _call_dropout(hidden, ran_in)
    for key, data in hidden.nodes(data=True):
        if key in rows:
            for _, _, edge in hidden.in_edges(key, data=True):
                if edge.get("through", ())[-1:] == ("view",):
                    edge["through"] = edge["through"][:-1]
                    edge["reshaped"] = edge.get("reshaped", ())[:-1]
                    folded["view"] -= 1
                    for name in [n for n in ("through", "reshaped") if not edge[n]]:
                        del edge[name]
        weight = _linear_weight(hidden, key, data.get("op", ""))
        if weight is not None:
            weight.pop("through")
            weight.pop("reshaped", None)
            folded["t"] -= 1
        if weight is not None or key in linear:
            data["op"] = "linear"
            data.pop("called", None)
    folded = +folded  # without the zeros
    return hidden.with_note(_reshaping_note(folded)) if folded else hidden


def _reshaping_note(folded: Mapping[str, int]) -> str:
    words = ", ".join(sorted(folded, key=lambda word: (-folded[word], word))[:4])
    return f"{counted(sum(folded.values()), 'reshaping op')} on the edges: {words}"


def note_of_edges(graph: GradGraph) -> str:
    """The note on the reshaping operations that the edges of a folded graph show; "" for none."""
    shown = {
        (source, data.get("output", 0), data["through"])
        for source, _, data in graph.edges(data=True)
        if "through" in data
    }
    folded = Counter(word for *_, through in shown for word in through)
    return _reshaping_note(folded) if folded else ""


_DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d")
_MOST_LOOKED_AT = 5_000  # nodes


def _call_dropout(graph: GradGraph, known: Mapping[str, str]) -> None:
    """Call a multiplication by the mask of a dropout what it is, and its mask ``mask``.

    It is known from a recording, or from the class of the module that ran it.
    """
    modules = graph.graph.get("modules", {})
    inside = {path for path, word in modules.items() if word in _DROPOUTS}
    for key, data in graph.nodes(data=True):
        ran_in = known.get(key, "")
        is_dropout = data.get("op") == "mul" and ("called" in data or ran_in in inside)
        if data["kind"] is not NodeKind.OPERATION or not is_dropout:
            continue
        data["op"] = data.pop("called", "dropout")
        data.pop("untracked_inputs", None)
        options = data.pop("options", {})
        if kept := {name: text for name, text in options.items() if name != "other"}:
            data["options"] = kept
        for source, _, edge in graph.in_edges(key, data=True):
            mask = graph.nodes[source]
            is_mask = mask["kind"] is NodeKind.UNTRACKED and graph.out_degree(source) == 1
            if is_mask and edge.get("input") == 1 and not mask.keys() & {"name", "op"}:
                mask["op"] = "mask"


def _linear_layers(graph: GradGraph, paths: Mapping[str, str]) -> set[str]:
    """The layers known from a recording, a parameter of theirs, or the sequence they run in."""
    modules = graph.graph.get("modules", {})
    layers = {path for path, word in modules.items() if word == "Linear"}
    weights = {f"{path}.weight" for path in layers}
    weights |= {f"{name}.t()" for name in weights}
    biases = {f"{path}.bias" for path in layers}
    products = {k: op for k, data in graph.nodes(data=True) if (op := data.get("op")) in _LINEAR}
    found: set[str] = set()
    for key, op in products.items():
        wanted = {_WEIGHT_INPUT[op]: weights, **({0: biases} if op == "addmm" else {})}
        if graph.nodes[key].get("called") == "linear" or any(
            graph.nodes[leaf_of_node(graph, source)].get("name") in wanted.get(edge["input"], ())
            for source, edge in graph.inputs(key)
        ):
            found.add(key)
    if layers and (rest := products.keys() - found):
        ran = Counter(paths.get(key, "") for key in products)
        found |= {key for key in rest if paths.get(key) in layers and ran[paths[key]] == 1}
    return found


def _modules_of(graph: GradGraph) -> dict[str, str]:
    """The module of each operation; nothing for a large graph, or if no classes are known."""
    if len(graph) > _MOST_LOOKED_AT or not graph.graph.get("modules"):
        return {}
    units = op_sequence(graph)
    return {k: ".".join(p) for k, p in zip(units.keys, module_paths(units), strict=True)}


def _join_rows(graph: GradGraph, linear: set[str]) -> set[str]:
    """Give each linear layer the shape of its output.

    On more than two dimensions, torch makes rows of the input with ``view``, and of the rows the
    output with another one.

    Returns:
        The keys of these layers.
    """
    found = set()
    for key in [key for key, data in graph.nodes(data=True) if data.get("op") in _WEIGHT_INPUT]:
        data, users = graph.nodes[key], list(graph.successors(key))
        user = graph.nodes[users[0]] if len(users) == 1 else {}
        is_view = user.get("grad_fn") == _ROWS_UNDONE[data["op"]]
        if not is_view or user.keys() & _NOT_JOINED or data.keys() & {"name", *_NOT_JOINED}:
            continue
        weight = [s for s, edge in graph.inputs(key) if edge["input"] == _WEIGHT_INPUT[data["op"]]]
        rows, shape = data.get("shape", ()), user.get("shape", ())
        has_weight = bool(weight) and graph.nodes[weight[0]].get("op") == "t"
        if not (has_weight or key in linear) or rows[-1:] != shape[-1:]:
            continue
        data.update({name: user[name] for name in _OF_A_RESULT if name in user})
        if any(graph.nodes[each]["kind"] is NodeKind.RESULT for each in graph.successors(users[0])):
            data.pop("name", None)
        _bypass(graph, users[0], ())
        found.add(key)
    return found


_ROWS_UNDONE = {"addmm": "ViewBackward0", "mm": "UnsafeViewBackward0"}
_NOT_JOINED = {"outputs", "hooks", "root", "opaque", "retains_grad", "version"}
_OF_A_RESULT = ("shape", "name", "value", "source")


def _linear_weight(graph: GradGraph, key: str, op: str) -> dict[str, Any] | None:
    """The edge of the transposed weight of ``addmm`` or ``mm``, which is a linear layer."""
    if op not in _WEIGHT_INPUT:
        return None
    for source, _, edge in graph.in_edges(key, data=True):
        is_weight = edge.get("input") == _WEIGHT_INPUT[op] and edge.get("through") == ("t",)
        if is_weight and graph.nodes[source]["kind"] in _LEAVES:
            found: dict[str, Any] = edge
            return found
    return None


def _only_rearranges(graph: GradGraph, key: str, data: dict[str, Any]) -> bool:
    users = [graph.nodes[user]["kind"] for user in graph.successors(key)]
    return (
        graph.in_degree(key) == 1
        and NodeKind.RESULT not in users
        and bool(users)
        and data.get("buffers", Buffers.NOTHING_SAVED) is Buffers.NOTHING_SAVED
        and not data.keys() & {"name", "outputs", "hooks", "root", "opaque"}
    )


def _bypass(
    graph: GradGraph, key: str, through: tuple[str, ...], ran_in: Mapping[str, str] | None = None
) -> None:
    """Remove ``key`` and connect its input to each of its users."""
    ((source, _, into),) = graph.in_edges(key, data=True)
    hooks, gone = graph.nodes[key].get("hooks", 0), graph.nodes[key]
    if gone["kind"] is NodeKind.OPERATION:
        start, user = graph.nodes[source], graph.nodes[next(iter(graph.successors(key)))]
        is_of_source = "module" in gone and start.get("module") == gone["module"]
        holder = start if is_of_source and start["kind"] is NodeKind.OPERATION else user
        holder["reshapes"] = holder.get("reshapes", 0) + gone.get("reshapes", 0) + 1
    if hooks:
        graph.nodes[source]["hooks"] = graph.nodes[source].get("hooks", 0) + hooks
    for _, user, number, out in list(graph.out_edges(key, keys=True, data=True)):
        words = (*into.get("through", ()), *through, *out.get("through", ()))[:WORDS_KEPT]
        joined = {**out, "output": into.get("output", 0)}
        if "grad" in into and graph.out_degree(key) == 1:
            joined["grad"] = into["grad"]
        if words:
            joined["through"] = words
        if ran_in:
            own = (ran_in.get(key, ""), gone.get("shape", ()))
            shapes = (*into.get("reshaped", ()), own, *out.get("reshaped", ()))
            joined["reshaped"] = shapes[:WORDS_KEPT]
        graph.add_edge(source, user, number, **joined)
    graph.remove_node(key)


_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF, NodeKind.UNTRACKED)
_WEIGHT_INPUT = {"addmm": 2, "mm": 1}
_LINEAR = frozenset(_WEIGHT_INPUT)


@view
def clone_shared_leaves(graph: GradGraph, *, tangle: int = 12) -> GradGraph:
    """Draw a leaf again at each of its uses if its edges would cross much of the picture.

    The weights of an unrolled RNN are used at every step. If they are drawn once, their edges cross
    the whole picture, and ``dot`` takes minutes instead of a tenth of a second. The first use keeps
    the leaf with its gradient; the other uses get a small copy.

    Args:
        graph: its edges may have either direction.
        tangle: how many layers the edges of a leaf may cross in total before it is copied. 0
            copies every shared leaf.

    Returns:
        A graph in which each copy has ``clone_of``, the key of its leaf. Applying the view again
        changes nothing.

    Example:
        >>> graph = GradGraph()
        >>> for key in "ab": graph.add_node(key, kind=NodeKind.OPERATION, op="mul")
        >>> graph.add_node("w", kind=NodeKind.LEAF, name="w")
        >>> _ = [graph.add_edge(*edge) for edge in ("wa", "wb", "ab")]
        >>> sorted(clone_shared_leaves(graph, tangle=0).edges(keys=False))
        [('a', 'b'), ('w', 'a'), ('w_1', 'b')]
    """
    reverse = graph.graph.get("flow") == "gradient"
    rank = _ranks(graph, reverse)
    cloned: GradGraph = graph.copy()
    for leaf, data in graph.nodes(data=True):
        is_shared = data["kind"] in _LEAVES or is_box_of_leaves(data)
        if not is_shared or "clone_of" in data:
            continue
        neighbors = graph.predecessors(leaf) if reverse else graph.successors(leaf)
        users = sorted(dict.fromkeys(neighbors), key=lambda user: rank[user])
        span = sum(rank[user] - rank[users[0]] for user in users)
        if len(users) < 2 or 0 < tangle >= span:
            continue
        for number, user in enumerate(users[1:], 1):
            _clone(cloned, leaf, user, f"{leaf}_{number}", reverse)
    return cloned


def _ranks(graph: GradGraph, reverse: bool) -> dict[str, int]:
    """Layer of each node, as late as its users allow; negative, and 0 for the results."""
    rank = dict.fromkeys(graph.nodes, 0)
    order = list(nx.topological_sort(graph))
    for key in order if reverse else reversed(order):
        users = graph.predecessors(key) if reverse else graph.successors(key)
        rank[key] = min((rank[user] - 1 for user in users), default=0)
    return rank


def _clone(graph: GradGraph, leaf: str, user: str, clone: str, reverse: bool) -> None:
    kept = ("kind", "name", "shape", "dtype", "device", "requires_grad", "is_leaf", "inference")
    data = graph.nodes[leaf]
    graph.add_node(clone, **{name: data[name] for name in kept if name in data}, clone_of=leaf)
    ends = (user, leaf) if reverse else (leaf, user)
    for number, edge in list(graph.get_edge_data(*ends).items()):
        graph.remove_edge(*ends, number)
        new_ends = (user, clone) if reverse else (clone, user)
        graph.add_edge(*new_ends, number, **edge)


_VARYING = ("value", "accumulations", "version", "source", "changes", "stale")


@view
def hide_numbers(graph: GradGraph) -> GradGraph:
    """Remove values, counts and lines, and keep the structure.

    Names, operations with their plain arguments, shapes, dtypes, cuts with causes, and whether
    a leaf has a gradient are kept. Use it in tests of a model's structure with any seed.

    Args:
        graph: a recorded graph.

    Returns:
        The same nodes and edges, without values of tensors and gradients, counts of passes and
        in-place changes, and lines.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> grad = TensorSummary((), "float32", "cpu", values=(3.0,))
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="w", grad=grad, version=2)
        >>> seen = hide_numbers(graph).nodes["n0"]
        >>> seen["grad"].note, "version" in seen
        ('set', False)
    """
    plain: GradGraph = graph.copy()
    for _, data in plain.nodes(data=True):
        for attribute in _VARYING:
            data.pop(attribute, None)
        grad = data.get("grad")
        if grad is not None:
            data["grad"] = TensorSummary(grad.shape, grad.dtype, grad.device, note="set")
    for _, _, edge in plain.edges(data=True):
        edge.pop("source", None)
    return plain


_DULL = (Cause.CONSTANT, Cause.NOT_DIFFERENTIABLE, Cause.NOT_RECORDED, None)
"""Causes of cuts that a page can leave out."""


def hide_untracked(graph: GradGraph) -> GradGraph:
    """Leave out untracked tensors of which all uses are in one group; their number is noted.

    So are equal ones that nothing uses, as the numbers that each step of a loop reads. Those
    behind a cut that a program may not intend (``detach``, ``no_grad``, ...) stay.
    """
    owners: dict[str, str | None] = {}  # None of those that nothing in the picture uses
    for key in reversed(list(nx.topological_sort(graph))):
        data, used = graph._node[key], graph._succ[key]
        is_group = data["kind"] is NodeKind.GROUP
        is_folded = is_group and not data.get("members") and "grad" not in data
        is_untracked = data["kind"] is NodeKind.UNTRACKED and "root" not in data
        if not (is_untracked and used) and not is_folded:
            continue
        causes = (edge.get("cause") for *_, edge in graph.in_edges(key, data=True))
        users = {owners.get(u, u if graph._node[u].get("members") else "") for u in used} - {None}
        if len(users) <= 1 and "" not in users and all(cause in _DULL for cause in causes):
            owners[key] = next(iter(users), None)
    if not owners:
        return graph
    count = sum(graph._node[key].get("repeat", 1) for key in owners)
    seen: GradGraph = graph.subgraph([key for key in graph if key not in owners]).copy()
    seen.graph["untracked_left_out"] = count + graph.graph.get("untracked_left_out", 0)
    return seen


def hide_copies(graph: GradGraph) -> GradGraph:
    """Leave out what only copies values of leaves to leaves: ``target.load_state_dict(...)``.

    Its number is noted. What is a leaf's only use stays: a cut that may not be intended.
    """
    nodes: dict[str, Any] = graph._node
    plain = {n for n, data in nodes.items() if data["kind"] is NodeKind.UNTRACKED}
    if not plain:  # as in a long chain, whose edges stay in columns
        return graph
    leaves = {key for key in graph.leaves if graph._succ[key]}
    given = {key for key in leaves if graph._succ[key].keys() - plain}
    order = list(nx.topological_sort(graph))
    for key in order:
        if key in plain and graph._pred[key] and given.issuperset(graph._pred[key]):
            given.add(key)
    taken = set(leaves)
    for key in reversed(order):
        if key in plain and graph._succ[key] and taken.issuperset(graph._succ[key]):
            taken.add(key)
    hidden = given & taken & plain
    if not hidden:
        return graph
    seen: GradGraph = graph.subgraph([key for key in graph if key not in hidden]).copy()
    seen.graph["untracked_left_out"] = len(hidden) + graph.graph.get("untracked_left_out", 0)
    return seen
