"""Manual changes of a picture: other names, colors, and highlighted paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from gradviz.errors import UsageError
from gradviz.graph import EdgeKind, GradGraph, descendants
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
"""Colors by name: Okabe and Ito's, which color-blind readers can distinguish."""

_DIGITS = frozenset("0123456789abcdef")


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
