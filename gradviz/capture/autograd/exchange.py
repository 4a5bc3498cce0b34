"""Exchanges bytes between the ranks of a program, through the store of ``torch.distributed``.

No collective is called: a rank that does not answer blocks nobody, and the process group stays
as it is.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch

dist: Any = torch.distributed

__all__ = ["EndRequest", "Exchange", "Terminated"]

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
