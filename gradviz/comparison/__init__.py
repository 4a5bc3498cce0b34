"""`compare`: the differences of two graphs, as data, as text and as a story to draw."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from types import FrameType

from gradviz.comparison.changes import (
    Change,
    differences,
    is_out_of_sight,
    mark_changes,
    marks_of_change,
    side_by_side,
)
from gradviz.comparison.matching import GraphIndex, match, value_words, word_of
from gradviz.errors import UsageError
from gradviz.graph import GradGraph
from gradviz.shown import Shown
from gradviz.story import Frame, Story, recorded_in

__all__ = ["Change", "Comparison", "compare", "mark_changes"]


_MOST_LINES = 400
_MOST_INPUTS = 3


def compare(before: object, after: object, *, values: bool = False) -> Comparison:
    """List the differences between two graphs.

    Nodes are matched by name, position in the graph, module and source line, not by key, so the
    graphs may come from two runs or from two versions of a program.

    Args:
        before: a `GradGraph`, a `Frame`, a `Story` of one frame, a `Drawing`, or a tensor, which
            is traced now.
        after: the same.
        values: also compare the values of tensors and gradients, the numbers of accumulated
            gradients, and the version counters. By default a gradient is only present or None.

    Returns:
        The differences; ``.same`` is whether there are none, ``str()`` lists them, and
        ``gradviz.draw`` draws both graphs with the differences marked.

    Raises:
        UsageError: if a story or drawing has several frames.
        SubjectError: if autograd recorded nothing about a subject.

    Example:
        >>> import torch
        >>> x = torch.ones(3, requires_grad=True)
        >>> print(compare((x * 2).sum(), (x * 2).relu().sum()))
        1 added
        + relu  after mul
    """
    frame = sys._getframe(1)
    sides = GraphIndex(_graph(before, frame)), GraphIndex(_graph(after, frame))
    mate = match(*sides)
    back = {there: here for here, there in mate.items()}
    return Comparison(
        added=_missing(sides[1], sides[0], back),
        removed=_missing(sides[0], sides[1], mate),
        changed=tuple(differences(*sides, mate, values)),
        _sides=sides,
        _mate=mate,
    )


def _missing(side: GraphIndex, other: GraphIndex, mate: dict[str, str]) -> tuple[str, ...]:
    """The nodes that the other graph does not have, for another reason than freed tensors."""
    return tuple(
        key for key in side.order if key not in mate and not is_out_of_sight(side, other, mate, key)
    )


def _graph(subject: object, frame: FrameType) -> GradGraph:
    story = recorded_in(subject)
    if isinstance(story, Story):
        if len(story) != 1:
            more = ": give two of its frames, gradviz.compare(story[0], story[-1])" if story else ""
            raise UsageError(f"cannot compare a story of {len(story)} frames as one{more}")
        return story[0].graph
    if story is not None:
        return story.graph if isinstance(story, Frame) else story
    # Imported here, because it needs torch, which is not needed for saved graphs.
    from gradviz.capture.tensors.names import Names
    from gradviz.capture.tracer import trace_subjects

    return trace_subjects((subject,), Names.of(None, frame), caller="compare")


@dataclass(frozen=True, eq=False)
class Comparison(Shown):
    """The differences between two graphs.

    Args:
        added: keys of the nodes that are only in the second graph, inputs before their users.
        removed: keys of the nodes that are only in the first graph, in the same order.
        changed: the differences of nodes that are in both graphs.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[Change, ...]
    _sides: tuple[GraphIndex, GraphIndex]
    _mate: dict[str, str]

    @property
    def same(self) -> bool:
        """Whether no difference was found."""
        return not (self.added or self.removed or self.changed)

    def __bool__(self) -> bool:
        """Whether there are differences."""
        return not self.same

    def __str__(self) -> str:
        """The number of differences, and one line each: ``+`` added, ``-`` removed, ``~`` other."""
        lines = list(self._lines())
        more = len(lines) - _MOST_LINES
        if more > 0:
            lines[_MOST_LINES:] = [f"… and {more:,} more"]
        return "\n".join([self._sentence(), *lines])

    def __repr__(self) -> str:
        return f"Comparison({self._sentence()})"

    def _sentence(self) -> str:
        counts = {
            "added": len(self.added),
            "removed": len(self.removed),
            "changed": len({change.after_key for change in self.changed}),
        }
        said = [f"{count:,} {word}" for word, count in counts.items() if count]
        return ", ".join(said) or "no difference"

    def _lines(self) -> Iterator[str]:
        before, after = self._sides
        for mark, side, keys in (("+", after, self.added), ("-", before, self.removed)):
            for key in keys:
                yield f"{mark} {_described(side, key)}"
        for change in self.changed:
            data = after.data[change.after_key]
            where = "" if data.get("name") else _after(after, change.after_key)
            what = _SAID.get(change.attribute, change.attribute)
            values = f"{change.old} → {change.new}"
            yield _joined(f"~ {word_of(data)}", where, what, values, data.get("source"))

    @cached_property
    def story(self) -> Story:
        """Both graphs as frames, ``before`` and ``after``, with the differences marked.

        A node that is in both graphs has its key in the first graph in both frames.
        """
        removed = {key: {"node": "removed"} for key in self.removed}
        marks: dict[str, dict[str, str]] = {key: {"node": "new"} for key in self.added}
        for change in self.changed:
            changes = marks.setdefault(change.after_key, {})
            old = self._sides[0].data[change.before_key]
            new = self._sides[1].data[change.after_key]
            changes[change.attribute] = marks_of_change(change, old, new)
        return side_by_side(self._sides, self._mate, (removed, marks), self._sentence())


_SAID = {"grad": ".grad", "untracked_inputs": "inputs without gradient", "buffers": "saved tensors"}


def _described(side: GraphIndex, key: str) -> str:
    data = side.data[key]
    facts = ""
    if not side.inputs[key]:
        kind = "" if word_of(data) == data["kind"].value else data["kind"].value
        shape = value_words("shape", data["shape"]) if "shape" in data else ""
        facts = " ".join(filter(None, (kind, shape)))
    module = f"in {data['module']}" if data.get("module") else ""
    return _joined(word_of(data), facts, _after(side, key), module, data.get("source"))


def _after(side: GraphIndex, key: str) -> str:
    words = list(dict.fromkeys(word_of(side.data[link.key]) for link in side.inputs[key]))
    more = ", ..." if words[_MOST_INPUTS:] else ""
    return f"after {', '.join(words[:_MOST_INPUTS])}{more}" if words else ""


def _joined(*parts: str | None) -> str:
    return "  ".join(part for part in parts if part)
