"""In which call of the program each operation ran: calls of modules, and of custom Functions.

Nodes have consecutive sequence numbers, so a call of a module is a range of numbers. Calls are
nested, and an operation belongs to the innermost call that contains its number. This costs two
reads per module call, and nothing per operation.

Inside the ``forward`` of a ``torch.autograd.Function`` torch records nothing; gradients flow only
to the inputs of the Function. If one of them requires grad, the Function is one node of the graph,
and the leaves that its ``forward`` also reads are recorded here. If none does, there is no node,
and the results of ``forward`` are untracked tensors.
"""

from __future__ import annotations

import sys
import threading
import weakref
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from gradviz.capture.autograd.engine import (
    BackwardCall,
    Listener,
    call_depth,
    creation_count,
    listen,
    listen_to_calls,
    unlisten,
    unlisten_to_calls,
)
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import is_unsure
from gradviz.capture.tensors.names import locals_of, with_attributes
from gradviz.capture.tensors.training_sets import modules_in, own_type, parameters_of
from gradviz.facts import EventKind, PartCall
from gradviz.graph import Cause
from gradviz.graph.operations import custom_word
from gradviz.graph.text import Path, shared
from gradviz.recording.event_log import Entry, EventLog
from gradviz.recording.provenance import Provenance
from gradviz.recording.reachability import Reachability
from gradviz.recording.source_lines import (
    CodeLocation,
    UserFiles,
    outwards,
    user_frame,
    user_location,
)
from gradviz.recording.tensor_records import Input, Leaf, UntrackedTensor


class ModuleCall(NamedTuple):
    """An open call of a module."""

    path: Path  # of the module
    # for the model itself and then for each part of the path: the number of the innermost
    # call that is not deeper
    calls: tuple[int, ...]
    module: str  # its path as text

    def inner(self, path: Path, number: int) -> ModuleCall:
        """A call that begins inside this one."""
        around = self.calls[: len(path)]
        around += around[-1:] * (len(path) - len(around))
        return ModuleCall(path, (*around, number), ".".join(path))


_OUTSIDE = ModuleCall((), (0,), "")


class _Track:
    """The calls that ran in one thread, as ranges of sequence numbers.

    Args:
        outside: the call for nodes outside of all module calls; None if unknown.

    Attributes:
        starts: the start of each range; it ends where the next one starts.
        spans: the innermost call of each range; None if unknown.
        stack: the open calls, each with the ``id`` of its module; None if no variable holds that.
    """

    def __init__(self, outside: ModuleCall | None) -> None:
        self.starts = [creation_count()]
        self.spans = [outside]
        self.stack: list[tuple[int, ModuleCall | None]] = []
        self.outside = outside

    @property
    def running(self) -> ModuleCall | None:
        """The innermost open call."""
        return self.stack[-1][1] if self.stack else self.outside

    def mark(self, span: ModuleCall | None) -> None:
        """Nodes from here on belong to this call."""
        count = creation_count()
        if count == self.starts[-1]:  # no node was created since the last mark
            self.spans[-1] = span
        elif span is not self.spans[-1]:
            self.starts.append(count)
            self.spans.append(span)

    def find(self, created: int) -> ModuleCall | None:
        """The call in which the node with this number was created."""
        index = bisect_right(self.starts, created) - 1
        return self.spans[index] if index >= 0 else None

    def forget(self, before: int) -> None:
        """Drop ranges that end at this number or earlier."""
        old = bisect_right(self.starts, before) - 1
        if old > 0:
            del self.starts[:old], self.spans[:old]


class ModuleStack(Listener):
    """Records in which module call each node was created.

    Args:
        modules: by name; "" for a single one.
        failed: called with an error of this class.

    Attributes:
        notes_all_calls: whether calls of modules that are not known beforehand are recorded too.
        find_root: in a recording of a whole program, finds the module of a variable that contains
            a called one, with the name of the variable; None if no variable holds it.
        running: the path and the calls of the module that each thread is running; empty for none.

    Example:
        >>> import torch
        >>> model = nn.Sequential(nn.Linear(2, 2))
        >>> spans = ModuleStack({"": model})
        >>> spans.begin()
        >>> before = creation_count()
        >>> loss = model(torch.ones(2)).sum()
        >>> spans.end()
        >>> spans.of(before).module, spans.of(creation_count() - 1).module
        ('0', '')
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self.failed = failed
        self.notes_all_calls = bool(modules)
        self.find_root: Callable[[nn.Module], tuple[str, nn.Module] | None] | None = None
        # Each with the ids of its own parameters then: functional_call puts others into it.
        self._called: dict[int, tuple[weakref.ref[nn.Module], frozenset[int]]] = {}
        self._roots = [(name, weakref.ref(module)) for name, module in modules.items()]
        self._known: dict[int, tuple[weakref.ref[nn.Module], list[Path]]] = {}
        self._tracks: dict[int, _Track] = {}
        self.running: dict[int, tuple[str, tuple[int, ...]]] = {}
        self._past: list[_Track] = []
        self._paused = 0
        self._count = 0
        self._began = 0  # the thread
        self._unnamed: set[int] = set()  # the ids of known modules that no variable holds

    def begin(self) -> None:
        """Start recording the calls of this thread."""
        if self.notes_all_calls:
            self._learn()
            self._began = threading.get_ident()
            self._tracks[self._began] = _Track(_OUTSIDE if self._roots else None)
            listen_to_calls(self)
            listen(self)

    def end(self) -> None:
        """Stop recording calls."""
        if self.notes_all_calls:
            unlisten(self)
            unlisten_to_calls(self)
            self._known.clear()
            for track in self._tracks.values():
                track.stack.clear()

    @property
    def _is_idle(self) -> bool:
        """Whether only calls are noted, as no modules are known and none are to be found."""
        return not self._roots and self.find_root is None

    def of(self, created: int) -> ModuleCall | None:
        """The module call in which the node with this number was created.

        Returns:
            The call; its path is ``()`` for the model itself and outside of all modules. None if
            unknown: not recorded, or two threads created such a node in different calls.
        """
        tracks = (*self._past, *self._tracks.values())
        if len(tracks) == 1:
            return tracks[0].find(created)
        found = {track.find(created) for track in tracks} - {None}
        return found.pop() if len(found) == 1 else None

    def _mark(self, track: _Track, span: ModuleCall | None) -> None:
        """What this thread creates from here on belongs to this call."""
        track.mark(span)
        known = ("", ()) if span is None or not span.module else (span.module, span.calls)
        self.running[threading.get_ident()] = known

    def calls_of_parameters(self, modules: Sequence[nn.Module]) -> dict[int, PartCall]:
        """Whether the modules of parameters were called, by the ``id`` of the parameters.

        Only what is certain is included. Calls are not seen in compiled and scripted code, and
        modules of torch may read the parameters of their parts without calling those.

        Args:
            modules: those that contain the parameters.
        """
        rows = [
            (module, own) for ref, own in self._called.values() if (module := ref()) is not None
        ]
        called = {id(module) for module, _ in rows}
        found = {
            id(each): PartCall()
            for module, own in rows
            for each in module.parameters(recurse=False)
            if id(each) in own
        }
        pending = [(module, False) for module in modules]
        seen: set[int] = set()  # a module may contain itself
        while pending:
            module, is_open = pending.pop()
            if _is_compiled(module):
                return {}
            if id(module) in seen:
                continue
            seen.add(id(module))
            is_open = is_open or id(module) in called
            kind = own_type(module)
            if kind not in _CONTAINERS and kind.__module__.startswith("torch."):
                continue
            parts = [*module.named_children()]
            is_open = is_open or any(id(each) in called for _, each in parts)
            uncalled = []
            for name, part in parts:
                is_whole = isinstance(part, nn.Sequential) and not any(
                    id(each) in called or _is_compiled(each) for each in part.modules()
                )
                if id(part) in called or (own_type(part) in _CONTAINERS and not is_whole):
                    pending.append((part, is_open and id(part) not in called))
                elif any(id(each) in called for each in part.modules()):
                    pending.append((part, True))  # a wrapper, whose parts are called past it
                elif is_open and any(id(each) not in found for each in parameters_of(part)):
                    uncalled.append((name, part))
            names = tuple(name for name, _ in uncalled)
            for name, part in uncalled:
                for path, each in part.named_parameters(name):
                    found.setdefault(id(each), PartCall(path, names))
        return found

    def forget(self, before: int) -> None:
        """Drop the calls of nodes with lower numbers.

        Args:
            before: a number of the thread in which the recording began.
        """
        track = self._tracks.get(threading.get_ident())
        if track is not None:
            track.forget(before)

    # Called by the hooks.

    def enter(self, module: nn.Module) -> None:
        """A call of a module begins."""
        if self._paused:
            return
        known = self._called.get(id(module))
        if known is None or known[0]() is not module:  # an id may be used again
            own = frozenset(map(id, module._parameters.values()))
            self._called[id(module)] = weakref.ref(module), own
        if self._is_idle:
            return
        track = self._track()
        paths = self._paths_of(module, track)
        if not paths:
            if id(module) in self._unnamed and not track.stack:
                self._mark(track, None)
                track.stack.append((id(module), None))
            return  # not a recorded module: its operations belong to the module that called it
        if any(known == id(module) for known, _ in track.stack):
            _drop_stale(track)
        around = track.running or _OUTSIDE
        path = paths[0] if len(paths) == 1 else _nearest(paths, around.path)
        self._count += 1
        span = around.inner(path, self._count)
        self._mark(track, span)
        track.stack.append((id(module), span))

    def leave(self, module: nn.Module) -> None:
        """A call of a module ends, normally or with an error."""
        if self._paused or self._is_idle:
            return
        track, number = self._track(), id(module)
        if any(known == number for known, _ in track.stack):
            while track.stack.pop()[0] != number:
                pass  # inner calls that ended with a BaseException
            self._mark(track, track.running)

    # A backward pass calls modules only to recompute (checkpoints), and nodes that it creates
    # belong to no call; their modules may be inferred from names.

    def before_backward(self, call: BackwardCall) -> None:
        """A backward pass is about to run."""
        self._paused += 1
        self._mark(self._track(), None)

    def after_backward(self, call: BackwardCall, outcome: object) -> None:
        """A backward pass ended, normally or with an error."""
        self._paused -= 1
        track = self._track()
        self._mark(track, track.running)

    def _track(self) -> _Track:
        """The calls of this thread; a new thread may have the id of one that ended."""
        ident = threading.get_ident()
        track = self._tracks.get(ident)
        if track is not None and creation_count() >= track.starts[-1]:
            return track
        if track is not None:
            self._past.append(track)
        self._tracks[ident] = track = _Track(None)
        return track

    def _paths_of(self, module: nn.Module, track: _Track) -> list[Path]:
        known = self._known.get(id(module))
        if known is None or known[0]() is not module:
            if track.stack:
                self._learn()  # the module may have been created since
                known = self._known.setdefault(id(module), (weakref.ref(module), []))
            elif self.find_root is not None and self._began == threading.get_ident():
                known = self._enter_root(module, track)
        return known[1] if known is not None and known[0]() is module else []

    def _enter_root(
        self, module: nn.Module, track: _Track
    ) -> tuple[weakref.ref[nn.Module], list[Path]]:
        """Learn the module of a variable that contains one, which is called from outside."""
        self._unnamed.discard(id(module))  # an id may be used again
        self._known.pop(id(module), None)
        find = self.find_root if parameters_of(module) else None  # a loss has none
        root = find(module) if find is not None else None
        if root is not None:
            alive = [row for row in self._roots if row[1]() is not None]
            self._roots = [*alive, (root[0], weakref.ref(root[1]))]
            track.outside = _OUTSIDE
            self._learn()
        elif find is not None:
            self._unnamed.add(id(module))
        return self._known.setdefault(id(module), (weakref.ref(module), []))

    def _learn(self) -> None:
        """Find the paths of all modules; a shared module has several."""
        self._known = {
            number: each for number, each in self._known.items() if each[0]() is not None
        }
        for prefix, ref in self._roots:
            root = ref()
            for path, module in modules_in(root, prefix) if root is not None else ():
                known = self._known.get(id(module))
                if known is None or known[0]() is not module:
                    known = self._known[id(module)] = (weakref.ref(module), [])
                if path not in known[1]:
                    known[1].append(path)


# They are not called themselves where a program iterates over them.
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def holder_of(module: nn.Module, verdicts: UserFiles) -> tuple[str, nn.Module] | None:
    """The module of a variable that contains a called one, and the name of the variable.

    That of the outermost function of the user's that has one, and there the largest: a function
    may call ``net`` what the program calls ``model``.

    Args:
        module: is called now.
        verdicts: which code is the user's.
    """
    found: tuple[str, nn.Module] | None = None
    frame = user_frame(sys._getframe(1), verdicts)
    while frame is not None:
        if not verdicts.is_library(frame.f_code.co_filename):
            variables = cast(dict[str, Any], with_attributes(locals_of(frame)))
            parts = {
                name: {id(part) for part in each.modules()}
                for name, each in variables.items()
                if issubclass(type(each), nn.Module) and name != "self"
            }
            held = {name: len(ids) for name, ids in parts.items() if id(module) in ids}
            if held:
                name = max(held, key=held.__getitem__)
                found = name, variables[name]
        frame = user_frame(frame.f_back, verdicts)
    return found


def _is_compiled(module: nn.Module) -> bool:
    """Whether torch calls the parts of a module without their hooks."""
    is_compiled = type(module).__name__ == "OptimizedModule" or module._compiled_call_impl
    return bool(is_compiled) or isinstance(module, torch.jit.ScriptModule)


def _nearest(paths: list[Path], running: Path) -> Path:
    """Of a shared module's paths, the one inside the calling module."""
    return max(paths, key=lambda path: len(shared(path, running)))  # of equals the first


def _drop_stale(track: _Track) -> None:
    """Forget calls that were interrupted by Ctrl-C or similar, for which no hook ran.

    A module that is called while a call of it is open calls itself, or was interrupted.
    """
    if call_depth(sys._getframe(1)) <= len(track.stack):
        track.stack.clear()


_APPLY: Any = torch.autograd.Function.apply
_INPUTS = 256  # of one call, and of each result in it


class FunctionCalls:
    """The calls of custom Functions in one recording.

    Args:
        provenance: the records of tensors.
        reachability: finds the leaves before a node.
        event_log: receives the event of each call.
        verdicts: which code is the user's.
        input_from: creates an `Input` from a tensor, see `RecordingState.input_from`.
        mixed: receives the untracked inputs of each node, see `RecordingState.mixed`.

    Attributes:
        reads: the leaves that ``forward`` has read without being inputs, as a bit set, by the
            end of the sequence numbers of the node.
    """

    def __init__(
        self,
        provenance: Provenance,
        reachability: Reachability,
        event_log: EventLog,
        verdicts: UserFiles,
        input_from: Callable[..., Input],
        mixed: dict[int, list[Input]],
    ) -> None:
        self.reads: dict[int, int] = {}
        self._call: tuple[object, ...] = ()  # the call that runs
        self._made = set[int]()  # the numbers of its results
        self._provenance = provenance
        self._reachability = reachability
        self._event_log = event_log
        self._verdicts = verdicts
        self._input_from = input_from
        self._mixed = mixed

    def add(self, given: Sequence[torch.Tensor], new: Sequence[torch.Tensor]) -> None:
        """Record an operation that ran inside a ``forward``.

        Args:
            given: its inputs.
            new: its results.
        """
        frame = _apply_frame()
        if frame is None:
            return
        location = user_location(frame.f_back, self._verdicts)
        inputs = [each for each in frame.f_locals.get("args", ()) if isinstance(each, torch.Tensor)]
        function: Any = frame.f_locals.get("cls")
        is_hidden = _is_of_torch(function)
        if any(each.requires_grad for each in inputs):
            self._add_reads(given, inputs, location, is_hidden, _end_of(frame))
        else:
            word, _ = custom_word(function.__module__, function.__name__)
            given = [*given, *inputs] if is_hidden else given
            call = word, location, tuple(map(id, inputs))
            if call != self._call:  # in a loop, an input is the result of the call before
                self._call, self._made = call, set()
            self._add_untracked(word, given, new, location, is_hidden)

    def inputs_of_torch(self) -> list[torch.Tensor]:
        """The inputs of a running Function of ``DTensor``, which computes with local tensors."""
        frame = _apply_frame() if "torch.distributed.tensor" in sys.modules else None
        if frame is None or not _is_of_torch(frame.f_locals.get("cls")):
            return []
        return [each for each in frame.f_locals.get("args", ()) if isinstance(each, torch.Tensor)]

    def _add_reads(
        self,
        given: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
        location: CodeLocation,
        is_hidden: bool,
        end: int,
    ) -> None:
        """Record the read leaves of a Function that has a node."""
        entries = self._event_log.entries
        last = entries[-1] if entries else None
        made = last.operation if isinstance(last, Entry) else last
        known = made[1] if made is not None else self._event_log.last_end
        if known < end:
            call = end - 1, end, _APPLY, location.code, location.offset, ()
            entry = Entry(EventKind.OPERATION, "apply", location, operation=call, is_hidden=True)
            entries.append(entry if is_hidden else call)
            if untracked := [each for each in inputs if not each.requires_grad]:
                self._mixed[end] = [self._provenance.untracked(t).as_input() for t in untracked]
        for tensor in given:
            if isinstance(tensor, torch.nn.Parameter) and not tensor.requires_grad:  # frozen
                frozen, mixed = self._provenance.untracked(tensor), self._mixed.setdefault(end, [])
                mixed += [] if any(e.source is frozen for e in mixed) else [frozen.as_input()]
            if tensor.requires_grad and not any(tensor is each for each in inputs):
                self.reads[end] = self.reads.get(end, 0) | self._leaves(tensor)

    def _leaves(self, tensor: torch.Tensor) -> int:
        if is_unsure(tensor):
            return 0
        node = tensor.grad_fn
        if node is None:
            return self._provenance.ancestors(tensor).leaves
        return self._reachability.ancestors(node).leaves

    def _add_untracked(
        self,
        word: str,
        given: Sequence[torch.Tensor],
        new: Sequence[torch.Tensor],
        location: CodeLocation,
        is_hidden: bool,
    ) -> None:
        """Record results of a Function without a node; their inputs are those of the whole call."""
        inputs: dict[int, Input] = {}
        for tensor in given:
            data = self._input_from(tensor, Cause.CUSTOM_FUNCTION, location, word)
            source = data.source
            is_own = isinstance(source, UntrackedTensor) and source.number in self._made
            for each in source.inputs if is_own else (data,):  # type: ignore[union-attr]
                inputs.setdefault(id(each.source), each)
        found = list(inputs.values())
        found[_INPUTS:] = [found[_INPUTS].beside(found[_INPUTS + 1 :])] if found[_INPUTS:] else []
        for tensor in new:
            if isinstance(self._provenance.tensors.of(tensor), Leaf):
                continue
            untracked = self._provenance.add_result(tensor, word, location, found)
            self._made.add(untracked.number)
            self._log(location, untracked, is_hidden)

    def _log(self, location: CodeLocation, untracked: UntrackedTensor, is_hidden: bool) -> None:
        """Log one event per call, about the latest result, which is the one it returns."""
        entries = self._event_log.entries
        last = entries[-1] if entries else None
        if not isinstance(last, Entry) or last.word != "apply" or last.location != location:
            last = Entry(EventKind.OPERATION, "apply", location, is_hidden=is_hidden)
            entries.append(last)
        last.identities = (untracked.identity,)


def is_forward(code: CodeType) -> bool:
    """Whether code is that of a ``forward`` of a Function, by its name and arguments."""
    return code.co_name == "forward" and code.co_varnames[:1] not in ((), ("self",))


def called_from(verdicts: UserFiles) -> CodeLocation | None:
    """Where the running Function was applied; None if none runs."""
    frame = _apply_frame()
    return None if frame is None else user_location(frame.f_back, verdicts)


def _is_of_torch(function: Any) -> bool:
    """Whether a Function belongs to the distributed or parallel code of torch."""
    module: str = getattr(function, "__module__", "")
    return module.startswith(("torch.distributed.", "torch.nn.parallel."))


def _apply_frame() -> FrameType | None:
    """The frame of the outermost running ``Function.apply``."""
    found, code = None, _APPLY.__func__.__code__
    for frame in outwards(sys._getframe(2)):
        if frame.f_code is code:
            found = frame
    return found


def _end_of(apply: FrameType) -> int:
    """The end of the numbers of the node of ``apply``: autocast may have created casts since."""
    frame = next(each for each in outwards(sys._getframe(1)) if each.f_back is apply)
    ctx = frame.f_locals.get(frame.f_code.co_varnames[0]) if frame.f_code.co_argcount else None
    is_node = isinstance(ctx, torch.autograd.function.BackwardCFunction)  # no ``setup_context``
    return sequence_number(cast(Any, ctx)) + 1 if is_node else creation_count()
