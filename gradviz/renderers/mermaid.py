"""Convert a story to Mermaid, which GitHub, GitLab and many wikis draw inside Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from gradviz.errors import TooLargeError
from gradviz.graph import Cause, EdgeKind, GradGraph, Mark, NodeKind
from gradviz.renderers.edges import edges_by_node
from gradviz.renderers.labels import Label, Line, cause_text, labels_of
from gradviz.renderers.scene import SheetStyle
from gradviz.renderers.theme import (
    LOOKS,
    TEXT,
    Theme,
    bar_of,
    color,
    edge_look,
    look_of,
    scale_text,
)
from gradviz.story import Story

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
