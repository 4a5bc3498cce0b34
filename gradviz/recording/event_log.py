"""The event log: compact rows, which are converted to events when they are read.

An operation that autograd recorded is one tuple, written in the hot path of a recording; every
other row is an `Entry`. Operations are found by the sequence numbers of their nodes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from types import CodeType
from typing import Any

from gradviz.facts import Action, Details
from gradviz.graph.operations import OPERATORS_OF_TORCH, words
from gradviz.recording.source_lines import NOWHERE, CodeLocation, SourceLine, SourceLines
from gradviz.story import Event, EventKind

Operation = tuple[int, int, Any, CodeType | None, int, Any]
"""First and past-the-last sequence number of its nodes, the function, the `CodeLocation` as two
fields (to save a call in the hot path), and weak references to its results."""

KeyOf = Callable[[Hashable], str]
"""Returns the key of a node for its identity; "" for a node that is in no frame."""

_EPOCHS = 4  # backward passes after which an operation is no longer searched
_KEEP = 1_024  # the latest operations, which are always kept


@dataclass(slots=True, eq=False)
class Entry:
    """An event other than a plain operation of the graph.

    kind: the kind of event.
    word: the function that was called.
    location: the code that called it.
    name: the name of its tensor; None for the variable that the line assigns or changes.
    identities: of its nodes, for `EventLog.key_of`.
    action: as in `Event`.
    details: as in `Event`, or a function that creates them from `EventLog.key_of`, if they
        contain keys of nodes that later frames may show.
    operation: the tuple of the operation, if autograd recorded it too (in-place and tracked).
    count: number of its tensors.
    is_hidden: whether it is not shown: a helper of torch caused it, not the program.
    repeats: how often a loop repeated it; each is an event of its own.
    """

    kind: EventKind
    word: str
    location: CodeLocation = NOWHERE
    name: str | None = None
    identities: Sequence[Hashable] = ()
    action: Action | None = None
    details: Details | Callable[[KeyOf], Details] | None = None
    operation: Operation | None = None
    count: int = 1
    is_hidden: bool = False
    repeats: int = 0


_Row = Operation | Entry


class EventLog:
    """The rows of a recording; the first and the last ones if there are too many.

    Args:
        max_events: the number of rows to keep.
        lines: converts code locations to lines.

    Attributes:
        entries: rows without a number yet; the hot path appends to it.
        count: number of rows with a number.
        digest: equal for equal sequences of calls since it was set to 0.
        key_of: returns the key of a node for its identity.
    """

    def __init__(self, max_events: int, lines: SourceLines) -> None:
        self.entries: list[Operation | Entry] = []
        self.count = self.digest = 0
        self.key_of: KeyOf = lambda identity: ""
        self._lines = lines
        self._most_first = (max_events + 1) // 2
        self._first: list[_Row] = []
        self._last: deque[_Row] = deque(maxlen=max_events // 2)
        self._repeated: set[int] = set()  # numbers of rows that are not the last call of their line
        self._operations: list[Operation] = []
        self._ends: list[int] = []
        self._are_last: list[bool] = []
        self._epochs: deque[int] = deque(maxlen=_EPOCHS)
        self._dropped = 0

    @property
    def left_out(self) -> int:
        """Number of omitted rows."""
        return self.count - len(self._first) - len(self._last)

    def flush(self) -> None:
        """Number the new rows."""
        if not self.entries:
            return
        entries = self.entries[:]
        del self.entries[: len(entries)]  # the hot path has a reference to this list
        digest, count, place = self.digest, self.count, 0
        rows: list[_Row] = []  # no object is created for each: the garbage collector would run
        operation: Operation | None
        for index, entry in enumerate(entries):
            if isinstance(entry, tuple):
                code, offset = entry[3:5]
                place = hash((entry[2], id(code), offset))
                operation, times = entry, 1
            else:
                code, offset, _ = entry.location
                place = hash((entry.word, id(code), offset, entry.repeats))
                operation, times = entry.operation, 0 if entry.is_hidden else 1 + entry.repeats
            digest = hash((digest, place))
            is_last = offset >= 0 or _place(entries, index + 1) != (code, offset)
            if times and not is_last:
                self._repeated.add(count + len(rows))
            if operation is not None:
                self._operations.append(operation)
                self._ends.append(operation[1])
                self._are_last.append(is_last)
            if times == 1:
                rows.append(entry)
            elif times:
                rows += [entry] * times
        self.digest, self.count = digest, count + len(rows)
        room = self._most_first - len(self._first)
        self._first += rows[:room] if room > 0 else ()
        self._last += rows[max(room, 0) :]
        if len(self._repeated) > 2 * self._most_first + len(self._last):
            start = self.count - len(self._last)
            self._repeated = {n for n in self._repeated if n < self._most_first or n >= start}

    def turn(self) -> None:
        """A backward pass has ended: forget operations of long ago."""
        if len(self._epochs) == _EPOCHS:
            old = min(self._epochs[0] - self._dropped, len(self._operations) - _KEEP)
            if old > 0:
                for column in (self._operations, self._ends, self._are_last):
                    del column[:old]
                self._dropped += old
        self._epochs.append(self._dropped + len(self._operations))

    def find(self, created: int) -> int:
        """Index of the operation whose nodes include this sequence number; -1 if unknown."""
        index = bisect_right(self._ends, created)
        if index < len(self._ends) and self._operations[index][0] <= created:
            return index
        return -1

    @property
    def first_start(self) -> int:
        """The first sequence number that is still searched."""
        return self._operations[0][0] if self._operations else 0

    @property
    def last_end(self) -> int:
        """The end of the sequence numbers of the latest operation; -1 if there was none."""
        return self._ends[-1] if self._ends else -1

    def word(self, index: int) -> str:
        """The name of the operation at an index."""
        return word_of(self._operations[index][2])

    def latest(self, count: int) -> Iterator[Operation]:
        """The latest operations, the most recent first."""
        return iter(self._operations[: -count - 1 : -1])

    def line(self, index: int) -> tuple[SourceLine, int]:
        """The line of the operation at an index, and the end of its sequence numbers."""
        _, end, _, code, offset, _ = self._operations[index]
        return self._lines.line(code, offset, self._are_last[index]), end

    def events(self) -> tuple[Event, ...]:
        """The rows as events."""
        self.flush()
        start = self.count - len(self._last)
        numbered = chain(enumerate(self._first), enumerate(self._last, start))
        return tuple(self.event(at, row, at not in self._repeated) for at, row in numbered)

    def event(self, number: int, entry: Operation | Entry, is_last: bool = True) -> Event:
        """Convert a row to an event.

        Args:
            number: of the row.
            entry: the row.
            is_last: whether it was the last call made from its location.
        """
        kind, action, count, details = EventKind.OPERATION, None, 1, None
        if isinstance(entry, tuple):
            line = self._lines.line(entry[3], entry[4], is_last)
            word, name = word_of(entry[2]), line.target
            identities: Sequence[Hashable] = (entry[1] - 1,)
        else:
            kind, word, action, count = entry.kind, entry.word, entry.action, entry.count
            line = self._lines.at(entry.location)
            name = (line.target if is_last else "") if entry.name is None else entry.name
            details = entry.details(self.key_of) if callable(entry.details) else entry.details
            operation, identities = entry.operation, entry.identities
            if operation is not None:
                identities = (operation[1] - 1,)
        keys = tuple(dict.fromkeys(filter(None, map(self.key_of, identities))))
        facts = line.location, name, keys, action, details, count, line.inside
        return Event(number, kind, word, *facts)


def _place(entries: list[Operation | Entry], index: int) -> tuple[CodeType | None, int] | None:
    if index >= len(entries):
        return None
    entry = entries[index]
    return (entry.location.code, entry.location.offset) if isinstance(entry, Entry) else entry[3:5]


QUERIES = tuple(sorted(words(lambda row: row.query)))
"""Functions that return a property of a tensor, and create no tensor."""

DATA_INPUTS = {
    **dict.fromkeys(sorted(words(lambda row: row.shape_only)), 0),
    **dict.fromkeys(sorted(words(lambda row: row.first_only)), 1),
}
"""Of how many tensors a function uses the data; of others it uses at most the shape."""

_REFLECTED = ("radd", "rsub", "rmul", "rdiv", "rpow", "rmatmul", "rmod", "rfloordiv", "rtruediv")
_IN_PLACE = ("iadd", "isub", "imul", "itruediv", "ipow", "iand", "ior")
_PLAIN = {"truediv": "div", "setitem": "setitem_", "array": "numpy"}


@lru_cache(maxsize=1024)
def word_of(func: Any) -> str:
    """The name of a function without torch's prefixes and suffixes.

    Example:
        >>> import torch
        >>> [word_of(f) for f in (torch.Tensor.add_, torch.Tensor.__rsub__, torch.Tensor.__iadd__)]
        ['add_', 'sub', 'add_']
        >>> word_of(torch.Tensor.T.__get__)
        'T'
    """
    name = str(getattr(func, "__name__", None) or type(func).__name__)
    name = name.partition(".")[0]  # of a registered operator without its overload, "default"
    if name in ("__get__", "__set__", "__delete__"):
        return str(getattr(getattr(func, "__self__", None), "__name__", name))
    if name.startswith("__") and name.endswith("__"):
        bare = name.strip("_")
        if bare in _REFLECTED:
            bare = bare[1:]
        elif bare in _IN_PLACE:
            return f"{_PLAIN.get(bare[1:], bare[1:])}_"
        return _PLAIN.get(bare, bare)
    return OPERATORS_OF_TORCH.get(name, name)
