"""Lets go of deep graphs without overflowing the stack of the thread that drops them.

Torch keeps the Python wrapper of every autograd node that Python has looked at. When the last
tensor of a graph is dropped, each wrapped node then releases the next one from within its own
release: some tens of thousands of operations on an ordinary stack, a few thousand on a small
one, and the process dies. Looking is what a trace does, so a trace has to make it safe again.

The graph is cut into bands, by the order in which its nodes were created or, where that does
not tell, by depth. Wherever an edge leaves a band, its upper node keeps a `_Guard` that holds
the lower one. The guard dies with the upper node and hands the lower one
to a thread of its own, so that no release runs through more than one band.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import cast

from torch.autograd.graph import Node

from gradviz.capture.tracing.walk import BAND, Walk

__all__ = ["hold_apart", "let_go_safely"]

_KEY = "gradviz: lets go of the nodes below"


def let_go_safely(walk: Walk) -> None:
    """Make it safe to drop a graph whose nodes Python has looked at.

    May be called again for the same nodes, or for more of them.

    Args:
        walk: what was looked at.
    """
    if len(walk.places) <= BAND:
        return
    crossings = walk.crossings if walk.is_ordered else _crossings(walk)
    for node, child in crossings:
        hold_apart(node, child)


def hold_apart(node: Node, child: Node) -> None:
    """Let the release of a node not run on into that of an input of it."""
    metadata = cast("dict[str, dict[int, _Guard]]", node.metadata)
    guards = metadata.setdefault(_KEY, {})
    if id(child) not in guards:
        guards[id(child)] = _Guard(child, _released.start())


def _crossings(walk: Walk) -> list[tuple[Node, Node]]:
    """Nodes and inputs of theirs whose depths lie in different bands.

    An input that has none itself releases nothing, and is passed over.
    """
    inputs = {
        node: [child for child, _ in node.next_functions if child in walk.places]
        for node in walk.places
    }
    depth = _depths(inputs)
    return [
        (node, child)
        for node, children in inputs.items()
        for child in children
        if inputs[child] and depth[child] // BAND != depth[node] // BAND
    ]


def _depths(inputs: Mapping[Node, Sequence[Node]]) -> dict[Node, int]:
    """Length of the longest path from a root to each node.

    Breadth-first depth would not do: in a loss that sums every step of a recurrent network it
    is 2 everywhere, while the chain is as long as the sequence.
    """
    parents = dict.fromkeys(inputs, 0)
    for children in inputs.values():
        for child in children:
            parents[child] += 1
    depth = dict.fromkeys(inputs, 0)
    ready = [node for node, count in parents.items() if not count]
    while ready:
        node = ready.pop()
        for child in inputs[node]:
            depth[child] = max(depth[child], depth[node] + 1)
            parents[child] -= 1
            if not parents[child]:
                ready.append(child)
    return depth


class _Releaser:
    """A daemon thread that lets go of whatever is put into its queue."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[object] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> _Releaser:
        """Start the thread, once."""
        with self._lock:
            if self._thread is None:
                if os.name == "posix":
                    os.register_at_fork(after_in_child=self._restart)
                atexit.register(self._stop)
                self._start_thread()
        return self

    def _start_thread(self) -> None:
        self._thread = threading.Thread(target=self._run, name="gradviz-release", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        queue = self.queue
        while queue.get() is not _STOP:
            pass

    def _restart(self) -> None:
        """In a forked child there is no thread, and the queue's lock may be stuck: renew both."""
        old, self.queue, self._lock = self.queue, SimpleQueue(), threading.Lock()
        self._start_thread()
        try:
            while True:
                self.queue.put(old.get_nowait())
        except Empty:
            pass

    def _stop(self) -> None:
        """At exit the thread ends between two releases, never within one.

        What is dropped later stays in the queue, which the guards keep alive: it is never
        freed, and so cannot overflow anything while the interpreter shuts down.
        """
        thread = self._thread
        if thread is not None and thread.is_alive():
            self.queue.put(_STOP)
            thread.join()


class _Guard:
    """Holds a node; hands it to the releaser when the node above is gone."""

    __slots__ = ("node", "releaser")

    def __init__(self, node: Node, releaser: _Releaser) -> None:
        self.node = node
        self.releaser = releaser

    def __del__(self) -> None:
        self.releaser.queue.put(self.node)


_STOP = object()
_released = _Releaser()
