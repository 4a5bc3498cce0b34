"""One frame as placed shapes: cards and the edges between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from gradviz.graph import GradGraph, NodeKind
from gradviz.renderers.cards import Card, card_of
from gradviz.renderers.edges import EdgePlaces, cause_box, drawn_edges, edge_group, output_numbers
from gradviz.renderers.labels import labels_of, tooltip_of
from gradviz.renderers.layout.engines import Box, Link, lay_out
from gradviz.renderers.layout.wrapping import wrap
from gradviz.renderers.scene import Curve, Point, Polygon, Shape, ShapeGroup
from gradviz.renderers.theme import bar_of

__all__ = ["Panel", "Shifted", "panels_of"]

_EDGE_ROOM = 8.0  # points from where an edge meets a card to the corner of the card
_HELD = 2_000  # nodes whose shapes are made once and kept; of more, whenever they are asked for


@dataclass(frozen=True)
class Panel:
    """A drawn graph: its size in points, its shapes, and the engine that placed them."""

    width: float
    height: float
    groups: Iterable[ShapeGroup]
    engine: str


def panels_of(
    graphs: Sequence[GradGraph], limit: float = 20.0, columns: bool = False
) -> list[Panel]:
    """Place and draw graphs that will be shown side by side.

    Args:
        graphs: as they will be drawn, views applied. A node that several of them in a row share
            (it has the same key) gets the same place in each.
        limit: seconds that the layout engine may take for each.
        columns: break tall pictures into columns, where each has a sheet of its own.
    """
    return [
        panel
        for group in _alike(graphs)
        for panel in _panels_in_the_same_places(group, limit, columns)
    ]


def _alike(graphs: Sequence[GradGraph]) -> list[list[GradGraph]]:
    """Runs of graphs that share most operations: one graph at several moments."""
    groups: list[list[GradGraph]] = []
    for graph in graphs:
        own = _operations(graph)
        last = _operations(groups[-1][-1]) if groups else set()
        if 2 * len(own & last) > min(len(own), len(last)):
            groups[-1].append(graph)
        else:
            groups.append([graph])
    return groups


def _operations(graph: GradGraph) -> set[tuple[object, ...]]:
    """Operations by key and constant attributes; every trace numbers its keys from n0."""
    return {
        (key, *(data.get(name) for name in ("sequence_nr", "op", "shape", "dtype", "source")))
        for key, data in graph.nodes(data=True)
        if data["kind"] is NodeKind.OPERATION and "sequence_nr" in data
    }


def _panels_in_the_same_places(
    graphs: Sequence[GradGraph], limit: float, columns: bool
) -> list[Panel]:
    cards = [_cards(graph) for graph in graphs]
    boxes: dict[str, Box] = {}
    links: dict[object, Link] = {}
    for graph, own in zip(graphs, cards, strict=True):
        for key, card in own.items():
            box = boxes.get(key, Box(key, 0, 0))
            boxes[key] = Box(key, max(box.width, card.width), max(box.height, card.height))
        for edge in drawn_edges(graph):
            source, target, number, _ = edge
            if cause := cause_box(graph, edge):
                boxes[cause.key] = cause
                links[source, target, number] = Link(source, cause.key)
                links[cause.key] = Link(cause.key, target)
            else:
                links[source, target, number] = Link(source, target)
    placed = list(boxes.values())
    layout = lay_out(placed, list(links.values()), limit=limit)
    if columns:
        layout = wrap(placed, layout)
    routes = dict(zip(links, layout.routes, strict=True))
    panels = []
    for graph, own in zip(graphs, cards, strict=True):
        places = EdgePlaces(layout.centers, routes, output_numbers(graph, layout.centers, routes))
        reach = _reach(graph, places) if len(graphs) > 1 else {}
        for key, card in own.items():
            width = min(max(card.width, reach.get(key, 0.0)), boxes[key].width)
            if (width, boxes[key].height) != (card.width, card.height):
                own[key] = replace(card, width=width, height=boxes[key].height)
        groups: Iterable[ShapeGroup] = _Drawn(graph, own, places)
        if len(own) <= _HELD:
            groups = tuple(groups)
        panels.append(Panel(layout.width, layout.height, groups, layout.engine))
    return panels


@dataclass(frozen=True)
class _Drawn:
    """The groups of a placed graph, made while they are iterated over."""

    graph: GradGraph
    cards: dict[str, Card]
    places: EdgePlaces

    def __iter__(self) -> Iterator[ShapeGroup]:
        for edge in drawn_edges(self.graph):
            yield edge_group(self.graph, edge, self.places)
        for key, card in self.cards.items():
            yield _node_group(self.graph, key, card, self.places.centers[key])


def _reach(graph: GradGraph, places: EdgePlaces) -> dict[str, float]:
    """The least width of each card at which its edges still meet it."""
    found: dict[str, float] = {}
    for edge in drawn_edges(graph):
        source, target, number, _ = edge
        box = cause_box(graph, edge)
        ends = (source, places.routes[source, target, number][0][0])
        tips = (target, places.routes[box.key if box else (source, target, number)][-1][0])
        for key, x in (ends, tips):
            aside = abs(x - places.centers[key][0])
            if aside > 1:
                found[key] = max(found.get(key, 0.0), 2 * (aside + _EDGE_ROOM))
    return found


def _cards(graph: GradGraph) -> dict[str, Card]:
    return {
        key: card_of(label, graph.nodes[key], bar_of(graph, graph.nodes[key]))
        for key, label in labels_of(graph).items()
    }


def _node_group(graph: GradGraph, key: str, card: Card, center: Point) -> ShapeGroup:
    data = graph.nodes[key]
    x, y = center
    shapes = card.shapes(x - card.width / 2, y - card.height / 2)
    return ShapeGroup(key, f"node {data['kind'].value}", shapes, tooltip_of(key, data))


class Shifted:
    """Groups moved by some points.

    Args:
        groups: to be moved.
        dx: how far to the right.
        dy: how far down.
        prefix: stands before each key then, to tell panels apart.
    """

    def __init__(
        self, groups: Iterable[ShapeGroup], dx: float, dy: float, prefix: str = ""
    ) -> None:
        self._groups, self._dx, self._dy, self._prefix = groups, dx, dy, prefix

    def __iter__(self) -> Iterator[ShapeGroup]:
        for key, kind, shapes, tooltip in self._groups:
            moved = tuple([self._moved(shape) for shape in shapes])
            yield ShapeGroup(self._prefix + key, kind, moved, tooltip)

    def _moved(self, shape: Shape) -> Shape:
        dx, dy = self._dx, self._dy
        if isinstance(shape, (Curve, Polygon)):
            return shape._replace(points=tuple([(x + dx, y + dy) for x, y in shape.points]))
        return shape._replace(x=shape.x + dx, y=shape.y + dy)
