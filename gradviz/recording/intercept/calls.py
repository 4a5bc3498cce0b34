"""What to do with the functions of torch that are more than an operation.

A handler may look before the call and tell after it; the call itself is made once, outside of
any guard, since what it raises is the program's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch

from gradviz.capture.autograd.engine import creation_count
from gradviz.capture.autograd.nodes import sequence_number
from gradviz.capture.tensors.summary import summarize
from gradviz.facts import Action
from gradviz.graph import Cause
from gradviz.recording.event_log import Entry
from gradviz.recording.function_names import QUERIES, word_of
from gradviz.recording.intercept import gradients
from gradviz.recording.intercept.in_place import look_at_targets, tell_changes
from gradviz.recording.provenance import Leaf, UntrackedTensor
from gradviz.recording.state import Handler, RecordingState, TorchCall, tensors_in
from gradviz.story import EventKind

__all__ = ["Handlers", "change"]

_Look = Callable[[RecordingState, TorchCall], None]


class Handlers(dict[Any, "Handler | None"]):
    """The handler of each function of torch, found when it is first called."""

    def __missing__(self, func: Any) -> Handler | None:
        self[func] = handler = _handler_of(func)
        return handler


def _handler(tell: _Look, look: _Look | None = None) -> Handler:
    def handle(
        watch: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        call = TorchCall(func, args, kwargs)
        if look is not None:
            watch.guard(look, call)
        call.result = func(*args, **kwargs)
        watch.guard(tell, call)
        return call.result

    return handle


def _call(watch: RecordingState, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return func(*args, **kwargs)


def _tell_cut(cause: Cause) -> _Look:
    """``x.detach()``, ``x.data``: the result is outside the graph."""

    def tell(watch: RecordingState, call: TorchCall) -> None:
        if isinstance(call.result, torch.Tensor) and not watch.is_inside():
            place = watch.place()
            data = watch.input_from(call.args[0], cause, place)
            kind = (
                EventKind.OPERATION if isinstance(data.source, UntrackedTensor) else EventKind.CUT
            )
            watch.add_untracked(word_of(call.func), [data], [call.result], place, kind)

    return tell


def _look_at_detached(watch: RecordingState, call: TorchCall) -> None:
    tensor = call.args[0]
    if tensor.requires_grad and not watch.is_inside():
        call.before = watch.input_from(tensor, Cause.DETACH, watch.place())


def _tell_detached(watch: RecordingState, call: TorchCall) -> None:
    """``x.detach_()``: the tensor itself has left the graph."""
    if call.before is not None:
        watch.provenance.release(call.args[0])
        place = call.before.place
        watch.add_untracked("detach_", [call.before], [call.args[0]], place, EventKind.CUT)


def _tell_end(cause: Cause) -> _Look:
    """A tensor became a number or an array, from which nothing can be followed."""

    def tell(watch: RecordingState, call: TorchCall) -> None:
        tensor = call.args[0]
        if not isinstance(tensor, torch.Tensor) or watch.is_inside():
            return
        if not tensor.requires_grad:
            known = watch.provenance.tensors.of(tensor)
            if not isinstance(known, UntrackedTensor) or not known.matters:
                return  # plain data
        place = watch.place()
        untracked = watch.provenance.add_plain_value(
            word_of(call.func), watch.input_from(tensor, cause, place), place
        )
        (untracked.value,) = summarize([tensor], values_only_if_small=True)
        watch.log(Entry(EventKind.CUT, untracked.word, place, identities=(untracked.identity,)))

    return tell


def _look_at_count(watch: RecordingState, call: TorchCall) -> None:
    call.before = creation_count()


def _tell_copy(watch: RecordingState, call: TorchCall) -> None:
    """``torch.tensor(x)``, ``torch.as_tensor(x)``."""
    given = list(tensors_in((*call.args, *call.kwargs.values())))
    if any(call.result is each for each in given) or watch.is_inside():
        return
    if creation_count() > call.before:  # as_tensor can convert, and then keeps the graph
        watch.made(call.func, (call.args, call.kwargs), call.result, call.before)
        return
    place = watch.place()
    inputs = [watch.input_from(each, Cause.COPY, place) for each in given]
    was_cut = any(not isinstance(each.source, UntrackedTensor) for each in inputs)
    kind = EventKind.CUT if was_cut else EventKind.OPERATION
    watch.add_untracked(word_of(call.func), inputs, [call.result], place, kind)
    if call.result.requires_grad:
        leaf = watch.provenance.leaf(call.result)
        leaf.place = place
        made = watch.journal.entries[-1]
        if isinstance(made, Entry):
            made.identities = (leaf.identity,)


def _look_at_flag(watch: RecordingState, call: TorchCall) -> None:
    call.before = call.args[0].requires_grad


def _tell_flag(watch: RecordingState, call: TorchCall) -> None:
    """``x.requires_grad_(...)``, ``x.requires_grad = ...``."""
    tensor = call.args[0]
    if tensor.requires_grad == call.before:
        return
    place, provenance = watch.place(), watch.provenance
    old = provenance.tensors.of(tensor)
    if tensor.requires_grad:
        leaf = provenance.leaf(tensor)
        leaf.place = old.place if old is not None else leaf.place
        action, identity = Action.REQUIRES_GRAD_ON, leaf.identity
    else:
        untracked = provenance.add(tensor, "", Cause.REQUIRES_GRAD, place, (), matters=True)
        untracked.was = old if isinstance(old, Leaf) else None
        action, identity = Action.REQUIRES_GRAD_OFF, untracked.identity
    entries = watch.journal.entries
    last = entries[-1] if entries else None
    if isinstance(last, Entry) and last.place == place and last.action is action:
        last.count += 1
        last.identities = (*last.identities, identity)
    else:
        kind = EventKind.REQUIRES_GRAD
        watch.log(Entry(kind, "requires_grad_", place, identities=(identity,), action=action))


def _look_at_mode(watch: RecordingState, call: TorchCall) -> None:
    call.before = torch.is_grad_enabled(), watch.is_inside()


def _tell_mode(watch: RecordingState, call: TorchCall) -> None:
    """Gradient mode was switched: ``no_grad``, ``enable_grad``, ``set_grad_enabled``."""
    before, was_inside = call.before
    now = torch.is_grad_enabled()
    if was_inside:
        return
    watch.grad_expected = now
    word = _mode_word(watch) if now != before else ""
    if word:
        action = Action.GRADIENTS_ON if now else Action.GRADIENTS_OFF
        watch.log(Entry(EventKind.MODE, word, watch.place(), action=action))


_MODE_FILES = ("grad_mode.py", "_contextlib.py", "contextlib.py")


def _mode_word(watch: RecordingState) -> str:
    """What the user wrote to switch gradient mode; "" if torch did it on its own behalf."""
    word = "set_grad_enabled"
    frame: Any = sys._getframe(1)
    while frame is not None and not watch.verdicts[frame.f_code.co_filename]:
        name = frame.f_code.co_filename
        if name.endswith(_MODE_FILES):
            owner = frame.f_locals.get("self")
            word = type(owner).__name__ if owner is not None else word
        elif frame.f_globals.get("__name__", "").partition(".")[0] != "gradviz":
            return ""
        frame = frame.f_back
    return word


def _tell_hook(watch: RecordingState, call: TorchCall) -> None:
    """``x.register_hook(...)``: that it is there. What it does is seen when backward calls it."""
    tensor, place = call.args[0], watch.place()
    node = tensor.grad_fn  # torch has looked at it as well, to register the hook
    leaf = watch.provenance.leaf(tensor) if node is None else None
    identity = leaf.identity if leaf is not None else sequence_number(node)
    name = (leaf.name or watch.lines.line(*leaf.place).target or None) if leaf else None
    word, action = word_of(call.func), Action.REGISTERED
    watch.log(Entry(EventKind.HOOK, word, place, name, (identity,), action))
    watch.hooks.registered(call.result, place, identity, leaf)


def _tell_new_data(watch: RecordingState, call: TorchCall) -> None:
    """``x.data = ...``: other values, of which autograd knows nothing."""
    watch.log(Entry(EventKind.IN_PLACE, "data", watch.place(), action=Action.DATA_REPLACED))


change = _handler(tell_changes, look_at_targets)
_NAMED: dict[str, Handler] = {
    "_set_grad_enabled": _handler(_tell_mode, _look_at_mode),
    "backward": _handler(gradients.tell_backward, gradients.look_at_backward),
    "detach": _handler(_tell_cut(Cause.DETACH)),
    "detach_": _handler(_tell_detached, _look_at_detached),
    **dict.fromkeys(("register_hook", "register_post_accumulate_grad_hook"), _handler(_tell_hook)),
    "requires_grad_": _handler(_tell_flag, _look_at_flag),
    "set_grad_enabled": _handler(_tell_mode, _look_at_mode),
    **dict.fromkeys(("numpy", "__array__"), _handler(_tell_end(Cause.NUMPY))),
    **dict.fromkeys(
        ("item", "tolist", "__float__", "__int__", "__index__", "__complex__"),
        _handler(_tell_end(Cause.ITEM)),
    ),
    **dict.fromkeys(
        QUERIES,
        _call,
    ),
}
_PROPERTIES: dict[tuple[str, str], Handler | None] = {
    ("__get__", "data"): _handler(_tell_cut(Cause.DATA)),
    ("__set__", "data"): _handler(_tell_new_data),
    ("__get__", "grad"): _handler(gradients.tell_grad_read),
    ("__set__", "grad"): _handler(gradients.tell_grad_set, gradients.look_at_grad),
    ("__delete__", "grad"): _handler(gradients.tell_grad_set, gradients.look_at_grad),
    ("__set__", "requires_grad"): _handler(_tell_flag, _look_at_flag),
    **dict.fromkeys((("__get__", word) for word in ["H", "T", "mH", "mT", "real", "imag"]), None),
}
_COPIES = (torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor)
_copy = _handler(_tell_copy, _look_at_count)


def _handler_of(func: Any) -> Handler | None:
    name, word = str(getattr(func, "__name__", "")), word_of(func)
    if name in ("__get__", "__set__", "__delete__"):
        return _PROPERTIES.get((name, word), _call)
    if func is torch.autograd.grad:
        return _NAMED["backward"]
    if name in _NAMED:
        return _NAMED[name]
    if any(func is each for each in _COPIES):
        return _copy
    if word.endswith("_") and not word.endswith("__"):
        return change
    return None
