"""Frames of results that variables lose before any backward pass.

A script that shows several ways to cut a graph assigns one result after another to a variable and
never calls backward. At its end only the last result is alive. So a few frames are taken before
cuts, until the first backward pass; one is kept if no later frame shows its results and no
earlier one has its structure.
"""

from __future__ import annotations

import sys
from itertools import islice

from gradviz.capture.autograd.tensors import quietly
from gradviz.facts import EventKind, FrameKind
from gradviz.graph import GradGraph, NodeKind
from gradviz.recording.event_log import Entry, Operation
from gradviz.recording.frame_store import FrameStore, structure_of
from gradviz.recording.snapshots import SnapshotSeries
from gradviz.recording.state import RecordingState
from gradviz.story import Frame
from gradviz.wording import result_title

__all__ = ["LostResults"]

_MOST = 16  # snapshots that are taken
_MODULE = "torch.nn.modules.module"


class LostResults:
    """Takes the frames.

    Args:
        state: of the recording.
        snapshots: takes the snapshots.
    """

    def __init__(self, state: RecordingState, snapshots: SnapshotSeries) -> None:
        self._state = state
        self._snapshots = snapshots
        self._taken: list[tuple[GradGraph, int]] = []  # with the number of events before it
        self._count = self._seen = 0
        state.before_cut = self.before_cut

    def end(self) -> None:
        """A backward pass runs: results that it starts from are shown then."""
        self._state.before_cut = None
        self._taken = []

    def before_cut(self) -> None:
        """The program is about to cut a tensor, or to disable gradients."""
        state = self._state
        log = state.event_log
        new = islice(log.entries, max(self._seen - log.count, 0), None)
        self._seen = log.count + len(log.entries)
        if not any(map(_is_operation, new)):
            return
        if state.stepping is not None or _is_in_module():
            return
        self._count += 1
        if self._count > _MOST:
            state.before_cut = None
            return
        with quietly():
            graph = self._snapshots.now(with_outputs=True)
            self._snapshots.keys.turn()
        if _results(graph):
            self._taken.append((graph, log.count))

    def add_to(self, store: FrameStore, last: GradGraph) -> None:
        """Add the frames whose results no later frame shows.

        Args:
            store: receives them.
            last: the graph at the end.
        """
        shown, structures = set(last), {structure_of(last)}
        kept: list[Frame] = []
        for graph, rows in reversed(self._taken):
            lost = [(name, maker) for name, maker in _results(graph) if maker not in shown]
            shown.update(graph)
            if lost:
                name, maker = lost[-1]
                title = result_title(name, graph.nodes[maker].get("source", ""))
                kept.append(Frame(title, graph, "", FrameKind.RESULT, 0, rows - 1))
        for frame in reversed(kept):
            structure = structure_of(frame.graph)
            if structure not in structures:
                structures.add(structure)
                store.add(frame)


def _results(graph: GradGraph) -> list[tuple[str, str]]:
    """Results, tracked or not, that variables hold: the name, and the key of the operation."""
    last = [key for key in graph if graph._pred[key] and not graph._succ[key]]
    found = []
    for key in last:
        data = graph.nodes[key]
        maker = next(iter(graph._pred[key])) if data["kind"] is NodeKind.RESULT else key
        found.append((data.get("name", ""), maker))
    return [(name, maker) for name, maker in found if name]


def _is_operation(row: Operation | Entry) -> bool:
    return not isinstance(row, Entry) or row.kind is EventKind.OPERATION


def _is_in_module() -> bool:
    """Whether a module runs: a cut inside one belongs to a result that is not there yet."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == _MODULE:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
