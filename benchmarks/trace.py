"""How long a trace takes, beside torchviz and beside the least it could cost; and its memory.

Run ``python benchmarks/trace.py``. The comparison needs ``pip install torchviz==0.0.3``; without
it that column stays empty.

Two columns are the yardsticks, each measured on the same graph in the same process:

- torchviz: ``make_dot(loss)``, which makes the text of a picture and no data. It recurses, so
  everything here runs in a thread with a large stack and a raised recursion limit.
- bare: a walk over ``next_functions`` and plain ``add_node`` / ``add_edge`` of the same nodes and
  edges, with the word ``op`` on each node and ``input`` and ``output`` on each edge.

Rounds alternate, so that a busy machine slows all of them alike; the medians are printed.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import networkx as nx
import torch
from torch import Tensor, nn

import gradviz

MISSING = float("nan")


class Block(nn.Module):
    """A transformer block as GPT-2 has it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Attention and a feed-forward network, each added to what went in."""
        batch, steps, width = x.shape
        parts = self.attention(self.norm1(x)).split(width, dim=2)
        q, k, v = (p.view(batch, steps, self.heads, -1).transpose(1, 2) for p in parts)
        scores = (q @ k.transpose(-2, -1)) / (width // self.heads) ** 0.5
        hidden = torch.ones(steps, steps, dtype=torch.bool).triu(1)
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1)
        mixed = (weights @ v).transpose(1, 2).reshape(batch, steps, width)
        x = x + self.projection(mixed)
        return torch.add(x, self.down(nn.functional.gelu(self.up(self.norm2(x)))))


def gpt() -> Tensor:
    """A language model of 12 layers, width 64, on 2 sequences of 16 tokens."""
    width, words, steps = 64, 100, 16
    tokens = torch.arange(2 * steps).view(2, steps)
    x = nn.Embedding(words, width)(tokens) + nn.Embedding(steps, width)(torch.arange(steps))
    for _ in range(12):
        x = Block(width, heads=4)(x)
    logits = nn.Linear(width, words, bias=False)(nn.LayerNorm(width)(x))
    return nn.functional.cross_entropy(logits.view(-1, words), tokens.view(-1))


def lstm() -> Tensor:
    """An ``LSTMCell`` unrolled for 300 steps."""
    cell = nn.LSTMCell(8, 8)
    h = c = torch.zeros(2, 8)
    for _ in range(300):
        h, c = cell(torch.ones(2, 8), (h, c))
    return h.sum()


def chain(length: int) -> Tensor:
    """Sines, products and sums of one number with itself and with constants, in turn."""
    x = torch.ones(1, requires_grad=True)
    y = x
    for _ in range(length // 4):
        y = (y.sin() * 0.5 + 1.0) * y
    return y


def bare(loss: Tensor) -> nx.MultiDiGraph:
    """The least that any tracer of this kind has to do."""
    graph = nx.MultiDiGraph()
    assert loss.grad_fn is not None
    keys = {loss.grad_fn: "n0"}
    stack = [loss.grad_fn]
    leaves = 0
    while stack:
        node = stack.pop()
        key = keys[node]
        graph.add_node(key, op=node.name())
        if hasattr(node, "variable"):
            leaf = f"leaf{leaves}"
            leaves += 1
            graph.add_node(leaf, op="leaf")
            graph.add_edge(leaf, key, 0, input=0, output=0)
        for position, (child, output) in enumerate(node.next_functions):
            if child is not None:
                source = keys.get(child)
                if source is None:
                    source = keys[child] = f"n{len(keys)}"
                    stack.append(child)
                graph.add_edge(source, key, position, input=position, output=output)
    graph.add_node("result", op="result")
    graph.add_edge("n0", "result", 0, input=0, output=0)
    return graph


def collector_off(task: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        gc.disable()
        try:
            return task()
        finally:
            gc.enable()

    return run


def torchviz(loss: Tensor) -> Callable[[], object] | None:
    try:
        from torchviz import make_dot
    except ImportError:
        return None
    return lambda: make_dot(loss)


def seconds(task: Callable[[], object] | None) -> float:
    if task is None:
        return MISSING
    gc.collect()
    start = time.perf_counter()
    result = task()
    took = time.perf_counter() - start
    del result
    return took


def compare(name: str, loss: Tensor, rounds: int) -> None:
    """Time every contender in turn, several rounds, and print a line of the table."""
    # The first trace makes it safe to drop the graph, which the others do not.
    graph = gradviz.trace(loss, names={})
    contenders = (
        lambda: gradviz.trace(loss, names={}),
        torchviz(loss),
        lambda: bare(loss),
        collector_off(lambda: bare(loss)),
    )
    times = zip(*([seconds(task) for task in contenders] for _ in range(rounds)), strict=True)
    trace, viz, running, paused = (statistics.median(column) * 1e3 for column in times)
    print(
        f"{name:22} {len(graph):8,} {trace:9.1f} {viz:9.1f} {trace / viz:6.2f}"
        f" {running:9.1f} {trace / running:6.2f} {paused:9.1f} {trace / paused:6.2f}",
        flush=True,
    )


def table(rounds: int) -> None:
    print(f"milliseconds, medians of {rounds}; the ratios are trace / the column before\n")
    print(
        f"{'graph':22} {'nodes':>8} {'trace':>9} {'torchviz':>9} {'':6}"
        f" {'bare':>9} {'':6} {'GC paused':>9}"
    )
    for name, make in (("GPT, 12 layers", gpt), ("LSTM, 300 steps", lstm)):
        loss = make()
        compare(name, loss, 3 * rounds)
        loss.backward()  # type: ignore[no-untyped-call]
        compare("  after backward", loss, 3 * rounds)
    compare("chain of 10,000", chain(10_000), rounds)
    compare("chain of 100,000", chain(100_000), rounds)


def memory(length: int) -> None:
    """Print how much a process grows by when it keeps the graph of a chain."""

    def resident() -> int:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize()

    loss = chain(length)
    list(nx.generate_network_text(bare(chain(4))))  # networkx loads parts of itself lazily
    gradviz.trace(chain(4), names={})
    before = resident()
    graph = gradviz.trace(loss, names={})
    grown = resident() - before
    print(f"{len(graph):,} nodes: {grown / len(graph):,.0f} bytes of memory per node")


def with_room(task: Callable[[], None]) -> None:
    """Run in a thread whose stack and recursion limit are enough for torchviz."""
    sys.setrecursionlimit(10_000_000)
    threading.stack_size(1 << 30)
    thread = threading.Thread(target=task)
    thread.start()
    thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", type=int, metavar="NODES", help="measure only the memory")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory)
    else:
        with_room(lambda: table(options.rounds))
        print()
        command = [sys.executable, __file__, "--memory", "1000000"]
        sys.stdout.flush()
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
