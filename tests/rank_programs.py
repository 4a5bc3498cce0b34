"""Programs for two ranks: each function returns what the test compares, as text.

`python tests/rank_programs.py RANK FOLDER` runs all of them as one rank of two.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import gradviz

Result = dict[str, object]


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x: torch.Tensor, use_b: bool = True) -> torch.Tensor:
        return self.a(x) + self.b(x) if use_b else self.a(x)


def answers(told: object) -> dict[str, str]:
    return {each.name: each.verdict.value for each in told}  # type: ignore[attr-defined]


def no_sync_then_average(rank: int) -> Result:
    net = TwoHeads()
    model = nn.parallel.DistributedDataParallel(net)
    x = torch.full((1, 2), rank + 1.0)
    with gradviz.record(net) as run:
        with model.no_sync():
            model(x).sum().backward()
        model(x).sum().backward()
    return {"events": [e.detail for e in run.events if e.kind.value in ("accumulate", "grad")]}


def unused_on_one_rank(rank: int) -> Result:
    net = TwoHeads()
    model = nn.parallel.DistributedDataParallel(net, find_unused_parameters=True)
    with gradviz.record(net) as run:
        model(torch.ones(1, 2), rank == 0).sum().backward()
    return {"verdicts": answers(gradviz.explain(run))}


def fully_sharded(rank: int) -> Result:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2))
    mesh = init_device_mesh("cpu", (2,))
    for layer in (net[0], net[2], net):
        fully_shard(layer, mesh=mesh)
    with gradviz.record(net) as run:
        loss = net(torch.ones(3, 4)).sum()
        loss.backward()
    norms = {n: p.grad.to_local().norm().item() for n, p in net.named_parameters()}
    shown = {
        data["name"]: data["grad"].norm
        for _, data in run.frames[-1].graph.nodes(data=True)
        if data.get("grad") is not None
    }
    return {
        "verdicts": answers(gradviz.explain(run)),
        "live": answers(gradviz.explain(loss, names=net)),
        "right": all(abs(shown[name] - norm) < 1e-4 for name, norm in norms.items()),
    }


def fully_sharded_by_wrapper(rank: int) -> Result:
    torch.manual_seed(0)
    net = FullyShardedDataParallel(
        nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)),
        use_orig_params=True,
        device_id=torch.device("cpu"),
    )
    loss = net(torch.ones(1, 2)).sum()
    before = answers(gradviz.explain(loss, names=net))
    loss.backward()
    after = answers(gradviz.explain(loss, names=net))
    optimizer = torch.optim.Adam(net.parameters())
    with gradviz.record(net) as run:
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.ones(1, 2)).square().sum().backward()
            net.clip_grad_norm_(1.0)
            optimizer.step()
    return {"before": before, "after": after, "recorded": answers(gradviz.explain(run))}


def tensor_parallel(rank: int) -> Result:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    parallelize_module(net, init_device_mesh("cpu", (2,)), plan)
    loss = net(torch.ones(2, 8)).square().mean()
    loss.backward()
    graph = gradviz.trace(loss, names=net)
    key = graph.find("0.weight")
    grad = graph.nodes[key]["grad"]
    return {
        "norm": abs(grad.norm - net[0].weight.grad.to_local().norm().item()) < 1e-6,
        "note": grad.note,
        "verdicts": answers(gradviz.explain(loss, names=net)),
    }


def averaged_by_hand(rank: int) -> Result:
    net = TwoHeads()
    with gradviz.record(net) as run:
        net(torch.full((1, 2), rank + 1.0)).sum().backward()
        for parameter in net.parameters():
            dist.all_reduce(parameter.grad)
            parameter.grad /= 2
    words = [str(event) for event in run.events if event.kind.value == "grad"]
    return {"events": words, "verdicts": answers(gradviz.explain(run))}


def parameters_averaged_by_hand(rank: int) -> Result:
    net = TwoHeads()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradviz.record(net) as run:
        net(torch.full((1, 2), rank + 1.0)).sum().backward()
        optimizer.step()
        for parameter in net.parameters():
            dist.all_reduce(parameter.data)
            parameter.data /= 2
    return {"verdicts": answers(gradviz.explain(run))}


def trained_past_the_wrapper(rank: int) -> Result:
    net = TwoHeads()
    model = nn.parallel.DistributedDataParallel(net)
    return _trained(net, model.module, rank)


def trained_through_the_wrapper(rank: int) -> Result:
    net = TwoHeads()
    return _trained(net, nn.parallel.DistributedDataParallel(net), rank)


def unfrozen_after_the_wrapper(rank: int) -> Result:
    net = TwoHeads()
    net.a.requires_grad_(False)
    model = nn.parallel.DistributedDataParallel(net)
    net.a.requires_grad_(True)
    return _trained(net, model, rank)


def step_after_no_sync(rank: int) -> Result:
    net = TwoHeads()
    model = nn.parallel.DistributedDataParallel(net)
    with model.no_sync():
        return _trained(net, model, rank)


def past_the_wrapper_and_averaged_by_hand(rank: int) -> Result:
    net = TwoHeads()
    model = nn.parallel.DistributedDataParallel(net)
    return _trained(net, model.module, rank, by_hand=True)


def _trained(net: nn.Module, model: nn.Module, rank: int, by_hand: bool = False) -> Result:
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradviz.record(net) as run:
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.full((1, 2), rank + 1.0)).square().sum().backward()
            for parameter in net.parameters() if by_hand else ():
                dist.all_reduce(parameter.grad)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
    told = {each.name: each for each in gradviz.explain(run)}
    first = torch.cat([p.detach().flatten() for p in net.parameters()])
    both = [torch.zeros_like(first) for _ in range(2)]
    dist.all_gather(both, first)
    return {
        "verdicts": answers(told.values()),
        "reason": told["a.weight"].reason,
        "are_equal": torch.equal(*both),
        "averages": sum(event.word == "DistributedDataParallel" for event in run.events),
    }


def gradient_assigned_where_nothing_uses_it(rank: int) -> Result:
    net = TwoHeads()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradviz.record(net) as run:
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.ones(1, 2), rank == 0).sum().backward()
            for parameter in net.parameters():
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
            optimizer.step()
    return {"verdicts": answers(gradviz.explain(run))}


def parameters_sent_before_backward(rank: int) -> Result:
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    with gradviz.record(net) as run:
        loss = net(torch.ones(1, 2)).sum()
        for parameter in net.parameters():
            dist.broadcast(parameter.data, 0)
        loss.backward()
    return {"verdicts": answers(gradviz.explain(run)), "reason": gradviz.explain(run)[0].reason}


def gathered_without_a_gradient(rank: int) -> Result:
    net = TwoHeads()
    with gradviz.record(net) as run:
        z = net.a(torch.ones(2, 2))
        parts = [torch.zeros_like(z) for _ in range(2)]
        dist.all_gather(parts, z)
        (net.b(torch.cat(parts, 1)[:2])).sum().backward()
    told = gradviz.explain(run)
    return {"verdicts": answers(told), "fix": told[0].fix, "reason": told[0].reason}


def gathered_with_the_fix(rank: int) -> Result:
    from torch.distributed.nn.functional import all_gather

    net = TwoHeads()
    with gradviz.record(net) as run:
        parts = all_gather(net.a(torch.ones(2, 2)))
        net.b(torch.cat(parts, 1)).sum().backward()
    return {"verdicts": answers(gradviz.explain(run))}


PROGRAMS: tuple[Callable[[int], Result], ...] = (
    no_sync_then_average,
    unused_on_one_rank,
    fully_sharded,
    fully_sharded_by_wrapper,
    tensor_parallel,
    averaged_by_hand,
    parameters_averaged_by_hand,
    trained_past_the_wrapper,
    trained_through_the_wrapper,
    unfrozen_after_the_wrapper,
    step_after_no_sync,
    past_the_wrapper_and_averaged_by_hand,
    gradient_assigned_where_nothing_uses_it,
    parameters_sent_before_backward,
    gathered_without_a_gradient,
    gathered_with_the_fix,
)


def main(rank: int, folder: Path) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    found = {program.__name__: program(rank) for program in PROGRAMS}
    text = json.dumps(found, ensure_ascii=False)
    (folder / f"rank{rank}.json").write_text(text, encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
