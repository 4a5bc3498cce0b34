"""Convert a story to plain text: trees from each result to its leaves, and its events.

A digest of events lists repeated events once, and the events of one line in one line.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from gradviz.graph import LEAVES, Cause, EdgeKind, GradGraph, longest_paths
from gradviz.graph.text import clean, counted
from gradviz.renderers.labels import Label, Line, Role, TextSpan, cause_text, labels_of
from gradviz.renderers.theme import has_bars, scale_text, text_bar
from gradviz.story import Event, EventKind, Frame, Story

_WIDEST_MARGIN = 72
_NARROWEST = 20  # the least number of columns for words


def to_text(story: Story, most_lines: int = 400, width: int = 0, styled: bool = False) -> str:
    """Convert a story to text, each graph as a tree from its roots back to its leaves.

    A line that starts with ``←`` is the last input of the line above it at the same margin; other
    inputs branch off before it. ``╌`` and ``⇠`` mark an input that receives no gradient. A node
    with several users is printed once, with a number (``#1``) that later lines refer to.

    Args:
        story: frames as they will be shown.
        most_lines: the largest number of nodes for one frame; the omitted ones are counted.
        width: columns of the terminal, at least 40: longer lines are wrapped, and the tree is
            continued on wrapped lines; 0 for lines of any length.
        styled: bold and colored, by the codes that terminals know.

    Example:
        >>> from gradviz.graph import NodeKind
        >>> graph = GradGraph()
        >>> graph.add_node("n0", kind=NodeKind.RESULT, name="y", root=0)
        >>> graph.add_node("n1", kind=NodeKind.OPERATION, op="mul")
        >>> graph.add_node("n2", kind=NodeKind.LEAF, name="x", grad=None)
        >>> _ = graph.add_edge("n1", "n0", 0, input=0), graph.add_edge("n2", "n1", 0, input=0)
        >>> _ = graph.add_edge("n2", "n1", 1, input=1)
        >>> print(to_text(Story((Frame("", graph),))), end="")
        y
        ← mul
        ├─ x  leaf  .grad  None
        └─ x  (above)
    """
    several = len(story) > 1
    blocks = [[clean(story.title)]] if story.title else []
    for number, frame in enumerate(story, 1):
        title = [f"{number}  " * several + clean(frame.title)] if several or frame.title else []
        notes = [f"({note})" for note in frame.graph.notes]
        scale = scale_text(frame.graph)
        bars = f"(column: {scale}; empty where it is not known)"
        legend = bars if has_bars(frame.graph) else scale and f"({scale})"
        after = [line for line in (clean(frame.caption), *notes, legend) if line]
        tree = list(_frame_lines(frame, most_lines, _Paper(width, styled)))
        after = [part for line in after for part in in_columns(line, width)]
        title = [part for line in title for part in in_columns(line, width)]
        blocks.append([*title, *tree, *([""] if after else []), *after])
    if story.notes:
        given = (in_columns(f"({clean(note)})", width) for note in story.notes)
        blocks.append([line for lines in given for line in lines])
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


@dataclass(frozen=True)
class _Paper:
    """The output medium: its width in columns, 0 for any; and whether it supports colors."""

    width: int
    styled: bool

    def lines(self, lead: str, below: str, pieces: Sequence[Line]) -> Iterator[str]:
        """Pieces in lines that fit; ``below`` starts all but the first."""
        room = max(self.width - max(len(lead), len(below)), _NARROWEST)
        line: list[Line] = []
        used = 0
        for piece in self._short(pieces, room):
            length = len(_text(piece))
            if line and self.width and used + 2 + length > room:
                yield lead + "  ".join(map(self._shown, line))
                lead, line, used = below, [], 0
            used += length + 2 * bool(line)
            line.append(piece)
        yield lead + "  ".join(map(self._shown, line))

    def _short(self, pieces: Sequence[Line], room: int) -> Iterator[Line]:
        for piece in pieces:
            if not self.width or len(_text(piece)) <= room:
                yield piece
                continue
            for part in textwrap.wrap(_text(piece), room, break_on_hyphens=False):
                yield (TextSpan(part, piece[-1].role),)

    def _shown(self, piece: Line) -> str:
        if not self.styled:
            return _text(piece)
        return "  ".join(f"{_CODES[span.role]}{span.text}{_PLAIN}" for span in piece)


def _text(piece: Line) -> str:
    return "  ".join(span.text for span in piece)


def _plain(text: str) -> Line:
    return (TextSpan(text, Role.FACT),)


_PLAIN = "\033[0m"
_CODES = {
    Role.NAME: "\033[1m",
    Role.WORD: "",
    Role.VALUE: "",
    Role.FACT: "\033[2m",
    Role.LOUD: "\033[1;31m",
    Role.CUT: "\033[33m",
    Role.NEWS: "\033[1;34m",
    Role.ZERO: "\033[1m",
    Role.REMOVED: "\033[35m",
}
"""How a terminal shows a role; the words are the same without it."""

_TREE = "│├└─╌←⇠ "


def in_columns(text: str, width: int) -> list[str]:
    """A line of text in lines of at most ``width`` columns, under its own margin.

    Args:
        text: one line. A margin of tree lines is continued.
        width: columns; 0 for any number.

    Example:
        >>> in_columns("│  a line of words", 12)
        ['│  a line of', '│     words']
        >>> in_columns("a  fine", 0)
        ['a  fine']
    """
    if not width or len(text) <= width:
        return [text]
    words = text.lstrip(_TREE)
    lead = text[: len(text) - len(words)]
    below = lead.translate(_CONTINUED) + "   "
    if len(below) > width // 2:
        lead = below = below[: width // 2]
    return textwrap.wrap(
        words,
        max(width, len(below) + 1),
        initial_indent=lead,
        subsequent_indent=below,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


_CONTINUED = str.maketrans("├└─╌←⇠", "│     ")


def _frame_lines(frame: Frame, most: int, paper: _Paper) -> Iterator[str]:
    tree = _Tree(frame.graph, paper.width)
    for number, (lead, below, words) in enumerate(tree.lines()):
        if number == most:
            left = frame.graph.number_of_nodes() - len(tree.seen)
            yield f"… and {left:,} more nodes; a picture (.svg) or .json shows all"
            return
        yield from paper.lines(lead, below, words)


@dataclass
class _Step:
    """A node to write, with the prefixes of its line and of the next ones."""

    key: str
    lead: str
    below: str
    edge: Any = None
    times: int = 1


class _Tree:
    def __init__(self, graph: GradGraph, width: int = 0) -> None:
        self.graph = graph
        self.widest_margin = min(_WIDEST_MARGIN, width // 2) if width else _WIDEST_MARGIN
        self.labels: dict[str, Label] = labels_of(graph)
        self.seen: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.height = _heights(graph)
        self.has_bars = has_bars(graph)
        self.users = dict.fromkeys(graph.nodes, 0)
        for key in graph.nodes:
            for source, _ in self._inputs(key):
                self.users[source] += 1

    def lines(self) -> Iterator[tuple[str, str, list[Line]]]:
        """The margin of each node, the margin of its continuation, and its words.

        Depth first, without recursion: graphs may be very deep.
        """
        roots = self.graph.roots
        # Nodes without users that are not roots: tensors before a cut.
        ends = [
            key
            for key, data in self.graph.nodes(data=True)
            if not self.users[key] and key not in roots and "clone_of" not in data
        ]
        # A leaf that is a root is printed below what was computed from it.
        first = [key for key in roots if not self._is_used_leaf(key)]
        last = [key for key in roots if self._is_used_leaf(key)]
        stack = [_Step(key, "", "") for key in reversed([*first, *ends, *last])]
        while stack:
            step = stack.pop()
            inputs = self._inputs(step.key)
            again = step.key in self.seen
            column = self._column(step.key, again)
            if again and not step.lead:
                continue
            below = f"{' ' * len(column)}{self._fit(step.below)}   "
            yield column + self._fit(step.lead), below, self._words(step, bool(inputs), again)
            self.seen.add(step.key)
            if inputs and not again:
                stack += reversed(self._next(step, inputs))

    def _fit(self, lead: str) -> str:
        """The margin of a line; only the right end of a very wide one."""
        most = self.widest_margin
        return lead if len(lead) <= most else f"… {lead[2 - most :]}"

    def _is_used_leaf(self, key: str) -> bool:
        return bool(self.users[key]) and self.graph.nodes[key]["kind"] in LEAVES

    def _column(self, key: str, again: bool) -> str:
        """The column of `color_by`, before the line."""
        if not self.has_bars:
            return ""
        return f"{text_bar(self.graph, {} if again else self.graph.nodes[key])}  "

    def _inputs(self, key: str) -> list[tuple[str, Any]]:
        """The inputs; a copy of a shared leaf is replaced by the leaf."""
        return [
            (self.graph.nodes[source].get("clone_of", source), edge)
            for source, edge in self.graph.inputs(key)
        ]

    def _words(self, step: _Step, has_inputs: bool, again: bool) -> list[Line]:
        """The text of a node, in pieces between which a line may be broken."""
        label = self.labels[step.key]
        edge: Any = step.edge or {}
        way = [f"(by way of {', '.join(edge['through'])})"] if edge.get("through") else []
        if edge.get("cause", Cause.NOT_RECORDED) is not Cause.NOT_RECORDED:
            way.append(f"(cut: {cause_text(edge)})")
        if again:
            number = self.numbers.get(step.key)
            times = f" ×{step.times}" if step.times > 1 else ""
            above = f"({f'#{number}, ' if number else ''}above){times}"
            return [*((span,) for span in label.head[:1]), *map(_plain, [*way, above])]
        mark = []
        if has_inputs and self.users[step.key] > 1:
            self.numbers[step.key] = len(self.numbers) + 1
            mark = [f"#{self.numbers[step.key]}"]
        return [*((span,) for span in label.head), *label.rows, *map(_plain, [*mark, *way])]

    def _next(self, step: _Step, inputs: list[tuple[str, Any]]) -> list[_Step]:
        """Side branches first, indented; then the longest path, at the same margin."""
        spine = max(range(len(inputs)), key=lambda number: self.height[inputs[number][0]])
        sides = [pair for number, pair in enumerate(inputs) if number != spine]
        source, edge = inputs[spine]
        straight = len(inputs) == 1 or self.height[source] > 0
        if not straight:
            sides = inputs
        steps = []
        runs = _runs(sides)
        for number, (side, side_edge, times) in enumerate(runs, 1):
            last = number == len(runs) and not straight
            line = "╌" if side_edge.get("kind") is EdgeKind.CUT else "─"
            lead = f"{step.below}{'└' if last else '├'}{line} "
            below = step.below + ("   " if last else "│  ")
            steps.append(_Step(side, lead, below, side_edge, times))
        if straight:
            arrow = "⇠ " if edge.get("kind") is EdgeKind.CUT else "← "
            steps.append(_Step(source, step.below + arrow, step.below, edge))
        return steps


def _runs(inputs: list[tuple[str, Any]]) -> list[tuple[str, Any, int]]:
    """Inputs with the number of consecutive repetitions; the first of a sequence is separate."""
    runs: list[tuple[str, Any, int]] = []
    for source, edge in inputs:
        if len(runs) > 1 and runs[-1][0] == runs[-2][0] == source:
            runs[-1] = (source, edge, runs[-1][2] + 1)
        else:
            runs.append((source, edge, 1))
    return runs


def _heights(graph: GradGraph) -> dict[str, int]:
    """The length of the longest path from an input of the graph to each node."""
    users: dict[str, list[str]] = {key: [] for key in graph.nodes}
    for key in graph.nodes:
        for source, _ in graph.inputs(key):
            users[source].append(key)
    return longest_paths(users)


_LONGEST_BLOCK = 200  # rows of a repetition
_MOST_NAMES = 4
_MOST_WORDS = 9


def events_text(story: Story, which: str = "few") -> str:
    """The events of a recording as text, with one line for each event or for several.

    Args:
        story: of a recording.
        which: ``"few"`` for a digest, ``"all"``, or kinds of events: ``"cut,backward"``.

    Example:
        >>> from gradviz.facts import SourceLocation
        >>> at = SourceLocation("train.py", 3)
        >>> events = [Event(n, EventKind.OPERATION, "sin", at) for n in range(4)]
        >>> events_text(Story(events=events)), events_text(Story(events=events), "cut")
        ('train.py:3  sin ×4', '')
    """
    events: Sequence[Event] = story.events
    if which == "few":
        return "\n".join(_lines(_folded(_rows(story)), ""))
    if which != "all":
        kinds = which.split(",")
        events = [event for event in events if event.kind.value in kinds]
    return "\n".join(map(str, events))


@dataclass(frozen=True)
class _Row:
    """A line of the digest."""

    words: str
    detail: str = ""

    @property
    def key(self) -> object:
        return self.words

    @property
    def place(self) -> str:
        return self.words.partition("  ")[0]


@dataclass(frozen=True)
class _Block:
    """Repeated rows."""

    first: tuple[_Item, ...]  # the rows of the first repetition
    last: tuple[_Item, ...]  # those of the last one
    times: int  # the number of repetitions
    more: int = 0  # the number of rows of an incomplete repetition after them

    @property
    def key(self) -> object:
        return (self.times, self.more, *(each.key for each in self.first))

    @property
    def place(self) -> str:
        return self.first[-1].place


_Item = _Row | _Block


def _rows(story: Story) -> Iterator[_Item]:
    """Each line of the program, in each of its runs, as one row or a few."""
    leaves = {
        key: data.get("name", "")
        for frame in story
        for key, data in frame.graph.nodes(data=True)
        if data["kind"] in LEAVES
    }
    for _, group in groupby(story.events, key=lambda event: event.source):
        events = list(group)
        if row := _initialization(events, leaves):
            yield row
            continue
        for kind, same in groupby(events, key=_sort):
            if kind == "operations":
                yield _operations(list(same))
            elif kind == "gradients":
                yield from _gradients(list(same))
            else:
                yield from map(_row, same)


def _sort(event: Event) -> str:
    if event.kind is EventKind.OPERATION and event.action is None and event.details is None:
        return "operations"
    return "gradients" if event.kind is EventKind.ACCUMULATE else "others"


def _row(event: Event) -> _Row:
    if event.kind is EventKind.MARK:
        return _Row(str(event))
    words = "  ".join(filter(None, (event.source, event.name, event.word)))
    return _Row(words, event.detail)


def _initialization(events: list[Event], leaves: dict[str, str]) -> _Row | None:
    """The row of a line that created parameters and wrote their first values, or None.

    Only tensors that are parameters in a frame count.
    """
    written = [event for event in events if event.kind is EventKind.IN_PLACE]
    kinds = {event.kind for event in events}
    keys = dict.fromkeys(key for event in written for key in event.nodes)
    if kinds != {EventKind.OPERATION, EventKind.IN_PLACE} or not all(
        event.nodes and set(event.nodes) <= leaves.keys() for event in written
    ):
        return None
    if any(set(event.nodes) - leaves.keys() for event in events):
        return None
    names = _few([leaves[key] for key in keys])
    what = counted(len(keys), "parameter")
    return _Row("  ".join(filter(None, (events[0].source, f"{what} initialized{names}"))))


def _few(names: list[str]) -> str:
    known = [name for name in names if name]
    more = ", …" if len(known) > _MOST_NAMES else ""
    return f": {', '.join(known[:_MOST_NAMES])}{more}" if known else ""


def _operations(events: list[Event]) -> _Row:
    """The operations of one line in one row; the last one created the named result."""
    words = []
    for (word, name), same in groupby(events, key=lambda event: (event.word, event.name)):
        count = len(list(same))
        times = f" ×{count}" if count > 1 else ""
        words.append(f"{name} = {word}{times}" if name else f"{word}{times}")
    if len(words) > _MOST_WORDS:
        left = len(words) - _MOST_WORDS + 1
        words[_MOST_WORDS - 2 : -1] = [f"… {left} more"]
    return _Row("  ".join(filter(None, (events[0].source, ", ".join(words)))))


def _gradients(events: list[Event]) -> Iterator[_Row]:
    """Gradients into which one backward pass accumulated."""
    if len(events) <= _MOST_NAMES:
        yield from map(_row, events)
        return
    names = _few([event.name for event in events])
    yield _Row(f"{events[0].source}  accumulate_grad  {len(events)} gradients{names}")


def _folded(rows: Iterator[_Item]) -> list[_Item]:
    """Consecutive equal rows once; the shortest repetitions first."""
    items = list(rows)
    period = 1
    while period <= min(_LONGEST_BLOCK, len(items) // 2):
        folded = _folded_by(items, period)
        # What is folded now may be a part of a shorter repetition.
        period = 1 if len(folded) < len(items) else period + 1
        items = folded
    return items


def _folded_by(items: list[_Item], period: int) -> list[_Item]:
    numbers: dict[object, int] = {}
    keys = [numbers.setdefault(item.key, len(numbers)) for item in items]
    found: list[_Item] = []
    at = 0
    while at < len(items):
        end = at + period
        while end < len(items) and keys[end] == keys[end - period]:
            end += 1
        times, more = divmod(end - at, period)
        if times < 2:
            found.append(items[at])
            at += 1
            continue
        last = at + (times - 1) * period
        first = tuple(items[at : at + period])
        found.append(_Block(first, tuple(items[last : last + period]), times, more))
        at = end
    return found


def _lines(items: Sequence[_Item], indent: str, last: Sequence[_Item] | None = None) -> list[str]:
    """The digest as lines; where the last repetition differs from the first, both."""
    lines: list[str] = []
    for item, other in zip(items, last or items, strict=True):
        if isinstance(item, _Row):
            assert isinstance(other, _Row)
            details = list(dict.fromkeys(filter(None, (item.detail, other.detail))))
            lines.append(indent + "  ".join(filter(None, (item.words, " … ".join(details)))))
            continue
        assert isinstance(other, _Block)
        more = f", and once more up to {item.first[item.more - 1].place}" if item.more else ""
        if len(item.first) == 1 and not more and isinstance(item.first[0], _Row):
            (line,) = _lines(item.first, indent, other.last)
            lines.append(f"{line}  ×{item.times}")
            continue
        lines.append(f"{indent}{item.times} times{more}:")
        lines += _lines(item.first, f"{indent}│ ", other.last)
    return lines
