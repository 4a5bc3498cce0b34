"""Programs of several ranks: the functions of ``torch.distributed``, and an exchange of bytes.

Autograd does not record collectives, and no mode sees them; replays of CUDA graphs neither. The
exchange calls no collective, but uses the store: a rank that does not answer blocks nobody, and the
process group stays as it is.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import wraps
from types import FrameType, FunctionType
from typing import Any, NamedTuple

import torch

from gradviz.capture.autograd.engine import SharedInstall, replace
from gradviz.capture.autograd.sharded import shard_of

REPLAY = "CUDA graph replay"
"""The word of a call that runs the kernels of a captured CUDA graph again."""

OF_DTENSOR = ("to_local", "full_tensor", "redistribute")
"""The methods of ``DTensor`` whose results have no gradient where gradients are off."""

_MODULE = "torch.distributed.distributed_c10d"
_LAYOUTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "all_gather": (("tensor_list",), ("tensor",)),
    "all_gather_coalesced": (("output_tensor_lists",), ("input_tensor_list",)),
    "all_gather_into_tensor": (("output_tensor",), ("input_tensor",)),
    "all_gather_object": (("object_list",), ("obj",)),
    "all_gather_single": (("output_tensor",), ("input_tensor",)),
    "all_reduce": (("tensor",), ("tensor",)),
    "all_reduce_coalesced": (("tensors",), ("tensors",)),
    "all_to_all": (("output_tensor_list",), ("input_tensor_list",)),
    "all_to_all_single": (("output",), ("input",)),
    "broadcast": (("tensor",), ("tensor",)),
    "broadcast_object_list": (("object_list",), ("object_list",)),
    "gather": (("gather_list",), ("tensor",)),
    "gather_object": (("object_gather_list",), ("obj",)),
    "irecv": (("tensor",), ()),
    "isend": ((), ("tensor",)),
    "recv": (("tensor",), ()),
    "reduce": (("tensor",), ("tensor",)),
    "reduce_scatter": (("output",), ("input_list",)),
    "reduce_scatter_single": (("output",), ("input",)),
    "reduce_scatter_tensor": (("output",), ("input",)),
    "scatter": (("tensor",), ("scatter_list",)),
    "send": ((), ("tensor",)),
}
"""The argument names of the tensors that each function writes, and of those that it reads."""

OF_OBJECTS = ("all_gather_object", "broadcast_object_list", "gather_object")
"""The functions that pickle objects: tensors in their results are new ones, and leaves."""


class Collective(NamedTuple):
    """A call of a function of ``torch.distributed``."""

    word: str  # the function: ``"all_reduce"``
    # the tensors that it writes; of `OF_OBJECTS` none before the call
    written: Sequence[torch.Tensor]
    read: tuple[torch.Tensor, ...]  # the tensors that it reads
    caller: FrameType | None  # the frame that called it


Report = Callable[[Collective], Callable[[], None] | None]
"""Is called before a call; the function that it returns is called after it, unless it raised."""


class _InThisThread(threading.local):
    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.depth = 0


_here = _InThisThread()


def listen_to_collectives(report: Report) -> None:
    """Report the calls of this thread, until `unlisten_to_collectives`."""
    _shared.begin()
    _here.reports.append(report)


def unlisten_to_collectives(report: Report) -> None:
    """Stop reporting; after the last one torch's own functions are restored."""
    _here.reports.remove(report)
    _shared.end()


def _install(undo: contextlib.ExitStack) -> None:
    """Replace what each function does; the function itself stays.

    A program can have imported it by name, and torch compares ``isend`` with itself.

    Private: the variable ``func`` in torch's wrapper of a function; one without a wrapper gets
    other code.
    """
    graphs = torch.cuda.CUDAGraph
    replace(undo, graphs, "replay", _reporting(REPLAY, graphs.replay))
    if (sharded := sys.modules.get("torch.distributed.tensor")) is not None:
        for word in OF_DTENSOR:
            cut = _reporting_cut(word, getattr(sharded.DTensor, word))
            replace(undo, sharded.DTensor, word, cut)
    module = sys.modules.get(_MODULE)
    for word in _LAYOUTS if module is not None else ():
        outer: Any = getattr(module, word, None)
        cell = _cell_of(outer)
        if cell is not None:
            original = cell.cell_contents
            cell.cell_contents = _reporting(word, original)
            undo.callback(setattr, cell, "cell_contents", original)
        elif isinstance(outer, FunctionType) and not outer.__code__.co_freevars:
            given = outer.__code__, outer.__globals__, word, outer.__defaults__
            _reported[word] = _reporting(word, FunctionType(*given))
            undo.callback(setattr, outer, "__code__", outer.__code__)
            outer.__code__ = _call_reported.__code__.replace(co_name=word)


_reported: dict[str, Callable[..., Any]] = {}


def _call_reported(*args: Any, **kwargs: Any) -> Any:
    """The code that a function gets; it keeps its own globals."""
    import sys

    from gradviz.capture.autograd import collectives

    return collectives._reported[sys._getframe().f_code.co_name](*args, **kwargs)


_shared = SharedInstall(_install)


def _cell_of(function: Any) -> Any:
    """The variable of a wrapper that contains the wrapped function; None if it is not a wrapper."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    if "func" not in names or not hasattr(function, "__wrapped__"):
        return None
    cell = function.__closure__[names.index("func")]
    return cell if cell.cell_contents is function.__wrapped__ else None


def _reporting(word: str, original: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        here = _here
        if not here.reports or here.depth or torch.compiler.is_dynamo_compiling():
            return original(*args, **kwargs)
        collective = _collective(word, original, args, kwargs)
        after = [each(collective) for each in here.reports] if collective is not None else []
        made = collective.written if collective is not None else ()
        del collective
        here.depth += 1
        try:
            result = original(*args, **kwargs)
        finally:
            here.depth -= 1
        if isinstance(made, list):
            made += _tensors(_given(original, args, kwargs), _LAYOUTS[word][0])
        for each in after:
            if each is not None:
                each()
        return result

    call.__name__, call.__qualname__ = original.__name__, original.__qualname__
    return call


def _reporting_cut(word: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """A method of ``DTensor``, which calls no function of torch where gradients are off."""

    @wraps(original)
    def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        result = original(tensor, *args, **kwargs)
        is_cut = tensor.requires_grad and not result.requires_grad
        if is_cut and not torch.compiler.is_dynamo_compiling():
            shard = shard_of(result)
            made = result if shard is None else shard.local
            cut = Collective(word, (made,), (tensor,), sys._getframe(1))
            for each in [] if _here.depth else _here.reports:
                if (after := each(cut)) is not None:
                    after()
        return result

    return call


def _collective(
    word: str, original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Collective | None:
    try:
        given = _given(original, args, kwargs)
    except TypeError:  # the call itself raises it too
        return None
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and (
        frame.f_code.co_filename == __file__
        or frame.f_globals.get("__name__") == "torch.distributed.c10d_logger"
    ):
        frame = frame.f_back
    written, read = _LAYOUTS.get(word, ((), ()))
    if not _is_written(word, given):
        written, read = (), read or written
    elif word in OF_OBJECTS:
        read = () if read == written else read
        return Collective(word, [], _tensors(given, read), frame)
    return Collective(word, _tensors(given, written), _tensors(given, read), frame)


def _given(
    original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    return inspect.signature(original).bind(*args, **kwargs).arguments


def _is_written(word: str, given: dict[str, Any]) -> bool:
    """Whether the call writes the tensor of this rank: ``reduce`` only that of one rank."""
    if word == "gather_object":
        return given.get("object_gather_list") is not None
    if word not in ("broadcast", "broadcast_object_list", "reduce"):
        return True
    name = "dst" if word == "reduce" else "src"
    root, own = given.get(name), dist.get_rank()
    if (in_group := given.get(f"group_{name}")) is not None:
        root, own = in_group, dist.get_rank(given.get("group"))
    return root is None or (root == own) is (word == "reduce")


def _tensors(given: dict[str, Any], names: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    found: list[torch.Tensor] = []
    stack = [given.get(name) for name in reversed(names)]
    while stack:
        value = stack.pop()
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple, dict)):
            stack += reversed([*(value.values() if isinstance(value, dict) else value)])
    return tuple(found)


dist: Any = torch.distributed

_PIECE = 4 << 20  # bytes; torch's store refuses values above 8 MiB
_LOOK = 0.02  # seconds between two looks at the store
_OF_LAUNCHER = "TORCHELASTIC_USE_AGENT_STORE"
_GRACE = 5.0  # seconds for the answers of others, after SIGTERM; torchrun kills after 30

_calls = 0


class Exchange:
    """The store of the ranks, and the number of this one.

    Args:
        store: of ``torch.distributed``.
        rank: of this process: 0, 1, ...
        size: number of ranks.
        name: equal on all ranks, and different for each exchange.

    Example:
        >>> exchange = Exchange(dist.HashStore(), 0, 1, "example")
        >>> exchange.send("word", b"hello")
        >>> exchange.receive("word", until=0)
        b'hello'
        >>> exchange.receive("another", until=0) is None
        True
    """

    def __init__(self, store: Any, rank: int, size: int, name: str) -> None:
        self.rank, self.size = rank, size
        self._store: Any = dist.PrefixStore(name, store)

    @classmethod
    def open(cls, seconds: float) -> Exchange | None:
        """The exchange of this process with the other ranks.

        The store of ``torchrun`` outlives the processes and their process group, so it is preferred
        to that of the process group.

        Args:
            seconds: time limit of one request to the store.

        Returns:
            The exchange; None if this process is the only rank, or has no store.
        """
        global _calls
        if not dist.is_available():
            return None
        _calls += 1
        launch = os.environ.get("TORCHELASTIC_RESTART_COUNT", "")
        name = f"gradviz/{launch}/{_calls}"
        limit = timedelta(seconds=max(seconds, 1.0))
        if os.environ.get(_OF_LAUNCHER) == "True":
            rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            address = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            if size < 2:
                return None
            try:
                store = dist.TCPStore(*address, is_master=False, timeout=limit)
            except RuntimeError:  # the launcher has ended
                return None
            return cls(store, rank, size, name)
        if not dist.is_initialized() or dist.get_world_size() < 2:
            return None
        store = _default_store()
        if store is None:
            return None
        with contextlib.suppress(RuntimeError, AttributeError):  # some stores have no copies
            store = store.clone()
            store.set_timeout(limit)
        return cls(store, dist.get_rank(), dist.get_world_size(), name)

    def send(self, name: str, data: bytes) -> None:
        """Make data available to the other ranks.

        Raises:
            RuntimeError: if the process with the store has ended.
        """
        packed = zlib.compress(data, 6)
        pieces = [packed[at : at + _PIECE] for at in range(0, len(packed), _PIECE)]
        for number, piece in enumerate(pieces):
            self._store.set(f"{name}/{number}", piece)
        self._store.set(name, str(len(pieces)))

    def receive(
        self, name: str, until: float, is_stopped: Callable[[], bool] = lambda: False
    ) -> bytes | None:
        """The data that another rank has sent.

        Args:
            name: as for `send`.
            until: the time, by ``time.monotonic()``, at which the wait ends.
            is_stopped: ends the wait when it returns True.

        Returns:
            The data; None if it did not arrive.
        """
        try:
            while not self._store.check([name]):
                if time.monotonic() >= until or is_stopped():
                    return None
                time.sleep(_LOOK)
            pieces = [f"{name}/{number}" for number in range(int(self._store.get(name)))]
            packed = b"".join(self._store.get(piece) for piece in pieces)
        except RuntimeError:  # the process with the store has ended
            return None
        for key in (name, *pieces):
            with contextlib.suppress(RuntimeError):  # a file store keeps its values
                self._store.delete_key(key)
        return zlib.decompress(packed)

    def is_first(self, name: str) -> bool:
        """Whether no rank has asked this about the name before.

        Raises:
            RuntimeError: as for `send`.
        """
        return int(self._store.add(name, 1)) == 1


class Terminated(KeyboardInterrupt):
    """SIGTERM, which ``torchrun`` sends to all other ranks when one has failed."""


class EndRequest:
    """Within it, SIGTERM does not end the process at once.

    Only the main thread receives it, and a handler of the program is not replaced.

    Args:
        raises: raise `Terminated` in the code that runs.

    Example:
        >>> with EndRequest(raises=False) as end:
        ...     os.kill(os.getpid(), signal.SIGTERM)
        >>> end.is_over()
        False
    """

    def __init__(self, raises: bool) -> None:
        self.raises = raises
        self._received: float | None = None
        self._is_installed = False

    def is_over(self) -> bool:
        """Whether SIGTERM has been received, and the others have had time to answer since."""
        return self._received is not None and time.monotonic() - self._received > _GRACE

    @contextlib.contextmanager
    def within(self, recording: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
        """Enter a recording; SIGTERM raises nothing from the moment at which its block ends.

        Raised later, while the recording ends, it would lose what was recorded.

        Args:
            recording: of the program that runs in the block.
        """
        with recording:
            try:
                yield
            finally:
                self.raises = False

    def __enter__(self) -> EndRequest:
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._receive)
            self._is_installed = True
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_installed:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _receive(self, *_: object) -> None:
        if self._received is None:
            self._received = time.monotonic()
            if self.raises:
                raise Terminated


def _default_store() -> Any:
    """The store of the process group; None if this version of torch has no such function.

    Private: ``_get_default_store``; there is no public access to it.
    """
    get: Any = getattr(dist.distributed_c10d, "_get_default_store", None)
    return None if get is None else get()
