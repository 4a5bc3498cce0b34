"""A program of several ranks that gathers its recordings; rank 0 writes what the tests compare.

torchrun --nproc-per-node 4 tests/gather_programs.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

import gradviz

_alive: list[nn.Module] = []


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        _alive.append(self)
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor, use_head: bool = True) -> torch.Tensor:
        hidden = self.body(x).tanh()
        return self.head(hidden) if use_head else hidden


def _batch(rank: int, factor: float = 1.0) -> torch.Tensor:
    return torch.ones(3, 4) * factor * (1 + 0.01 * rank)


def averaged(rank: int) -> Any:
    net = Net()
    model = nn.parallel.DistributedDataParallel(net)
    with gradviz.record(net) as run:
        model(_batch(rank)).sum().backward()
    return run


def one_is_odd(rank: int) -> Any:
    net = Net()
    with gradviz.record(net) as run:
        (net(_batch(rank)).sum() * (100.0 if rank == 1 else 1.0)).backward()
    return run


def one_has_nan(rank: int) -> Any:
    net = Net()
    with gradviz.record(net) as run:
        net(_batch(rank, float("nan") if rank == 1 else 1.0)).sum().backward()
    return run


def one_leaves_out_the_head(rank: int) -> Any:
    net = Net()
    model = nn.parallel.DistributedDataParallel(net)
    _alive.append(model)
    with gradviz.record(net) as run, model.no_sync():
        model(_batch(rank), rank != 1).sum().backward()
    return run


def one_has_no_graph(rank: int) -> Any:
    net = Net()
    run = gradviz.record(net)
    if rank != 1:
        with run:
            net(_batch(rank)).sum().backward()
    return run


def a_stage_on_each(rank: int) -> Any:
    stage = nn.Sequential(*(nn.Linear(2, 2) for _ in range(1 + 3 * rank)), nn.Tanh())
    for layer in list(stage)[:-1]:
        nn.init.eye_(layer.weight)  # deep, and nothing vanishes
    with gradviz.record(stage) as run:
        stage(torch.ones(1, 2)).sum().backward()
    return run


def one_is_a_pass_ahead(rank: int) -> Any:
    net = Net()
    with gradviz.record(net) as run:
        for _ in range(2 if rank == 1 else 1):
            net(_batch(rank)).sum().backward()
    return run


def one_lags(rank: int) -> Any:
    run = averaged(rank)
    if rank == 1:
        time.sleep(15)
    return run


PROGRAMS: tuple[Callable[[int], Any], ...] = (
    averaged,
    one_is_odd,
    one_has_nan,
    one_leaves_out_the_head,
    one_has_no_graph,
    a_stage_on_each,
    one_is_a_pass_ahead,
    one_lags,
)


def main(folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, found = dist.get_rank(), {}
    for program in PROGRAMS:
        run = program(rank)
        before = [p.grad.clone() for p in _parameters(run) if p.grad is not None]
        began = time.monotonic()
        story = gradviz.gather(run, timeout=2 if program is one_lags else 60)
        after = [p.grad for p in _parameters(run) if p.grad is not None]
        assert all(
            torch.allclose(*pair, 0, 0, equal_nan=True) for pair in zip(before, after, strict=True)
        )
        assert (story is None) == (rank != 0)
        if story is not None:
            path = gradviz.draw(story).save(folder / f"{program.__name__}.json")
            found[program.__name__] = {
                "seconds": time.monotonic() - began,
                "told": str(gradviz.explain(story)),
                "text": str(gradviz.draw(story)),
                "again": str(gradviz.draw(gradviz.serialize.load(path))),
            }
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


def _parameters(run: Any) -> list[torch.Tensor]:
    return [each.tensor for each in run._parameters()]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
