"""Some of a story's frames, by their numbers: ``1,3,5``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gradviz.errors import UsageError
from gradviz.story import Story

__all__ = ["chosen", "parse_numbers"]


def parse_numbers(text: str, option: str) -> list[int]:
    """The numbers in ``1,3,5``; none in an empty text.

    Args:
        text: what the user wrote.
        option: what the message calls it.

    Raises:
        UsageError: if there is anything else in it than numbers from 1 up.

    Example:
        >>> parse_numbers("1, 3", "--frames")
        [1, 3]
    """
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"{option} takes numbers from 1 up, like 1,3,5; not {text!r}")
    return [int(word) for word in words]


def chosen(story: Story, numbers: Sequence[int], option: str) -> tuple[Story, str]:
    """The frames of those numbers.

    Args:
        story: what was recorded.
        numbers: counted from 1; none for all.
        option: what the message calls them.

    Returns:
        The story with those frames that there are, and a line about those that there are not,
        which are no reason to fail; or an empty line.

    Raises:
        UsageError: if there is none of them.

    Example:
        >>> from gradviz.graph import GradGraph
        >>> from gradviz.story import Frame
        >>> story, said = chosen(Story([Frame("forward", GradGraph())]), [1, 2], "--frames")
        >>> len(story), said
        (1, 'there is no frame 2: the recording has 1 frame')
    """
    if not numbers:
        return story, ""
    has = f"the recording has {len(story)} {'frame' if len(story) == 1 else 'frames'}"
    there = [number for number in numbers if number <= len(story)]
    if not there:
        raise UsageError(f"{option} asks for {_listed(numbers)}; {has}")
    missing = [number for number in numbers if number > len(story)]
    said = f"there is no frame {_listed(missing)}: {has}" if missing else ""
    frames = tuple(story[number - 1] for number in there)
    if len(frames) == 1 < len(story) and not story.title:
        # One frame has no border with a line in it that tells the moment: it becomes the title.
        return replace(story, frames=(replace(frames[0], title=""),), title=frames[0].title), said
    return replace(story, frames=frames), said


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
