"""Which steps and frames a recording keeps.

- `FrameStore` keeps a limited number of frames, and counts the omitted ones.
- `Sampling` serves ``record(every=...)``: some steps are recorded, and the gradient norms of all
  steps are kept.
- `LostResults` keeps frames of results that variables lose before any backward pass. A script that
  shows several ways to cut a graph assigns one result after another to a variable and never calls
  backward. At its end only the last result is alive. So a few frames are taken before cuts, until
  the first backward pass; one is kept if no later frame shows its results and no earlier one has
  its structure.
"""

from __future__ import annotations

import sys
import weakref
from collections import ChainMap, Counter, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import islice, pairwise, zip_longest
from typing import Any

import torch

from gradviz.capture.autograd.sharded import shard_of
from gradviz.capture.autograd.tensors import quietly, version_of
from gradviz.facts import EventKind, FrameKind
from gradviz.graph import GradGraph, NodeData, NodeKind
from gradviz.recording.event_log import Entry, Operation
from gradviz.recording.snapshots import SnapshotSeries
from gradviz.recording.source_lines import outwards
from gradviz.recording.state import RecordingState
from gradviz.story import Frame, GradientNorms, merged_norm
from gradviz.wording import result_title

LaterFrame = Callable[[], Frame]
"""Returns a frame that is built when it is first read."""

_Row = tuple[int, Frame | LaterFrame, str]
"""The number of a frame, the frame, and the word of the call before it."""

_AFTER = (
    *(FrameKind.AFTER_BACKWARD, FrameKind.AFTER_AUTOGRAD_GRAD),
    *(FrameKind.AFTER_GRADIENT_CHANGE, FrameKind.AFTER_STEP),
)
_SIGNATURES = 1_000
_MOST_GAPS = 6  # that a note lists one by one
_MOST_ALIKE = 64  # changes by one line, such as a step for each layer, that get a frame each
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
        self._times = Counter[Hashable]()
        self._passes = self._left_out = 0

    def leaves_out(self, passes: int, *where: Hashable) -> bool:
        """Whether a change gets no frame: its line made many of them, as one for each parameter.

        Args:
            passes: the number of backward passes before it: each begins another count.
            where: the same for changes of one kind by one line. A loop may alternate several.
        """
        if passes != self._passes:
            self._passes, self._times = passes, Counter()
        self._times[where] = times = self._times[where] + 1
        is_left_out = times > _MOST_ALIKE and bool(times & (times - 1))
        self._left_out += is_left_out
        return is_left_out

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
        if not isinstance(row[1], Frame):
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
        built = tuple(_built(row[1]) for row in self._rows)
        _name_alike([frame.graph for frame in built])
        return built

    @property
    def _rows(self) -> list[_Row]:
        rows = [*self._first, *self._unlike, *self._last]
        return sorted(rows, key=lambda row: row[0])[: self.most]

    @property
    def note(self) -> str:
        """What was omitted, in one line; "" if nothing was."""
        changes = f"{self._left_out:,} of many changes by one line have no frame"
        return "; ".join(filter(None, (self._dropped_frames(), changes * bool(self._left_out))))

    def _dropped_frames(self) -> str:
        kept = min(len(self._first) + len(self._unlike) + len(self._last), self.most)
        if kept == self.count:
            return ""
        first, last = len(self._first), kept - len(self._first) - len(self._unlike)
        ends = f"the first {first} and the last {last}" if first else f"the last {last}"
        unlike = len(self._unlike)
        between = f", and {unlike} between that show{'s' * (unlike == 1)} something else"
        dropped = f"; {self._dropped:,} more of those are left out" if self._dropped else ""
        numbers = [row[0] for row in self._rows]
        gaps = [
            f"{later - number - 1:,} after frame {place}"
            for place, (number, later) in enumerate(pairwise(numbers), 1)
            if later - number > 1
        ]
        where = f"; not kept: {', '.join(gaps)}" if unlike and len(gaps) <= _MOST_GAPS else ""
        return (
            f"{kept} of {self.count:,} moments were kept (max_frames={self.most}): {ends}"
            f"{between if self._unlike else ''}{dropped}{where}"
        )


def _built(frame: Frame | LaterFrame) -> Frame:
    return frame if isinstance(frame, Frame) else frame()


def _name_alike(graphs: Sequence[GradGraph]) -> None:
    """Give each tensor that is no result one name in all graphs: the one that most of them have.

    A function may call ``net`` what another calls ``model`` and its own methods call ``self``.
    """
    names: dict[str, Counter[str]] = {}
    for graph in graphs:
        for key, data in graph._node.items():
            if "name" in data and data["kind"] is not NodeKind.OPERATION:
                names.setdefault(key, Counter())[data["name"]] += 1
    chosen = {
        key: min(each, key=lambda name: (name.startswith("self."), -each[name]))
        for key, each in names.items()
        if len(each) > 1
    }
    if not chosen:
        return
    modules = dict(ChainMap(*(graph.graph.get("modules", {}) for graph in graphs)))
    for graph in graphs:
        if modules:
            graph.graph["modules"] = modules
        for key in graph._node.keys() & chosen.keys():
            data = graph._node[key]
            if "name" in data:  # graphs share the attributes of nodes that did not change
                graph._node[key] = {**data, "name": chosen[key]}


def _is_same(one: GradGraph, other: GradGraph) -> bool:
    """Whether two graphs show the same, except for the choice of the root, which is in a title."""
    old, new = one._node, other._node
    if one is other or old.keys() != new.keys():
        return one is other
    rows = ((data, new[key]) for key, data in old.items())
    is_same = all(a == b or _without_order(a) == _without_order(b) for a, b in rows)
    return is_same and one._adj == other._adj


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


_COLUMNS = 1_024  # kept; of more steps, neighbors are merged
_WAITING = 64  # steps whose norms are copied to the host together


class Sampling:
    """Keeps the gradient norms of each step, and says which steps to record.

    Args:
        every: steps from the beginning of one recorded step to that of the next.
        switch: called after a step with whether to record the next one.
        names: returns the names of tensors now, by ``id``.
        failed: called with an error of this class.
    """

    def __init__(
        self,
        every: int,
        switch: Callable[[bool], None],
        names: Callable[[], Mapping[int, str]],
        failed: Callable[[Exception], None],
    ) -> None:
        self.every = every
        self._names_now = names
        self._switch = switch
        self._failed = failed
        self._tracks: dict[int, _OptimizerSteps] = {}

    @property
    def step(self) -> int:
        """The number of the running step, counted from 1: of the first optimizer."""
        return next((track.count for track in self._tracks.values()), 0) + 1

    def before(self, optimizer: Any) -> None:
        """An optimizer begins a step."""
        try:
            track = self._tracks.get(id(optimizer))
            if track is None or track.optimizer() is not optimizer:
                track = self._tracks[id(optimizer)] = _OptimizerSteps(optimizer, self._names_now)
            with quietly():
                track.read([each for group in optimizer.param_groups for each in group["params"]])
        except Exception as error:
            self._failed(error)

    def after(self, optimizer: Any) -> None:
        """An optimizer ended a step."""
        track = self._tracks.get(id(optimizer))
        if track is None:
            return
        track.count += 1
        if track is next(iter(self._tracks.values())) and track.count % self.every < 2:
            self._switch(track.count % self.every == 0)

    @property
    def norms(self) -> GradientNorms:
        """The norms so far."""
        with quietly(), torch.no_grad():
            parts = [track.norms for track in self._tracks.values()]
        longest = max((part.steps for part in parts), key=len, default=())
        return GradientNorms(
            tuple(name for part in parts for name in part.names),
            longest,
            tuple(_padded(row, len(longest), None) for part in parts for row in part.norms),
            tuple(_padded(row, len(longest), False) for part in parts for row in part.stale),
            max((part.last for part in parts), default=0),
        )


def _padded(row: tuple[Any, ...], length: int, value: object) -> tuple[Any, ...]:
    return (*row, *[value] * (length - len(row)))


_NormRow = tuple[list[float | None], list[bool]]
"""The norms of one step or several, and whether the gradients are stale."""


class _OptimizerSteps:
    """The steps of one optimizer."""

    def __init__(self, optimizer: Any, names: Callable[[], Mapping[int, str]]) -> None:
        self.optimizer = weakref.ref(optimizer)
        self._names_now = names
        self._names: dict[int, str] = {}
        self.count = 0
        self._parameters: dict[int, tuple[int, Callable[[], torch.Tensor | None]]] = {}
        self._waiting: list[tuple[list[int], list[bool], Sequence[torch.Tensor]]] = []
        self._columns: list[_NormRow] = []
        self._part: list[_NormRow] = []  # of a column that is not complete
        self._per_column = 1
        self._ids: tuple[int, ...] = ()
        self._rows: list[int] = []
        self._before: dict[int, tuple[Callable[[], object], int]] = {}

    def read(self, parameters: Sequence[torch.Tensor]) -> None:
        """Compute the norms before a step; they stay on the device for a while."""
        ids = tuple(map(id, parameters))
        if ids != self._ids:
            self._ids, self._rows = ids, [self._row_of(each) for each in parameters]
            names = self._names_now()
            pairs = zip(self._rows, ids, strict=True)
            self._names.update((row, names[key]) for row, key in pairs if key in names)
        before = self._before
        found: list[torch.Tensor] = []
        rows: list[int] = []
        stale: list[bool] = []
        now: dict[int, tuple[Callable[[], object], int]] = {}
        is_tracked = False
        for row, each in zip(self._rows, parameters, strict=True):
            gradient = each.grad
            if gradient is None:
                continue
            is_tracked = is_tracked or gradient.requires_grad
            old = before.get(row)
            if old is not None and old[0]() is gradient and old[1] == version_of(gradient):
                now[row] = old
                stale.append(True)
            else:
                now[row] = weakref.ref(gradient), version_of(gradient)
                stale.append(False)
            rows.append(row)
            found.append(gradient if type(gradient) is torch.Tensor else _plain(gradient))
        self._before = now
        if is_tracked:
            found = [gradient.detach() for gradient in found]
        self._waiting.append((rows, stale, _norms(found)))
        if len(self._waiting) >= _WAITING:
            self._fetch()

    def _row_of(self, parameter: torch.Tensor) -> int:
        row, ref = self._parameters.get(id(parameter), (len(self._parameters), None))
        if ref is None or ref() is not parameter:
            self._parameters[id(parameter)] = row, weakref.ref(parameter)
        return row

    def _fetch(self) -> None:
        waiting, self._waiting = self._waiting, []
        every = [norm for *_, norms in waiting for norm in norms]
        try:
            fetched = iter(torch.stack(every).tolist() if every else ())
        except RuntimeError:  # on several devices
            fetched = iter([float(norm) for norm in every])
        count = len(self._parameters)
        for rows, stale, _ in waiting:
            norms: list[float | None] = [None] * count
            flags = [False] * count
            if rows == list(range(count)):
                norms, flags = list(islice(fetched, count)), stale
            else:
                for row, flag in zip(rows, stale, strict=True):
                    norms[row], flags[row] = next(fetched), flag
            self._part.append((norms, flags))
            if len(self._part) == self._per_column:
                self._columns.append(_merged(self._part))
                self._part = []
            if len(self._columns) == _COLUMNS:
                self._per_column *= 2
                pairs = zip(self._columns[::2], self._columns[1::2], strict=True)
                self._columns = [*map(_merged, pairs)]

    @property
    def norms(self) -> GradientNorms:
        """The norms so far, a row for each parameter."""
        if self._waiting:
            self._fetch()
        columns = [*self._columns, *([_merged(self._part)] if self._part else [])]
        names = [self._names.get(row, f"parameter {row}") for row in range(len(self._parameters))]
        rows = range(len(names))
        return GradientNorms(
            tuple(names),
            tuple(1 + at * self._per_column for at in range(len(columns))),
            tuple(tuple(_at(norms, row, None) for norms, _ in columns) for row in rows),
            tuple(tuple(_at(flags, row, False) for _, flags in columns) for row in rows),
            len(self._columns) * self._per_column + len(self._part),
        )


def _at(values: Sequence[Any], row: int, missing: object) -> Any:
    return values[row] if row < len(values) else missing


def _merged(rows: Sequence[_NormRow]) -> _NormRow:
    if len(rows) == 1:
        return rows[0]
    every_norms, every_flags = zip(*rows, strict=True)
    return (
        list(map(merged_norm, zip_longest(*every_norms))),
        list(map(any, zip_longest(*every_flags, fillvalue=False))),
    )


def _plain(gradient: torch.Tensor) -> torch.Tensor:
    """What to compute the norm of: the part of a ``DTensor`` on this rank."""
    shard = shard_of(gradient)
    return gradient if shard is None else shard.local


def _norms(gradients: list[torch.Tensor]) -> Sequence[torch.Tensor]:
    if not gradients:
        return ()
    try:
        return torch._foreach_norm(gradients)
    except (RuntimeError, NotImplementedError):  # sparse ones
        dense = (each.coalesce().values() if each.is_sparse else each for each in gradients)
        return list(map(torch.linalg.vector_norm, dense))


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
        new = log.entries[max(self._seen - log.count, 0) :]
        self._seen = log.count + len(log.entries)
        if not any(map(_is_operation, new)):
            return
        if state.stepping is not None or state.is_inside() or _is_in_module():
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

    def add_to(self, store: FrameStore, last: GradGraph) -> bool:
        """Add the frames whose results no later frame shows.

        Args:
            store: receives them.
            last: the graph at the end.

        Returns:
            Whether there are any.
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
        return bool(kept)


def _results(graph: GradGraph) -> list[tuple[str, str]]:
    """Results, tracked or not, that variables hold: the name, and the key of the operation."""
    found = []
    for key, data in graph._node.items():
        name = data.get("name", "") if graph._pred[key] and not graph._succ[key] else ""
        maker = next(iter(graph._pred[key])) if name and data["kind"] is NodeKind.RESULT else key
        found += [(name, maker)] if name else []
    return found


def _is_operation(row: Operation | Entry) -> bool:
    return not isinstance(row, Entry) or row.kind is EventKind.OPERATION


def _is_in_module() -> bool:
    """Whether a method of torch's ``Module`` runs, such as the call of a module or ``state_dict``.

    A cut inside a call belongs to a result that is not there yet; `call_depth` counts calls alone.
    """
    return any(e.f_globals.get("__name__") == _MODULE for e in outwards(sys._getframe(1)))
