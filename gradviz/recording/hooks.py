"""What the user's hooks did to gradients while backward ran.

A hook is seen when it is registered, or found on a leaf or on a result that a variable holds. One
on a node (``grad_fn.register_hook``) is not: torch has no list of those, and what it calls in
Python when one is registered does not tell of which node. For each backward pass a stand-in takes
its place, which looks at the gradient before and after: what a hook did is told only if it shows.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.utils.hooks import RemovableHandle

from gradviz.capture.autograd.calls import StandIn, Table, tables_of
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.autograd.tensors import quietly, version_of
from gradviz.capture.tensors.names import Names
from gradviz.capture.tensors.summary import summarize
from gradviz.facts import Action, HookDetails
from gradviz.graph import TensorSummary
from gradviz.recording.event_log import Entry
from gradviz.recording.provenance import Leaf
from gradviz.recording.source_lines import NOWHERE, CodeLocation, UserFiles
from gradviz.story import EventKind

__all__ = ["HookedTensor", "Hooks", "held_with_hooks"]


@dataclass(frozen=True, slots=True, eq=False)
class _Hook:
    """A hook of a tensor.

    Args:
        table: where torch finds it.
        place: where it was registered; `NOWHERE` if that was not seen.
        identity: of the node that it belongs to.
        leaf: that it is on, if any.
        is_after: whether it is called after the gradient was added to ``.grad``.
        name: of the tensor, when it is no leaf and a variable holds it.
    """

    table: Callable[[], Table | None]
    place: CodeLocation
    identity: Hashable
    leaf: Leaf | None
    is_after: bool
    name: str = ""


class HookedTensor(NamedTuple):
    """A tensor with hooks that is no leaf and that a variable holds.

    Args:
        table: its hooks.
        identity: of the node that made it.
        name: of the variable.
    """

    table: Callable[[], Table | None]
    identity: Hashable
    name: str


def held_with_hooks(names: Names) -> list[HookedTensor]:
    """The results among named tensors that have hooks, of which nothing is kept alive."""
    return [
        HookedTensor(weakref.ref(table), sequence_number(node), named.name)
        for named in names
        if (node := named.tensor.grad_fn) is not None and (table := tables_of(named.tensor)[0])
    ]


class Hooks:
    """The hooks that one recording knows of.

    Args:
        verdicts: which code is the user's.
        failed: called when a look went wrong, with the error.

    Attributes:
        on_gradients: of the latest backward pass: what was done to gradients on their way.
        on_leaves: the same, of ``.grad`` after it was added to.
    """

    def __init__(self, verdicts: UserFiles, failed: Callable[[Exception], None]) -> None:
        self.on_gradients: list[Entry] = []
        self.on_leaves: list[Entry] = []
        self._verdicts = verdicts
        self._failed = failed
        self._known: dict[int, _Hook] = {}
        self._stand_ins: list[tuple[Callable[[], Table | None], int, StandIn]] = []

    def registered(
        self, handle: RemovableHandle, place: CodeLocation, identity: Hashable, leaf: Leaf | None
    ) -> None:
        """A hook was registered on a tensor that is a leaf, or was made by an operation."""
        table = handle.hooks_dict_ref
        tensor = leaf.ref() if leaf is not None else None
        is_after = tensor is not None and table() is tables_of(tensor)[1]
        self._known[handle.id] = _Hook(table, place, identity, leaf, is_after)

    def begin(self, leaves: Iterable[Leaf], held: Iterable[HookedTensor]) -> None:
        """A backward pass begins: put a stand-in in the place of each hook.

        Args:
            leaves: those that are known: they can have hooks from before the recording.
            held: other tensors that can have some.
        """
        for number, hook in list(self._known.items()):
            if number not in (hook.table() or ()):
                del self._known[number]
        hooks = dict(self._known)
        for leaf in leaves:
            tensor = leaf.ref()
            tables = tables_of(tensor) if tensor is not None else ()
            for table, is_after in zip(tables, (False, True), strict=False):
                for number in table or ():
                    if table is not None:  # from before the recording, if it is not known
                        found = _Hook(weakref.ref(table), NOWHERE, leaf.identity, leaf, is_after)
                        hooks.setdefault(number, found)
        for find, identity, name in held:
            for number in find() or ():
                hooks.setdefault(number, _Hook(find, NOWHERE, identity, None, False, name))
        for number, hook in hooks.items():
            table = hook.table()
            if table is not None:
                stand_in = StandIn(
                    table[number], functools.partial(self._look, hook, table[number])
                )
                table[number] = stand_in
                self._stand_ins.append((hook.table, number, stand_in))

    def end(self) -> None:
        """The backward pass is over: every hook is back where it was, unless it was removed."""
        while self._stand_ins:
            find, number, stand_in = self._stand_ins.pop()
            table: Any = find()
            if table is not None and table.get(number) is stand_in:
                table[number] = stand_in.hook

    def take(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """What the hooks did in the latest pass, to gradients and to ``.grad``; once."""
        taken = self.on_gradients, self.on_leaves
        self.on_gradients, self.on_leaves = [], []
        return taken

    def of_module(self, hook: Any, name: Callable[[], str], given: Any, result: Any) -> None:
        """A full backward hook of a module was called.

        Args:
            hook: the hook.
            name: tells that of its module.
            given: the gradients that it was given.
            result: what it returned.
        """
        if result is None:
            return
        try:
            with quietly():
                for old, new in zip(given, result, strict=False):
                    details = _change(hook, _seen(old), new) if old is not new else None
                    if details is not None:
                        entry = self._entry(details, hook, NOWHERE, name())
                        entry.action = Action.BEFORE_ACCUMULATION
                        self.on_gradients.append(entry)
        except Exception as error:
            self._failed(error)

    def _look(self, hook: _Hook, function: Any, given: Any) -> Callable[[Any], None]:
        """Before a hook is called; what is returned is to be called after it, with its result."""
        try:
            with quietly():
                before = _seen(given.grad if hook.is_after else given)
                return functools.partial(self._after, hook, function, given, before)
        except Exception as error:
            self._failed(error)
            return _say_nothing

    def _after(self, hook: _Hook, function: Any, given: Any, before: _Seen, result: Any) -> None:
        try:
            with quietly():
                new = given if result is None else result
                details = _change(function, before, given.grad if hook.is_after else new)
                if details is not None:
                    name = hook.leaf.name if hook.leaf is not None else hook.name
                    entry = self._entry(details, function, hook.place, name)
                    entry.identities = (hook.identity,)
                    after = hook.is_after
                    entry.action = (
                        Action.AFTER_ACCUMULATION if after else Action.BEFORE_ACCUMULATION
                    )
                    (self.on_leaves if after else self.on_gradients).append(entry)
        except Exception as error:
            self._failed(error)

    def _entry(self, details: HookDetails, function: Any, place: CodeLocation, name: str) -> Entry:
        """The event: on the line that registered the hook, else on that which defines it."""
        code = getattr(function, "__code__", None)
        if place is NOWHERE and code is not None and self._verdicts[code.co_filename]:
            place = CodeLocation(code, ~0)
        return Entry(EventKind.HOOK, "hook", place, name or None, details=details)


class _Seen(NamedTuple):
    """A gradient before a hook was called: its facts, which tensor it was, and its version."""

    summary: TensorSummary | None
    number: int
    version: int


def _seen(gradient: Any) -> _Seen:
    if not isinstance(gradient, torch.Tensor):
        return _Seen(None, 0, 0)
    return _Seen(summarize([gradient])[0], id(gradient), version_of(gradient))


def _change(function: Any, before: _Seen, gradient: Any) -> HookDetails | None:
    """What became of a gradient; None when it is the same."""
    after = None
    if isinstance(gradient, torch.Tensor):
        is_small = before.summary is not None and before.summary.values is not None
        if not is_small and (id(gradient), version_of(gradient)) == before[1:]:
            return None  # not read a second time, since nothing was written to it
        after = summarize([gradient])[0]
    if repr(before.summary) == repr(after):  # NaN is not equal to itself
        return None
    name = getattr(function, "__name__", "<")
    return HookDetails("" if name.startswith("<") else name, before.summary, after)


def _say_nothing(result: Any) -> None:
    """What is called after a hook that could not be looked at."""
