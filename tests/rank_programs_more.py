"""More programs for two ranks.

`python tests/rank_programs_more.py RANK FOLDER` runs all of both files as one rank of two.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rank_programs
import torch
import torch.distributed as dist
from rank_programs import Result, TwoHeads, answers
from torch import nn
from torch.distributed._functional_collectives import all_gather_tensor_autograd
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.nn.functional import all_gather, reduce_scatter
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import DTensor, Replicate
from torch.nn.functional import mse_loss

import gradviz


class Nets(nn.Module):
    """Two layers, and an embedding of which a batch uses the first rows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rows, self.inner, self.head = nn.Embedding(8, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self) -> torch.Tensor:
        return self.head(self.inner(self.rows(torch.tensor([0, 1, 2])))).square().mean()


def rows_that_are_on_one_rank(rank: int) -> Result:
    net = Nets()
    for layer in (net.inner, net):
        fully_shard(layer, mesh=init_device_mesh("cpu", (2,)))  # the root keeps what it gathered
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    before = answers(gradviz.explain(net(), names=net))
    with gradviz.record(net) as run:
        for at in range(4):
            net.set_requires_gradient_sync(at % 2 == 1)
            (loss := net()).backward()
            if at % 2:
                live = gradviz.explain(loss, names=net)
                alone = gradviz.explain(net.rows.weight, loss).reason
                optimizer.step()
                optimizer.zero_grad()
    added = [str(event) for event in run.events if event.kind.value == "accumulate"]
    return {
        "before": before,
        "live": answers(live),
        "recorded": answers(gradviz.explain(run)),
        "alone": alone,
        "passes": {text.rpartition(", ")[2] for text in added} == {"pass 2"},
    }


def flat_rows_that_are_on_one_rank(rank: int) -> Result:
    found: Result = {}
    for at, keeps_parts in enumerate((True, False, True)):
        options = {"use_orig_params": keeps_parts, "device_id": torch.device("cpu")}
        nets: Any = nn.Sequential(nn.Embedding(8, 4), nn.Linear(4, 2))
        nets[0] = FullyShardedDataParallel(nets[0], **options)
        net = FullyShardedDataParallel(nets, **options)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        with gradviz.record(net) as run:
            for _ in range(2):
                net(torch.tensor([0, 1, 2])).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True) if at == 2 else None
        found[str(at)] = sum(e.verdict is gradviz.Verdict.ZERO for e in gradviz.explain(run))
        found[f"wrong {at}"] = len(gradviz.explain(run).wrong) if at == 2 else 0
    return found


def first_pass_of_a_static_graph(rank: int) -> Result:
    net = TwoHeads()
    model = nn.parallel.DistributedDataParallel(net, static_graph=True)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradviz.record(net) as run:
        model(torch.full((1, 2), rank + 1.0)).square().sum().backward()
        optimizer.step()
    averages = [event.detail for event in run.events if event.word == "DistributedDataParallel"]
    return {"verdicts": answers(gradviz.explain(run)), "averages": averages}


def communication_hooks(rank: int) -> Result:
    def own(state, bucket):  # type: ignore[no-untyped-def]  # torch reads annotations
        done: Any = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    found: Result = {}
    for hook in (own, default_hooks.allreduce_hook):
        model = nn.parallel.DistributedDataParallel(TwoHeads())
        model.register_comm_hook(None, hook)
        with gradviz.record(model) as run:
            model(torch.full((1, 2), rank + 1.0)).sum().backward()
        found[hook.__name__] = run.events[-1].detail
    return found


def hook_that_calls_no_collective(rank: int) -> Result:
    def own(state, bucket):  # type: ignore[no-untyped-def]  # torch reads annotations
        done: Any = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    def fixed(state, bucket):  # type: ignore[no-untyped-def]
        return default_hooks.allreduce_hook(None, bucket)

    found: Result = {}
    for hook in (own, fixed):
        model = nn.parallel.DistributedDataParallel(TwoHeads(), find_unused_parameters=True)
        model.register_comm_hook(None, hook)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        with gradviz.record(model) as run:
            model(torch.full((1, 2), rank + 1.0)).square().sum().backward()
            optimizer.step()
        told = gradviz.explain(run)
        found[hook.__name__] = [sorted({*answers(told).values()}), told[0].reason]
    return found


def zeros_in_all_parts(rank: int) -> Result:
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    torch.nn.init.constant_(net[0].bias, -100.0)
    cpu = torch.device("cpu")
    model = FullyShardedDataParallel(net, use_orig_params=True, device_id=cpu)
    with gradviz.record(model) as run:
        (loss := model(torch.ones(3, 4)).square().sum()).backward()
    table = str(gradviz.summary(loss, names=model))
    story = gradviz.gather(run)
    told = {} if story is None else answers(gradviz.explain(story))
    return {"summary": table, "gathered": told}


def step_before_fsdp_reduced(rank: int) -> Result:
    model = FullyShardedDataParallel(nn.Linear(4, 4), device_id=torch.device("cpu"))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    said = []
    for is_fixed in (False, True):
        try:
            with gradviz.record(model) as run:
                with model.no_sync():
                    model(torch.ones(3, 4)).sum().backward()
                if is_fixed:
                    model(torch.ones(3, 4)).sum().backward()
                optimizer.step()
        except RuntimeError as error:
            said += [gradviz.explain(error).reason, gradviz.explain(run)[0].reason]
            optimizer.zero_grad()
    return {"said": said}


def parameters_averaged_as_one_tensor(rank: int) -> Result:
    found = {}
    for way in ("averager", "data", "copy_"):
        net = TwoHeads()
        averager = PeriodicModelAverager(period=2, warmup_steps=0)
        model = nn.parallel.DistributedDataParallel(net)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        with gradviz.record(net) as run, model.no_sync():
            for _ in range(3):
                optimizer.zero_grad()
                model(torch.full((1, 2), rank + 1.0)).square().sum().backward()
                optimizer.step()
                if way == "averager":
                    averager.average_parameters(net.parameters())
                    continue
                flat = torch.cat([each.data.flatten() for each in net.parameters()]) / 2
                dist.all_reduce(flat)
                own = [*net.parameters()]
                parts = flat.split([each.numel() for each in own])
                for each, part in zip(own, parts, strict=True):
                    if way == "data":
                        each.data = part.view_as(each)
                    else:
                        each.data.copy_(part.view_as(each))
        found[way] = answers(gradviz.explain(run))
    return found


def parameter_that_is_not_sharded(rank: int) -> Result:
    found = {}
    for word, ignored in (("ignored", ["b.weight"]), ("fixed", [])):
        net = TwoHeads()
        own = {net.get_parameter(name) for name in ignored}
        fully_shard(net, mesh=init_device_mesh("cpu", (2,)), ignored_params=own)
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        with gradviz.record(net) as run:
            net(torch.full((1, 2), rank + 1.0)).square().sum().backward()
            optimizer.step()
        told = gradviz.explain(run)
        found[word] = {"verdicts": answers(told), "reason": told.of("b.weight").reason}
    return found


def scattered_and_reduced(rank: int) -> Result:
    found = {}
    for word in ("plain", "fixed"):
        net = TwoHeads()
        with gradviz.record(net) as run:
            z = net.a(torch.full((2, 2), rank + 1.0))
            out = torch.zeros(1, 1)
            if word == "plain":
                dist.reduce_scatter_tensor(out, z)
            else:
                out = reduce_scatter(out, list(z.chunk(2)))
            net.b(out.expand(1, 2)).sum().backward()
        told = gradviz.explain(run)
        found[word] = {"verdicts": answers(told), "fix": told.of("a.weight").fix}
    return found


def combined_on_one_rank(rank: int) -> Result:
    net = TwoHeads()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with gradviz.record(net) as run:
        net(torch.full((1, 2), rank + 1.0)).square().sum().backward()
        for parameter in net.parameters():
            dist.reduce(parameter.grad, 0)
        optimizer.step()
    told = gradviz.explain(run)
    event = next(event for event in run.events if event.word == "reduce")
    said = {"event": str(event), "reason": told.of("a.weight").reason, "fix": told[0].fix}
    return {"verdicts": answers(told), **said}


def parameters_from_one_rank(rank: int) -> Result:
    net = TwoHeads()
    with gradviz.record(net) as run:
        for each in net.parameters():
            dist.broadcast(each.data, 0)
        net(torch.ones(1, 2)).sum().backward()
        dist.broadcast(net.a.weight.grad, src=1)
    events = [str(e).partition("  ")[2] for e in run.events if e.word == "broadcast"]
    return {"verdicts": answers(gradviz.explain(run)), "events": events[:1] + events[-1:]}


def collectives_with_derivatives(rank: int) -> Result:
    net = TwoHeads()
    with gradviz.record(net) as run:
        z = net.a(torch.full((2, 2), rank + 1.0))
        y = all_gather_tensor_autograd(z, 0, dist.group.WORLD)
        net.b(y.view(2, 2)).square().mean().backward()
    words = [event.word for event in run.events if event.word.endswith("tensor")]
    return {"verdicts": answers(gradviz.explain(run)), "words": words}


def head_that_was_replaced(rank: int) -> Result:
    found: Result = {}
    for find_unused in (True, False):
        torch.manual_seed(0)
        net = Nets()
        model = nn.parallel.DistributedDataParallel(net, find_unused_parameters=find_unused)
        net.head = nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        try:
            with gradviz.record(model) as run:
                for _ in range(2):
                    optimizer.zero_grad()
                    (model() * (rank + 1)).backward()
                    optimizer.step()
            told = gradviz.explain(run)
            found["silent"] = {"verdicts": answers(told), "fix": told.of("head.weight").fix}
        except RuntimeError as error:
            told = gradviz.explain(error)
            found["raised"] = [told.reason, told.fix]
    return found


def flat_parts_that_were_detached(rank: int) -> Result:
    options = {"use_orig_params": True, "device_id": torch.device("cpu")}
    inner = FullyShardedDataParallel(nn.Linear(4, 4), **options)
    encoder = FullyShardedDataParallel(nn.Sequential(inner, nn.Tanh()), **options)
    head = FullyShardedDataParallel(nn.Linear(4, 2), **options)
    net = nn.ModuleDict({"enc": encoder, "head": head})
    with gradviz.record(net) as run:
        head(encoder(torch.ones(3, 4)).detach()).sum().backward()
    return {"said": {each.name: [each.verdict.value, each.reason] for each in gradviz.explain(run)}}


def part_that_is_not_finite(rank: int) -> Result:
    found: Result = {}
    cpu = torch.device("cpu")
    for kind in ("flat", "DTensor"):
        net: Any = nn.Linear(4, 4)
        net = FullyShardedDataParallel(net, device_id=cpu) if kind == "flat" else fully_shard(net)
        with gradviz.record(net) as run:
            loss = net(torch.ones(3, 4)).sum() * (float("nan") if rank else 1.0)
            loss.backward()
        told = gradviz.explain(run)[0]
        notes = gradviz.summary(loss, names=net).notes
        found[kind] = [told.verdict.value, told.reason, told.fix, *notes]
    return found


def pipeline_without_an_optimizer(rank: int) -> Result:
    stage: Any = nn.Linear(4, 4)
    stage.weight.requires_grad_(rank == 1)
    parts = ScheduleGPipe(PipelineStage(stage, rank, 2, torch.device("cpu")), 2, loss_fn=mse_loss)
    with gradviz.record(stage) as run:
        parts.step(torch.ones(4, 4)) if rank == 0 else parts.step(target=torch.ones(4, 4))
    return {"verdicts": sorted({each.verdict.value for each in gradviz.explain(run)})}


def gathered_as_objects(rank: int) -> Result:
    """A tensor that is pickled becomes a leaf on the other side; values of a log are no fault."""
    found: Result = {}
    for kind in ("objects", "fixed", "logged"):
        net, rows = TwoHeads(), list[Any]([None, None])
        with gradviz.record(net) as run:
            h = net.a(torch.full((1, 2), rank + 1.0))
            if kind == "objects":
                dist.all_gather_object(rows, {"h": h})
                rows = [each["h"] for each in rows]
            elif kind == "fixed":
                rows = [*all_gather(h)]
            else:
                dist.all_gather_object(rows, h.detach())
                rows = [h, h]
            net.b(torch.cat(rows, 1)).sum().backward()
        told = gradviz.explain(run)
        found[kind] = {"verdicts": answers(told), "reason": told.of("a.weight").reason}
        found[kind] |= {"fix": told.of("a.weight").fix}
    return found


def plain_tensor_with_a_dtensor(rank: int) -> Result:
    found: Result = {}
    for kind in ("plain", "whole", "converted"):
        torch.manual_seed(0)
        net: Any = nn.Linear(4, 4)
        x: torch.Tensor = torch.ones(2, 4)
        mesh = init_device_mesh("cpu", (2,))
        fully_shard(net, mesh=mesh)
        told: Any = None
        with gradviz.record(net) as run:
            try:
                w = net.weight.full_tensor() if kind == "whole" else net.weight
                x = DTensor.from_local(x, mesh, [Replicate()]) if kind == "converted" else x
                (x @ w.t()).square().sum().backward()
            except RuntimeError as error:
                told = gradviz.explain(error)
        every: Any = gradviz.explain(run)
        told = told or every.of("weight")
        found[kind] = [told.verdict.value, told.reason, told.fix]
    return found


def combined_in_some_steps(rank: int) -> Result:
    found: Result = {}
    for kind in ("some", "all", "and parameters"):
        net = TwoHeads()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        with gradviz.record(net) as run:
            for step in range(4):
                optimizer.zero_grad()
                for _ in range(2):  # it accumulates
                    net(torch.full((3, 2), rank + 1.0)).square().mean().backward()
                for each in net.parameters() if kind == "all" or step % 2 == 0 else ():
                    dist.all_reduce(each.grad)
                    each.grad /= 2
                optimizer.step()
                for each in net.parameters() if kind == "and parameters" and step % 2 else ():
                    dist.all_reduce(each.data)
                    each.data /= 2
        told = gradviz.explain(run)
        found[kind] = {"verdicts": answers(told), "reason": told.of("a.weight").reason}
        found[kind] |= {"fix": told.of("a.weight").fix}
    return found


class _Dead(nn.Module):
    """No input of its relu is positive."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Linear(4, 6), nn.Linear(6, 2)
        nn.init.constant_(self.body.bias, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.body(x)))


def relu_that_blocks_between_shards(rank: int) -> Result:
    found: Result = {}
    for kind, bias in (("dead", -100.0), ("alive", 1.0)):
        net = _Dead(bias)
        for each in (net.body, net.head, net):
            fully_shard(each, mesh=init_device_mesh("cpu", (2,)))
        with gradviz.record(net) as run:
            net(torch.ones(3, 4)).square().mean().backward()
        told = gradviz.explain(run)
        found[kind] = {each.name: [each.verdict.value, each.reason, each.fix] for each in told}
    return found


PROGRAMS: tuple[Callable[[int], Result], ...] = (
    *rank_programs.PROGRAMS,
    rows_that_are_on_one_rank,
    flat_rows_that_are_on_one_rank,
    first_pass_of_a_static_graph,
    communication_hooks,
    hook_that_calls_no_collective,
    zeros_in_all_parts,
    step_before_fsdp_reduced,
    parameters_averaged_as_one_tensor,
    parameter_that_is_not_sharded,
    scattered_and_reduced,
    combined_on_one_rank,
    parameters_from_one_rank,
    collectives_with_derivatives,
    head_that_was_replaced,
    flat_parts_that_were_detached,
    part_that_is_not_finite,
    pipeline_without_an_optimizer,
    gathered_as_objects,
    plain_tensor_with_a_dtensor,
    combined_in_some_steps,
    relu_that_blocks_between_shards,
)


if __name__ == "__main__":
    rank_programs.main(int(sys.argv[1]), Path(sys.argv[2]), PROGRAMS)
