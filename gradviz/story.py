"""A story: what autograd recorded at one moment or at several, and what happened in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from gradviz.errors import UsageError
from gradviz.facts import NOWHERE, Action, Details, EventKind, FrameKind, SourceLocation
from gradviz.graph import GradGraph
from gradviz.shown import Shown
from gradviz.wording import event_detail, inside_text

__all__ = ["Event", "EventKind", "Frame", "Story", "recorded_in"]


@dataclass(frozen=True)
class Event:
    """One thing that happened, in plain values.

    Args:
        number: 0, 1, ... in the order of the program.
        kind: what kind of thing.
        word: what the program called: ``"mul"``, ``"detach"``, ``"backward"``, ``"zero_grad"``.
        location: the line of the program; of a plain operation that a library called, the line
            of the library.
        name: the variable that the result went to, or the tensor that was changed; may be empty.
        nodes: keys of all the nodes that it is about, as far as a frame has shown them.
        action: what it did, where ``kind`` alone does not say it.
        details: the rest, by kind: a ``VersionDetails``, ``StepDetails``, ...
        count: number of tensors that it is about, also of those that no frame has shown.
        inside: when the program called a library there, the line of the library.

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
        """The line as text: ``"train.py:12"``; "" when there is none."""
        return str(self.location)

    @property
    def node(self) -> str:
        """The key of the only node that it is about; "" for none, and for several tensors."""
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
    """One moment: a graph and what to call it.

    Args:
        title: a few words under the panel, ``"after the first backward"``; may be empty.
        graph: what autograd had recorded at that moment.
        caption: a sentence about it; renderers print it, and nothing else reads it.
        kind: what moment it is.
        pass_number: in a recording, 1, 2, ...: of the backward pass that it belongs to, and of
            those that are neither before nor after one, of the latest; 0 before the first.
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
    """The frames of a drawing, in order; a single drawing is a story of one frame.

    Args:
        frames: the moments, in order.
        title: what the whole shows; may be empty.
        notes: lines under it all, such as what a long recording left out.
        events: of a recording, what happened, in order.

    Example:
        >>> story = Story((Frame("before", GradGraph()), Frame("after", GradGraph())))
        >>> [frame.title for frame in story]
        ['before', 'after']
    """

    frames: tuple[Frame, ...]
    title: str
    notes: tuple[str, ...]
    events: tuple[Event, ...] = field(repr=False)

    def __init__(
        self,
        frames: Iterable[Frame] = (),
        title: str = "",
        notes: Iterable[str] = (),
        events: Iterable[Event] = (),
    ) -> None:
        object.__setattr__(self, "frames", tuple(frames))
        object.__setattr__(self, "title", title)
        object.__setattr__(self, "notes", tuple(notes))
        object.__setattr__(self, "events", tuple(events))

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


def recorded_in(subject: object) -> GradGraph | Frame | Story | None:
    """The graph, frame or story that ``subject`` is, or the story that it has.

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
    # The type and the instance dictionary first: a tensor or a module may answer for any name.
    has_one = hasattr(type(subject), "story") or "story" in getattr(subject, "__dict__", ())
    story = getattr(subject, "story", None) if has_one else None
    if isinstance(story, Story) and not story and story.notes:
        raise UsageError(story.notes[0])
    return story if isinstance(story, Story) else None
