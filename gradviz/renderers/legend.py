"""The legend: one row for each kind of mark in the picture."""

from __future__ import annotations

from collections.abc import Sequence

from gradviz.graph import EdgeKind, GradGraph, Mark, NodeKind
from gradviz.renderers.edges import cause_box, drawn_edges
from gradviz.renderers.labels import Role, clean, labels_of, may_have_changed
from gradviz.renderers.scene import Curve, Rectangle, Shape
from gradviz.renderers.theme import FILLS, LOOKS, TEXT, VALUE, marked, scale_legend

__all__ = [
    "GLYPH_HEIGHT",
    "GLYPH_WIDTH",
    "MEANINGS",
    "ROLE_ROWS",
    "legend_glyph",
    "legend_of",
    "role_rows",
]

GLYPH_WIDTH = 22.0
GLYPH_HEIGHT = 12.0

MEANINGS = {
    "leaf": "leaf, with its .grad",
    "operation": "operation",
    "accumulate": "AccumulateGrad: adds to a leaf's .grad",
    "result": "result",
    "untracked": "not tracked: gets no gradient",
    "saved": "saved for backward",
    "group": "several operations drawn as one",
    "parameters": "several parameters drawn as one",
    "untracked-input": "no gradient flows back",
    "cut": "the gradient is cut here",
    "through": "reshaped on the way",
    "again": "leaf from above, drawn again",
    "untracked-again": "tensor from above, drawn again",
    "constant": "constant: an input that is not tracked",
    "flow": "arrows: direction of the gradient",
    "now": "now: current value, perhaps changed since the operations used it",
    "output": "[0], [1]: which output of the operation",
    "times": "×2: number of inputs that an arrow stands for",
    "news": "changed since the frame before",
    "ranks": "not the same on all ranks",
    "removed": "not in the frame after",
    "zeros": "all zeros",
    "loud": "needs attention",
}
_HIGHLIGHT = "highlight"
_WITHOUT_GLYPH = ("constant", "no-bar", "now", "output", "times")
ROLE_ROWS = {
    "news": Role.NEWS,
    "ranks": Role.NEWS,
    "removed": Role.REMOVED,
    "zeros": Role.ZERO,
    "loud": Role.LOUD,
}
"""Rows that explain the color of text."""


def role_rows(graph: GradGraph) -> dict[str, Role]:
    """Those of `ROLE_ROWS` that can be in a picture of the graph.

    Example:
        >>> list(role_rows(GradGraph()))
        ['news', 'removed', 'zeros', 'loud']
    """
    other = "news" if "ranks" in graph.graph else "ranks"
    return {word: role for word, role in ROLE_ROWS.items() if word != other}


_AGAIN = {"again": NodeKind.LEAF, "untracked-again": NodeKind.UNTRACKED}


def legend_of(graphs: Sequence[GradGraph]) -> dict[str, str]:
    """The rows of the legend for these graphs, in a fixed order.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF)
        >>> legend_of([graph])
        {'leaf': 'leaf, with its .grad'}
    """
    found: set[str] = set()
    for graph in graphs:
        for key, data in graph.nodes(data=True):
            kind = "leaf" if data["kind"] is NodeKind.PARAMETER else data["kind"].value
            if "clone_of" in data:
                kind = "untracked-again" if data["kind"] is NodeKind.UNTRACKED else "again"
            is_docked = kind == "group" and not data.get("members") and "parameters" in data
            found.add("parameters" if is_docked else kind)
            if data.get("untracked_inputs"):
                found.add("constant")
            if data.get("outputs", 1) > 1:
                found.add("output")
            if may_have_changed(graph, key) and data.get("value"):
                found.add("now")
        for label in labels_of(graph).values():
            roles = {span.role for line in (label.head, *label.rows) for span in line}
            found.update(word for word, role in role_rows(graph).items() if role in roles)
        for edge in drawn_edges(graph):
            data = edge[3]
            if data.get("times", 1) > 1:
                found.add("times")
            if data.get("kind") is EdgeKind.CUT:
                found.add("cut" if cause_box(graph, edge) else "untracked-input")
            elif data.get("through"):
                found.add("through")
        if graph.graph.get("flow") == "gradient":
            found.add("flow")
    rows = {word: meaning for word, meaning in MEANINGS.items() if word in found}
    if names := next(
        (graph.graph[_HIGHLIGHT] for graph in graphs if _HIGHLIGHT in graph.graph), ""
    ):
        rows[_HIGHLIGHT] = f"highlighted: the path of the gradient to {clean(names)}"
    return rows | _scales(graphs)


def _scales(graphs: Sequence[GradGraph]) -> dict[str, str]:
    """The rows that explain bars; panels with different scales share one row."""
    rows: dict[str, str] = {}
    for graph in graphs:
        for word, meaning in scale_legend(graph).items():
            if rows.setdefault(word, meaning) != meaning:
                rows[word] = "how much, on each panel's own scale"
    return rows


def legend_glyph(word: str, x: float, middle: float) -> list[Shape]:
    """The symbol of a legend row, with its left end at ``x``."""
    if word in _WITHOUT_GLYPH:
        return []
    line = ((x, middle), (x + 7, middle), (x + 14, middle), (x + GLYPH_WIDTH, middle))
    if word in ("cut", "untracked-input"):
        token = "cut" if word == "cut" else "line"
        strokes = [
            Curve(((x + at + 1.5, middle - 5),) * 2 + ((x + at - 1.5, middle + 5),) * 2, token, 1.6)
            for at in (9, 14)
        ]
        return [Curve(line, token, 1.3, dashed=True), *strokes]
    if word == "width":
        return [Curve(line, "level", 4.0)]
    if word == _HIGHLIGHT:
        return [Curve(line, "ink", 3.2)]
    if word in ("through", "flow"):
        dot = Rectangle(x + 7.5, middle - 3.5, 7, 7, "page", "line", 1.3, radius=3.5)
        return [Curve(line, "line", 1.3), *([dot] if word == "through" else [])]
    if word == "level" or word.startswith(VALUE):
        return _bar_glyph(word, x, middle)
    if word in ("zero", "first"):
        look = marked(LOOKS[NodeKind.LEAF], Mark.ZERO if word == "zero" else Mark.FIRST)
        top = middle - GLYPH_HEIGHT / 2
        return [Rectangle(x, top, GLYPH_WIDTH, GLYPH_HEIGHT, look.head, look.edge, look.line)]
    top = middle - GLYPH_HEIGHT / 2
    if word in ROLE_ROWS:
        fill, edge = FILLS.get(ROLE_ROWS[word]), TEXT[ROLE_ROWS[word]].color
        bar = Rectangle(x + 5, middle - 1.5, GLYPH_WIDTH - 10, 3, edge)
        return [Rectangle(x, top, GLYPH_WIDTH, GLYPH_HEIGHT, fill or "page"), bar]
    if word in _AGAIN:
        edge = LOOKS[_AGAIN[word]].edge
        return [Rectangle(x, top, GLYPH_WIDTH, GLYPH_HEIGHT, "page", edge, 0.8)]
    look = LOOKS[NodeKind.GROUP if word == "parameters" else NodeKind(word)]
    frame = (look.head, look.edge, look.line, min(look.radius, GLYPH_HEIGHT / 2), look.dashed)
    return [Rectangle(x, top, GLYPH_WIDTH, GLYPH_HEIGHT, *frame)]


def _bar_glyph(token: str, x: float, middle: float) -> list[Shape]:
    """A bar of that color; three bars for a scale."""
    shares = (0.2, 0.6, 1.0) if token == "level" else (1.0,)
    height = GLYPH_HEIGHT / len(shares) - 1
    tops = [middle - GLYPH_HEIGHT / 2 + number * (height + 1) for number in range(len(shares))]
    return [
        Rectangle(x, top, GLYPH_WIDTH * share, height, token)
        for top, share in zip(tops, shares, strict=True)
    ]
