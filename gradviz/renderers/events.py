"""The events of a recording as text: all of them, some kinds, or a digest.

A digest lists repeated events once, and the events of one line of the program in one line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from gradviz.graph import NodeKind
from gradviz.graph.text import counted
from gradviz.story import Event, EventKind, Story

__all__ = ["events_text"]

_LONGEST_BLOCK = 200  # rows of a repetition
_MOST_NAMES = 4
_MOST_WORDS = 9
_LEAVES = (NodeKind.PARAMETER, NodeKind.LEAF)


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
    """A line of the digest.

    Args:
        words: the part that is equal in every repetition.
        detail: the part that may differ.
    """

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
    """Repeated rows.

    Args:
        first: the rows of the first repetition.
        last: those of the last one.
        times: the number of repetitions.
        more: the number of rows of an incomplete repetition after them.
    """

    first: tuple[_Item, ...]
    last: tuple[_Item, ...]
    times: int
    more: int = 0

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
        if data["kind"] in _LEAVES
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
