"""A story: graphs at one moment or several, and the events between them."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import overload

from gradviz.errors import UsageError
from gradviz.facts import (
    NOWHERE,
    Action,
    Details,
    EventKind,
    FrameKind,
    RankRecord,
    SavedVerdict,
    SourceLocation,
)
from gradviz.graph import GradGraph
from gradviz.graph.text import must_be
from gradviz.shown import Shown
from gradviz.wording import event_detail, inside_text

__all__ = [
    "Event",
    "EventKind",
    "Frame",
    "GradientNorms",
    "NormState",
    "Story",
    "hides_a_step",
    "merged_norm",
    "recorded_in",
]


@dataclass(frozen=True)
class Event:
    """An event of the recorded program, in plain values.

    Args:
        number: 0, 1, ... in the order of the program.
        kind: the kind of event.
        word: the called function: ``"mul"``, ``"detach"``, ``"backward"``, ``"zero_grad"``.
        location: the line of the program; of a plain operation that a library called, the line
            of the library.
        name: the variable that holds the result, or the tensor that was changed; may be empty.
        nodes: keys of all nodes of the event that are in a frame.
        action: what the event did, where ``kind`` does not determine it.
        details: further facts, by kind: a ``VersionDetails``, ``StepDetails``, ...
        count: number of tensors of the event, including those that are in no frame.
        inside: the line of the library, when the line of the program called one.

    Example:
        >>> from gradviz.facts import SourceLocation
        >>> print(Event(3, EventKind.CUT, "detach", SourceLocation("train.py", 12), "z"))
        train.py:12  z  detach
    """

    number: int
    kind: EventKind
    word: str
    location: SourceLocation = NOWHERE
    name: str = ""
    nodes: tuple[str, ...] = ()
    action: Action | None = None
    details: Details | None = None
    count: int = 1
    inside: SourceLocation = NOWHERE

    @property
    def source(self) -> str:
        """The location as text: ``"train.py:12"``; "" when unknown."""
        return str(self.location)

    @property
    def node(self) -> str:
        """The key of the node of the event; "" for none, and for several nodes."""
        return self.nodes[0] if len(self.nodes) == self.count == 1 else ""

    @property
    def detail(self) -> str:
        """The details in words, for people: ``"+3, pass 2"``, ``"version 0 → 1"``."""
        return event_detail(self.kind, self.action, self.details, self.count)

    def __str__(self) -> str:
        source = f"{self.source} ({inside_text(self.inside)})" if self.inside else self.source
        words = (source, self.name, self.word, self.detail)
        if self.kind is EventKind.MARK:
            words = (source, "", self.word, self.name)
        return "  ".join(filter(None, words))


@dataclass(frozen=True, eq=False)
class Frame(Shown):
    """A graph at one moment, with its title.

    Args:
        title: a few words under the panel, ``"after the first backward"``; may be empty.
        graph: what autograd had recorded at that moment.
        caption: a sentence about it, for renderers to print.
        kind: when the frame was taken.
        pass_number: in a recording, 1, 2, ...: the backward pass of the frame, or the latest
            one before it; 0 before the first.
        follows: number of the latest event before it; -1 when there is none.
    """

    title: str
    graph: GradGraph
    caption: str = ""
    kind: FrameKind = FrameKind.SNAPSHOT
    pass_number: int = 0
    follows: int = -1


@dataclass(frozen=True, eq=False, init=False)
class Story(Sequence[Frame], Shown):
    """The frames of a picture, in order; a single picture is a story of one frame.

    Args:
        frames: the frames, in order.
        title: the title of the whole picture; may be empty.
        notes: lines below the picture, for example what a long recording left out.
        events: the events of a recording, in order.
        verdicts: of a saved or gathered recording, what `gradviz.explain` says about it; None for
            no answers.
        ranks: of a gathered story, its ranks, in order.

    Example:
        >>> story = Story((Frame("before", GradGraph()), Frame("after", GradGraph())))
        >>> [frame.title for frame in story]
        ['before', 'after']
    """

    frames: tuple[Frame, ...]
    title: str
    notes: tuple[str, ...]
    events: tuple[Event, ...] = field(repr=False)
    verdicts: tuple[SavedVerdict, ...] | None = field(repr=False)
    ranks: tuple[RankRecord, ...] = field(repr=False)

    def __init__(
        self,
        frames: Iterable[Frame] = (),
        title: str = "",
        notes: Iterable[str] = (),
        events: Iterable[Event] = (),
        verdicts: Iterable[SavedVerdict] | None = None,
        ranks: Iterable[RankRecord] = (),
    ) -> None:
        frames = tuple(frames)
        for each in frames:
            if not isinstance(each, Frame):
                raise UsageError(must_be("each frame of a story", "a gradviz.Frame", each))
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "title", title)
        object.__setattr__(self, "notes", tuple(notes))
        object.__setattr__(self, "events", tuple(events))
        object.__setattr__(self, "verdicts", None if verdicts is None else tuple(verdicts))
        object.__setattr__(self, "ranks", tuple(ranks))

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Story: ...
    def __getitem__(self, index: int | slice) -> Frame | Story:
        if isinstance(index, slice):
            return replace(self, frames=self.frames[index])
        return self.frames[index]


@dataclass(frozen=True)
class GradientNorms(Shown):
    """The norms of gradients before each step of an optimizer, which ``record(every=...)`` keeps.

    A column is one step, or several steps of a long run. Of several, the largest norm is kept, and
    NaN, infinity or 0 if one of them was that.

    Args:
        names: of the parameters, which are the rows.
        steps: the first step of each column, counted from 1.
        norms: for each parameter a norm per column; None for no gradient.
        stale: for each parameter and column, whether no backward pass changed the gradient since
            the step before.
        last: the last step; 0 without any.

    Example:
        >>> norms = GradientNorms(("w",), (1, 2, 3), ((2.0, 1.0, 0.0),), ((False,) * 3,), 3)
        >>> print(norms)
        w  910
        <BLANKLINE>
        steps 1 to 3
        1 to 9: norms from 1 to 2, logarithmic; 0: zeros
    """

    names: tuple[str, ...]
    steps: tuple[int, ...]
    norms: tuple[tuple[float | None, ...], ...]
    stale: tuple[tuple[bool, ...], ...]
    last: int = 0

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest norm that is finite and not zero; (1, 1) without any."""
        found = [
            norm for row in self.norms for norm in row if norm is not None and 0 < norm < math.inf
        ]
        return (min(found), max(found)) if found else (1.0, 1.0)

    def state(self, row: int, column: int) -> NormState:
        """What a cell shows."""
        norm = self.norms[row][column]
        if norm is None:
            return NormState.NONE
        if not math.isfinite(norm):
            return NormState.NOT_FINITE
        if norm == 0:
            return NormState.ZERO
        return NormState.STALE if self.stale[row][column] else NormState.NORM

    def level(self, norm: float) -> float:
        """The place of a norm on the logarithmic scale between the ends, 0 to 1."""
        low, high = self.ends
        return math.log(norm / low) / math.log(high / low) if high > low else 1.0

    def narrowed(self, most: int) -> GradientNorms:
        """The same in at most this many columns."""
        step = -(-len(self.steps) // most)
        if step < 2:
            return self
        starts = range(0, len(self.steps), step)
        return GradientNorms(
            self.names,
            tuple(self.steps[at] for at in starts),
            tuple(tuple(merged_norm(row[at : at + step]) for at in starts) for row in self.norms),
            tuple(tuple(any(row[at : at + step]) for at in starts) for row in self.stale),
            self.last,
        )

    def __str__(self) -> str:
        return str(self.draw())


class NormState(Enum):
    """What is known about the gradient of a parameter at a step."""

    NORM = "norm"
    NONE = "no gradient"
    ZERO = "zeros"
    NOT_FINITE = "NaN or infinite"
    STALE = "not changed since the step before"


def merged_norm(norms: Sequence[float | None]) -> float | None:
    """One value for several steps: NaN, infinity or 0 if there is one, else the largest.

    Example:
        >>> merged_norm([1.0, None, 3.0]), merged_norm([2.0, 0.0]), merged_norm([None])
        (3.0, 0.0, None)
    """
    found = [norm for norm in norms if norm is not None]
    if not found:
        return None
    special = [norm for norm in found if not math.isfinite(norm)] or [n for n in found if n == 0]
    return special[0] if special else max(found)


def with_graphs(story: Story, graphs: Sequence[GradGraph]) -> Story:
    """The story with another graph in each frame."""
    frames = zip(story, graphs, strict=True)
    return replace(story, frames=tuple(replace(frame, graph=graph) for frame, graph in frames))


def recorded_in(subject: object) -> GradGraph | Frame | Story | None:
    """The graph, frame or story that ``subject`` is, or the story that it contains.

    Returns:
        The graph, frame or story; None for anything else, such as a tensor.

    Raises:
        UsageError: if a recording has no frame yet; the note of its story says why.

    Example:
        >>> recorded_in(Story()), recorded_in("loss")
        (Story(frames=(), title='', notes=()), None)
    """
    if isinstance(subject, (GradGraph, Frame, Story)):
        return subject
    # Check the type and the instance dictionary first: ``__getattr__`` of a tensor or module may
    # return a value for any name.
    has_one = hasattr(type(subject), "story") or "story" in getattr(subject, "__dict__", ())
    story = getattr(subject, "story", None) if has_one else None
    if isinstance(story, Story) and not story and story.notes:
        raise UsageError(story.notes[0])
    return story if isinstance(story, Story) else None


def story_of(story: GradGraph | Frame | Story, title: str) -> Story:
    """A graph or frame as a story of one frame; a title, if there is one, replaces its own."""
    if isinstance(story, GradGraph):
        story = Frame("", story)
    if isinstance(story, Frame):
        story = Story((story,), "")
    return replace(story, title=title or story.title)


def hides_a_step(
    made: Iterable[Event], passes: Sequence[Event], is_hidden: Callable[[Event], bool]
) -> bool:
    """Whether operations before a backward pass are hidden that no step of a loop shows.

    Args:
        made: the operations.
        passes: the backward passes, in order.
        is_hidden: whether no frame shows an operation.
    """
    numbers = [each.number for each in passes]
    steps: list[list[Event]] = [[] for _ in range(len(numbers) + 1)]
    for event in sorted(made, key=lambda each: each.number):
        steps[bisect(numbers, event.number)].append(event)
    rows = [(tuple((e.word, e.location) for e in s), any(map(is_hidden, s))) for s in steps[:-1]]
    shown = {operations for operations, hidden in rows if not hidden}
    return any(hidden and operations not in shown for operations, hidden in rows)
