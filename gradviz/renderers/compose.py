"""Compose a story on one sheet: title, panels in rows (one per frame), legend, caption."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from gradviz.graph import GradGraph
from gradviz.graph.text import clean
from gradviz.renderers.caption import GLYPH_WIDTH, legend_glyph, legend_of
from gradviz.renderers.cards import (
    Card,
    card_of,
    label_within,
    line_width,
    set_line,
    tooltip_of,
    wrapped,
)
from gradviz.renderers.edges import (
    EdgePlaces,
    Rect,
    cause_box,
    drawn_edges,
    edge_group,
    labels_beside,
    least_widths,
    output_numbers,
    through_middle,
    with_short_sources,
)
from gradviz.renderers.labels import Line, Role, TextSpan, labels_of
from gradviz.renderers.layout.engines import Cluster, lay_out
from gradviz.renderers.layout.routing import Box, Layout, Link, Route
from gradviz.renderers.layout.wrapping import parts_in_rows, wrap
from gradviz.renderers.module_frames import (
    ModuleFrame,
    clusters_of,
    frames_of,
    opened_modules,
    with_short_names,
)
from gradviz.renderers.moments import (
    Moment,
    alike_frames,
    drawn_once,
    gradient_table,
    moments_of,
    runs_of_frames,
)
from gradviz.renderers.scene import (
    NARROW,
    PAGE_HEIGHT,
    GroupChain,
    Point,
    Rectangle,
    Scene,
    Shape,
    ShapeGroup,
    SheetStyle,
    Shifted,
    extent,
    fits_a_page,
    is_readable,
)
from gradviz.renderers.theme import TEXT, bar_of
from gradviz.story import Frame, Story

_MARGIN = 18.0
_PAD = 16.0
_BETWEEN = 14.0
_LINE = 16.0
_TITLE = 28.0  # from the top of a frame's title to its panel
_NARROWEST_PANEL = 150.0
_WIDEST_ROW = NARROW - 2 * _MARGIN
_WIDEST_PANEL = _WIDEST_ROW - 2 * _PAD
_SMALL_GAP = 14.4  # points between boxes side by side, where they are made narrow
_NARROWEST = 284.0  # with margins it fits a phone


def compose(
    story: Story, style: SheetStyle | None = None, limit: float = 20.0, runs: Sequence[int] = ()
) -> Scene:
    """Lay out every frame of a story on one sheet.

    Args:
        story: frames as they will be drawn (views applied, captions filled in).
        style: how the sheet is arranged.
        limit: time limit for the layout of one frame, in seconds.
        runs: for each frame a number that it shares with those that show the same operations, from
            before any view; empty for that of `runs_of_frames`.

    Returns:
        The drawing, ready for the SVG writer or the Graphviz canvas.
    """
    style = style or SheetStyle()
    graphs = [frame.graph for frame in story]
    if len(story) == 1:
        panels = panels_of(graphs, style, limit, columns=_WIDEST_ROW)
        return _sheet(story, panels, [panels], list(filter(None, [story[0].caption])), style)
    scenes: list[Scene] = []
    for scene in _scenes(story, style, limit, runs or runs_of_frames(graphs)):
        if is_readable(scene):
            return scene
        scenes.append(scene)
    return next(filter(fits_a_page, scenes), scenes[-1])


def _scenes(story: Story, style: SheetStyle, limit: float, runs: Sequence[int]) -> Iterator[Scene]:
    """Pictures of a story: of all frames, then of ever fewer."""
    every = [Moment(frame, number) for number, frame in enumerate(story, 1)]
    yield _in_rows(story, every, panels_of([frame.graph for frame in story], style, limit), style)
    moments = moments_of(story, runs)
    # Each for itself: frames of one graph are drawn once, so that columns are no hindrance.
    panels = [
        panels_of([moment.frame.graph], style, limit, columns=_WIDEST_PANEL)[0]
        for moment in moments
    ]
    yield _in_rows(story, moments, panels, style)
    fewer = drawn_once(moments)
    if len(fewer) < len(moments):
        drawn = {moment.number: panel for moment, panel in zip(moments, panels, strict=True)}
        yield _in_rows(story, fewer, [drawn[moment.number] for moment in fewer], style)


def size_of(graph: GradGraph, style: SheetStyle, is_alone: bool) -> tuple[float, float]:
    """Width and height of a graph, alone or in a story; the width as a share of the room for it."""
    room = _WIDEST_ROW if is_alone else _WIDEST_PANEL
    (panel,) = panels_of([graph], style, columns=room)
    return panel.width / room, panel.height


def _in_rows(
    story: Story, moments: Sequence[Moment], panels: Sequence[Panel], style: SheetStyle
) -> Scene:
    """The moments in frames, as many in each row as have room."""
    widths = _inner_widths(panels, moments) if panels else []
    framed = [
        _framed(panel, moment, inner)
        for panel, moment, inner in zip(panels, moments, widths, strict=True)
    ]
    rows = [
        [_stretched(panel, max(panel.height for panel in row)) for panel in row]
        for row in _rows(framed)
    ]
    drawn = Story([moment.frame for moment in moments], story.title, story.notes)
    return _sheet(drawn, panels, rows, [], style)


def compose_each(story: Story, style: SheetStyle | None = None) -> list[Scene]:
    """Compose one sheet per frame; nodes in several frames have the same position.

    Args:
        story: as for `compose`.
        style: as for `compose`.
    """
    style = style or SheetStyle()
    graphs = [frame.graph for frame in story]
    panels = panels_of(graphs, style, columns=_WIDEST_ROW)
    return [
        _sheet(Story((frame,), frame.title), [panel], [[panel]], [], style)
        for panel, frame in zip(panels, story, strict=True)
    ]


def _sheet(
    story: Story,
    panels: Sequence[Panel],
    rows: list[list[Panel]],
    captions: list[str],
    style: SheetStyle,
) -> Scene:
    sheet = _StorySheet()
    legend = legend_of([frame.graph for frame in story]) if style.legend else {}
    rooms = (_legend_room(word, meaning) for word, meaning in legend.items())
    width = max([_NARROWEST, *(_row_width(row) for row in rows), *rooms])
    if story.title:
        sheet.add_line((TextSpan(clean(story.title), Role.NAME),), width, "title", gap=10)
    left = (width - max((_row_width(row) for row in rows), default=0)) / 2
    for row in rows:
        sheet.add_row(row, left)
    sheet.add_legend(legend, width)
    hidden = dict.fromkeys(note for frame in story for note in frame.graph.notes)
    notes = [*hidden, *story.notes]
    lines = [line for text in (*captions, *notes) for line in wrapped(text, width)]
    for number, line in enumerate(lines):
        sheet.add_line(line, width, f"caption-{number}")
    described = [frame.caption or frame.title for frame in story]
    engines = ", ".join(dict.fromkeys(panel.engine for panel in panels))
    whole = round(width + 2 * _MARGIN, 2)
    return Scene(
        whole,
        round(sheet.y + _MARGIN, 2),
        GroupChain(sheet.parts),
        clean(story.title) or "What autograd recorded",
        " ".join(map(_ended, filter(None, [*described, *notes, f"Layout: {engines}."]))),
        _zoom(style, whole),
    )


def _zoom(style: SheetStyle, width: float) -> float | None:
    """Points of a unit of a drawing of that width, where the caller has chosen its size."""
    if style.width is not None:
        return style.width / width
    return None if style.font_size is None else style.font_size / TEXT[Role.NAME].size


def _ended(text: str) -> str:
    """The text with a full stop, so that a screen reader pauses."""
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


class _StorySheet:
    """Parts from top to bottom; ``y`` is the position of the next one."""

    def __init__(self) -> None:
        self.y = _MARGIN
        self.parts: list[Iterable[ShapeGroup]] = []

    def add_row(self, row: Sequence[Panel], left: float) -> None:
        x = _MARGIN + left
        for panel in row:
            self.parts.append(Shifted(panel.groups, x, self.y))
            x += panel.width + _BETWEEN
        self.y += max((panel.height for panel in row), default=0) + _BETWEEN

    def add_line(self, line: Line, width: float, key: str, gap: float = 0) -> None:
        x = _MARGIN + (width - line_width(line)) / 2
        self.parts.append([ShapeGroup(key, "text", (set_line(line, x, self.y + 12),))])
        self.y += _LINE + gap

    def add_legend(self, legend: dict[str, str], width: float) -> None:
        shapes: list[Shape] = []
        for row in _legend_rows(legend, width):
            x = _MARGIN + (width - sum(item[2] for item in row) + _BETWEEN) / 2
            for word, text, room in row:
                glyph = legend_glyph(word, x, self.y + 8)
                shapes += [*glyph, set_line(text, x + _glyph_room(word), self.y + 12)]
                x += room
            self.y += _LINE + 2
        if shapes:
            self.parts.append([ShapeGroup("legend", "legend", tuple(shapes))])
        self.y += 2


def _glyph_room(word: str) -> float:
    return GLYPH_WIDTH + 5 if legend_glyph(word, 0, 0) else 0.0


def _legend_room(word: str, meaning: str) -> float:
    return _glyph_room(word) + line_width((TextSpan(meaning, Role.FACT),))


def _legend_rows(legend: dict[str, str], width: float) -> list[list[tuple[str, Line, float]]]:
    rows: list[list[tuple[str, Line, float]]] = []
    free = 0.0
    for word, meaning in legend.items():
        text = (TextSpan(meaning, Role.FACT),)
        room = _legend_room(word, meaning) + _BETWEEN
        if not rows or free < room - _BETWEEN:
            rows.append([])
            free = width
        rows[-1].append((word, text, room))
        free -= room
    return rows


def _columns(table: Sequence[Sequence[TextSpan]]) -> list[float]:
    """The widths of the columns of a table."""
    most = max(map(len, table), default=0)
    cells = [[row[at] for row in table if at < len(row) > 1] for at in range(most)]
    return [max(line_width((cell,)) for cell in column) + _BETWEEN for column in cells if column]


def _title(frame: Frame, number: int) -> Line:
    return (TextSpan(str(number), Role.NAME), TextSpan(clean(frame.title), Role.WORD))


def _inner_widths(panels: Sequence[Panel], moments: Sequence[Moment]) -> list[float]:
    """The width inside each frame: equal if two fit in no row, else a multiple of the narrow."""
    widths = [
        max(
            panel.width,
            line_width(_title(moment.frame, moment.number)),
            sum(_columns(gradient_table(moment))),
            _NARROWEST_PANEL,
        )
        for panel, moment in zip(panels, moments, strict=True)
    ]
    around = 2 * _PAD + _BETWEEN
    narrow = [width for width in widths if 2 * (width + around) - _BETWEEN <= _WIDEST_ROW]
    column = max(narrow or widths) + around
    most = max(1, int((_WIDEST_ROW + _BETWEEN) // column))
    spans = [min(most, math.ceil((width + around) / column)) for width in widths]
    found = [max(width, n * column - around) for width, n in zip(widths, spans, strict=True)]
    if all(a + b + 2 * around - _BETWEEN > _WIDEST_ROW for a, b in pairwise(found)):
        return [max(widths)] * len(found)  # one in each row
    return found


def _framed(panel: Panel, moment: Moment, inner: float) -> Panel:
    """The panel in a frame of its own: number and title above it, its caption below."""
    frame, number, table = moment.frame, moment.number, gradient_table(moment)
    sentences = [frame.caption, *(f"{n} {each.title}: {each.caption}" for n, each in moment.others)]
    if moment.gap[0]:
        first, last = moment.gap
        which = f"Frames {first} to {last}" if first < last else f"Frame {first}"
        sentences.append(f"{which}: the same operations again, left out.")
    captions = [line for text in sentences for line in wrapped(text, inner)]
    width = max(inner, *(line_width(line) for line in captions), 0.0) + 2 * _PAD
    title = _title(frame, number)
    texts = [set_line(title, _PAD, _PAD + 12)]
    top = _PAD + _TITLE
    y = top + panel.height + 20
    columns = _columns(table)
    for row in table:
        x = (width - sum(columns)) / 2
        for cell, column in zip(row, columns, strict=False):
            texts.append(set_line((cell,), x, y))
            x += column
        y += _LINE
    y += 6 * bool(table)
    for line in captions:
        texts.append(set_line(line, (width - line_width(line)) / 2, y))
        y += _LINE
    height = y - _LINE + _PAD
    border = Rectangle(0, 0, width, height, None, "panel", 1.2, radius=12)
    frame_group = ShapeGroup(f"frame-{number}", "frame", (border, *texts))
    moved = Shifted(panel.groups, (width - panel.width) / 2, top, f"f{number}-")
    return Panel(width, height, (frame_group, *moved), panel.engine)


def _stretched(panel: Panel, height: float) -> Panel:
    """Make a framed panel as high as its neighbors; its border is the first shape."""
    (frame, *groups) = panel.groups
    (border, *texts) = frame.shapes
    if isinstance(border, Rectangle):
        border = border._replace(height=height)
    stretched = ShapeGroup(frame.key, frame.kind, (border, *texts))
    return Panel(panel.width, height, (stretched, *groups), panel.engine)


def _rows(panels: Sequence[Panel]) -> list[list[Panel]]:
    rows: list[list[Panel]] = []
    for panel in panels:
        if not rows or _row_width([*rows[-1], panel]) > _WIDEST_ROW:
            rows.append([])
        rows[-1].append(panel)
    if len({panel.width for panel in panels}) == 1:  # equally many per row, as far as possible
        each = math.ceil(len(panels) / len(rows))
        return [list(panels[start : start + each]) for start in range(0, len(panels), each)]
    return rows


def _row_width(row: Sequence[Panel]) -> float:
    return sum(panel.width for panel in row) + _BETWEEN * max(len(row) - 1, 0)


_FULL = 0.75  # of the width or height of a panel that its own content has to take
_HELD = 2_000  # drawings with more nodes create their shapes at each iteration


@dataclass(frozen=True)
class Panel:
    """A drawn graph: its size in points, its shapes, the layout engine, and the framed modules."""

    width: float
    height: float
    groups: Iterable[ShapeGroup]
    engine: str
    framed: frozenset[str] = frozenset()


def panels_of(
    graphs: Sequence[GradGraph],
    style: SheetStyle | None = None,
    limit: float = 20.0,
    columns: float = 0.0,
) -> list[Panel]:
    """Lay out and draw graphs that are shown side by side.

    Args:
        graphs: as they will be drawn, views applied. A node that consecutive graphs share (with
            the same key) has the same position in each.
        style: how wide cards may be, and whether the data flows from left to right.
        limit: time limit of the layout engine for each, in seconds.
        columns: break tall pictures into columns that are so wide together, in points; used if each
            graph has its own sheet. 0 for no columns.
    """
    way = _Way(style or SheetStyle(), limit, columns)
    if way.style.card_width is not None:
        graphs = list(map(with_short_sources, graphs))
    groups = alike_frames(graphs)
    return [panel for group in groups for panel in _panels_in_the_same_places(group, way)]


class _Way(NamedTuple):
    """How graphs are laid out, see `panels_of`."""

    style: SheetStyle
    limit: float
    columns: float


def _panels_in_the_same_places(graphs: Sequence[GradGraph], way: _Way) -> list[Panel]:
    """The panels. Opened modules get frames, and relative names, where there is room for them."""
    framed = set[str]()
    if not way.style.sideways:
        framed = framed.union(*map(opened_modules, graphs))
    split = way
    while framed:
        panels = _placed(graphs, split, framed)
        drawn = set[str]().union(*(panel.framed for panel in panels))
        width, height = _size(panels)
        if split.columns and width > _WIDEST_ROW:
            split = way._replace(columns=0.0)
            continue
        if height > PAGE_HEIGHT or width > _WIDEST_ROW:
            plain = _placed(graphs, way)
            least = _size(plain)
            if height > max(PAGE_HEIGHT, least[1]) or width > max(_WIDEST_ROW, least[0]):
                return plain
        if framed <= drawn:
            return panels
        framed &= drawn
    return _placed(graphs, way)


def _size(panels: Sequence[Panel]) -> tuple[float, float]:
    """The greatest width and height of panels."""
    return max(panel.width for panel in panels), max(panel.height for panel in panels)


def _placed(
    graphs: Sequence[GradGraph], way: _Way, framed: AbstractSet[str] = frozenset()
) -> list[Panel]:
    sideways = way.style.sideways
    clusters = clusters_of(graphs[0], framed) if framed else []
    shown = [with_short_names(graph, framed) for graph in graphs] if framed else graphs
    cards = [_cards(graph, way.style.card_width) for graph in shown]
    boxes: dict[str, Box] = {}
    causes: set[str] = set()
    links: dict[object, Link] = {}
    for graph, own in zip(graphs, cards, strict=True):
        for key, card in own.items():
            box = boxes.get(key, Box(key, 0, 0))
            boxes[key] = Box(key, max(box.width, card.width), max(box.height, card.height))
        for edge in drawn_edges(graph):
            source, target, number, _ = edge
            if cause := cause_box(graph, edge, sideways):
                boxes[cause.key] = cause
                causes.add(cause.key)
                links[source, target, number] = Link(source, cause.key)
                links[cause.key] = Link(cause.key, target)
            else:
                links[source, target, number] = Link(source, target)
    layout = _laid_out(list(boxes.values()), list(links.values()), way, clusters)
    routes = {
        key: through_middle(route, link, causes, layout.centers, sideways)
        for (key, link), route in zip(links.items(), layout.routes, strict=True)
    }
    panels: list[Panel] = []
    rects: list[Rect] = []
    for graph, short, own in zip(graphs, shown, cards, strict=True):
        numbers = output_numbers(graph, layout.centers, routes, sideways)
        places = EdgePlaces(layout.centers, routes, numbers, sideways)
        reach = least_widths(graph, places) if len(graphs) > 1 and not sideways else {}
        for key, card in own.items():
            least = boxes[key].width if sideways else max(card.width, reach.get(key, 0.0))
            width = min(least, boxes[key].width)
            if (width, boxes[key].height) != (card.width, card.height):
                own[key] = replace(card, width=width, height=boxes[key].height)
        if len(own) <= _HELD:
            cards_at = [_around(layout.centers[key], card) for key, card in own.items()]
            planned = _frames(graph, own, boxes, places, layout) if framed else []
            taken = [rect for frame in planned for rect in frame.rects()]
            places = labels_beside(graph, [*cards_at, *taken], places, layout.width)
        frames = _frames(graph, own, boxes, places, layout) if framed else []
        paths = frozenset(frame.path for frame in frames)
        if not paths <= framed:  # there is room for more than were planned
            short, old = with_short_names(graph, paths), own
            own = {
                key: replace(card, width=old[key].width, height=old[key].height)
                for key, card in _cards(short, way.style.card_width).items()
            }
        groups: Iterable[ShapeGroup] = _Drawn(short, own, places)
        if len(own) <= _HELD:
            groups = (*(frame.group() for frame in frames), *groups)
        panels.append(Panel(layout.width, layout.height, groups, layout.engine, paths))
        rects += [frame.box for frame in frames]
    return [_cropped(panel) for panel in _with_room(panels, rects)]


def _cropped(panel: Panel) -> Panel:
    """A panel without the room for what only other frames show, if that is much of it."""
    if not isinstance(panel.groups, tuple) or not panel.groups:
        return panel
    boxes = [extent(shape) for group in panel.groups for shape in group.shapes]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    left, top = min(lefts), min(tops)
    width, height = max(rights) - left, max(bottoms) - top
    if width > _FULL * panel.width and height > _FULL * panel.height:
        return panel
    moved = tuple(Shifted(panel.groups, -left, -top))
    return replace(panel, width=width, height=height, groups=moved)


def _frames(
    graph: GradGraph,
    cards: dict[str, Card],
    boxes: dict[str, Box],
    places: EdgePlaces,
    layout: Layout,
) -> list[ModuleFrame]:
    """The frames of opened modules. Nodes have the places that they need in every frame."""
    rects = {key: _around(places.centers[key], boxes[key]) for key in boxes if key in cards}
    routes: dict[object, Route] = {}
    for edge in drawn_edges(graph):
        source, target, number, _ = edge
        routes[source, target, number] = places.routes[source, target, number]
        if cause := cause_box(graph, edge):
            rects[cause.key] = _around(places.centers[cause.key], cause)
            routes[cause.key] = places.routes[cause.key]
    texts = [*places.numbers.values(), *places.counts.values()]
    return frames_of(graph, rects, routes, texts, layout.columns)


def _with_room(panels: list[Panel], frames: Sequence[Rect]) -> list[Panel]:
    """Panels that contain these frames, all moved by the same distance."""
    if not frames:
        return panels
    width, height = panels[0].width, panels[0].height
    lefts, tops, rights, bottoms = zip(*frames, strict=True)
    left, top = max(0.0, -min(lefts)), max(0.0, -min(tops))
    wide, high = max(width, *rights) + left, max(height, *bottoms) + top
    rows = ((panel, tuple(Shifted(panel.groups, left, top))) for panel in panels)
    return [replace(panel, width=wide, height=high, groups=groups) for panel, groups in rows]


def _laid_out(
    boxes: list[Box], links: list[Link], way: _Way, clusters: Sequence[Cluster]
) -> Layout:
    """The layout; one from left to right is that of the turned boxes, turned back."""
    sideways = way.style.sideways
    placed = [Box(box.key, box.height, box.width) for box in boxes] if sideways else boxes
    gap = {} if way.style.card_width is None else {"gap": _SMALL_GAP}
    layout = lay_out(placed, links, limit=way.limit, clusters=clusters, **gap)
    if not sideways:
        layout = parts_in_rows(placed, links, layout, way.columns or _WIDEST_PANEL)
    if way.columns:
        layout = wrap(placed, layout, widest=way.columns, is_turned=sideways, clusters=clusters)
    return layout.transposed() if sideways else layout


def _around(center: Point, card: Card | Box) -> Rect:
    x, y = center
    return x - card.width / 2, y - card.height / 2, x + card.width / 2, y + card.height / 2


@dataclass(frozen=True)
class _Drawn:
    """The groups of shapes of a laid out graph, created during iteration."""

    graph: GradGraph
    cards: dict[str, Card]
    places: EdgePlaces

    def __iter__(self) -> Iterator[ShapeGroup]:
        for edge in drawn_edges(self.graph):
            yield edge_group(self.graph, edge, self.places)
        for key, card in self.cards.items():
            yield _node_group(self.graph, key, card, self.places.centers[key])


def _cards(graph: GradGraph, widest: float | None) -> dict[str, Card]:
    return {
        key: card_of(
            label if widest is None else label_within(label, widest),
            graph.nodes[key],
            bar_of(graph, graph.nodes[key]),
        )
        for key, label in labels_of(graph).items()
    }


def _node_group(graph: GradGraph, key: str, card: Card, center: Point) -> ShapeGroup:
    data = graph.nodes[key]
    x, y = center
    shapes = card.shapes(x - card.width / 2, y - card.height / 2)
    return ShapeGroup(key, f"node {data['kind'].value}", shapes, tooltip_of(key, data))
