"""The frame store: keeps a limited number of frames, and counts the omitted ones."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any

from gradviz.facts import FrameKind
from gradviz.graph import GradGraph, NodeData
from gradviz.story import Frame

__all__ = ["FrameStore", "LaterFrame", "structure_of"]


class LaterFrame:
    """A frame that is built when it is read.

    Args:
        build: builds it.
    """

    def __init__(self, build: Callable[[], Frame]) -> None:
        self._build = build

    @cached_property
    def frame(self) -> Frame:
        """The frame."""
        return self._build()


_Row = tuple[int, Frame | LaterFrame, str]
"""The number of a frame, the frame, and the word of the call before it."""

_AFTER = (
    FrameKind.AFTER_BACKWARD,
    FrameKind.AFTER_AUTOGRAD_GRAD,
    FrameKind.AFTER_GRADIENT_CHANGE,
    FrameKind.AFTER_STEP,
)
_SIGNATURES = 1_000
_PASSES = 4  # larger numbers of accumulated passes count as equal


class FrameStore:
    """Keeps the first frames, the last ones, and different ones between them.

    A third of the frames are the first ones and a quarter the last ones, or more while there are no
    different ones between them. A frame is different if it differs in more than numbers, see
    `_structure` and `_gradients`; another structure has priority if the limit is reached.

    Args:
        most: the number of frames to keep, at least 1.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        ends = most - most // 3
        self._most_first = min((ends + 1) // 2, most - 1)
        self._most_unlike = max(most - self._most_first - max(most // 4, 1), 0)
        self._first: list[_Row] = []
        self._unlike: list[_Row] = []
        self._of_gradients: list[_Row] = []  # those of them whose structure is not new
        self._last: deque[_Row] = deque()
        self._signatures: set[Hashable] = set()
        self._dropped = 0
        self._latest: Frame | LaterFrame | None = None

    def add(self, frame: Frame | LaterFrame, word: str = "", always: bool = False) -> bool:
        """Add a frame, unless it shows the same as the latest one.

        Args:
            frame: the frame. One that is built later is added without a comparison, and never kept
                for being different.
            word: the call before it; frames of one kind and word are compared with each other.
            always: add it even if it shows the same.

        Returns:
            Whether it was added.
        """
        latest = self._latest
        is_compared = not always and latest is not None and isinstance(frame, Frame)
        if is_compared and _is_same(_built(latest).graph, _built(frame).graph):  # type: ignore[arg-type]
            return False
        self._latest = frame
        row = self.count, frame, word
        self.count += 1
        if len(self._first) < self._most_first:
            self._first.append(row)
            return True
        self._last.append(row)
        room = self.most - self._most_first - len(self._unlike)
        while len(self._last) > max(room, 1):
            old = self._last.popleft()
            if self._keep_if_unlike(old):
                room -= 1
        return True

    @property
    def is_full(self) -> bool:
        """Whether every new frame removes one."""
        return self.count > self.most

    def _keep_if_unlike(self, row: _Row) -> bool:
        """Keep a frame of the middle if it differs from the rest; whether that needs more room."""
        if isinstance(row[1], LaterFrame):
            return False
        if not self._signatures:
            for first in self._first:
                self._signatures.update((_structure(first), _gradients(first)))
        signatures = _structure(row), _gradients(row)
        is_new = [each not in self._signatures for each in signatures]
        if not any(is_new) or len(self._signatures) >= _SIGNATURES:
            return False
        self._signatures.update(signatures)
        is_full = len(self._unlike) >= self._most_unlike
        if is_full:
            self._dropped += 1
            if not is_new[0] or not self._of_gradients:
                return False
            self._unlike.remove(self._of_gradients.pop())
        self._unlike.append(row)
        if not is_new[0]:
            self._of_gradients.append(row)
        return not is_full

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames that were kept, in order."""
        rows = [*self._first, *self._unlike, *self._last]
        return tuple(_built(row[1]) for row in sorted(rows, key=lambda row: row[0])[: self.most])

    @property
    def note(self) -> str:
        """What was omitted, in one line; "" if nothing was."""
        kept = min(len(self._first) + len(self._unlike) + len(self._last), self.most)
        if kept == self.count:
            return ""
        first, last = len(self._first), kept - len(self._first) - len(self._unlike)
        ends = f"the first {first} and the last {last}" if first else f"the last {last}"
        between = f", and {len(self._unlike)} between that show something else"
        dropped = f"; {self._dropped:,} more of those are left out" if self._dropped else ""
        return (
            f"{kept} of {self.count:,} moments are shown (max_frames={self.most}): {ends}"
            f"{between if self._unlike else ''}{dropped}"
        )


def _built(frame: Frame | LaterFrame) -> Frame:
    return frame.frame if isinstance(frame, LaterFrame) else frame


def _is_same(one: GradGraph, other: GradGraph) -> bool:
    """Whether two graphs show the same, except for the choice of the root, which is in a title."""
    if one is other:
        return True
    old, new = one._node, other._node
    return (
        old.keys() == new.keys()
        and all(
            data == new[key] or _without_order(data) == _without_order(new[key])
            for key, data in old.items()
        )
        and one._adj == other._adj
    )


def _without_order(data: NodeData) -> dict[str, Any]:
    """Remove attributes that depend on the order of the trace: the bytes of shared storages."""
    order = ("root", "saved", "saved_bytes", "storage")
    return {name: value for name, value in data.items() if name not in order}


def _structure(row: _Row) -> Hashable:
    """The properties that a frame shares with the same moment of another training step."""
    frame, word = _built(row[1]), row[2]
    alike = "".join(char for char in word if not char.isdigit())  # one mark per step: "step 12"
    return frame.kind, alike, structure_of(frame.graph)


def structure_of(graph: GradGraph) -> Hashable:
    """The operations of a graph and their shapes, its cuts, and the freed tensors."""
    words = Counter(  # enum members are constants: an id is compared faster
        (id(data["kind"]), data.get("op", ""), data.get("shape"), id(data.get("buffers")))
        for data in graph._node.values()
    )
    causes = Counter(id(data.get("cause")) for *_, data in graph.edge_rows())
    return hash(frozenset(words.items())), frozenset(causes.items())


def _gradients(row: _Row) -> Hashable:
    """For each gradient, whether it is None, zero or not finite, and the number of passes in it."""
    frame = _built(row[1])
    states = [_state(data) for data in frame.graph._node.values() if "grad" in data]
    return "after" if frame.kind in _AFTER else frame.kind, tuple(sorted(states))


def _state(data: NodeData) -> tuple[bool, bool, int]:
    grad = data.get("grad")
    if grad is None:
        return False, False, -1
    is_zero = not any(grad.values) if grad.values is not None else grad.norm == 0
    return is_zero, not grad.is_finite, min(data.get("accumulations", 0), _PASSES)
