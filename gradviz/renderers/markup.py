"""Convert a story to a graph language: DOT, with the ``graphviz`` package, or Mermaid.

GitHub, GitLab and many wikis draw Mermaid inside Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

import graphviz

from gradviz.errors import TooLargeError
from gradviz.graph import Cause, EdgeKind, GradGraph, Mark, NodeKind
from gradviz.graph.text import clean
from gradviz.renderers.cards import edge_tooltip, tooltip_of
from gradviz.renderers.edges import QUIET, edges_by_node
from gradviz.renderers.labels import Label, Line, cause_text, labels_of
from gradviz.renderers.scene import SheetStyle
from gradviz.renderers.theme import (
    FONT,
    LOOKS,
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


# Mermaid.

MOST_EDGES = 500
"""Mermaid's ``maxEdges``: with more edges, it draws an error instead of the diagram."""

MOST_CHARACTERS = 50_000
"""Mermaid's ``maxTextSize``. Both are defaults that a page on GitHub cannot change
(https://mermaid.js.org/config/schema-docs/config.html)."""

_BRACKETS = {
    NodeKind.OPERATION: ("(", ")"),
    NodeKind.ACCUMULATE: ("(", ")"),
    NodeKind.RESULT: ("([", "])"),
    NodeKind.GROUP: ("[[", "]]"),
}


def to_mermaid(story: Story, theme: Theme = "auto", style: SheetStyle | None = None) -> str:
    """Convert a story to the text of a Mermaid flowchart.

    Args:
        story: frames as they will be drawn; several become subgraphs.
        theme: ``"dark"``; light colors for other values.
        style: whether the data flows from left to right.

    Raises:
        TooLargeError: if Mermaid would refuse the diagram.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.LEAF, name="x")
        >>> from gradviz.story import Frame
        >>> print(to_mermaid(Story((Frame("", graph),))).splitlines()[2])
          n0["<b>x</b> leaf"]:::leaf
    """
    edges = sum(len(edges_by_node(frame.graph)) for frame in story)
    if edges > MOST_EDGES:
        raise TooLargeError(
            f"the graph has {edges:,} edges, and Mermaid draws at most {MOST_EDGES}; draw a "
            "smaller part of it, or save it as .svg"
        )
    sideways = bool(style and style.sideways)
    text = (
        "\n".join([*_lines(story, sideways), *_classes(story, theme), *_widths(story, theme)])
        + "\n"
    )
    if len(text) > MOST_CHARACTERS:
        raise TooLargeError(
            f"the diagram has {len(text):,} characters, and Mermaid reads at most "
            f"{MOST_CHARACTERS:,}; draw a smaller part of it, or save it as .svg"
        )
    return text


def _lines(story: Story, sideways: bool) -> Iterator[str]:
    several = len(story) > 1
    yield "%% drawn by gradviz"
    yield "flowchart LR" if sideways else "flowchart TD"
    for number, frame in enumerate(story, 1):
        if several:
            yield f'  subgraph f{number}["{number} {_escape(frame.title)}"]'
        yield from _graph_lines(frame.graph, f"f{number}_" if several else "")
        if several:
            yield "  end"
        if frame.caption:
            yield f"%% {' '.join(frame.caption.split())}"


def _graph_lines(graph: GradGraph, prefix: str) -> Iterator[str]:
    for key, label in labels_of(graph).items():
        kind: NodeKind = graph.nodes[key]["kind"]
        opening, closing = _BRACKETS.get(kind, ("[", "]"))
        name = "leaf" if kind is NodeKind.PARAMETER else kind.value
        yield f'  {prefix}{key}{opening}"{_label(label)}"{closing}:::{name}'
    for source, target, _, data in edges_by_node(graph):
        ends = f"{prefix}{source}", f"{prefix}{target}"
        times = [f"×{data['times']:,}"] if "times" in data else []
        words = ", ".join([*data.get("through", ()), *times])
        if data.get("kind", EdgeKind.GRADIENT) is EdgeKind.GRADIENT:
            yield f"  {ends[0]} -->{f'|{_escape(words)}|' if words else ''} {ends[1]}"
        else:
            cause = data.get("cause", Cause.NOT_RECORDED)
            text = "no gradient" if cause is Cause.NOT_RECORDED else _escape(cause_text(data))
            yield f'  {ends[0]} -.->|"{text}"| {ends[1]}'


def _widths(story: Story, theme: Theme) -> Iterator[str]:
    """The widths of edges and outlines of nodes that `color_by` defines."""
    several = len(story) > 1
    number = 0
    for place, frame in enumerate(story, 1):
        graph, prefix = frame.graph, f"f{place}_" if several else ""
        for *_, data in edges_by_node(graph):
            token, width = edge_look(data)
            if token != "line":
                thick = f"stroke:{color(token, theme)},stroke-width:{width:g}px"
                yield f"  linkStyle {number} {thick}"
            number += 1
        for key, data in graph.nodes(data=True):
            if bar := bar_of(graph, data):
                width = 1 + 5 * bar.share
                thick = f"stroke:{color(bar.token, theme)},stroke-width:{width:.2g}px"
                yield f"  style {prefix}{key} {thick}"
            elif "color" in data or "highlight" in data:
                look = look_of(data)
                fill, edge = color(look.head, theme), color(look.edge, theme)
                thick = f"fill:{fill},stroke:{edge},stroke-width:{look.line:g}px"
                yield f"  style {prefix}{key} {thick}"
            elif data.get("mark") is Mark.ZERO:
                grey = (color(token, theme) for token in ("op", "op-edge"))
                yield "  style {}{} fill:{},stroke:{}".format(prefix, key, *grey)
        if scale := scale_text(graph):
            yield f"%% {scale}"


def _label(label: Label) -> str:
    return "<br>".join(_label_line(line) for line in (label.head, *label.rows))


def _label_line(line: Line) -> str:
    words = []
    for span in line:
        text = _escape(span.text)
        bold = TEXT[span.role].bold
        words.append(f"<b>{text}</b>" if bold else text)
    return " ".join(words)


def _escape(text: str) -> str:
    """Text for a quoted label: special characters of Mermaid and Markdown as entities."""
    return "".join(
        char if char.isalnum() or char in " .,=+-/:()'!?" or ord(char) > 127 else f"#{ord(char)};"
        for char in text
    )


def _classes(story: Story, theme: Theme) -> Iterator[str]:
    kinds = {data["kind"] for frame in story for _, data in frame.graph.nodes(data=True)}
    names = {"leaf" if kind is NodeKind.PARAMETER else kind.value: kind for kind in kinds}
    for name, kind in sorted(names.items()):
        look = LOOKS[kind]
        fill, edge, ink = (color(token, theme) for token in (look.head, look.edge, "ink"))
        dashes = ",stroke-dasharray:5 3" if look.dashed else ""
        yield f"  classDef {name} fill:{fill},stroke:{edge},color:{ink}{dashes}"
