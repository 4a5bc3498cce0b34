"""A story: graphs at one moment or several, and the events between them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

from gradviz.errors import UsageError
from gradviz.facts import (
    NOWHERE,
    Action,
    Details,
    EventKind,
    FrameKind,
    SavedVerdict,
    SourceLocation,
)
from gradviz.graph import GradGraph
from gradviz.shown import Shown
from gradviz.wording import event_detail, inside_text

__all__ = ["Event", "EventKind", "Frame", "Story", "recorded_in"]


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
        verdicts: of a saved recording, what `gradviz.explain` says about it; None for no answers.

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

    def __init__(
        self,
        frames: Iterable[Frame] = (),
        title: str = "",
        notes: Iterable[str] = (),
        events: Iterable[Event] = (),
        verdicts: Iterable[SavedVerdict] | None = None,
    ) -> None:
        object.__setattr__(self, "frames", tuple(frames))
        object.__setattr__(self, "title", title)
        object.__setattr__(self, "notes", tuple(notes))
        object.__setattr__(self, "events", tuple(events))
        object.__setattr__(self, "verdicts", None if verdicts is None else tuple(verdicts))

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
