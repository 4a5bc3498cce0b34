"""The frames of a recording: which moments are kept, under a bound, and which were left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

from gradviz.graph import GradGraph
from gradviz.story import Frame

__all__ = ["Moments"]

_SIGNATURES = 1_000


class Moments:
    """Keeps the first frames, the last ones, and of those between the ones that are unlike.

    Args:
        most: how many frames to keep, at least 1.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        ends = most - most // 3
        self._most_first = min((ends + 1) // 2, most - 1)
        self._most_unlike = most // 3
        self._first: list[tuple[int, Frame]] = []
        self._unlike: list[tuple[int, Frame]] = []
        self._last: deque[tuple[int, Frame]] = deque()
        self._signatures: set[Hashable] = set()
        self._latest: Frame | None = None

    def add(self, frame: Frame, always: bool = False) -> None:
        """Add a frame, unless it shows nothing that the last one does not show."""
        if not always and self._latest is not None and _is_same(self._latest.graph, frame.graph):
            return
        self._latest = frame
        row = self.count, frame
        self.count += 1
        if len(self._first) < self._most_first:
            self._first.append(row)
            return
        self._last.append(row)
        room = self.most - self._most_first - len(self._unlike)
        while len(self._last) > max(room, 1):
            old = self._last.popleft()
            if len(self._unlike) < self._most_unlike and self._is_unlike(old[1]):
                self._unlike.append(old)
                room -= 1

    def _is_unlike(self, frame: Frame) -> bool:
        """Whether no frame that is kept has this structure."""
        if not self._signatures:
            self._signatures.update(_signature(first) for _, first in self._first)
        signature = _signature(frame)
        if signature in self._signatures or len(self._signatures) >= _SIGNATURES:
            return False
        self._signatures.add(signature)
        return True

    @property
    def frames(self) -> tuple[Frame, ...]:
        """The frames that were kept, in order."""
        rows = [*self._first, *self._unlike, *self._last]
        return tuple(frame for _, frame in sorted(rows, key=lambda row: row[0])[: self.most])

    @property
    def note(self) -> str:
        """What was left out, in a line; "" if nothing was."""
        kept = len(self.frames)
        if kept == self.count:
            return ""
        return (
            f"{kept} of {self.count:,} moments are shown (max_frames={self.most}): the first, the "
            "last, and those that differ from them"
        )


def _is_same(one: GradGraph, other: GradGraph) -> bool:
    return one is other or (one._node == other._node and one._adj == other._adj)


def _signature(frame: Frame) -> Hashable:
    """What a frame has in common with the same moment of another training step."""
    words = [
        (data["kind"], data.get("op", ""), data.get("shape"), data.get("buffers"))
        for _, data in frame.graph.nodes(data=True)
    ]
    causes = [data.get("cause", "") for *_, data in frame.graph.edges(data=True)]
    title = "".join(char for char in frame.title.partition(" (")[0] if not char.isdigit())
    return title, hash(tuple(sorted(map(repr, words)))), tuple(sorted(causes))
