"""What a caller changes by hand: other names, colors, and a path that stands out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gradviz.errors import UsageError
from gradviz.graph import EdgeKind, GradGraph
from gradviz.graph.algorithms import descendants
from gradviz.graph.text import must_be
from gradviz.views.focus import nodes_called
from gradviz.views.view import along_the_data, view

__all__ = ["COLORS", "color_code", "highlight", "highlight_edges", "paint", "relabel"]

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
"""Colors by name: those of Okabe and Ito, which color-blind readers can tell apart."""

_DIGITS = frozenset("0123456789abcdef")


@view
def relabel(graph: GradGraph, labels: Mapping[str, str]) -> GradGraph:
    """Call nodes by other names.

    Args:
        graph: anything.
        labels: what to call them, by name, operation or key, as for `focus_on`.

    Raises:
        UsageError: if nothing is called so.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="w")
        >>> relabel(graph, {"w": "weights"}).nodes["n0"]["name"]
        'weights'
    """
    seen = _changed(graph, labels, lambda data, label: data.update(name=label))
    if names := seen.graph.get("highlight"):  # the legend says them
        seen.graph["highlight"] = ", ".join(labels.get(name, name) for name in names.split(", "))
    return seen


@view
def paint(graph: GradGraph, colors: Mapping[str, str]) -> GradGraph:
    """Give nodes colors.

    Args:
        graph: anything.
        colors: the color of nodes by name, module, operation or key, as for `focus_on`: a code
            like ``"#d55e00"``, or one of the names in ``COLORS``.

    Raises:
        UsageError: if nothing is called so, or a color is neither.

    Example:
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
        UsageError: if it is no color.

    Example:
        >>> color_code("red"), color_code("#FC0")
        ('#d55e00', '#ffcc00')
    """
    if color in COLORS:
        return COLORS[color]
    digits = color[1:].lower()
    if color[:1] != "#" or len(digits) not in (3, 6) or not _DIGITS.issuperset(digits):
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
    """Let nodes stand out, and the paths on which their gradient comes.

    A view that folds such a node lets the group stand out.

    Args:
        graph: anything.
        names: of nodes, modules, operations or keys, as for `focus_on`.

    Raises:
        UsageError: if nothing is called so.

    Example:
        >>> graph = GradGraph()
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
    """The same graph; in it the edges stand out that a gradient takes between nodes that do."""
    nodes = graph.nodes
    for *ends, data in graph.edges(data=True):
        is_gradient = data.get("kind", EdgeKind.GRADIENT) is EdgeKind.GRADIENT
        if is_gradient and all(nodes[end].get("highlight") for end in ends):
            data["highlight"] = True
    return graph


def _with_copies(graph: GradGraph, keys: Iterable[str]) -> set[str]:
    """The nodes, and where each leaf is drawn again."""
    first = {graph.nodes[key].get("clone_of", key) for key in keys}
    again = {key for key, data in graph.nodes(data=True) if data.get("clone_of") in first}
    return first | again
