"""One frame as placed shapes: cards where the layout put them, edges drawn between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from gradviz.graph import EdgeKind, GradGraph
from gradviz.renderers.cards import Card, card_of, line_width, set_line
from gradviz.renderers.labels import Role, Span, edge_tooltip, labels_of, tooltip_of
from gradviz.renderers.layout import Box, Link, lay_out
from gradviz.renderers.scene import Curve, Group, Point, Polygon, Rectangle, Shape

__all__ = ["Panel", "panel_of", "shift"]

_ARROW = 8.0


@dataclass(frozen=True)
class Panel:
    """A drawn graph: its size in points, its shapes, and the engine that placed them."""

    width: float
    height: float
    groups: tuple[Group, ...]
    engine: str


def panel_of(graph: GradGraph, limit: float = 20.0) -> Panel:
    """Place and draw one graph.

    Args:
        graph: as it will be drawn, views applied.
        limit: seconds that the layout engine may take.
    """
    cards = {
        key: card_of(label, graph.nodes[key]["kind"], "clone_of" in graph.nodes[key])
        for key, label in labels_of(graph).items()
    }
    edges = list(graph.edges(keys=True, data=True))
    # An operation's inputs are told to the layout in their order, so that it can keep them so.
    edges.sort(key=lambda edge: edge[3].get("input", 0))
    boxes = [Box(key, card.width, card.height) for key, card in cards.items()]
    links = [Link(source, target) for source, target, _, _ in edges]
    layout = lay_out(boxes, links, limit=limit)
    groups = [
        _edge_group(graph, edge, route, layout.centers[edge[0]])
        for edge, route in zip(edges, layout.routes, strict=True)
    ]
    groups += [_node_group(graph, key, card, layout.centers[key]) for key, card in cards.items()]
    return Panel(layout.width, layout.height, tuple(groups), layout.engine)


def _node_group(graph: GradGraph, key: str, card: Card, center: Point) -> Group:
    data = graph.nodes[key]
    x, y = center
    shapes = card.shapes(x - card.width / 2, y - card.height / 2)
    return Group(key, f"node {data['kind'].value}", shapes, tooltip_of(key, data))


def _edge_group(
    graph: GradGraph, edge: tuple[str, str, int, Any], route: tuple[Point, ...], center: Point
) -> Group:
    source, target, number, data = edge
    kind = data.get("kind", EdgeKind.GRADIENT)
    cut = kind is EdgeKind.CUT
    token = "loud" if cut else "line"
    shapes: list[Shape] = [
        Curve(_without_tip(route), token, 1.3, dashed=kind is not EdgeKind.GRADIENT),
        _arrow(route, token),
    ]
    middle, direction = _middle(route)
    if cut:
        shapes += _break_mark(middle, direction)
    elif data.get("through"):
        x, y = middle
        shapes.append(Rectangle(x - 3.5, y - 3.5, 7, 7, "page", "line", 1.3, radius=3.5))
    if graph.nodes[source].get("outputs", 1) > 1:
        label = (Span(f"[{data.get('output', 0)}]", Role.FACT),)
        x, y = route[0]
        left = x < center[0] - 1
        shapes.append(set_line(label, x - 4 - line_width(label) if left else x + 4, y + 11))
    key = f"{source}-{target}-{number}"
    names = [
        graph.nodes[end].get("name") or graph.nodes[end].get("op", end) for end in (source, target)
    ]
    tooltip = f"{names[0]} → {names[1]}\n{edge_tooltip(data)}"
    return Group(key, f"edge {kind.value}", tuple(shapes), tooltip)


def _unit(start: Point, end: Point) -> Point:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    return (dx / length, dy / length) if length else (0.0, 1.0)


def _direction_at_end(route: tuple[Point, ...]) -> Point:
    tip = route[-1]
    before = next((point for point in reversed(route) if math.dist(point, tip) > 0.01), tip)
    return _unit(before, tip)


def _without_tip(route: tuple[Point, ...]) -> tuple[Point, ...]:
    """The curve, ended inside its arrow head so that the line does not show at the tip."""
    dx, dy = _direction_at_end(route)
    back = _ARROW * 0.7
    ends = [(x - dx * back, y - dy * back) for x, y in route[-2:]]
    return (*route[:-2], *ends)


def _arrow(route: tuple[Point, ...], token: str) -> Polygon:
    (x, y), (dx, dy) = route[-1], _direction_at_end(route)
    base_x, base_y = x - dx * _ARROW, y - dy * _ARROW
    side = _ARROW * 0.42
    left = (base_x - dy * side, base_y + dx * side)
    right = (base_x + dy * side, base_y - dx * side)
    return Polygon(((x, y), left, right), token)


def _middle(route: tuple[Point, ...]) -> tuple[Point, Point]:
    """The middle of a curve and its direction there."""
    segments = (len(route) - 1) // 3
    start = 3 * (segments // 2)
    a, b, c, d = route[start : start + 4]
    if segments % 2 == 0:
        return a, _unit(route[start - 1], b)
    x = (a[0] + 3 * b[0] + 3 * c[0] + d[0]) / 8
    y = (a[1] + 3 * b[1] + 3 * c[1] + d[1]) / 8
    return (x, y), _unit((a[0] + b[0], a[1] + b[1]), (c[0] + d[0], c[1] + d[1]))


def _break_mark(middle: Point, direction: Point) -> list[Shape]:
    """Two short strokes across a gap, as on a cut wire."""
    (x, y), (dx, dy) = middle, direction
    gap = Polygon(
        tuple(
            (x + a * 3 * dx - b * 5 * dy, y + a * 3 * dy + b * 5 * dx)
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ),
        "page",
    )
    shapes: list[Shape] = [gap]
    for along in (-3, 3):
        ends = [
            (x + (along + lean) * dx - across * dy, y + (along + lean) * dy + across * dx)
            for across, lean in ((-6, 2), (6, -2))
        ]
        shapes.append(Curve((ends[0], ends[0], ends[1], ends[1]), "loud", 1.6))
    return shapes


def shift(group: Group, dx: float, dy: float, prefix: str = "") -> Group:
    """The group moved by that much, with ``prefix`` before its key to tell panels apart."""

    def moved(shape: Any) -> Any:
        if isinstance(shape, (Curve, Polygon)):
            points = tuple((x + dx, y + dy) for x, y in shape.points)
            return type(shape)(**{**vars(shape), "points": points})
        return type(shape)(**{**vars(shape), "x": shape.x + dx, "y": shape.y + dy})

    return Group(prefix + group.key, group.kind, tuple(map(moved, group.shapes)), group.tooltip)
