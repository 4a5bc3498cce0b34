"""Edges as shapes: line, arrow head, cut sign, reshaping dot, number of the output."""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from gradviz.graph import Cause, EdgeKind, GradGraph, Mark, is_gradient
from gradviz.renderers.cards import edge_tooltip, line_width, set_line
from gradviz.renderers.labels import Line, Role, TextSpan, cause_word
from gradviz.renderers.layout.routing import Box, Link, Point, Route
from gradviz.renderers.scene import Curve, Polygon, Rectangle, Shape, ShapeGroup, Text, extent
from gradviz.renderers.theme import edge_look

Edge = tuple[str, str, int, Any]
"""Source, target, input number and attributes, as in networkx."""

_ARROW = 8.0
_MOST_PARALLEL = 3  # equal edges between two nodes that are drawn one by one
_MARK_ROOM = 14.0  # points between the line of a cut edge and the text beside its sign
_CAUSE_LINE = 14.0
QUIET = (Cause.NOT_RECORDED, Cause.CONSTANT)
"""Causes of cuts that are drawn in gray: the input may never have required a gradient."""
_DASHED = (EdgeKind.CUT, EdgeKind.ALIAS, EdgeKind.SAVED)


def drawn_edges(graph: GradGraph) -> list[Edge]:
    """The edges by input number; parallel edges with the same look are merged.

    A merged edge has ``times``, the number of edges that it stands for.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> for key in "ab": graph.add_node(key, kind=NodeKind.OPERATION, op=key)
        >>> for number in range(5): _ = graph.add_edge("a", "b", number, input=number)
        >>> drawn_edges(graph)
        [('a', 'b', 0, {'input': 0, 'times': 5})]
    """
    edges = sorted(graph.edges(keys=True, data=True), key=lambda edge: edge[3].get("input", 0))
    alike: dict[tuple[object, ...], list[Edge]] = {}
    for edge in edges:
        source, target, _, data = edge
        facts = {name: value for name, value in data.items() if name not in ("input", "norm")}
        alike.setdefault((source, target, repr(facts)), []).append(edge)
    found: list[Edge] = []
    for same in alike.values():
        source, target, number, data = same[0]
        merged = len(same) > _MOST_PARALLEL
        found += [(source, target, number, {**data, "times": len(same)})] if merged else same
    return sorted(found, key=lambda edge: edge[3].get("input", 0))


def edges_by_node(graph: GradGraph) -> list[Edge]:
    """The drawn edges in the order of their source nodes."""
    place = {key: number for number, key in enumerate(graph.nodes)}
    return sorted(drawn_edges(graph), key=lambda edge: place[edge[0]])


@dataclass(frozen=True)
class EdgePlaces:
    """The positions found by the layout.

    Args:
        centers: the center of each node.
        routes: by edge without its attributes; and by the key of a `cause_box`, the second half
            of its edge.
        numbers: by edge, the output number, where it is shown.
        sideways: whether the data flows from left to right.
        counts: by edge, the number of edges that it stands for, where it is shown.
        signs: by edge, how far along its line the sign of a cut or of reshaping stands, as a share
            of it; in the middle if it is not here.
    """

    centers: dict[str, Point]
    routes: dict[object, Route]
    numbers: dict[object, Text]
    sideways: bool = False
    counts: Mapping[object, Text] = field(default_factory=dict)
    signs: Mapping[object, float] = field(default_factory=dict)


def cause_box(graph: GradGraph, edge: Edge, sideways: bool = False) -> Box | None:
    """The box for the cause of a cut on its edge, or None if the edge shows no cause.

    Only the first cut edge of a path shows it, not the edges that follow.
    """
    source, target, number, data = edge
    if data.get("kind") is not EdgeKind.CUT:
        return None
    if data.get("cause", Cause.NOT_RECORDED) in QUIET:
        return None
    before = graph.out_edges if graph.graph.get("flow") == "gradient" else graph.in_edges
    is_first = any(
        is_gradient(*each)
        for each in (*graph.in_edges(source, data=True), *graph.out_edges(source, data=True))
    )
    edges = (other for _, _, other in before(source, data=True))
    if not is_first and any(other.get("cause") is data["cause"] for other in edges):
        return None
    lines, key = _cause_lines(data), f"cut {source} {target} {number}"
    widest = max(map(line_width, lines))
    if sideways:  # the text is below the line
        return Box(key, widest + 2 * _MARK_ROOM, 2 * (_MARK_ROOM + _CAUSE_LINE * len(lines)))
    return Box(key, 2 * (widest + _MARK_ROOM), 6 + _CAUSE_LINE * len(lines))


def _cause_lines(data: Any) -> list[Line]:
    """The cause of a cut, and below it the recorded line."""
    spans = [TextSpan(cause_word(data), Role.CUT), TextSpan(data.get("source", ""), Role.FACT)]
    return [(span,) for span in spans if span.text]


def edge_group(graph: GradGraph, edge: Edge, places: EdgePlaces) -> ShapeGroup:
    """The shapes of an edge."""
    source, target, number, data = edge
    kind = data.get("kind", EdgeKind.GRADIENT)
    box = cause_box(graph, edge, places.sideways)
    token, line = ("cut", 1.3) if box else edge_look(data)
    route = places.routes[source, target, number]
    shapes: list[Shape] = []
    if box:
        before, route = route, places.routes[box.key]
        shapes.append(Curve(before, token, 1.3, dashed=True))
        shapes += _cause(before[-1], route[0], data, places.sideways)
    drawn = _without_tip(route)
    shapes.append(Curve(drawn, token, line, kind in _DASHED))
    shapes.append(_arrow(route, token, _ARROW + line - 1.3))
    middle, direction = _spot(drawn, places.signs.get((source, target, number), 0.5))
    if kind is EdgeKind.CUT and not box:
        shapes += _break_mark(middle, direction, token)
    elif data.get("through"):
        x, y = middle
        shapes.append(Rectangle(x - 3.5, y - 3.5, 7, 7, "page", "line", 1.3, radius=3.5))
    texts = (each.get((source, target, number)) for each in (places.counts, places.numbers))
    shapes += filter(None, texts)
    names = [graph.nodes[end].get("name") or graph.nodes[end].get("op", end) for end in edge[:2]]
    tooltip = f"{names[0]} → {names[1]}\n{edge_tooltip(data)}"
    return ShapeGroup(f"{source}-{target}-{number}", f"edge {kind.value}", tuple(shapes), tooltip)


def _cause(start: Point, end: Point, data: Any, sideways: bool) -> list[Shape]:
    """The line through the box of a cause, the sign of a cut on it, and the text beside it."""
    x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
    lines = _cause_lines(data)
    foot = y + _MARK_ROOM + 6 if sideways else y + 4 - _CAUSE_LINE * (len(lines) - 1) / 2
    lefts = [x - line_width(line) / 2 if sideways else x + _MARK_ROOM for line in lines]
    rows = enumerate(zip(lines, lefts, strict=True))
    texts = [set_line(line, left, foot + _CAUSE_LINE * at) for at, (line, left) in rows]
    across = Curve((start, start, end, end), "cut", 1.3, dashed=True)
    return [across, *_break_mark((x, y), _unit(start, end), "cut"), *texts]


def through_middle(
    route: Route, link: Link, causes: Container[str], centers: Mapping[str, Point], sideways: bool
) -> Route:
    """The route, but that it meets the box of a cause in its middle, where no text is."""
    points = list(route)
    for key, end, bend, far in ((link.source, 0, 1, 2), (link.target, -1, -2, -3)):
        if key in causes:
            (x, y), (cx, cy), (fx, fy) = points[end], centers[key], points[far]
            points[end] = (x, cy) if sideways else (cx, y)
            points[bend] = ((x + fx) / 2, cy) if sideways else (cx, (y + fy) / 2)
    return tuple(points)


def with_short_sources(graph: GradGraph) -> GradGraph:
    """The graph with the files of recorded cuts by name, without their folders.

    Example:
        >>> graph = GradGraph()
        >>> graph.add_nodes_from("ab")
        >>> _ = graph.add_edge("a", "b", 0, kind=EdgeKind.CUT, source="models/text/loss.py:12")
        >>> [data["source"] for *_, data in with_short_sources(graph).edges(data=True)]
        ['loss.py:12']
    """
    short: GradGraph = graph.copy()
    for *_, data in short.edges(data=True):
        if "/" in data.get("source", ""):
            data["source"] = data["source"].rpartition("/")[2]
    return short


def _unit(start: Point, end: Point) -> Point:
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    return (dx / length, dy / length) if length else (0.0, 1.0)


def _direction_at_end(route: tuple[Point, ...]) -> Point:
    tip = route[-1]
    before = next((point for point in reversed(route) if math.dist(point, tip) > 0.01), tip)
    return _unit(before, tip)


def _without_tip(route: tuple[Point, ...]) -> tuple[Point, ...]:
    """The curve without the part under its arrow head, so that the line does not cover the tip."""
    dx, dy = _direction_at_end(route)
    back = _ARROW * 0.7
    ends = [(x - dx * back, y - dy * back) for x, y in route[-2:]]
    return (*route[:-2], *ends)


def _arrow(route: tuple[Point, ...], token: str, size: float) -> Polygon:
    (x, y), (dx, dy) = route[-1], _direction_at_end(route)
    base_x, base_y = x - dx * size, y - dy * size
    side = size * 0.42
    left = (base_x - dy * side, base_y + dx * side)
    right = (base_x + dy * side, base_y - dx * side)
    return Polygon(((x, y), left, right), token)


def _spot(route: tuple[Point, ...], share: float) -> tuple[Point, Point]:
    """A point on a curve and its direction there."""
    before, point, after = (_point_on(route, share + step) for step in (-0.01, 0, 0.01))
    return point, _unit(before, after)


def _break_mark(middle: Point, direction: Point, token: str) -> list[Shape]:
    """The sign of a cut: two short strokes across a gap in the line."""
    (x, y), (dx, dy) = middle, direction
    around = ((-1, -1), (1, -1), (1, 1), (-1, 1))
    corners = ((x + a * 3 * dx - b * 5 * dy, y + a * 3 * dy + b * 5 * dx) for a, b in around)
    shapes: list[Shape] = [Polygon(tuple(corners), "page")]
    for along in (-3, 3):
        ends = [
            (x + (along + lean) * dx - across * dy, y + (along + lean) * dy + across * dx)
            for across, lean in ((-6, 2), (6, -2))
        ]
        shapes.append(Curve((ends[0], ends[0], ends[1], ends[1]), token, 1.6))
    return shapes


Rect = tuple[float, float, float, float]
"""Left, top, right and bottom of a box."""

_ALONG = tuple(0.5 + step / 50 for step in sorted(range(-20, 21), key=abs))  # for a count
_FROM_START = (10.0, 16.0, 22.0, 30.0, 40.0, 52.0)  # points from the start: for output numbers
_ASIDE = (6.0, 14.0, 22.0)
_CELL = 24.0
_MARK = 7.0  # points, half the size of the sign of a cut


class _Occupied:
    """Where boxes, text and lines are, in cells, so that only what is near is compared."""

    def __init__(self, width: float, boxes: Iterable[Rect]) -> None:
        self.width = width
        self.rects: dict[tuple[int, int], list[Rect]] = {}
        self.lines: dict[tuple[int, int], list[Point]] = {}
        for box in boxes:
            self.add(box)

    def add_line(self, route: Route) -> None:
        for x, y in _dense(route):
            self.lines.setdefault((int(x // _CELL), int(y // _CELL)), []).append((x, y))

    def add(self, rect: Rect) -> None:
        for cell in self._cells(rect):
            self.rects.setdefault(cell, []).append(rect)

    def _cells(self, rect: Rect) -> Iterator[tuple[int, int]]:
        left, top, right, bottom = (int(edge // _CELL) for edge in rect)
        return ((x, y) for x in range(left, right + 1) for y in range(top, bottom + 1))

    def hits(self, rect: Rect) -> int:
        """0 if there is room; 1 if only a line is met; 2 if a box, text or edge of the page is."""
        left, top, right, bottom = rect
        cells = list(self._cells(rect))
        near = chain.from_iterable(self.rects.get(cell, ()) for cell in cells)
        if left < 0 or right > self.width or any(meet(rect, other) for other in near):
            return 2
        points = chain.from_iterable(self.lines.get(cell, ()) for cell in cells)
        wide = left - 1, top - 1, right + 1, bottom + 1  # points of lines are some distance apart
        return int(any(wide[0] < x < wide[2] and wide[1] < y < wide[3] for x, y in points))


def _dense(route: Route) -> Iterator[Point]:
    """Points of a curve, about 4 apart."""
    for start in range(0, len(route) - 1, 3):
        segment = route[start : start + 4]
        steps = max(1, int(sum(map(math.dist, segment, segment[1:])) / 4))
        yield from (point_at(segment, step / steps) for step in range(steps + 1))


def labels_beside(
    graph: GradGraph, boxes: Iterable[Rect], places: EdgePlaces, width: float
) -> EdgePlaces:
    """Output numbers and counts of edges, each beside its line, on no box, text or other line.

    A count is the number of edges that a drawn edge represents. Where there is no room, a label
    meets a line rather than a box. The sign of a cut is on its line, and on no box.

    Args:
        graph: as it is drawn.
        boxes: the nodes.
        places: with the numbers where `output_numbers` has put them, which knows only these.
        width: of the page.
    """
    routes, numbers, signs = places.routes, places.numbers, dict[object, float]()
    drawn, occupied = drawn_edges(graph), _Occupied(width, boxes)
    marks: list[Rect] = []
    for edge in drawn:
        route = routes[edge[:3]]
        occupied.add_line(route)
        if box := cause_box(graph, edge, places.sideways):
            after = routes[box.key]
            occupied.add_line(after)
            occupied.add_line((route[-1], route[-1], after[0], after[0]))
            shapes = _cause(route[-1], after[0], edge[3], places.sideways)
            marks += [extent(shape) for shape in shapes if isinstance(shape, Text)]
        elif edge[3].get("kind") is EdgeKind.CUT or edge[3].get("through"):
            line = _without_tip(route)
            rooms = ((share, _room_of_sign(_point_on(line, share))) for share in _ALONG)
            free = ((share, room) for share, room in rooms if occupied.hits(room) < 2)
            signs[edge[:3]], room = next(free, (0.5, _room_of_sign(_point_on(line, 0.5))))
            marks.append(room)
    for mark in marks:
        occupied.add(mark)
    placed: dict[object, Text] = {}
    counts: dict[object, Text] = {}
    for edge in drawn:
        key: object = edge[:3]
        if text := numbers.get(key):
            points = list(_from_start(routes[key]))
            label: Line = (TextSpan(text.words[0].text, Role.FACT),)
            rows = (_around(label, points, aside) for aside in (_APART, *_ASIDE))
            placed[key] = _free(chain([text], chain.from_iterable(rows)), occupied)
    for edge in drawn:
        box, words = cause_box(graph, edge, places.sideways), _words_beside(graph, edge)
        if words:
            key = edge[:3]
            halves = [routes[box.key], routes[key]] if box else [routes[key]]
            label = (TextSpan(words, Role.FACT),)
            along = [_point_on(route, share) for route in halves for share in _ALONG]
            beside = (_around(label, along, aside) for aside in _ASIDE)
            counts[key] = _free(chain.from_iterable(beside), occupied)
    return replace(places, numbers=placed, counts=counts, signs=signs)


def _words_beside(graph: GradGraph, edge: Edge) -> str:
    """How many edges an edge stands for; and "zero" if its leaf got gradients from others only."""
    times, is_zero = edge[3].get("times", 1), edge[3].get("mark") is Mark.ZERO
    is_one_of_several = is_zero and graph._node[edge[0]].get("mark") is not Mark.ZERO
    return " ".join([f"×{times:,}"] * (times > 1) + ["zero"] * is_one_of_several)


def _room_of_sign(point: Point) -> Rect:
    x, y = point
    return x - _MARK, y - _MARK, x + _MARK, y + _MARK


def _around(label: Line, points: Sequence[Point], aside: float) -> Iterator[Text]:
    """Places of a label beside points of a line: right and left, then below and above them."""
    width, text = line_width(label), set_line(label, 0, 0)
    for x, y in points:
        for down in (4, 14, -4):
            for across in (aside, -aside - width):
                yield text._replace(x=x + across, y=y + down)
    for x, y in points:  # centered below and above, where data flows from left to right
        for foot in (y + aside + 8, y - aside):
            yield text._replace(x=x - width / 2, y=foot)


def _free(places: Iterable[Text], occupied: _Occupied) -> Text:
    """The first place that is free, or else the first on no box; it is occupied then."""
    hits: dict[int, Text] = {}
    for place in places:
        hit = occupied.hits(extent(place))
        hits.setdefault(hit, place)
        if not hit:
            break
    text = hits[min(hits)]
    occupied.add(extent(text))
    return text


def _from_start(route: Route) -> Iterator[Point]:
    """Points of a curve at the distances of ``_FROM_START`` from its start."""
    wanted, gone, before = list(_FROM_START), 0.0, route[0]
    for point in _dense(route):
        gone, before = gone + math.dist(before, point), point
        if wanted and gone >= wanted[0]:
            yield point
            wanted.pop(0)


def meet(one: Rect, other: Rect) -> bool:
    """Whether two rectangles overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _point_on(route: Route, share: float) -> Point:
    """A point on a curve, after a share of its segments."""
    segments = (len(route) - 1) // 3
    at = min(int(share * segments), segments - 1)
    t = share * segments - at
    return point_at(route[3 * at : 3 * at + 4], t)


def point_at(segment: Route, t: float) -> Point:
    """A point on one Bézier segment; ``t`` is 0 at its start and 1 at its end."""
    a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = segment
    return a * ax + b * bx + c * cx + d * dx, a * ay + b * by + c * cy + d * dy


_APART = 4.0
_DOWN = 11.0
_MOST_ROWS = 4
_NEAR = 8  # neighbors that are checked for overlap with a number


def output_numbers(
    graph: GradGraph,
    centers: Mapping[str, Point],
    routes: Mapping[object, Route],
    sideways: bool = False,
) -> dict[object, Text]:
    """The output numbers of operations with several outputs, by edge.

    A number is placed beside the start of its edge, on the side away from the bend; on the other
    side if there is no room, and farther down if both are occupied.

    Args:
        graph: as it is drawn.
        centers: the center of each node.
        routes: by edge, as (source, target, number).
        sideways: whether the data flows from left to right: numbers stand above the lines then.
    """
    found: dict[object, Text] = {}
    for source, data in graph.nodes(data=True):
        if data.get("outputs", 1) > 1:
            edges = graph.out_edges(source, keys=True, data="output", default=0)
            starts = [
                (output, (source, target, number), routes[source, target, number])
                for _, target, number, output in edges
                if (source, target, number) in routes
            ]
            if sideways:
                found |= {edge: _above(output, route[0]) for output, edge, route in starts}
            else:
                found |= _beside(starts, centers[source][0])
    return found


def _above(output: int, start: Point) -> Text:
    return set_line((TextSpan(f"[{output}]", Role.FACT),), start[0] + _APART, start[1] - _APART)


def _beside(
    starts: Iterable[tuple[int, tuple[str, str, int], Route]], middle: float
) -> dict[object, Text]:
    """The numbers of one operation, whose edges start with these routes."""
    starts = sorted(starts, key=lambda start: start[2][0])
    lines = [route[0][0] for _, _, route in starts]
    taken: list[tuple[float, float, float]] = []
    found: dict[object, Text] = {}
    for at, (output, edge, route) in enumerate(starts):
        (x, y), turned = route[0], route[:7][-1][0] - route[0][0]
        near, before = lines[max(0, at - _NEAR) : at + _NEAR], taken[-_NEAR:]
        label: Line = (TextSpan(f"[{output}]", Role.FACT),)
        width = line_width(label)
        sides = [x - _APART - width, x + _APART]
        if turned < -1 or (turned <= 1 and x >= middle - 1):
            sides.reverse()
        left, foot = sides[0], y
        for row, left in ((row, left) for row in range(_MOST_ROWS) for left in sides):
            right, foot = left + width, y + _DOWN * (row + 1)
            free = not any(
                low < right and left < high and abs(foot - other) < _DOWN - 1
                for low, high, other in before
            )
            # Farther down the edges may have separated, which their start does not show.
            if free and (row or not any(left - 1 < line < right + 1 for line in near)):
                break
        taken.append((left, left + width, foot))
        found[edge] = set_line(label, left, foot)
    return found


_EDGE_ROOM = 8.0  # points between the end of an edge and the corner of the card


def least_widths(graph: GradGraph, places: EdgePlaces) -> dict[str, float]:
    """The least width of each card at which its edges still end at it."""
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
