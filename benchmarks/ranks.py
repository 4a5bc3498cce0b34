"""What ranks cost: a recorded step of DDP beside a bare one, and 64 ranks gathered.

    python benchmarks/ranks.py

The two processes of DDP run the same pairs of steps, one recorded and one bare, in changing order;
the ratio is the median of those of their CPU times. The 64 ranks are simulated: their parts are
made, sent and read in one process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import gradviz
from gradviz import serialize
from gradviz.capture.autograd.collectives import Exchange
from gradviz.capture.tensors.names import Names
from gradviz.comparison.ranks import RankPart, collected, own_part, send_part
from gradviz.graph import TensorSummary

RANKS, LAYERS, PAIRS = 64, 60, 15


class Block(nn.Module):
    """A part of a network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.down(torch.nn.functional.gelu(self.up(self.norm(x))))
        return x + hidden


def ddp(rank: int, folder: Path) -> None:
    """One of two ranks: prints the ratio of its CPU times."""
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    net = nn.Sequential(*(Block(256) for _ in range(12)))
    model = nn.parallel.DistributedDataParallel(net)
    x = torch.randn(16, 64, 256)

    def step(is_recorded: bool) -> float:
        net.zero_grad()
        dist.barrier()
        began = time.process_time()
        if is_recorded:
            with gradviz.record(net) as run:
                model(x).square().mean().backward()
            assert run.frames and not run.story.notes, "the recording has failed"
        else:
            model(x).square().mean().backward()
        return time.process_time() - began

    for warm in (True, False):
        step(warm)
    ratios = []
    for number in range(PAIRS):
        order = (True, False) if number % 2 else (False, True)
        seconds = {each: step(each) for each in order}
        ratios.append(seconds[True] / seconds[False])
    print(f"rank {rank}: {statistics.median(ratios):.3f} (asked 1.10)", flush=True)
    dist.barrier()
    dist.destroy_process_group()


def two_ranks() -> None:
    """Start both ranks, and print what they print."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--rank"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        ranks = [
            subprocess.Popen([*command, str(rank), "--folder", folder], env=environment)
            for rank in (0, 1)
        ]
        for each in ranks:
            each.wait()


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*(Block(8) for _ in range(LAYERS)))


def many_ranks() -> None:
    """Simulate the ranks: each with its own norms, one with another structure."""
    with gradviz.record(net := _net()) as run:
        net(torch.ones(2, 8)).sum().backward()
    with gradviz.record(net) as odd:
        net(torch.ones(2, 8)).relu().sum().backward()
    count = run.frames[-1].graph.number_of_nodes()
    parts = [own_part(each, 0, Names([])) for each in (run, odd)]
    store: Any = getattr(dist, "HashStore")()  # noqa: B009, torch does not export it
    began = time.process_time()
    for rank in range(1, RANKS):
        part, frame = parts[rank == RANKS // 2]
        exchange = Exchange(store, rank, RANKS, "benchmark")
        send_part(exchange, _of_rank(part, rank), frame)
    seconds = time.process_time() - began
    began = time.process_time()
    story = collected(Exchange(store, 0, RANKS, "benchmark"), *parts[0], 30.0, lambda: False)
    gathered = time.process_time() - began
    size = len(serialize.to_json(story).encode())
    began = time.process_time()
    gradviz.draw(story).render("svg")
    drawn = time.process_time() - began
    print(
        f"{RANKS} ranks of {count:,} nodes: gathered in {gathered:.2f} s (asked 5), "
        f"{size / 1e6:.1f} MB as JSON (asked 20); all ranks sent in {seconds:.2f} s, "
        f"drawn in {drawn:.2f} s"
    )


def _of_rank(part: RankPart, rank: int) -> RankPart:
    """The part with other numbers: no value of a rank equals that of another."""

    def scaled(summary: TensorSummary | None) -> TensorSummary | None:
        if summary is None:
            return None
        factor = 1 + rank / 1000
        values = summary.values and tuple(value * factor for value in summary.values)
        numbers = {
            name: value * factor
            for name in ("norm", "mean", "std", "min", "max")
            if (value := getattr(summary, name)) is not None
        }
        return replace(summary, values=values, **numbers)

    tensors = [
        replace(each, grad=scaled(each.grad), value=scaled(each.value)) for each in part.tensors
    ]
    return replace(part, rank=rank, tensors=tuple(tensors))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rank", type=int)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.rank is not None:
        ddp(options.rank, options.folder)
    else:
        many_ranks()
        two_ranks()
