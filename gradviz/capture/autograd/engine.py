"""What an open recording replaces or observes in torch, and the counter of the nodes.

- The function that runs every backward pass (``Tensor.backward``, ``torch.autograd.backward``,
  ``torch.autograd.grad``) reports the pass to the recordings of the same thread.
- ``torch.inference_mode`` reports when it is entered and left: torch has no hook for it.
- ``nn.Parameter`` and ``torch.autograd.Variable`` report the data they are created from: no
  mode sees it.
- The transformer modules keep their fast paths. In evaluation ``TransformerEncoder``, its layers
  and ``MultiheadAttention`` run as one operation each, unless an argument has its own
  ``__torch_function__``, and an active ``TorchFunctionMode`` counts as one. Without the fast path
  padded positions have other values, so a recording would change the results of the program.
- Global hooks report the calls of modules. In a recorded backward pass a stand-in runs each hook
  of the user, and reports what it did.
"""

from __future__ import annotations

import functools
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.autograd import _get_sequence_nr  # type: ignore[attr-defined]
from torch.autograd.grad_mode import set_multithreading_enabled
from torch.autograd.graph import Node
from torch.nn.modules import module as _modules
from torch.utils.hooks import BackwardHook

from gradviz.errors import UsageError


class SharedInstall:
    """Something that is installed while at least one recording is open, in any thread.

    Args:
        install: called when the first recording begins, with what is closed when the last one has
            ended.

    Example:
        >>> shared = SharedInstall(lambda undo: undo.callback(print, "undone"))
        >>> shared.begin()
        >>> shared.begin(); shared.end()
        >>> shared.end()
        undone
    """

    def __init__(self, install: Callable[[ExitStack], object]) -> None:
        self._install, self._undo = install, ExitStack()
        self._lock = threading.Lock()
        self._open = 0

    def begin(self) -> None:
        """A recording begins."""
        with self._lock:
            if self._open == 0:
                self._install(self._undo)
            self._open += 1

    def end(self) -> None:
        """A recording has ended."""
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._undo.close()


def replace(undo: ExitStack, owner: Any, name: str, new: Any) -> None:
    """Set an attribute of a class or module until a stack is closed."""
    if name in vars(owner):
        undo.callback(setattr, owner, name, vars(owner)[name])
    else:  # it inherits one
        undo.callback(delattr, owner, name)
    setattr(owner, name, new)


creation_count: Callable[[], int] = _get_sequence_nr
"""How many nodes this thread has created; the next node gets this number.

Private: there is no public counter. Reading ``grad_fn`` would keep the node's wrapper alive.
"""

OBJECTS_STAY = torch.__version__ >= "2.13"
"""Whether the Python object of a node stays when the last reference to it is gone."""


def _kept_identity(node: Node) -> int:
    """The identity of what ``metadata`` contains; that stays with the node."""
    metadata: Any = node.metadata
    return id(metadata.setdefault("gradviz: identity", object()))


identity_of_node: Callable[[Node], int] = id if OBJECTS_STAY else _kept_identity
"""A number that no other node has while this one exists; that of an earlier one can recur."""

jit_trace: Callable[[], object] = torch._C._get_tracing_state
"""The state of ``torch.jit.trace`` in this thread; None while it does not trace.

Private: ``torch.jit.is_tracing`` returns the same, and takes twice as long.
"""

_autograd: Any = torch.autograd
_RUN = "_engine_run_backward"  # private: hooks on tensors would change the program, see less


def modes_below() -> int:
    """How many ``TorchFunctionMode``s are active in this thread.

    Private: ``_get_current_function_mode_stack``; modes cannot be counted in public.
    """
    overrides: Any = torch.overrides
    return len(overrides._get_current_function_mode_stack())


def is_innermost(mode: object) -> bool:
    """Whether a mode is the one that was entered last; only that one may be left.

    Private: as in `modes_below`.
    """
    overrides: Any = torch.overrides
    stack = overrides._get_current_function_mode_stack()
    return bool(stack) and stack[-1] is mode


@dataclass(frozen=True, eq=False)
class BackwardCall:
    """The arguments of a backward pass."""

    roots: tuple[Any, ...]  # the tensors (or ``GradientEdge``s) on which it is called
    inputs: tuple[Any, ...]  # the tensors in ``inputs=``; empty for every leaf
    retain_graph: bool  # whether the saved tensors are kept
    create_graph: bool  # whether the pass itself is recorded
    # whether gradients are accumulated into ``.grad``; ``torch.autograd.grad`` returns them
    accumulates: bool


class Listener:
    """Is notified of backward passes, and of what else its methods say; it does nothing."""

    def before_backward(self, call: BackwardCall) -> None:
        """A backward pass is about to run."""

    def after_backward(self, call: BackwardCall, outcome: object) -> None:
        """A backward pass ended; the outcome is the returned value, or the error."""

    def module_hook(self, hook: Any, module: Any, given: Any, result: Any) -> None:
        """A full backward hook of a module was called while a pass runs."""

    def mode_changed(self) -> None:
        """``inference_mode`` was entered or left."""

    def parameter_created(self, data: object, parameter: torch.Tensor) -> None:
        """``nn.Parameter(data)`` was called."""


class _Here(threading.local):
    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self.in_tasks: list[tuple[int, Callable[[], object]]] = []
        self.running = False


_here = _Here()


def listen(listener: Listener) -> None:
    """Notify a listener of the backward passes of this thread, until `unlisten`."""
    _shared.begin()
    _here.listeners.append(listener)


def unlisten(listener: Listener) -> None:
    """Stop notifying a listener; after the last one torch's own functions are restored."""
    _here.listeners.remove(listener)
    _shared.end()


def _install(undo: ExitStack) -> None:
    replace(undo, _autograd, _RUN, _replacement(getattr(_autograd, _RUN)))
    _report_module_hooks(undo)
    _report_inference_mode(undo)
    _report_parameters(undo)
    _keep_fast_paths(undo)


_shared = SharedInstall(_install)


def _report_module_hooks(undo: ExitStack) -> None:
    """Notify the listeners of the results of the full backward hooks of modules.

    They are those of the thread of the forward pass: on accelerators, a hook runs in another one.

    Private: ``torch.utils.hooks.BackwardHook``, of which each call of a module with hooks creates
    one; the hooks on its nodes cannot be listed.
    """
    original = BackwardHook.__init__

    def reporting(hook: Callable[..., Any], here: dict[str, Any]) -> Callable[..., Any]:
        def call(module: Any, gradients: Any, *others: Any) -> Any:
            result = hook(module, gradients, *others)
            for listener in here["listeners"] if here["running"] else ():
                listener.module_hook(hook, module, gradients, result)
            return result

        return call

    @functools.wraps(original)
    def begin(self: Any, module: Any, hooks: Any, before: Any) -> None:
        if not torch.compiler.is_dynamo_compiling():
            here = vars(_here)
            hooks, before = ([reporting(hook, here) for hook in each] for each in (hooks, before))
        original(self, module, hooks, before)

    replace(undo, BackwardHook, "__init__", begin)


def _report_inference_mode(undo: ExitStack) -> None:
    """Notify the listeners after each entry and exit, as a block or as a decorator."""

    def reporting(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def switch(*args: Any) -> Any:
            result = original(*args)
            for listener in _here.listeners:
                listener.mode_changed()
            return result

        return switch

    mode: Any = torch.inference_mode
    for name in ("__enter__", "__exit__"):
        replace(undo, mode, name, reporting(getattr(mode, name)))


def _report_parameters(undo: ExitStack) -> None:
    """Notify the listeners of each new parameter or variable, and of its data."""

    def reporting(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(cls, *args, **kwargs)
            if not torch.compiler.is_dynamo_compiling():
                data = kwargs.get("data", args[0] if args else None)
                for listener in _here.listeners:
                    listener.parameter_created(data, result)
            return result

        return new

    for owner in (torch.nn.Parameter, _autograd.Variable):
        replace(undo, owner, "__new__", staticmethod(reporting(owner.__new__)))


def _keep_fast_paths(undo: ExitStack) -> None:
    """Ignore modes that only observe in the condition for the fast paths.

    The three modules read the name ``torch.overrides.has_torch_function``, and nothing else does:
    the code that calls a mode has its own name for the function.

    Private: the stack of modes, and ``_pop_mode_temporarily``; there is no public way to ignore a
    mode.
    """
    overrides: Any = torch.overrides
    original = overrides.has_torch_function

    def has_torch_function(arguments: Any) -> bool:
        if torch.compiler.is_dynamo_compiling():  # it traces this
            return bool(original(arguments))
        stack = overrides._get_current_function_mode_stack()
        if not all(getattr(mode, "only_looks", False) for mode in stack):
            return bool(original(arguments))
        with ExitStack() as without:
            for _ in stack:
                without.enter_context(overrides._pop_mode_temporarily())
            return bool(original(arguments))

    replace(undo, overrides, "has_torch_function", has_torch_function)


def _one_thread(call: BackwardCall) -> AbstractContextManager[object]:
    """Run a pass that records a graph in the thread that called it, also on accelerators.

    Each thread numbers the nodes that it creates. Nodes from a thread of the engine would have the
    numbers of nodes of the forward pass.
    """
    return set_multithreading_enabled(False) if call.create_graph else nullcontext()


def _replacement(original: Any) -> Any:
    @functools.wraps(original)
    def run_backward(roots: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        here = _here
        # A pass within a pass (recomputation in a checkpoint) is part of the outer one.
        if here.running or not here.listeners:
            return original(roots, *args, **kwargs)
        call = _call(roots, args, kwargs)
        listeners = list(here.listeners)
        for listener in listeners:
            listener.before_backward(call)
        here.running = True
        outcome: object = None
        try:
            with _one_thread(call):
                outcome = original(roots, *args, **kwargs)
        except BaseException as error:
            outcome = error
            raise
        finally:
            here.running = False
            for listener in reversed(listeners):  # in reverse order of ``before_backward``
                listener.after_backward(call, outcome)
            del call  # the traceback of an error would keep it, and its tensors, alive
        return outcome

    return run_backward


def _call(roots: Sequence[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> BackwardCall:
    _, retain, create, inputs = (*args, None, None, None, None)[:4]
    return BackwardCall(
        tuple(roots),
        tuple(inputs or ()),
        bool(retain),
        bool(create),
        bool(kwargs.get("accumulate_grad", True)),
    )


class CallListener(Protocol):
    """Is notified of the calls of modules, in any thread."""

    def enter(self, module: nn.Module) -> None: ...  # noqa: D102

    def leave(self, module: nn.Module) -> None: ...  # noqa: D102

    def failed(self, error: Exception) -> None: ...  # noqa: D102


_KEY = "gradviz"
_NEEDLESS = r"Using `torch\.compile\(module\)` when there are global hooks"
_table: Any = _modules
_listeners: list[CallListener] = []


def _enter(module: nn.Module, args: Any) -> None:
    if not torch.compiler.is_dynamo_compiling():  # it traces this
        for listener in _listeners:
            try:
                listener.enter(module)
            except Exception as error:  # an error here must not reach the program
                listener.failed(error)


def _leave(module: nn.Module, args: Any, result: Any) -> None:
    if not torch.compiler.is_dynamo_compiling():
        for listener in reversed(_listeners):
            try:
                listener.leave(module)
            except Exception as error:
                listener.failed(error)


def listen_to_calls(listener: CallListener) -> None:
    """Notify a listener of the calls of modules, until `unlisten_to_calls`."""
    _calls.begin()
    _listeners.append(listener)


def unlisten_to_calls(listener: CallListener) -> None:
    """Stop notifying a listener; after the last one the hooks are removed."""
    _listeners.remove(listener)
    _calls.end()


def _install_call_hooks(undo: ExitStack) -> None:
    """Add the global hooks.

    Private: ``_global_forward_pre_hooks`` and ``_global_forward_hooks``. The public functions
    give each hook a new number, and ``torch.compile`` then compiles every function again for
    every recording; the same two functions under the same key cause no recompilation. The second
    hook is also called when the module raises.
    """
    # Torch warns that a compiled module may skip hooks.
    warnings.filterwarnings("ignore", message=_NEEDLESS)
    undo.callback(_remove_filter, warnings.filters[0])
    for table, hook in (
        (_table._global_forward_pre_hooks, _enter),
        (_table._global_forward_hooks, _leave),
        (_table._global_forward_hooks_always_called, True),
    ):
        table[_KEY] = hook
        undo.callback(table.pop, _KEY, None)


def _remove_filter(added: object) -> None:
    with suppress(ValueError):  # the program has other filters now
        warnings.filters.remove(added)  # type: ignore[attr-defined]


_calls = SharedInstall(_install_call_hooks)


def call_depth(frame: Any) -> int:
    """The number of module calls around a frame.

    Private: ``_call_impl``, the function in which every such call runs.
    """
    code, depth = _table.Module._call_impl.__code__, 0
    while frame is not None:
        depth += frame.f_code is code
        frame = frame.f_back
    return depth


class StandIn:
    """Replaces a hook, and is notified before and after it runs.

    Args:
        hook: the user's hook.
        look: called with the argument of the hook before it runs; returns a function that is called
            with the result of the hook.
    """

    def __init__(
        self, hook: Callable[..., Any], look: Callable[[Any], Callable[[Any], None]]
    ) -> None:
        self.hook = hook
        self._look = look

    def __call__(self, given: Any) -> Any:
        """Call the hook."""
        after = self._look(given)
        result = self.hook(given)
        after(result)
        return result

    def __getattr__(self, name: str) -> Any:
        """Attributes of the hook, because torch prints the name of a hook in its errors."""
        return getattr(self.hook, name)


def is_foreign_thread() -> bool:
    """Whether this thread was not started by Python, as the threads of torch's engine."""
    return isinstance(threading.current_thread(), threading._DummyThread)


def current_task() -> Any:
    """The asyncio task that runs in this thread, or None."""
    asyncio: Any = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    return asyncio.current_task()


def enter_task(recording: object) -> Callable[[], object] | None:
    """Register an opened recording; of several asyncio tasks one records at a time.

    Torch has one stack of modes per thread, so alternating tasks would record each other's
    operations, and close each other's recordings.

    Returns:
        A weak reference to the task that opened it; None outside of asyncio.

    Raises:
        UsageError: if a recording of another task is open in this thread.
    """
    task = current_task()
    if _here.in_tasks and _here.in_tasks[-1][1]() is not task:
        raise UsageError(
            "a recording of another asyncio task is open in this thread: wait until it has ended, "
            "for example by an asyncio.Lock around both"
        )
    reference = weakref.ref(task) if task is not None else None
    _here.in_tasks.append((id(recording), reference or _none))
    return reference


def leave_task(recording: object) -> None:
    """Unregister a closed recording."""
    _here.in_tasks = [each for each in _here.in_tasks if each[0] != id(recording)]


def _none() -> None:
    """The reference outside of asyncio: no task."""
