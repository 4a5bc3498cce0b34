"""Programs for two ranks: each function returns what the test compares, as text."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed import P2POp, batch_isend_irecv, irecv, isend
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.functional import mse_loss

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
    other = net(torch.ones(1, 2)).square().sum()
    other.backward()
    own = [each for each in net.parameters() if each.numel()]
    optimizer = torch.optim.Adam(net.parameters())
    with gradviz.record(net) as run:
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.ones(1, 2)).square().sum().backward()
            net.clip_grad_norm_(1.0)
            optimizer.step()
    return {
        "before": before,
        "after": after,
        "alone": [gradviz.explain(each, loss=[loss, other]).verdict.value for each in own],
        "recorded": answers(gradviz.explain(run)),
    }


def an_unused_shard(rank: int) -> Result:
    net = TwoHeads()
    mesh = init_device_mesh("cpu", (2,))
    for layer in (net.a, net.b, net):
        fully_shard(layer, mesh=mesh)
    with gradviz.record(net) as run:
        net(torch.ones(3, 2), False).sum().backward()
    return {"said": sorted({each.reason for each in gradviz.explain(run)})}


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


def _trained(net: nn.Module, model: Callable[..., Any], rank: int, by_hand: bool = False) -> Result:
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
    wrong = [each for each in told.values() if each.verdict is not gradviz.Verdict.FINE]
    first = torch.cat([p.detach().flatten() for p in net.parameters()])
    both = [torch.zeros_like(first) for _ in range(2)]
    dist.all_gather(both, first)
    return {
        "verdicts": answers(told.values()),
        "reason": wrong[0].reason if wrong else "",
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


def _mlp() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    return parallelize_module(net, init_device_mesh("cpu", (2,)), plan)


def tensor_parallel_steps(rank: int) -> Result:
    net = _mlp()
    optimizer = torch.optim.AdamW(net.parameters(), 0.01)
    with gradviz.record(net) as run:
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.ones(2, 8)).square().mean().backward()
            nn.utils.clip_grad_norm_(net.parameters(), 0.1)
            optimizer.step()
    return {"verdicts": answers(gradviz.explain(run))}


def tensor_parallel_detached(rank: int) -> Result:
    net = _mlp()
    with gradviz.record(net) as run:
        net[2](net[0](torch.ones(2, 8)).detach()).square().mean().backward()
    return {"verdicts": answers(gradviz.explain(run))}


def _pipeline(rank: int, schedule: type[Any]) -> Result:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    parts = schedule(PipelineStage(net, rank, 2, torch.device("cpu")), 2, loss_fn=mse_loss)
    with gradviz.record(net) as run:
        for _ in range(2):
            optimizer.zero_grad()
            parts.step(torch.ones(4, 4)) if rank == 0 else parts.step(target=torch.ones(4, 4))
            optimizer.step()
    told = gradviz.explain(run)
    named = {name: verdict for name, verdict in answers(told).items() if name != "a leaf"}
    untrained = sum(each.verdict is gradviz.Verdict.UNTRAINED for each in told)
    return {"verdicts": named, "untrained": untrained}


def pipeline_in_rounds(rank: int) -> Result:
    return _pipeline(rank, ScheduleGPipe)


def pipeline_in_turns(rank: int) -> Result:
    return _pipeline(rank, Schedule1F1B)


def sent_by_names_imported_before(rank: int) -> Result:
    net = nn.Linear(2, 2)
    sent = P2POp(isend, torch.ones(2), 1 - rank)
    with gradviz.record(net) as run:
        got = torch.zeros(2)
        for each in batch_isend_irecv([sent, P2POp(irecv, got, 1 - rank)]):
            each.wait()
        net(got).sum().backward()
    return {"verdicts": answers(gradviz.explain(run)), "got": got.tolist()}


def pipeline_by_hand(rank: int) -> Result:
    net = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradviz.record(net) as run:
        for _ in range(2):
            if rank == 0:
                h = net(torch.ones(1, 2))
                dist.send(h.detach(), 1)
                grad = torch.empty_like(h)
                dist.recv(grad, 1)
                h.backward(grad)
            else:
                h = torch.empty(1, 2)
                dist.recv(h, 0)
                (net(h.requires_grad_()).square().mean() / 2).backward()
                dist.send(h.grad, 0)
        optimizer.step()
    return {"verdicts": answers(gradviz.explain(run))}


def parameter_beside_the_wrapper(rank: int) -> Result:
    net = TwoHeads()
    scale = nn.Parameter(torch.ones(()))
    model = nn.parallel.DistributedDataParallel(net)
    held = nn.ModuleDict({"net": net})
    held.register_parameter("scale", scale)
    return _trained(held, lambda x: model(x) * scale, rank)


def ignored_by_the_wrapper(rank: int) -> Result:
    net = TwoHeads()
    ignore: Any = nn.parallel.DistributedDataParallel
    ignore._set_params_and_buffers_to_ignore_for_model(net, ["a.weight", "a.bias"])
    return _trained(net, nn.parallel.DistributedDataParallel(net), rank)


def _by_hand(rank: int, early: bool) -> Result:
    net = TwoHeads()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradviz.record(net) as run:
        for _ in range(2):
            optimizer.zero_grad(set_to_none=False)
            loss = net(torch.full((3, 2), rank + 1.0)).square().mean()
            if early:
                _combine(net)
            loss.backward()
            optimizer.step()
            if not early:
                _combine(net)
    told = gradviz.explain(run)
    return {"verdicts": answers(told), "reason": told.of("a.weight").reason}


def _combine(net: nn.Module) -> None:
    for each in net.parameters():
        if each.grad is not None:
            dist.all_reduce(each.grad)
            each.grad /= 2


def combined_before_backward(rank: int) -> Result:
    return _by_hand(rank, early=True)


def combined_after_the_step(rank: int) -> Result:
    return _by_hand(rank, early=False)


def not_finite_on_the_other_rank(rank: int) -> Result:
    net = TwoHeads()
    model = nn.parallel.DistributedDataParallel(net)
    with gradviz.record(net) as run:
        x = torch.full((3, 2), float(1 - rank))
        (model(x) - x.log()).square().mean().backward()
    told = gradviz.explain(run).of("a.weight")
    return {"verdict": told.verdict.value, "reason": told.reason, "fix": told.fix}


def stage_that_calls_no_backward(rank: int) -> Result:
    net = nn.Linear(2, 2)
    with gradviz.record(net) as run:
        if rank == 0:
            h = net(torch.ones(1, 2))
            dist.send(h.detach(), 1)
        else:
            x = torch.empty(1, 2)
            dist.recv(x, 0)
            net(x).square().mean().backward()
    told = gradviz.explain(run).of("weight")
    return {"verdict": told.verdict.value, "fix": told.fix}


def frozen_part_of_a_flat_parameter(rank: int) -> Result:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    net[0].requires_grad_(False)
    cpu = torch.device("cpu")
    model = FullyShardedDataParallel(net, use_orig_params=True, device_id=cpu)
    with gradviz.record(model) as run:
        loss = model(torch.ones(3, 4)).sum()
        loss.backward()
    return {
        "recorded": answers(gradviz.explain(run)),
        "live": answers(gradviz.explain(loss, names=model)),
    }


def frozen_after_the_wrapper(rank: int) -> Result:
    net = TwoHeads()
    model = nn.parallel.DistributedDataParallel(net)
    net.a.requires_grad_(False)
    reason = fix = ""
    try:
        with gradviz.record(net):
            for _ in range(2):
                model(torch.ones(3, 2)).sum().backward()
    except RuntimeError as error:
        told = gradviz.explain(error)
        reason, fix = told.reason, told.fix
    return {"reason": reason, "fix": fix}


PROGRAMS: tuple[Callable[[int], Result], ...] = (
    no_sync_then_average,
    unused_on_one_rank,
    fully_sharded,
    fully_sharded_by_wrapper,
    an_unused_shard,
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
    tensor_parallel_steps,
    tensor_parallel_detached,
    pipeline_in_rounds,
    pipeline_in_turns,
    sent_by_names_imported_before,
    pipeline_by_hand,
    parameter_beside_the_wrapper,
    ignored_by_the_wrapper,
    combined_before_backward,
    combined_after_the_step,
    not_finite_on_the_other_rank,
    stage_that_calls_no_backward,
    frozen_part_of_a_flat_parameter,
    frozen_after_the_wrapper,
)


def main(rank: int, folder: Path, programs: Sequence[Callable[[int], Result]]) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder / 'store'}",
        rank=rank,
        world_size=2,
        timeout=timedelta(seconds=60),
    )
    found = {program.__name__: program(rank) for program in programs}
    text = json.dumps(found, ensure_ascii=False)
    (folder / f"rank{rank}.json").write_text(text, encoding="utf-8")
    dist.barrier()
    dist.destroy_process_group()
