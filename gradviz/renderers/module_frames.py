"""Frames around opened modules: several nodes of one module that stand together."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property

from gradviz.graph import (
    GradGraph,
    NodeData,
    NodeKind,
    ancestors,
    descendants,
    is_box_of_leaves,
    is_data,
)
from gradviz.graph.text import clean, shape_text
from gradviz.renderers.cards import line_width, set_line
from gradviz.renderers.edges import Rect, meet, point_at
from gradviz.renderers.labels import Line, Role, TextSpan, element_spans, shapes_before
from gradviz.renderers.layout.engines import Cluster
from gradviz.renderers.layout.routing import Point, Route
from gradviz.renderers.scene import Curve, Rectangle, Shape, ShapeGroup, Text, around, extent
from gradviz.views.module_classes import elements_of, undrawn_in
from gradviz.views.modules import is_inferred, module_paths
from gradviz.views.op_sequence import op_sequence

_MOST_NODES = 200  # of larger graphs, modules are drawn as boxes
_LISTS = ("ModuleList", "ModuleDict")  # they do not run
_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)
_STEPS = (NodeKind.OPERATION, NodeKind.GROUP)
_SIDE, _TOP, _BAND = 9.0, 23.0, 19.0
_CORNER = 9.0
_APART = 3.0  # points between a frame and what is outside
_STEP, _WIDEST = 12.0, 25  # how far a frame is widened for its title, and how often


@dataclass(frozen=True)
class ModuleFrame:
    """A frame that is drawn, or a part of one that is split into columns."""

    path: str  # of the module
    box: Rect  # its left, top, right and bottom
    title: Text  # name, class, output and parameters, inside at the top
    column: int = 0  # where it is, of a layout in columns
    part: int = 0  # 0 for a whole frame or the first part of one, then 1, 2, ..
    goes_on: bool = False  # whether another part follows

    def rects(self) -> list[Rect]:
        """Its sides and its title, on which no label of an edge is to stand."""
        left, top, right, bottom = self.box
        across = [(left, y - _APART, right, y + _APART) for y in (top, bottom)]
        down = [(x - _APART, top, x + _APART, bottom) for x in (left, right)]
        return [*across, *down, extent(self.title)]

    def group(self) -> ShapeGroup:
        """Its shapes; a part is open where the frame goes on in another column."""
        left, top, right, bottom = self.box
        border: tuple[Shape, ...] = (
            Rectangle(left, top, right - left, bottom - top, None, "module", 1.2, radius=_CORNER),
        )
        if self.part and self.goes_on:
            ends = [((x, top), (x, bottom)) for x in (left, right)]
            border = tuple(Curve((a, a, b, b), "module") for a, b in ends)
        elif self.part or self.goes_on:
            closed, opened = (bottom, top) if self.part else (top, bottom)
            turn = closed + math.copysign(_CORNER, opened - closed)
            a, b = (left, turn), (left + _CORNER, closed)
            c, d = (right - _CORNER, closed), (right, turn)
            first, last = (left, opened), (right, opened)
            over = (first, first, a, a, (left, closed), b, b, b, c, c, (right, closed), d, d, d)
            border = (Curve((*over, last, last), "module"),)
        suffix = f" {self.part + 1}" if self.part else ""
        return ShapeGroup(f"module-{self.path}{suffix}", "module", (*border, self.title))


def opened_modules(graph: GradGraph) -> dict[str, set[str]]:
    """The keys of the nodes in each module of which at least two operations are drawn.

    Args:
        graph: as it will be drawn; the paths are recorded, or inferred where that is sure.

    Returns:
        By path, inner modules first; of modules with the same nodes, the innermost.
    """
    if len(graph) > _MOST_NODES or graph.graph.get("flow") == "gradient":
        return {}
    sequence = op_sequence(graph)
    inside: dict[tuple[str, ...], set[str]] = {}
    is_recorded = any("module" in data and not is_inferred(data) for data in sequence.data)
    for key, path in zip(sequence.keys, module_paths(sequence), strict=True):
        data = graph.nodes[key]
        # What was recorded outside of modules ran outside, also if it uses their parameters.
        if "module" in data or (data["kind"] in _STEPS and not is_recorded):
            for length in range(1, len(path) + 1):
                inside.setdefault(path[:length], set()).add(key)
    classes = graph.graph.get("modules", {})
    found: dict[str, set[str]] = {}
    for path, keys in sorted(inside.items(), key=lambda item: -len(item[0])):
        name = ".".join(path)
        is_list = classes.get(name) in _LISTS
        if len(keys) > 1 and not is_list and keys not in found.values():
            nodes = [graph.nodes[key] for key in keys]
            if _are_calls(nodes, path) or _are_apart(graph, keys, path):
                continue
            between = descendants(graph, keys, is_data) & ancestors(graph, keys, is_data)
            if between == keys:  # otherwise links would lead out of the frame and back into it
                found[name] = keys
    return {name: _with_tensors(graph, name, keys) for name, keys in found.items()}


def _are_calls(nodes: Sequence[NodeData], path: Sequence[str]) -> bool:
    """Whether each node is what another call of a module ran, or one stands for a whole call."""
    calls = {data["calls"][len(path)] for data in nodes if len(data.get("calls", ())) > len(path)}
    return len(calls) == len(nodes) or any(
        data["kind"] is NodeKind.GROUP
        and data.get("name") == ".".join(path)
        and "part_of" not in data
        for data in nodes
    )


def _are_apart(graph: GradGraph, keys: Set[str], path: Sequence[str]) -> bool:
    """Whether parts that no data joins are calls: recorded as such, or alike."""
    calls: list[set[int]] = []
    alike: list[tuple[object, ...]] = []
    left = set(keys)
    while left:
        piece, pending = set[str](), [min(left)]
        while pending:
            if (key := pending.pop()) in left:
                left.remove(key)
                piece.add(key)
                pending += [*graph.successors(key), *graph.predecessors(key)]
        nodes = [graph.nodes[key] for key in piece]
        given = [graph.nodes[source] for key in piece for source in graph.predecessors(key)]
        leaves = {n.get("name") for n in given if is_box_of_leaves(n) or n["kind"] in _LEAVES}
        calls.append({n["calls"][len(path)] for n in nodes if len(n.get("calls", ())) > len(path)})
        alike.append((sorted(f"{n.get('op')} {n.get('structure')}" for n in nodes), leaves))
    if all(calls):
        return len(calls) > 1 and sum(map(len, calls)) == len(set[int]().union(*calls))
    return any(each in alike[:at] for at, each in enumerate(alike))


def _with_tensors(graph: GradGraph, path: str, keys: set[str]) -> set[str]:
    """With the parameters, masks and untracked tensors of one module that only it uses."""
    found, inside = set(keys), f"{path}."
    pending = list(keys)
    while pending:
        for key in graph.predecessors(pending.pop()):
            data = graph.nodes[key]
            if key in found or data["kind"] is NodeKind.OPERATION:
                continue
            is_docked = data["kind"] is NodeKind.GROUP and not data.get("members")
            is_own = str(data.get("name", "")).startswith(inside)
            is_own |= f"{data.get('module', '')}.".startswith(inside)
            if (is_own or is_docked or data.get("op") == "mask") and found.issuperset(
                graph.successors(key)
            ):
                found.add(key)
                pending.append(key)
    return found


def clusters_of(graph: GradGraph, framed: Container[str]) -> list[Cluster]:
    """What the layout is to keep together so that these modules can have frames."""
    modules = {path: keys for path, keys in opened_modules(graph).items() if path in framed}
    titles = {path: _title(graph, path, modules[path], _outer(modules, path)) for path in modules}
    return [
        Cluster(frozenset(keys), line_width(titles[path]) + 2 * _SIDE)
        for path, keys in modules.items()
    ]


def _outer(modules: Mapping[str, set[str]], path: str) -> str:
    """The next larger module around one; "" for none."""
    return next((each for each in modules if modules[path] < modules[each]), "")


def with_short_names(graph: GradGraph, framed: Container[str]) -> GradGraph:
    """The graph with names relative to the innermost of these modules that contains the node."""
    modules = opened_modules(graph)
    seen: GradGraph = graph.copy()
    done: set[str] = set()
    for path in (each for each in modules if each in framed):  # inner modules come first
        for key in modules[path] - done:
            name = str(graph.nodes[key].get("name", ""))
            if is_box_of_leaves(graph.nodes[key]):  # parameters of model.fc (2)
                seen.nodes[key]["name"] = name.replace(f" of {path}.", " of ")
            is_part = name == path and "part_of" in graph.nodes[key]
            if is_part or name.startswith(f"{path}."):
                outer, _, last = path.rpartition(".") if is_part else (path, "", "")
                outer = outer.rpartition(".")[0] if last.isdigit() else outer  # h.0, not 0
                seen.nodes[key]["name"] = name[len(outer) :].removeprefix(".")
                others = seen.nodes[key].pop("aliases", ())
                if own := [each for each in others if each.startswith(f"{outer}.") and outer]:
                    seen.nodes[key]["aliases"] = tuple(each[len(outer) + 1 :] for each in own)
        done |= modules[path]
    return seen


def frames_of(
    graph: GradGraph,
    boxes: Mapping[str, Rect],
    routes: Mapping[object, Route],
    texts: Sequence[Text],
    columns: Mapping[str, int] | None = None,
) -> list[ModuleFrame]:
    """The frames for which there is room: nothing foreign is inside, and no text is crossed.

    Args:
        graph: as it is drawn.
        boxes: what is drawn, by key; the causes of cuts by the key of their second half.
        routes: by edge, as (source, target, number), and by the key of the cause of a cut.
        texts: what stands beside the edges.
        columns: the column of each box, if there are several: a frame has a part in each.
    """
    modules = opened_modules(graph)
    lines = [_Line(route) for route in routes.values()]
    while True:
        frames = _frames(graph, modules, boxes, routes, lines, texts, columns or {})
        if all(_outer(modules, path) in ("", *frames) for path in frames):
            return [part for parts in frames.values() for part in parts]
        # A title is relative to the frame around it; one for which there is no room names none.
        modules = {path: modules[path] for path in frames}


def _frames(
    graph: GradGraph,
    modules: Mapping[str, set[str]],
    boxes: Mapping[str, Rect],
    routes: Mapping[object, Route],
    lines: Sequence[_Line],
    texts: Sequence[Text],
    columns: Mapping[str, int],
) -> dict[str, list[ModuleFrame]]:
    """By path, the parts of the frames of modules for which there is room."""
    causes = {key: key.split()[1:3] for key in boxes if key not in graph}
    frames: dict[str, list[ModuleFrame]] = {}
    for path, keys in modules.items():
        within = {*keys, *(key for key, ends in causes.items() if keys.issuperset(ends))}
        nested = [part for each in frames if modules[each] <= keys for part in frames[each]]
        others = [part for parts in frames.values() for part in parts]
        foreign = [box for key, box in boxes.items() if key not in within]
        foreign += [part.box for part in others if part not in nested]
        titles = [part.title for part in others]
        room = _Room(foreign, lines, [extent(text) for text in (*texts, *titles)])
        content: dict[int, list[Rect]] = {}
        for key in within & boxes.keys():
            content.setdefault(columns.get(key, 0), []).append(boxes[key])
        for part in nested:
            content[part.column].append(part.box)
        for edge, points in routes.items():
            cause = str(edge)
            ends: Sequence[str] = edge[:2] if isinstance(edge, tuple) else (cause, *causes[cause])
            if within.issuperset(ends) and len({columns.get(end, 0) for end in ends}) == 1:
                content[columns.get(ends[0], 0)].append(around(points))
        title = _title(graph, path, keys, _outer(modules, path))
        parts: list[ModuleFrame] = []
        for column in sorted(content):
            if frame := room.frame(path, title, content[column]):
                goes_on = column != max(content)
                parts.append(replace(frame, column=column, part=len(parts), goes_on=goes_on))
            title = (title[0], TextSpan("continued", Role.WORD))
        if len(parts) == len(content):
            frames[path] = parts
    return frames


def _title(graph: GradGraph, path: str, keys: set[str], outer: str) -> Line:
    """Name, class, output and parameters of a module."""
    name = path[len(outer) + 1 :] if outer and path.startswith(f"{outer}.") else path
    spans = [TextSpan(clean(name), Role.NAME)]
    if word := graph.graph.get("modules", {}).get(path):
        spans.append(TextSpan(clean(word), Role.WORD))
    nodes: list[NodeData] = [graph.nodes[key] for key in keys]
    ends = [
        graph.nodes[key]
        for key in sorted(keys)
        if graph.nodes[key]["kind"] in _STEPS and not keys.issuperset(graph.successors(key))
    ]
    undrawn = undrawn_in(graph, path)
    if ends and len({(end.get("shape"), end.get("dtype")) for end in ends}) == 1:
        shape = ends[0].get("shape")
        # What used frozen parameters alone may be outside.
        if shape is not None and not ("frozen" in undrawn and all(map(is_inferred, nodes))):
            spans += shapes_before(graph, keys, {"module": path, "shape": shape})
            text = shape_text(shape, ends[0].get("dtype", ""))
            spans.append(TextSpan(text, Role.FACT))
    # A tensor that is also used outside of the frame is drawn outside of it.
    given = {source: graph.nodes[source] for key in keys for source in graph.predecessors(key)}
    own = {key for key, data in given.items() if f"{data.get('name')}".startswith(f"{path}.")}
    own |= keys
    once = {graph.nodes[key].get("clone_of", key): key for key in sorted(own)}
    tensors = {key: graph.nodes[key if key in graph else copy] for key, copy in once.items()}
    is_known = own.issuperset(key for key, data in given.items() if is_box_of_leaves(data))
    counts = {**elements_of(tensors.values()), **undrawn} if is_known else {}
    return (*spans, *element_spans(counts))


class _Line:
    """A route, the rectangle around it and, once they are needed, points on it.

    Args:
        route: of an edge.
    """

    def __init__(self, route: Route) -> None:
        self._route, self.box = route, around(route)

    @cached_property
    def points(self) -> list[Point]:
        """Points on each of its Bézier segments."""
        starts = range(0, len(self._route) - 1, 3)
        segments = [self._route[start : start + 4] for start in starts]
        return [point_at(each, number / 24) for each in segments for number in range(25)]


@dataclass(frozen=True)
class _Room:
    """What a frame must not touch."""

    foreign: Sequence[Rect]  # boxes that must stay outside
    lines: Sequence[_Line]  # which a title must not touch
    texts: Sequence[Rect]  # which neither a title nor the border may touch

    def frame(self, path: str, title: Line, content: Sequence[Rect]) -> ModuleFrame | None:
        """The frame around some content, widened until its title has a place; None for no room."""
        lefts, tops, rights, bottoms = zip(*content, strict=True)
        top, bottom = min(tops) - _TOP, max(bottoms) + _SIDE
        width = line_width(title)
        for step in range(_WIDEST):
            for on_left, on_right in ((step, 0), (0, step), (step, step)):
                left = min(lefts) - _SIDE - on_left * _STEP
                right = max(rights) + _SIDE + on_right * _STEP
                box = left, top, right, bottom
                if not self._is_free(box):
                    continue
                x = left + _SIDE
                while x + width + _SIDE <= right:
                    text = set_line(title, x, top + 14)
                    if self._has_no_line(extent(text)):
                        return ModuleFrame(path, box, text)
                    x += _STEP / 2
        return None

    def _is_free(self, box: Rect) -> bool:
        left, top, right, bottom = box
        wide = left - _APART, top - _APART, right + _APART, bottom + _APART
        if any(meet(wide, other) for other in self.foreign):
            return False
        return all(
            not meet(box, text)
            or (left < text[0] and text[2] < right and top < text[1] and text[3] < bottom)
            for text in self.texts
        )

    def _has_no_line(self, box: Rect) -> bool:
        wide = _wider(box, 2 * _APART)
        if any(meet(_wider(wide, 5), text) for text in self.texts):
            return False
        near = (line for line in self.lines if meet(wide, line.box))
        return not any(
            wide[0] < x < wide[2] and wide[1] < y < wide[3] for line in near for x, y in line.points
        )


def _wider(box: Rect, by: float) -> Rect:
    return box[0] - by, box[1], box[2] + by, box[3]
