"""Convert a story to DOT with the ``graphviz`` package."""

from __future__ import annotations

from html import escape
from typing import Any

import graphviz

from gradviz.graph import Cause, EdgeKind, GradGraph
from gradviz.graph.text import clean
from gradviz.renderers.cards import edge_tooltip, tooltip_of
from gradviz.renderers.edges import QUIET, edges_by_node
from gradviz.renderers.labels import Label, Line, cause_text, labels_of
from gradviz.renderers.scene import SheetStyle
from gradviz.renderers.theme import (
    FONT,
    TEXT,
    Bar,
    Look,
    Theme,
    bar_of,
    color,
    edge_look,
    look_of,
    scale_text,
)
from gradviz.story import Story

# Graphviz ignores misspelled attributes silently, so the common ones are defined here once.
_GRAPH = {"rankdir": "TB", "nodesep": "0.3", "ranksep": "0.4", "fontname": FONT, "fontsize": "11"}
_NODE = {"shape": "plain", "fontname": FONT, "fontsize": "12"}
_BAR_WIDTH = 80
_EDGE = {"arrowsize": "0.7", "penwidth": "1.2", "fontname": FONT, "fontsize": "10"}


def to_digraph(
    story: Story, theme: Theme = "auto", transparent: bool = False, style: SheetStyle | None = None
) -> graphviz.Digraph:
    """Convert a story to a ``graphviz.Digraph``; several frames become clusters.

    Args:
        story: frames as they will be drawn.
        theme: ``"dark"``; light colors for other values.
        transparent: as for the SVG.
        style: whether the data flows from left to right.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> from gradviz.story import Frame
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="x")
        >>> "<B>x</B>" in to_digraph(Story((Frame("", graph),))).source
        True
    """
    digraph = graphviz.Digraph("gradviz", node_attr=_NODE, edge_attr=_EDGE)
    page = "transparent" if transparent else color("page", theme)
    layout = {**_GRAPH, "rankdir": "LR"} if style and style.sideways else _GRAPH
    digraph.attr(**layout, bgcolor=page, fontcolor=color("ink", theme))
    if len(story) == 1:
        frame = story[0]
        lines = [story.title or frame.title, frame.caption, scale_text(frame.graph)]
        title = "\n".join(map(clean, filter(None, lines)))
        digraph.attr(label=graphviz.escape(title + "\n")) if title else None
        _add(digraph, frame.graph, "", theme)
        return digraph
    if story.title:
        digraph.attr(label=graphviz.escape(clean(story.title)))
    for number, frame in enumerate(story, 1):
        with digraph.subgraph(name=f"cluster_{number}") as cluster:
            cluster.attr(label=graphviz.escape(f"{number}  {clean(frame.title)}"), labelloc="b")
            cluster.attr(color=color("panel", theme), style="rounded", margin="14")
            _add(cluster, frame.graph, f"f{number}_", theme)
    return digraph


def _add(digraph: Any, graph: GradGraph, prefix: str, theme: Theme) -> None:
    for key, label in labels_of(graph).items():
        data = graph.nodes[key]
        tooltip = graphviz.escape(tooltip_of(key, data))
        look = look_of(data)
        table = _table(label, look, bar_of(graph, data), theme)
        digraph.node(prefix + key, label=table, tooltip=tooltip, id=prefix + key)
    for source, target, _, data in edges_by_node(graph):
        cut = data.get("kind", EdgeKind.GRADIENT) is EdgeKind.CUT
        loud = cut and data.get("cause", Cause.NOT_RECORDED) not in QUIET
        token, width = edge_look(data)
        attributes = {"color": color("cut" if loud else token, theme)}
        if token != "line":
            attributes["penwidth"] = f"{width:g}"
        if cut:
            text = cause_text(data) if loud else "no gradient"
            attributes |= {"style": "dashed", "label": f" {text}"}
        elif data.get("through"):
            attributes["label"] = f" {', '.join(data['through'])}"
        if "times" in data:
            attributes["label"] = f"{attributes.get('label', '')} ×{data['times']:,}"
        if "label" in attributes:
            attributes["fontcolor"] = color("cut" if loud else "line", theme)
        tooltip = graphviz.escape(edge_tooltip(data))
        digraph.edge(prefix + source, prefix + target, tooltip=tooltip, **attributes)


def _table(label: Label, look: Look, bar: Bar | None, theme: Theme) -> str:
    """The card as an HTML-like table, Graphviz's only label with several text styles."""
    style = ["ROUNDED"] * bool(look.radius) + ["DASHED"] * look.dashed
    marks = f' STYLE="{",".join(style)}"' if style else ""
    align = "CENTER" if look.radius or not label.rows else "LEFT"
    head = _cell(label.head, align, color(look.head, theme), theme)
    rows = [_cell(row, align, color(look.body, theme), theme) for row in label.rows]
    bars = [_bar(bar, theme)] if bar else []
    body = "".join(f"<TR>{cell}</TR>" for cell in (head, *rows, *bars))
    border = 3 if look.line >= 3 else 1
    return (
        f'<<TABLE BORDER="{border}" CELLBORDER="0" CELLSPACING="0" CELLPADDING="4"{marks} '
        f'COLOR="{color(look.edge, theme)}" BGCOLOR="{color(look.body, theme)}">{body}</TABLE>>'
    )


def _bar(bar: Bar, theme: Theme) -> str:
    """A row of two cells: the bar and the rest of its background."""
    filled = max(1, round(bar.share * _BAR_WIDTH))
    cells = "".join(
        f'<TD FIXEDSIZE="TRUE" WIDTH="{width}" HEIGHT="5" BGCOLOR="{color(token, theme)}"></TD>'
        for token, width in ((bar.token, filled), ("panel", _BAR_WIDTH - filled))
        if width
    )
    return (
        '<TD CELLPADDING="3"><TABLE BORDER="0" CELLBORDER="0" CELLSPACING="0" CELLPADDING="0" '
        f'FIXEDSIZE="TRUE" WIDTH="{_BAR_WIDTH}" HEIGHT="5"><TR>{cells}</TR></TABLE></TD>'
    )


def _cell(line: Line, align: str, fill: str, theme: Theme) -> str:
    words = "  ".join(_words(text.text, text.role, theme) for text in line)
    return f'<TD ALIGN="{align}" BGCOLOR="{fill}">{words}</TD>'


def _words(text: str, role: Any, theme: Theme) -> str:
    look = TEXT[role]
    escaped = escape(text, quote=True).replace("&#x27;", "&#39;") or " "
    bold = f"<B>{escaped}</B>" if look.bold else escaped
    return f'<FONT COLOR="{color(look.color, theme)}" POINT-SIZE="{look.size:g}">{bold}</FONT>'
