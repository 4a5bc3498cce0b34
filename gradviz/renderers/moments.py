"""Stories that are too large for a page: one graph for the frames that share it, and their changes.

Frames of a recording often show the same operations at several moments: after the forward pass,
after backward, after the step. On a page that is too small for all, one of them is drawn; the
others are described in lines below it, with a table of the gradients. If the same operations
repeat, as in the steps of a training loop, the first and the last of them are drawn. Of gradient
norms there is a picture and a text with a row for each parameter and a column for each step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import groupby
from typing import Any, cast

from gradviz.facts import FrameKind
from gradviz.graph import LEAVES, GradGraph, NodeData, NodeKind, TensorSummary, ancestors, is_data
from gradviz.graph.text import clean, counted, is_loud, number_text, summary_text
from gradviz.renderers.cards import text_width
from gradviz.renderers.labels import Role, TextSpan, loud_role
from gradviz.renderers.scene import Polygon, Rectangle, Scene, Shape, ShapeGroup, Text, Words
from gradviz.story import Frame, GradientNorms, NormState, Story, with_graphs
from gradviz.views.groups import count_of, sums_of
from gradviz.views.page import CHUNKED, PageSize

_MOST_ROWS = 8
_MOST_RESULTS = 8  # that get a frame each
_CLEARLY = 0.9  # of its height, for which a graph is folded further
_FEW = 4  # values that fit into a cell


@dataclass(frozen=True)
class Moment:
    """A frame that is drawn, and the frames that are described below it.

    Args:
        frame: the frame.
        number: its number in the story, from 1 on.
        others: the other frames of the same operations, with their numbers.
        gap: the numbers of the first and last omitted frame after it; (0, 0) for none.
    """

    frame: Frame
    number: int
    others: tuple[tuple[int, Frame], ...] = ()
    gap: tuple[int, int] = (0, 0)

    @property
    def frames(self) -> list[tuple[int, Frame]]:
        """All its frames, in order."""
        return sorted([(self.number, self.frame), *self.others], key=lambda each: each[0])


def results_apart(story: Story) -> Story:
    """A story of one frame without a backward pass, as a frame for each of its separate results.

    A result that no gradient leaves, because its path is cut, gets a frame of its own.

    Args:
        story: recorded; any other story is returned as it is.
    """
    if len(story) != 1 or story[0].kind is not FrameKind.END:
        return story
    graph = story[0].graph
    cut = [key for key in graph if _is_cut_result(graph, key)]
    parts = {key: ancestors(graph, [key], is_data) for key in cut}
    others = [key for key in graph if not graph.out_degree(key) and key not in parts]
    has_operations = any(
        graph.nodes[key]["kind"] in (NodeKind.OPERATION, NodeKind.RESULT) for key in others
    )
    if not cut or len(cut) + has_operations < 2 or len(cut) > _MOST_RESULTS:
        return story
    frames = []
    if has_operations:
        name = next((graph.nodes[root].get("name", "") for root in graph.roots), "")
        part = graph.subgraph(ancestors(graph, others, is_data)).copy()
        frames.append(replace(story[0], graph=part, title=name or story[0].title))
    for key, inside in parts.items():
        title = graph.nodes[key].get("name") or "a result"
        frames.append(replace(story[0], graph=graph.subgraph(inside).copy(), title=title))
    return replace(story, frames=tuple(frames))


def _is_cut_result(graph: GradGraph, key: str) -> bool:
    """Whether a node is a tensor that nothing uses, computed from a leaf without a gradient."""
    data = graph.nodes[key]
    is_number = str(data.get("dtype", "")).startswith(("float", "bfloat", "complex"))
    if data["kind"] is not NodeKind.UNTRACKED or graph.out_degree(key) or "op" not in data:
        return False
    leaves = (graph.nodes[each]["kind"] for each in ancestors(graph, [key], is_data))
    return is_number and "shape" in data and any(kind in LEAVES for kind in leaves)


def moments_of(story: Story, runs: Sequence[int]) -> list[Moment]:
    """The moments of a story that are drawn if there is no room for all.

    Args:
        story: its frames.
        runs: for each frame, a number that consecutive frames of the same graph share.
    """
    found: list[tuple[Hashable, Moment]] = []
    for _, together in groupby(zip(runs, enumerate(story, 1), strict=True), lambda each: each[0]):
        frames = [numbered for _, numbered in together]
        number, frame = max(frames, key=lambda each: (*_worth(each[1]), -each[0]))
        others = tuple(each for each in frames if each[0] != number)
        found.append((_structure(frame.graph), Moment(frame, number, others)))
    return list(_without_repeats(found))


def runs_of_frames(graphs: Sequence[GradGraph]) -> list[int]:
    """For each frame, a number that consecutive frames of the same graph share."""
    return [number for number, run in enumerate(alike_frames(graphs)) for _ in run]


def alike_frames(graphs: Sequence[GradGraph]) -> list[list[GradGraph]]:
    """Sequences of graphs that share most operations: one graph at several moments."""
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
    """Operations by key and constant attributes, because keys of every trace start at n0."""
    return {
        (key, *(data.get(name) for name in ("sequence_nr", "op", "shape", "dtype", "source")))
        for key, data in graph.nodes(data=True)
        if data["kind"] in (NodeKind.OPERATION, NodeKind.GROUP) and "sequence_nr" in data
    }


def drawn_once(moments: Sequence[Moment]) -> list[Moment]:
    """The same moments, of which those with the same operations share one drawing."""
    found: dict[Hashable, Moment] = {}
    for moment in moments:
        structure = _structure(moment.frame.graph)
        first = found.setdefault(structure, moment)
        if first is not moment:
            gap = first.gap if first.gap[0] else moment.gap
            found[structure] = replace(first, others=(*first.others, *moment.frames), gap=gap)
    return list(found.values())


def _without_repeats(found: Sequence[tuple[Hashable, Moment]]) -> Iterator[Moment]:
    """The first and the last moment of each sequence of one structure; gaps for the others."""
    last = {structure: at for at, (structure, _) in enumerate(found)}
    seen: set[Hashable] = set()
    kept: list[Moment] = []
    for at, (structure, moment) in enumerate(found):
        if structure not in seen or last[structure] == at:
            kept.append(moment)
        else:
            numbers = [number for number, _ in moment.frames]
            before = kept.pop()
            first = before.gap[0] or numbers[0]
            kept.append(Moment(before.frame, before.number, before.others, (first, numbers[-1])))
        seen.add(structure)
    yield from kept


def _worth(frame: Frame) -> tuple[int, int, bool]:
    """How many operations it has, how many gradients changed, and whether backward changed them."""
    changed = (
        data for _, data in frame.graph.nodes(data=True) if "grad" in data.get("changes", {})
    )
    count = sum(len(data.get("leaves", ("",))) for data in changed)
    return count_of(frame.graph), count, frame.kind is FrameKind.AFTER_BACKWARD


def outline_of(story: Story) -> tuple[tuple[object, ...], ...]:
    """The nodes of all graphs, and what groups contain: equal for equal foldings of a story."""
    nodes = [frame.graph._node.items() for frame in story]
    return tuple(tuple((k, n.get("first"), n.get("members")) for k, n in each) for each in nodes)


Fold = Callable[[int, tuple[PageSize, ...]], Sequence[GradGraph]]
"""Folds a frame, by its number from 0 on, for pages of these sizes."""


def finest_foldings(
    stories: Sequence[Story],
    runs: Sequence[int],
    sizes: Sequence[PageSize],
    fold: Fold,
    size_of: Callable[[GradGraph], tuple[float, float]],
) -> Iterator[Story]:
    """Mix foldings of a story: each graph as fine as its width allows, then the highest coarser.

    Args:
        stories: foldings of one story; the first is the finest.
        runs: for each frame, a number that frames of the same graph share.
        sizes: for which graphs are folded further.
        fold: folds a frame for such sizes.
        size_of: the width of a graph as a share of the room for it, and its height.
    """
    # Steps of a loop have the same structure, and are to keep it.
    structures: dict[int, Hashable] = {}
    classes: dict[Hashable, list[int]] = {}
    for at, frame in enumerate(stories[0]):
        structure = structures.setdefault(runs[at], _structure(frame.graph))
        classes.setdefault(structure, []).append(at)
    ladders = [_Ladder(stories, frames, fold, cache(size_of)) for frames in classes.values()]
    for ladder in ladders:
        ladder.extend(tuple(sizes))
    while True:
        graphs = {at: graph for ladder in ladders for at, graph in ladder.graphs()}
        yield with_graphs(stories[0], [graphs[at] for at in range(len(runs))])
        for ladder in sorted(ladders, key=_Ladder.height, reverse=True):
            if ladder.go_down():
                break
        else:
            return


class _Ladder:
    """The foldings of frames that share a structure, from fine to coarse, and the chosen one."""

    def __init__(
        self,
        stories: Sequence[Story],
        frames: Sequence[int],
        fold: Fold,
        size_of: Callable[[GradGraph], tuple[float, float]],
    ) -> None:
        self._stories, self._frames, self._fold, self._size_of = stories, frames, fold, size_of
        self._shown = max(frames, key=lambda at: _worth(stories[0][at]))
        self.steps: list[tuple[Story | PageSize, GradGraph]] = []
        self.level = 0

    def extend(self, sizes: tuple[PageSize, ...]) -> None:
        """Add foldings for pages of these sizes, and choose the finest that is narrow enough."""
        found: list[tuple[Story | PageSize, GradGraph]] = [
            (story, story[self._shown].graph) for story in self._stories
        ]
        found += zip(sizes, self._fold(self._shown, sizes), strict=True)
        most = len(found[0][1])
        different = {tuple(graph): (way, graph) for way, graph in reversed(found)}
        steps = [step for step in different.values() if len(step[1]) <= most]
        # Modules and alike branches say more than chunks of operations, however many.
        self.steps = sorted(steps, key=lambda step: (CHUNKED in step[1].graph, -len(step[1])))
        narrow = (n for n, (_, graph) in enumerate(self.steps) if self._size_of(graph)[0] <= 1)
        self.level = next(narrow, len(self.steps) - 1)

    def graphs(self) -> Iterator[tuple[int, GradGraph]]:
        """The number of each frame, with its graph at the chosen level."""
        way, shown = self.steps[self.level]
        for at in self._frames:
            if isinstance(way, Story):
                yield at, way[at].graph
            else:
                yield at, shown if at == self._shown else self._fold(at, (way,))[0]

    def go_down(self) -> bool:
        """Choose the next coarser folding that is clearly less high, if there is one."""
        for level in range(self.level + 1, len(self.steps)):
            width, height = self._size_of(self.steps[level][1])
            if width <= 1 and height < _CLEARLY * self.height():
                self.level = level
                return True
        return False

    def height(self) -> float:
        """The height of the graph at the chosen level."""
        return self._size_of(self.steps[self.level][1])[1]


def _structure(graph: GradGraph) -> Hashable:
    """Equal for graphs of the same operations, independent of their values."""
    facts = (
        (data["kind"], data.get("op"), data.get("shape"), data.get("name"))
        for _, data in graph.nodes(data=True)
        if data["kind"] in (NodeKind.OPERATION, NodeKind.GROUP)
    )
    return frozenset(Counter(facts).items())


def gradient_table(moment: Moment) -> list[list[TextSpan]]:
    """The gradients of a moment's leaves in each of its frames, as rows of cells; [] for one frame.

    Example:
        >>> frames = []
        >>> for grad in (None, TensorSummary((), "float32", "cpu", values=(2.0,))):
        ...     graph = GradGraph()
        ...     graph.add_node("n0", kind=NodeKind.LEAF, name="w", grad=grad)
        ...     frames.append(Frame("", graph))
        >>> table = gradient_table(Moment(frames[1], 2, ((1, frames[0]),)))
        >>> [[cell.text for cell in row] for row in table]
        [['.grad', '1', '2'], ['w', 'None', '2']]
    """
    frames = moment.frames
    if len(frames) < 2:
        return []
    rows: dict[tuple[TextSpan, ...], list[str]] = {}
    for key, data in moment.frame.graph.nodes(data=True):
        if "grad" in data and data["kind"] in (*LEAVES, NodeKind.GROUP) and "clone_of" not in data:
            cells = tuple(_cell(_same(frame.graph, key, data)) for _, frame in frames)
            rows.setdefault(cells, []).append(_row_name(data))
    full = [at for at in range(len(frames)) if any(cells[at].text for cells in rows)]
    numbers = (TextSpan(str(frames[at][0]), Role.NAME) for at in full)
    table = [[TextSpan(".grad", Role.WORD), *numbers]]
    for cells, names in list(rows.items())[:_MOST_ROWS]:
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        table.append([TextSpan(clean(names[0]) + more, Role.NAME), *(cells[at] for at in full)])
    left = sum(len(names) for names in list(rows.values())[_MOST_ROWS:])
    if left:
        table.append([TextSpan(f"and {left:,} more", Role.FACT)])
    return table if len(table) > 1 else []


def _row_name(data: NodeData) -> str:
    if "leaf" in data or data.get("name") or data["kind"] is not NodeKind.GROUP:
        name = str(data.get("leaf") or data.get("name") or "a leaf")
        return f"part of {name}" if "part_of" in data and "leaf" not in data else name
    members = data.get("members", 0)
    return f"{data.get('op', 'leaves')}" + f" ({counted(members, 'op')})" * bool(members)


def _same(graph: GradGraph, key: str, data: NodeData) -> NodeData | None:
    """The same node in another frame; a group has another key there, and may differ in content."""
    nodes: dict[str, Any] = graph._node
    if data["kind"] is not NodeKind.GROUP:
        return nodes.get(key)
    facts = ("kind", "name", "op", "members", "parameters", "leaf_elements", "repeat")
    alike = [each for each in nodes.values() if all(each.get(f) == data.get(f) for f in facts)]
    own = (each for each in alike if each.get("first") == data.get("first"))
    found = next(own, alike[0] if len(alike) == 1 else None)
    leaves = set(data.get("leaves", ()))
    if found is None and leaves:  # there, they are in several groups or in none
        parts = {key: set(each.get("leaves", (key,))) for key, each in nodes.items()}
        inside = [key for key, own in parts.items() if own <= leaves and "grad" in nodes[key]]
        if sum(len(parts[key]) for key in inside) == len(leaves):
            return cast(NodeData, sums_of([nodes[key] for key in inside], {}))
    return found


def _cell(data: NodeData | None) -> TextSpan:
    grad: TensorSummary | None = data.get("grad") if data is not None else None
    if data is None or "grad" not in data:
        return TextSpan("", Role.FACT)
    if grad is None:
        return TextSpan("None", Role.FACT)
    if (spread := data.get("grad_range")) and not is_loud(grad):
        return TextSpan(f"norm {number_text(spread[0])} to {number_text(spread[1])}", Role.VALUE)
    if is_loud(grad):
        return TextSpan(summary_text(grad), loud_role(grad))
    if grad.values is not None and grad.numel <= _FEW:
        return TextSpan(summary_text(grad), Role.VALUE)
    return TextSpan(f"norm {number_text(grad.finite_norm)}", Role.VALUE)


# Gradient norms: a row for each parameter, a column for each step.

_SIZE = 11.0  # of text, in points
_HEIGHT = 15.0  # of a row
_WIDTH = 900.0  # of all columns, if there are many
_WIDEST = 18.0  # column
_MARGIN = 14.0
_COLUMNS, _LETTERS = 180, 60  # columns in the picture, and in the text
_ROWS = 120
_TONES = 8
_MARKS = {NormState.NONE: "-", NormState.ZERO: "0", NormState.NOT_FINITE: "!", NormState.STALE: "="}


def heatmap(norms: GradientNorms, title: str = "") -> Scene:
    """The picture of gradient norms: one color scale, and marks for all that is no norm.

    Args:
        norms: the norms.
        title: of the picture.

    Example:
        >>> norms = GradientNorms(("w",), (1, 2), ((2.0, None),), ((False, False),), 2)
        >>> heatmap(norms).description
        'norms of 1 gradient at steps 1 to 2, from 2 to 2; also: no gradient'
    """
    norms = norms.narrowed(_COLUMNS)
    rows = range(min(len(norms.names), _ROWS))
    left = _MARGIN + max((text_width(norms.names[row], _SIZE) for row in rows), default=0) + 10
    step = min(_WIDEST, _WIDTH / max(len(norms.steps), 1))
    top = _MARGIN + (_HEIGHT + 8 if title else 0)
    groups = [ShapeGroup("title", "title", (_line(_MARGIN, _MARGIN + 10, title, bold=True),))]
    for row in rows:
        y = top + row * _HEIGHT
        shapes: list[Shape] = [_line(_MARGIN, y + 11, norms.names[row])]
        for column in range(len(norms.steps)):
            shapes += _cell_of_norms(norms, row, column, (left + column * step, y, step, _HEIGHT))
        groups.append(ShapeGroup(f"row{row}", "row", tuple(shapes), norms.names[row]))
    bottom = top + len(rows) * _HEIGHT + 14
    legend = list(_legend(norms, left, bottom, len(norms.names) - len(rows)))
    groups.append(ShapeGroup("legend", "legend", tuple(legend)))
    texts = [shape for shape in legend if isinstance(shape, Text)]
    right = max(shape.x + sum(word.width for word in shape.words) for shape in texts)
    width = max(left + len(norms.steps) * step, right) + _MARGIN
    height = max(shape.y for shape in texts) + _MARGIN
    return Scene(width, height, groups[not title :], title or "gradient norms", _says(norms))


def _cell_of_norms(
    norms: GradientNorms, row: int, column: int, box: tuple[float, float, float, float]
) -> Iterator[Shape]:
    x, y, width, height = box
    state, norm = norms.state(row, column), norms.norms[row][column]
    if state in (NormState.NORM, NormState.STALE) and norm is not None:
        tone = min(int(norms.level(norm) * _TONES), _TONES - 1)
        yield Rectangle(x, y, width, height, f"heat-{tone}", None, 0)
    yield from _mark(state, x, y, width, height)


def _mark(state: NormState, x: float, y: float, width: float, height: float) -> Iterator[Shape]:
    """What distinguishes a cell without its color: the outline, a bar or a corner."""
    if state is NormState.NOT_FINITE:
        yield Rectangle(x, y, width, height, "loud", None, 0)
        middle = x + width / 2
        points = ((x, y + 3), (x + width, y + 3), (middle, y + height - 3))
        yield Polygon(points, "page")
    elif state is NormState.ZERO:
        yield Rectangle(x, y, width, height, "zero-fill", None, 0)
        yield Rectangle(x, y + height / 2 - 1, width, 2, "zero", None, 0)
    elif state is NormState.STALE:
        yield Polygon(((x, y), (x + width, y), (x, y + height / 2)), "cut")
    elif state is NormState.NONE:
        yield Rectangle(x, y + height - 2, width, 1, "panel", None, 0)


def _legend(norms: GradientNorms, left: float, top: float, hidden: int) -> Iterator[Shape]:
    """Which steps, the color scale with its ends, each mark that occurs, and what is left out."""
    yield _line(left, top, _steps(norms, "column"))
    low, high = (number_text(end) for end in norms.ends)
    y = top + 10
    for tone in range(_TONES):
        yield Rectangle(left + tone * 14, y, 14, 11, f"heat-{tone}", None, 0)
    words = f"norm of the gradient, {low} to {high}, logarithmic"
    yield _line(left + _TONES * 14 + 8, y + 9.5, words)
    for state in _states(norms):
        y += _HEIGHT + 2
        yield from _mark(state, left, y, 14, 11)
        yield _line(left + 22, y + 9.5, state.value)
    if hidden > 0:
        yield _line(left, y + _HEIGHT + 12, f"{counted(hidden, 'more parameter')} not shown")


def _states(norms: GradientNorms) -> list[NormState]:
    found = {
        norms.state(row, column)
        for row in range(len(norms.names))
        for column in range(len(norms.steps))
    }
    return [state for state in _MARKS if state in found]


def _steps(norms: GradientNorms, unit: str) -> str:
    """The first and the last step, and how many share a column or character."""
    if not norms.steps:
        return "no step yet"
    first, each = norms.steps[0], norms.steps[1] - norms.steps[0] if norms.steps[1:] else 1
    text = f"steps {first:,} to {norms.last:,}"
    return f"{text}, {each:,} per {unit}" if each > 1 else text


def _line(x: float, y: float, text: str, bold: bool = False) -> Text:
    width = text_width(text, _SIZE, bold)
    return Text(x, y, (Words(text, "ink", _SIZE, bold, width),))


def _says(norms: GradientNorms) -> str:
    low, high = (number_text(end) for end in norms.ends)
    also = ", ".join(state.value for state in _states(norms))
    first = norms.steps[0] if norms.steps else 0
    text = f"norms of {counted(len(norms.names), 'gradient')} at steps {first:,} to {norms.last:,}"
    return f"{text}, from {low} to {high}{f'; also: {also}' if also else ''}"


def heatmap_text(norms: GradientNorms) -> str:
    """The norms as text: digits 1 to 9 on a logarithmic scale, and a mark for all else."""
    norms = norms.narrowed(_LETTERS)
    width = max(map(len, norms.names), default=0)
    lines = []
    for row, name in enumerate(norms.names):
        letters = []
        for column in range(len(norms.steps)):
            state, norm = norms.state(row, column), norms.norms[row][column]
            digit = "" if norm is None or state in _MARKS else str(1 + int(norms.level(norm) * 8))
            letters.append(_MARKS.get(state, digit))
        lines.append(f"{name:{width}}  {''.join(letters)}")
    low, high = (number_text(end) for end in norms.ends)
    scale = f"1 to 9: norms from {low} to {high}, logarithmic"
    marks = [f"{_MARKS[state]}: {state.value}" for state in _states(norms)]
    return "\n".join([*lines, "", _steps(norms, "character"), "; ".join([scale, *marks])])
