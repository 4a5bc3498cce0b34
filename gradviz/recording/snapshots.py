"""Takes the snapshots of a recording: of the latest backward pass, or of the live outputs."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.tensors.names import Named, Names
from gradviz.capture.tensors.subjects import maker_of
from gradviz.capture.tracing.tracer import Labels
from gradviz.errors import SubjectError
from gradviz.graph import Cause, GradGraph
from gradviz.recording.hooks import HookedTensor, held_with_hooks
from gradviz.recording.live_outputs import live_outputs, sharing_outputs
from gradviz.recording.provenance import CutLeaves, CutSite, Leaf, UntrackedTensor, leaves_in
from gradviz.recording.saved_values import Contents, SavedValues, contents_of
from gradviz.recording.source_lines import user_frame
from gradviz.recording.stable_trace import (
    Additions,
    Keys,
    Snapshot,
    keep_options,
    renew,
    renew_after_backward,
    take,
    weakly,
)
from gradviz.recording.state import RecordingState
from gradviz.recording.untracked_overlay import UntrackedOverlay

__all__ = ["CutOff", "NumberRead", "SnapshotSeries"]


class CutOff(NamedTuple):
    """Where a leaf was cut off.

    Args:
        target: key of the untracked tensor that received its data.
        cause: the reason.
        source: the line.
        inside: if that line called a library, the line in the library; else "".
        word: the function that cut it, "" if unknown.
    """

    target: str
    cause: Cause
    source: str
    inside: str = ""
    word: str = ""


class NumberRead(NamedTuple):
    """Where data of a leaf became a number or an array.

    Args:
        cut: where the gradient was cut, there or before.
        word: what read it: ``"item"``.
        source: the line.
        inside: when that line called a library, the line of the library; else "".
    """

    cut: CutOff
    word: str
    source: str
    inside: str = ""


class SnapshotSeries:
    """Takes consecutive snapshots, with the same key for a node in all of them.

    Args:
        state: of the recording.
        modules: name their parameters by paths, by name; "" for a single one.

    Attributes:
        keys: assigns the keys.
        snapshot: the latest one.
        hooked: non-leaf tensors with hooks that variables held before the latest backward pass.
    """

    def __init__(self, state: RecordingState, modules: Mapping[str, nn.Module]) -> None:
        self.keys = Keys()
        self.snapshot = Snapshot()
        self.hooked: Sequence[HookedTensor] = ()
        self._named: list[tuple[weakref.ref[torch.Tensor], str, tuple[str, ...]]] = []
        self._state = state
        self._modules = [(name, weakref.ref(module)) for name, module in modules.items()]
        self._paths: dict[int, tuple[weakref.ref[nn.Module], str]] = {}  # by the module's id
        self._classes: dict[str, str] = {}
        self._entered: CodeType | None = None
        self._roots: Sequence[Callable[[], Any]] = ()
        self._since = self._before = 0
        self._traced_until = -1
        self._cut_leaves: WeakKeyDictionary[GradGraph, dict[str, CutLeaves]] = WeakKeyDictionary()
        self._contents: WeakKeyDictionary[GradGraph, Contents] = WeakKeyDictionary()

    def begin(self, code: CodeType) -> None:
        """The recording begins in some code of the user's."""
        self._entered = code
        self._since = self._before = creation_count()
        for named in self._of_modules().entries:
            if named.tensor.requires_grad and named.tensor.is_leaf:
                self._state.provenance.leaf(named.tensor).name = named.name

    @property
    def roots(self) -> list[Any]:
        """The roots of the latest backward pass that are alive."""
        return [root for ref in self._roots if (root := ref()) is not None and _is_traceable(root)]

    def before_backward(self, roots: Sequence[Any]) -> GradGraph:
        """The graph at the end of a forward pass."""
        self._before, count = self._since, creation_count()
        self._paths = {}
        names = self._names()
        self.hooked = held_with_hooks(names)
        self._named = [(weakref.ref(each), name, more) for each, name, more in names.entries]
        graph = self.trace(roots, names)
        self._contents[graph] = contents_of(roots, self.snapshot.operations)
        self._roots, self._since = [weakly(root) for root in roots], count
        return graph

    def after_backward(self, has_grown: bool) -> GradGraph:
        """The graph after a backward pass; if possible, the one before it with updates."""
        self._state.event_log.flush()
        renewed = None if has_grown else renew_after_backward(self.snapshot, self._state)
        names = self._names_before()
        if renewed is None:
            return self.trace(self.roots, names)
        self.snapshot = renewed
        return self._finish(self._overlay(names))

    def now(self, with_outputs: bool = False) -> GradGraph:
        """The graph at this moment.

        Args:
            with_outputs: include tensors computed since the latest backward pass.
        """
        if not with_outputs and self._roots and self._traced_until == creation_count():
            self._state.event_log.flush()
            renewed = renew_after_backward(self.snapshot, self._state, has_run=False)
            if renewed is not None:  # no operation ran since the last one, as before a step
                self.snapshot = renewed
                return self._finish(self._overlay(self._names_before()))
        names, roots = self._names(), self.roots
        new: list[torch.Tensor] = []
        if with_outputs or not self._roots:
            outputs = live_outputs(self._state, self._since, roots, names)
            new = [output for output in outputs if _is_traceable(output)]
        if len(roots) < len(self._roots) and not new:
            self._state.event_log.flush()
            self.snapshot = renew(self.snapshot, self._state)
            return self._finish(self._overlay(names))
        return self.trace([*roots, *new], names)

    def trace(self, roots: Sequence[Any], names: Names | None = None) -> GradGraph:
        """Trace roots, live outputs that share operations with them, and cut branches."""
        state, before = self._state, self.snapshot.graph
        names = self._names() if names is None else names
        state.event_log.flush()
        additions = Additions()
        self.snapshot = take(roots, additions, names, state, self.keys)
        additions.results = sharing_outputs(state, self.snapshot.operations, roots)
        if additions.results:
            self.snapshot = take(roots, additions, names, state, self.keys)
        overlay = self._overlay(names)
        for _ in range(2):
            known = set(map(id, additions.branches))
            more = [each for each in overlay.missing_tensors() if id(each) not in known]
            if not more:
                break
            additions.branches += more
            self.snapshot = take(roots, additions, names, state, self.keys)
            overlay = self._overlay(names)
        keep_options(self.snapshot, before)
        return self._finish(overlay)

    def cut_off(self, graph: GradGraph, targets: Iterable[str]) -> dict[str, list[CutOff]]:
        """Where leaves were cut off, including leaves that are not in the graph.

        Args:
            graph: of a frame.
            targets: keys of the untracked tensors that received their data.

        Returns:
            The cuts, by the keys of the leaves.
        """
        cut_leaves = self._cut_leaves.get(graph, {})
        seen: dict[CutSite, int] = {}
        found: dict[str, list[CutOff]] = {}
        for key in sorted(cut_leaves.keys() & set(targets), key=lambda key: int(key[1:])):
            for where, leaves in cut_leaves[key].items():
                cut = self._cut_at(key, where)
                for number in leaves_in(leaves & ~seen.get(where, 0)):
                    found.setdefault(self.keys.of(Leaf(number).identity), []).append(cut)
                seen[where] = seen.get(where, 0) | leaves
        return found

    def number_reads(self) -> dict[str, list[NumberRead]]:
        """Where data of leaves became numbers or arrays, by the keys of the leaves."""
        found: dict[str, list[NumberRead]] = {}
        for record in self._state.provenance.shown:
            read = self._state.lines.at(record.location)
            if not record.is_plain_value or not read.source:
                continue
            for where, leaves in record.cut_leaves.items():
                line = self._state.lines.at(where.location)
                cut = CutOff("", where.cause, line.source, str(line.inside), where.word)
                row = NumberRead(cut, record.word, read.source, str(read.inside))
                for number in leaves_in(leaves):
                    found.setdefault(self.keys.of(Leaf(number).identity), []).append(row)
        return found

    def cuts_behind(self, tensor: torch.Tensor) -> list[CutOff]:
        """Where the data of a tensor outside the graph left it, whether or not a frame shows it."""
        record = self._state.provenance.tensors.of(tensor)
        cut_leaves = record.cut_leaves if isinstance(record, UntrackedTensor) else {}
        return [self._cut_at("", where) for where in cut_leaves]

    def _cut_at(self, target: str, where: CutSite) -> CutOff:
        line = self._state.lines.at(where.location)
        return CutOff(target, where.cause, line.source, str(line.inside), where.word)

    def contents(self, graph: GradGraph) -> SavedValues:
        """The values of saved tensors before a backward pass, for the graph taken then."""
        contents = self._contents.get(graph)
        return {} if contents is None else contents.found

    def parameters(self) -> list[Named]:
        """The parameters of the modules that are alive and require grad."""
        return [named for named in self._of_modules().entries if named.tensor.requires_grad]

    def module_name(self, module: nn.Module) -> str:
        """The path of a module in the recorded ones, or its class."""
        if not self._paths:  # once per backward pass, because hooks ask for many modules
            for name, known in self._alive():
                for path, each in known.named_modules():
                    if each is not known or name:
                        path = ".".join(filter(None, (name, path)))
                        self._paths.setdefault(id(each), (weakref.ref(each), path))
        ref, path = self._paths.get(id(module), (None, ""))
        return path if ref is not None and ref() is module else type(module).__name__

    def _finish(self, overlay: UntrackedOverlay) -> GradGraph:
        graph = overlay.graph()
        self._traced_until = creation_count()
        if overlay.cut_leaves:
            self._cut_leaves[graph] = overlay.cut_leaves
        return graph

    def _overlay(self, names: Names) -> UntrackedOverlay:
        return UntrackedOverlay(self.snapshot, self._state, self.keys, Labels(names), self._before)

    def _alive(self) -> list[tuple[str, nn.Module]]:
        return [(name, module) for name, ref in self._modules if (module := ref()) is not None]

    def _of_modules(self) -> Names:
        each = [Names.of({n: module} if n else module, None) for n, module in self._alive()]
        classes = {path: word for names in each for path, word in names.modules.items()}
        if classes != self._classes:  # the frames share one
            self._classes = classes
        return Names([named for names in each for named in names.entries], self._classes)

    def _names_before(self) -> Names:
        """The names before the backward pass."""
        return Names(
            [
                Named(tensor, name, aliases)
                for ref, name, aliases in self._named
                if (tensor := ref()) is not None
            ]
        )

    def _names(self) -> Names:
        """Names from the modules, from variables here, and from those where the recording began."""
        own = self._of_modules()
        entries, classes = own.entries, own.modules
        here = user_frame(sys._getframe(1), self._state.verdicts)
        began: FrameType | None = here
        while began is not None and began.f_code is not self._entered:
            began = began.f_back
        for frame in dict.fromkeys((here, began)):
            if frame is not None:
                around = Names.of(None, frame)
                entries += around.entries
                classes = classes or around.modules
        found: dict[int, Named] = {}
        for named in entries:
            found.setdefault(id(named.tensor), named)
        return Names(list(found.values()), classes)


def _is_traceable(root: torch.Tensor) -> bool:
    """Whether torch can return the ``grad_fn``: not if the base of a view was changed in place."""
    try:
        maker_of(root)
    except SubjectError:
        return False
    return True
