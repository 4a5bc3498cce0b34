"""Colors: one value on a scale for all nodes, or other colors, names and paths by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import networkx as nx

from gradviz.errors import UsageError
from gradviz.graph import LEAVES, EdgeKind, GradGraph, Mark, NodeKind, TensorSummary, descendants
from gradviz.graph.text import must_be
from gradviz.views.focus import nodes_called
from gradviz.views.view import along_the_data, view

SCALES = ("grad_norm", "saved_bytes", "device", "dtype")
"""The values that `color_by` can show."""

_STEPS = (NodeKind.OPERATION, NodeKind.GROUP)
_DECADE = 10.0
_DIGITS = 4


@view
@along_the_data
def color_by(graph: GradGraph, by: str = "grad_norm") -> GradGraph:
    """Add a level from 0 to 1 to each node, and to its edges where it is known.

    Renderers show the level as a bar on the node, the width of the edge and a scale in the legend.
    Use it last: ``views=[fit_page, color_by("grad_norm")]``.

    Args:
        graph: any graph.
        by: ``"grad_norm"``: the norm of ``.grad``, on a logarithmic scale. It is known for
            leaves, for tensors after ``retain_grad()`` and their edges, and for groups as the norm
            of all gradients in them; other gradients are not recorded. ``"saved_bytes"``: the
            bytes that an operation saved for backward, those that others saved too included.
            ``"device"`` and ``"dtype"``: of the tensor, or of the first output of an operation.

    Returns:
        The same graph with ``level`` and ``mark`` on nodes and edges, ``norm`` on edges, and the
        ends of the scale, or its values, in ``graph.graph["scale"]``. Applying the view again
        changes nothing.

    Raises:
        UsageError: if ``by`` is none of these.

    Example:
        >>> graph = GradGraph()
        >>> for key, size in ("a", 10), ("b", 40):
        ...     graph.add_node(key, kind=NodeKind.OPERATION, saved_bytes=size)
        >>> seen = color_by(graph, "saved_bytes")
        >>> dict(seen.nodes(data="level")), seen.graph["scale"]
        ({'a': 0.25, 'b': 1.0}, {'by': 'saved_bytes', 'low': 0, 'high': 40})
    """
    if by not in SCALES:
        raise UsageError(must_be("color_by", f"one of {', '.join(SCALES)}", by))
    seen: GradGraph = graph.copy()
    for data in (*seen._node.values(), *(data for *_, data in seen.edges(data=True))):
        for attribute in ("level", "mark", "norm", "saved_total"):
            data.pop(attribute, None)
    scale: dict[str, Any] = {"by": by}
    if by == "grad_norm":
        scale.update(_norms(seen))
    elif by == "saved_bytes":
        scale.update(_bytes(seen))
    else:
        scale["values"] = sorted({data[by] for data in seen._node.values() if by in data})
    seen.graph["scale"] = scale
    return seen


def saved_totals(graph: GradGraph) -> dict[str, int]:
    """The bytes that nodes keep for backward; a storage that several saved counts for each.

    Args:
        graph: with ``saved``, the tensors that its operations saved.

    Returns:
        By key of the node, where it is not 0.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("a", kind=NodeKind.OPERATION, saved_bytes=10)
        >>> saved_totals(graph)
        {'a': 10}
    """
    nodes = graph._node
    of_leaves = {data["storage"] for data in nodes.values() if "storage" in data}
    totals = {}
    for key, data in nodes.items():
        kept = {each.storage: each.bytes for each in data.get("saved", ())}
        shared = sum(size for storage, size in kept.items() if storage not in of_leaves)
        if total := max(shared, data.get("saved_bytes", 0)):
            totals[key] = total
    return totals


def _bytes(graph: GradGraph) -> dict[str, Any]:
    """Put the levels on a graph."""
    nodes = graph._node.values()
    for key, total in saved_totals(graph).items():
        graph.nodes[key]["saved_total"] = total
    most = max((data.get("saved_total", 0) for data in nodes), default=0)
    for data in nodes:
        if "saved_total" in data:
            data["level"] = round(data["saved_total"] / most, _DIGITS)
    return {"low": 0, "high": most} if most else {}


def _norms(graph: GradGraph) -> dict[str, Any]:
    """Put the levels and marks on a graph; returns the ends of the scale."""
    known = {key: found for key in graph if (found := _gradient(graph, key)) is not None}
    norms = {
        key: graph.nodes[key].get("grad_range", (0.0, found.finite_norm))[1]
        for key, found in known.items()
        if found.is_finite
    }
    carried = [data["grad"] for *_, data in graph.edges(data=True) if "grad" in data]
    along = [found.finite_norm for found in carried if found.is_read and found.is_finite]
    above = [norm for norm in (*norms.values(), *along) if norm > 0]
    high = max(above, default=0.0)
    low = min([*above, high / _DECADE])  # so that small differences look small
    for key, found in known.items():
        graph.nodes[key].update(_place(found, norms.get(key, 0.0), low, high))
    dead = _dead(graph, norms)
    for key in dead:
        graph.nodes[key]["mark"] = Mark.ZERO
    for key in _first(graph, [key for key, found in known.items() if not found.is_finite]):
        graph.nodes[key]["mark"] = Mark.FIRST
    uses = _uses(graph)
    for source, target, data in graph.edges(data=True):
        if data.get("kind") is EdgeKind.CUT:
            continue
        holder = _held_by(graph, source, target, data)
        # The ``.grad`` of a leaf is the sum over its uses and passes, not the gradient of one edge.
        start = graph.nodes[graph.nodes[source].get("clone_of", source)]
        is_sum = start["kind"] in LEAVES and (
            uses[graph.nodes[source].get("clone_of", source)] > 1
            or start.get("accumulations", 1) > 1
        )
        held = data.get("grad") if is_sum else known.get(holder, data.get("grad"))
        if held is not None and held.is_read:
            data.update(_place(held, held.finite_norm, low, high))
            if held.is_finite:
                data["norm"] = _round(held.finite_norm)
        elif source in dead and target in dead:
            data["mark"] = Mark.ZERO
    return {"low": _round(low), "high": _round(high)} if above else {}


def _uses(graph: GradGraph) -> Counter[str]:
    """The number of gradient edges of each node, including those of its copies."""
    return Counter(
        graph.nodes[source].get("clone_of", source)
        for source, _, data in graph.edges(data=True)
        if data.get("kind") is not EdgeKind.CUT
    )


def _place(gradient: TensorSummary, norm: float, low: float, high: float) -> dict[str, Any]:
    """The level of a gradient with that norm on the scale, or its mark."""
    if not gradient.is_finite:
        return {"mark": Mark.NOT_FINITE}
    if not norm:
        return {"mark": Mark.ZERO}
    return {"level": round(math.log(norm / low) / math.log(high / low), _DIGITS)}


def _held_by(graph: GradGraph, source: str, target: str, edge: Any) -> str:
    """The end of an edge whose ``.grad`` is the gradient of the edge; "" if there is none.

    The ``.grad`` of a group is that of its parameters, not that of its output; the gradient of the
    output is stored with the edge.
    """
    start, end = graph.nodes[source], graph.nodes[target]
    holds = start["kind"] is not NodeKind.GROUP and ("grad" in start or "clone_of" in start)
    if holds and not edge.get("output"):
        return source
    return target if end["kind"] is NodeKind.RESULT else ""


def _gradient(graph: GradGraph, key: str) -> TensorSummary | None:
    """The recorded gradient, if its values could be read."""
    data = graph.nodes[key]
    original = data.get("clone_of")
    if original in graph:
        data = graph.nodes[original]
    found: TensorSummary | None = data.get("grad")
    return found if found is not None and found.is_read else None


def _round(norm: float) -> float:
    """Four significant digits, because the ends of a scale are printed."""
    return float(f"{norm:.4g}")


def _dead(graph: GradGraph, norms: dict[str, float]) -> set[str]:
    """The nodes before which there are leaves, and all of them got only zeros."""
    dead: set[str] = set()
    alive: set[str] = set()
    for key in nx.topological_sort(graph):
        kind = graph.nodes[key]["kind"]
        holds = kind in LEAVES or "grad" in graph.nodes[key]
        inputs = [
            source
            for source, edge in graph.inputs(key)
            if edge.get("kind") is not EdgeKind.CUT
            and graph.nodes[source]["kind"] is not NodeKind.UNTRACKED
        ]
        if (holds and norms.get(key) != 0) or any(source in alive for source in inputs):
            alive.add(key)  # or unknown
        elif (holds or inputs) and all(source in dead for source in inputs):
            dead.add(key)
        else:
            alive.add(key)
    return {key for key in dead if graph.nodes[key]["kind"] is not NodeKind.RESULT}


def _first(graph: GradGraph, wrong: list[str]) -> set[str]:
    """Of the gradients that are not finite, those that backward computed first."""
    if not wrong:
        return set()
    place = {key: number for number, key in enumerate(nx.topological_sort(graph))}
    steps = {key: data for key, data in graph.nodes(data=True) if data["kind"] in _STEPS}
    if all("sequence_nr" in data for data in steps.values()):
        place = {key: data["sequence_nr"] for key, data in steps.items()}
    when = {
        key: max((place[user] for user in _until_step(graph, key, steps)), default=math.inf)
        for key in wrong
    }
    return {key for key in wrong if when[key] == max(when.values())}


def _until_step(graph: GradGraph, key: str, steps: Collection[str]) -> list[str]:
    """The operations whose backward computes the gradient of a node; none for a result."""
    if key in steps:
        return [key]
    users = list(graph.successors(key))
    # Between a leaf and its operation there can be an ``AccumulateGrad``, which has no number.
    users += [further for user in users if user not in steps for further in graph.successors(user)]
    return [user for user in users if user in steps]


COLORS = {
    "black": "#1a1a1a",
    "gray": "#70757b",
    "blue": "#0072b2",
    "sky": "#56b4e9",
    "green": "#009e73",
    "yellow": "#f0e442",
    "orange": "#e69f00",
    "red": "#d55e00",
    "purple": "#cc79a7",
}
"""Colors by name: Okabe and Ito's, which color-blind readers can distinguish."""

_HEX_DIGITS = frozenset("0123456789abcdef")


@view
def relabel(graph: GradGraph, labels: Mapping[str, str]) -> GradGraph:
    """Rename nodes in the picture.

    Args:
        graph: any graph.
        labels: the new names, by name, operation or key, as for `focus_on`.

    Raises:
        UsageError: if no node has that name.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="w")
        >>> relabel(graph, {"w": "weights"}).nodes["n0"]["name"]
        'weights'
    """
    seen = _changed(graph, labels, lambda data, label: data.update(name=label))
    if names := seen.graph.get("highlight"):  # the legend lists them
        seen.graph["highlight"] = ", ".join(labels.get(name, name) for name in names.split(", "))
    return seen


@view
def paint(graph: GradGraph, colors: Mapping[str, str]) -> GradGraph:
    """Set the colors of nodes.

    Args:
        graph: any graph.
        colors: the color of nodes by name, module, operation or key, as for `focus_on`: a code
            like ``"#d55e00"``, or one of the names in ``COLORS``.

    Raises:
        UsageError: if no node has that name, or a color is not allowed.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="w")
        >>> paint(graph, {"w": "red"}).nodes["n0"]["color"]
        '#d55e00'
    """
    codes = {name: color_code(color) for name, color in colors.items()}
    seen = _changed(graph, codes, lambda data, code: data.update(color=code))
    seen.graph["marked"] = True
    return seen


def color_code(color: str) -> str:
    """A color as six digits: ``"#d55e00"``.

    Raises:
        UsageError: if it is not a color.

    Example:
        >>> color_code("red"), color_code("#FC0")
        ('#d55e00', '#ffcc00')
    """
    if color in COLORS:
        return COLORS[color]
    digits = color[1:].lower()
    if color[:1] != "#" or len(digits) not in (3, 6) or not _HEX_DIGITS.issuperset(digits):
        allowed = f"#rrggbb or one of {', '.join(COLORS)}"
        raise UsageError(must_be("a color", allowed, color))
    return f"#{digits}" if len(digits) == 6 else "#" + "".join(2 * each for each in digits)


def _changed(
    graph: GradGraph, wanted: Mapping[str, str], change: Callable[[dict[str, object], str], object]
) -> GradGraph:
    found = [(nodes_called(graph, name), value) for name, value in wanted.items()]
    seen: GradGraph = graph.copy()
    for keys, value in found:
        for key in keys:
            change(seen.nodes[key], value)
    return seen


@view
@along_the_data
def highlight(graph: GradGraph, names: str | Sequence[str]) -> GradGraph:
    """Highlight nodes, and the gradient paths to them.

    A view that folds such a node highlights the group.

    Args:
        graph: any graph.
        names: of nodes, modules, operations or keys, as for `focus_on`.

    Raises:
        UsageError: if no node has that name.

    Example:
        >>> graph = GradGraph()
        >>> from gradviz.graph import NodeKind
        >>> for key in "wxy": graph.add_node(key, kind=NodeKind.LEAF, name=key)
        >>> for key in "wx": _ = graph.add_edge(key, "y", 0, kind=EdgeKind.GRADIENT)
        >>> seen = highlight(graph, "w")
        >>> [key for key, data in seen.nodes(data=True) if data.get("highlight")]
        ['w', 'y']
    """
    wanted = [names] if isinstance(names, str) else list(names)
    starts = _with_copies(graph, (key for name in wanted for key in nodes_called(graph, name)))
    seen: GradGraph = graph.copy()
    for key in descendants(graph, starts):
        seen.nodes[key]["highlight"] = True
    before = graph.graph.get("highlight")
    seen.graph.update(marked=True, highlight=", ".join([*([before] if before else []), *wanted]))
    return highlight_edges(seen)


def highlight_edges(graph: GradGraph) -> GradGraph:
    """The same graph with highlighted edges: the gradient edges between highlighted nodes."""
    nodes = graph.nodes
    for *ends, data in graph.edges(data=True):
        is_gradient = data.get("kind", EdgeKind.GRADIENT) is EdgeKind.GRADIENT
        if is_gradient and all(nodes[end].get("highlight") for end in ends):
            data["highlight"] = True
    return graph


def _with_copies(graph: GradGraph, keys: Iterable[str]) -> set[str]:
    """The nodes, and the copies of leaves among them."""
    first = {graph.nodes[key].get("clone_of", key) for key in keys}
    again = {key for key, data in graph.nodes(data=True) if data.get("clone_of") in first}
    return first | again
