"""Allowed values of options, by the kind of the option, numbers of frames, and how far to run."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from gradviz.errors import UsageError
from gradviz.story import EventKind, Frame, Story

_KINDS_OF_EVENTS = tuple(kind.value for kind in EventKind)
ALLOWED = {
    "flag": "True or False",
    "text": "a string",
    "number": "a number > 0",
    "length": 'a length such as "8cm", "3in", "400px" or 300, in points',
    "mapping": "a dict of strings, by the names of tensors and operations",
    "tensors": "a tensor, the name of one, or a list of them",
    "events": f"few, all, or kinds of events: {', '.join(_KINDS_OF_EVENTS)}",
    "views": "a list of views from gradviz.views or of their names, or () to show everything",
}
_POINTS = {"cm": 72 / 2.54, "mm": 7.2 / 2.54, "in": 72.0, "pt": 1.0, "px": 0.75}


@dataclass(frozen=True)
class Extent:
    """How far a program runs, and what is read on the way.

    Args:
        step: to the backward pass with this number; None for the end of the first step.
        full: to its end; the variables are read after its last pass.
        next_step: to the backward passes of the second step, if ``step`` is None.
        ready: until the variables have values.
        before: read the variables before the pass as well, when its saved tensors are still held.
    """

    step: int | None = None
    full: bool = False
    next_step: bool = False
    ready: bool = False
    before: bool = False


@lru_cache(maxsize=4)
def lines_off(file: str) -> frozenset[int]:
    """The lines of loops before one that switches gradients off, if none switches them on again.

    Such a line is ``torch.set_grad_enabled(False)`` or ``model.requires_grad_(False)``, or calls a
    function that has it, as a validation in each epoch.
    """
    from gradviz.diagnosis.lines import called_name, has_line

    try:
        nodes: list[Any] = [*ast.walk(ast.parse(Path(file).read_bytes()))]
    except (OSError, SyntaxError, ValueError, RecursionError):
        return frozenset()
    functions = [each for each in nodes if isinstance(each, ast.FunctionDef)]
    calls = [each for each in nodes if isinstance(each, ast.Call)]
    code = {e.lineno: ast.unparse(e) for e in nodes if isinstance(e, (ast.Expr, ast.Assign))}
    found = set[int]()
    for word in ("set_grad_enabled(", "requires_grad"):
        own = {n: text for n, text in code.items() if word in text}
        off = {n for n, text in own.items() if text.endswith(("(False)", "= False"))}
        if len(off) == len(own):
            inside = {each.name for each in functions for n in off if has_line(each, n)}
            found |= off | {each.lineno for each in calls if called_name(each) in inside}
    loops = [each for each in nodes if isinstance(each, (ast.For, ast.While))]
    rows = (range(loop.lineno, line) for loop in loops for line in found if has_line(loop, line))
    return frozenset[int]().union(*rows)


def points(length: str | float) -> float:
    """Convert a length to points, of which an inch has 72.

    Args:
        length: as in a style sheet; a number is in points.

    Example:
        >>> round(points("8cm"), 1), points("96px"), points(300)
        (226.8, 72.0, 300)
    """
    if not isinstance(length, str):
        return length
    number, unit = (length[:-2], length[-2:]) if length[-2:] in _POINTS else (length, "pt")
    try:
        return float(number) * _POINTS[unit]
    except ValueError:
        return math.nan


def is_text(value: Any) -> bool:
    """Whether it is a string."""
    return isinstance(value, str)


def _is_length(value: Any) -> bool:
    return (
        not isinstance(value, bool) and isinstance(value, (str, int, float)) and points(value) > 0
    )


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 < value < math.inf


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(is_text, [*value, *value.values()]))


def _are_events(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    return value in ("few", "all") or set(value.split(",")) <= {*_KINDS_OF_EVENTS}


def _is_tensor(value: Any) -> bool:
    """Whether it is a tensor or its name; checked by attributes, because torch may be missing."""
    return isinstance(value, str) or hasattr(type(value), "grad_fn")


def _are_tensors(value: Any) -> bool:
    return _is_tensor(value) or (isinstance(value, (list, tuple)) and all(map(_is_tensor, value)))


def listed_tensors(value: Any) -> list[Any]:
    """The tensors or names of tensors in a value of that kind; none for None."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _are_views(value: Any) -> bool:
    if isinstance(value, str):
        return True
    return isinstance(value, Iterable) and all(callable(one) or type(one) is str for one in value)


CHECKS: dict[str, Callable[[Any], bool]] = {
    "number": _is_number,
    "length": _is_length,
    "mapping": _is_mapping,
    "tensors": _are_tensors,
    "events": _are_events,
    "views": _are_views,
}


def frame_numbers(text: str, option: str) -> list[int]:
    """The numbers in ``1,3,5``; none for an empty text.

    Args:
        text: the text that the user wrote.
        option: the name of the option in messages.

    Raises:
        UsageError: if it contains anything but integers >= 1.

    Example:
        >>> frame_numbers("1, 3", "--frames")
        [1, 3]
    """
    words = [word.strip() for word in text.split(",")] if text else []
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError(f"{option} must be integers >= 1, as in 1,3,5, got {text!r}")
    return [int(word) for word in words]


def chosen(story: Story, numbers: Sequence[int], option: str) -> tuple[Story, str]:
    """The frames with the given numbers.

    Args:
        story: the story.
        numbers: counted from 1; none for all.
        option: the name of the option in messages.

    Returns:
        The story with the existing frames, and a line about the missing ones, which are not an
        error; "" if there are none.

    Raises:
        UsageError: if none of the frames exists.

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
        # A single frame has no border with its title, so its title becomes that of the picture.
        frame: Frame = replace(frames[0], title="")
        return replace(story, frames=(frame,), title=frames[0].title), said
    return replace(story, frames=frames), said


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
