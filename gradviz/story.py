"""A story: what autograd recorded at one moment or at several, to be drawn side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import overload

from gradviz.graph import GradGraph

__all__ = ["Frame", "Story"]


@dataclass(frozen=True, eq=False)
class Frame:
    """One moment: a graph and what to call it.

    Args:
        title: a few words under the panel, ``"after the first backward"``; may be empty.
        graph: what autograd had recorded at that moment.
        caption: a sentence about it; renderers print it, and nothing else reads it.
    """

    title: str
    graph: GradGraph
    caption: str = ""


@dataclass(frozen=True, eq=False)
class Story(Sequence[Frame]):
    """The frames of a drawing, in order; a single drawing is a story of one frame.

    Args:
        frames: the moments, in order.
        title: what the whole shows; may be empty.

    Example:
        >>> story = Story((Frame("before", GradGraph()), Frame("after", GradGraph())))
        >>> [frame.title for frame in story]
        ['before', 'after']
    """

    frames: tuple[Frame, ...] = field(default=())
    title: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frames", tuple(self.frames))

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Story: ...
    def __getitem__(self, index: int | slice) -> Frame | Story:
        if isinstance(index, slice):
            return Story(self.frames[index], self.title)
        return self.frames[index]
