"""Walks the graph that autograd recorded, reads its untracked inputs, and makes it safe to drop.

Torch 2.13 keeps the Python wrapper of every node that Python has visited. When the last tensor of
such a graph is dropped, each node releases the next one recursively: after some tens of thousands
of operations on an ordinary stack, or a few thousand on a small one, the process crashes. Therefore
the graph is divided into bands, by sequence number or, where that is not possible, by depth. For
each edge between two bands, its user node holds a `_Guard` with the input node. The guard is
deleted with the user node and passes the input node to another thread, so that no release recurses
through more than one band.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, cast

import torch
from torch.autograd.graph import Node

from gradviz.capture.autograd.nodes import (
    ACCUMULATE_NR,
    Edges,
    has_no_bias,
    leaf_of,
    sequence_number,
)
from gradviz.graph import Buffers, longest_paths
from gradviz.graph.columns import EdgeColumns
from gradviz.graph.operations import OperationType, operation
from gradviz.graph.text import number_text

NO_GRADIENT = (None, 0)
"""The entry in ``next_functions`` for an input that receives no gradient."""

BAND = 1_000
"""Levels per band: with 1,000 a stack of 512 KiB is enough, with 5,000 it is not."""


def key_at(place: int) -> str:
    """The key of the node at a position in the order of the graph."""
    return f"n{place}"


class Walk:
    """The nodes visited so far. It keeps them alive: drop it after the trace.

    Args:
        nodes: the dictionary that receives the attributes of the nodes, by key.

    Attributes:
        positions: every visited node, with its position in ``nodes``.
        edges: between these positions.
        leaves: the leaf of each ``AccumulateGrad`` node.
        leaf_positions: the position of every leaf, by its ``id``.
        crossings: nodes and their inputs that are in different bands.
        is_ordered: whether every node has a higher sequence number than its inputs. This is not
            the case where several threads, each with its own counter, built the graph.
    """

    def __init__(self, nodes: dict[str, dict[str, Any]] | None = None) -> None:
        self.nodes = {} if nodes is None else nodes
        self.edges = EdgeColumns()
        self.positions: dict[Node, int] = {}
        self.leaves: dict[Node, torch.Tensor] = {}
        self.leaf_positions: dict[int, int] = {}
        self.crossings: list[tuple[Node, Node]] = []
        self.is_ordered = True

    def add(self, data: dict[str, Any]) -> int:
        """Add a node under the next serial key (``"n0"``, ``"n1"``, ...); returns its position."""
        place = len(self.nodes)
        self.nodes[key_at(place)] = data
        return place

    def visit(self, roots: Iterable[Node]) -> Iterator[tuple[Node, int, Edges]]:
        """Visit the roots and all their ancestors with a stack, without recursion.

        Yields:
            Each node, its position, and its ``next_functions``. The caller fills in the
            attributes; the edges are added when the caller asks for the next node.
        """
        positions, nodes, crossings = self.positions, self.nodes, self.crossings
        add_source, add_target = self.edges.sources.append, self.edges.targets.append
        add_input, add_output = self.edges.inputs.append, self.edges.outputs.append
        unseen: dict[str, Any] = {}  # reserves the position: filled when the node is visited
        stack: list[Node] = []
        for root in roots:
            if root not in positions:
                positions[root] = self.add(unseen)
                stack.append(root)
        stack.reverse()
        while stack:
            node = stack.pop()
            place = positions[node]
            edges = node.next_functions
            yield node, place, edges
            created = sequence_number(node)
            band_start = created - created % BAND
            for position, (child, output) in enumerate(edges):
                if child is None:
                    continue
                source = positions.get(child)
                if source is None:
                    source = positions[child] = len(nodes)
                    nodes[f"n{source}"] = unseen
                    stack.append(child)
                # No method call per edge: it would double the time of the walk.
                add_source(source)
                add_target(place)
                add_input(position)
                add_output(output)
                before = sequence_number(child)
                if not band_start <= before < created and before != ACCUMULATE_NR:
                    crossings.append((node, child))
                    self.is_ordered = self.is_ordered and before < created

    def leaf_at(self, node: Node) -> torch.Tensor | None:
        """The leaf of an ``AccumulateGrad`` node; None for other nodes."""
        leaf = leaf_of(node)
        if leaf is not None:
            self.leaves[node] = leaf
        return leaf


@dataclass(frozen=True, eq=False)
class CutInput:
    """An input of an operation that receives no gradient."""

    tensor: torch.Tensor  # the tensor that the operation saved
    target: int  # position of the operation in the graph
    position: int  # which input of the operation it is


@dataclass
class UntrackedInputs:
    """Classifies the inputs of operations that receive no gradient.

    Autograd has the same entry for a constant, a detached tensor and an absent argument. Only the
    saved tensors of the operation distinguish them; the reason is not recorded.

    Args:
        named: ids of the tensors with names: a number with one is a tensor of the user's.
        found: the tensors found so far.
    """

    named: Container[int]
    found: list[CutInput] = field(default_factory=list)
    _texts: dict[tuple[type, Any], str] = field(default_factory=dict)
    _options: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)

    def look(
        self,
        of: tuple[int, Node, OperationType],
        edges: Edges,
        saved: Sequence[object],
        data: dict[str, Any],
    ) -> None:
        """Classify the untracked inputs of one operation: tensors, numbers, absent, unknown.

        Args:
            of: the position of the operation, its node and its type.
            edges: its ``next_functions``.
            saved: its saved tensors, as returned by `NodeReader.read`.
            data: its attributes; a number is added to ``options``, the rest is counted.
        """
        place, node, kind = of
        if not kind.arguments:
            data["untracked_inputs"] = edges.count(NO_GRADIENT)
            return
        held = dict(zip(kind.saved, saved, strict=False))
        unknown = 0
        for position, (child, _) in enumerate(edges):
            if child is not None:
                continue
            argument = kind.arguments[position] if position < len(kind.arguments) else ""
            operand = held.get(argument)
            if isinstance(operand, torch.Tensor):
                number = self._number(operand, kind)
                if number is None:
                    self.found.append(CutInput(operand, place, position))
                elif number:
                    side = "self" if kind.op == "div" and argument == "self" else "other"
                    if "options" in data:
                        data["options"] = {**data["options"], side: number}
                    else:  # equal ones share a dict
                        data["options"] = self._options.setdefault((side, number), {side: number})
                else:
                    unknown += 1
            elif not _is_absent(node, kind, argument, data["buffers"]):
                unknown += 1
        if unknown:
            data["untracked_inputs"] = unknown

    def _number(self, operand: torch.Tensor, kind: OperationType) -> str | None:
        """The text of a number; "" if it cannot be read; None if it is a tensor of the user's."""
        if operand.dim() or id(operand) in self.named:
            return None
        readable = operation(kind.op).number and type(operand) is torch.Tensor
        if not readable or not operand.is_cpu:
            return ""
        try:
            value = operand.item()
            known = type(value), value  # True equals 1, which equals 1.0
            if (text := self._texts.get(known)) is None:
                text = self._texts[known] = number_text(value)
            return text
        except Exception:  # for example a tensor inside a transform of torch.func
            return ""


def _is_absent(node: Node, kind: OperationType, argument: str, buffers: Buffers) -> bool:
    """Whether an optional argument is known to be absent."""
    if argument == "bias" and kind.grad_fn == "ConvolutionBackward0":
        return has_no_bias(node)
    return buffers is Buffers.HELD and argument in operation(kind.op).optional


_KEY = "gradviz: guards of the input nodes"


def make_safe_to_drop(walk: Walk) -> None:
    """Make it safe to drop a graph whose nodes Python has visited.

    May be called again for the same nodes, or for more of them.

    Args:
        walk: the visited nodes.
    """
    if len(walk.positions) <= BAND:
        return
    crossings = walk.crossings if walk.is_ordered else _crossings(walk)
    for node, child in crossings:
        guard_release(node, child)


def guard_release(node: Node, child: Node) -> None:
    """Prevent the release of a node from recursing into its input."""
    metadata = cast("dict[str, dict[int, _Guard]]", node.metadata)
    guards = metadata.setdefault(_KEY, {})
    if id(child) not in guards:
        guards[id(child)] = _Guard(child, _released.start())


def _crossings(walk: Walk) -> list[tuple[Node, Node]]:
    """Nodes and their inputs whose depths lie in different bands.

    An input without inputs of its own releases nothing, and is left out.
    """
    inputs = {
        node: [child for child, _ in node.next_functions if child in walk.positions]
        for node in walk.positions
    }
    # Breadth-first depth does not work: in a loss that sums every step of a recurrent network it
    # is 2 everywhere, while the chain is as long as the sequence.
    depth = longest_paths(inputs)
    return [
        (node, child)
        for node, children in inputs.items()
        for child in children
        if inputs[child] and depth[child] // BAND != depth[node] // BAND
    ]


class _Releaser:
    """A daemon thread that releases the objects in its queue."""

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
        """Renew the thread and the lock of the queue in a forked child, which has no thread."""
        old, self.queue, self._lock = self.queue, SimpleQueue(), threading.Lock()
        self._start_thread()
        try:
            while True:
                self.queue.put(old.get_nowait())
        except Empty:
            pass

    def _stop(self) -> None:
        """End the thread at exit between two releases.

        What is dropped later stays in the queue, which the guards keep alive, and is never freed:
        it cannot overflow the stack while the interpreter shuts down.
        """
        thread = self._thread
        if thread is not None and thread.is_alive():
            self.queue.put(_STOP)
            thread.join()


class _Guard:
    """Holds an input node; passes it to the releaser when the node that uses it is deleted."""

    __slots__ = ("node", "releaser")

    def __init__(self, node: Node, releaser: _Releaser) -> None:
        self.node = node
        self.releaser = releaser

    def __del__(self) -> None:
        self.releaser.queue.put(self.node)


_STOP = object()
_released = _Releaser()
