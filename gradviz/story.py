"""A story: what autograd recorded at one moment or at several, and what happened in between."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import overload

from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.shown import Shown

__all__ = ["Event", "EventKind", "Frame", "Story", "recorded_in"]


class EventKind(str, Enum):
    """What kind of thing happened while a program was recorded."""

    OPERATION = "operation"
    """An operation that autograd recorded, or one outside the graph."""
    CUT = "cut"
    """Data left the graph: ``detach``, ``.data``, ``.item()``, ``.numpy()``, ``torch.tensor``."""
    MODE = "mode"
    """Gradient mode went on or off: ``no_grad``, ``inference_mode``, ``set_grad_enabled``."""
    REQUIRES_GRAD = "requires_grad"
    """``requires_grad`` of a tensor was switched on or off."""
    IN_PLACE = "in-place"
    """A tensor was changed where it is; its version counter went up."""
    BACKWARD = "backward"
    """``backward`` or ``torch.autograd.grad`` ran."""
    ACCUMULATE = "accumulate"
    """The gradient of a leaf was added to, for the first time or again."""
    GRAD = "grad"
    """``.grad`` was zeroed, set to None, assigned, or clipped."""
    STEP = "step"
    """An optimizer changed the parameters."""
    HOOK = "hook"
    """A hook returned another gradient than it was given."""
    ERROR = "error"
    """An exception ended the recording."""
    MARK = "mark"
    """A milestone set by hand."""


@dataclass(frozen=True)
class Event:
    """One thing that happened, in plain values.

    Args:
        number: 0, 1, ... in the order of the program.
        kind: what kind of thing.
        word: what the program called: ``"mul"``, ``"detach"``, ``"backward"``, ``"zero_grad"``.
        source: the line of the program: ``"train.py:12"``; empty when there is none.
        name: the variable that the result went to, or the tensor that was changed; may be empty.
        detail: the rest, in a few words: ``"w.grad +3, pass 2"``, ``"version 0 → 1"``.
        node: key of the node in the frames, or empty.

    Example:
        >>> print(Event(3, EventKind.CUT, "detach", "train.py:12", "z"))
        train.py:12  z  detach
    """

    number: int
    kind: EventKind
    word: str
    source: str = ""
    name: str = ""
    detail: str = ""
    node: str = ""

    def __str__(self) -> str:
        return "  ".join(filter(None, (self.source, self.name, self.word, self.detail)))


@dataclass(frozen=True, eq=False)
class Frame(Shown):
    """One moment: a graph and what to call it.

    Args:
        title: a few words under the panel, ``"after the first backward"``; may be empty.
        graph: what autograd had recorded at that moment.
        caption: a sentence about it; renderers print it, and nothing else reads it.
    """

    title: str
    graph: GradGraph
    caption: str = ""


@dataclass(frozen=True, eq=False, init=False)
class Story(Sequence[Frame], Shown):
    """The frames of a drawing, in order; a single drawing is a story of one frame.

    Args:
        frames: the moments, in order.
        title: what the whole shows; may be empty.
        notes: lines under it all, such as what a long recording left out.

    Example:
        >>> story = Story((Frame("before", GradGraph()), Frame("after", GradGraph())))
        >>> [frame.title for frame in story]
        ['before', 'after']
    """

    frames: tuple[Frame, ...]
    title: str
    notes: tuple[str, ...]

    def __init__(
        self, frames: Iterable[Frame] = (), title: str = "", notes: Iterable[str] = ()
    ) -> None:
        object.__setattr__(self, "frames", tuple(frames))
        object.__setattr__(self, "title", title)
        object.__setattr__(self, "notes", tuple(notes))

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Story: ...
    def __getitem__(self, index: int | slice) -> Frame | Story:
        if isinstance(index, slice):
            return Story(self.frames[index], self.title, self.notes)
        return self.frames[index]


def recorded_in(subject: object) -> GradGraph | Frame | Story | None:
    """What was recorded earlier: a graph, a frame, a story, or the story of a thing that has one.

    Returns:
        It, or None for anything else, such as a tensor.

    Raises:
        UsageError: if a recording has nothing to show yet; its story has a note that says why.

    Example:
        >>> recorded_in(Story()), recorded_in("loss")
        (Story(frames=(), title='', notes=()), None)
    """
    if isinstance(subject, (GradGraph, Frame, Story)):
        return subject
    # Asked of what is really there first: a tensor or a module may answer for any attribute.
    has_one = hasattr(type(subject), "story") or "story" in getattr(subject, "__dict__", ())
    story = getattr(subject, "story", None) if has_one else None
    if isinstance(story, Story) and not story and story.notes:
        raise UsageError(story.notes[0])
    return story if isinstance(story, Story) else None
