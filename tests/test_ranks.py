"""Programs of several ranks: what one process can show of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from children import start
from rank_programs import TwoHeads, answers
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

import gradviz
from gradviz import Verdict
from gradviz.facts import EventKind
from gradviz.graph import GradGraph, NodeKind, TensorSummary

_NORM = torch.tensor(9.0)


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of one rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def of_eight() -> Iterator[None]:
    """The first of eight ranks, of which the others do not exist: nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=8)
    yield
    dist.destroy_process_group()


def _sharded() -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    mesh = init_device_mesh("cpu", (1,))
    for layer in (net[0], net[2], net):
        fully_shard(layer, mesh=mesh)
    return net


def test_fsdp_before_and_after_backward(alone: None) -> None:
    net = _sharded()
    loss = net(torch.ones(3, 2)).sum()
    assert set(answers(gradviz.explain(loss, names=net)).values()) == {"backward not run"}
    loss.backward()
    graph = gradviz.trace(loss, names=net)
    shown = {graph.nodes[key]["name"] for key in graph.leaves}
    assert shown == {name for name, _ in net.named_parameters()}
    assert set(answers(gradviz.explain(loss, names=net)).values()) == {"fine"}


def test_a_flat_parameter_has_the_name_of_its_first_part(alone: None) -> None:
    whole, options = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)), {"use_orig_params": True}
    net = FullyShardedDataParallel(whole, device_id=torch.device("cpu"), **options)
    picture = gradviz.draw(net(torch.ones(1, 2)).sum(), names=net).text
    assert "_flat_param(0.weight, …)  f32" in picture


def test_fsdp_says_that_a_gradient_is_not_reduced(alone: None) -> None:
    net = _sharded()
    net.set_requires_gradient_sync(False)
    with gradviz.record(net) as run:
        loss = net(torch.ones(3, 2)).sum()
        loss.backward()
    for told in (gradviz.explain(run), gradviz.explain(loss, names=net)):
        assert set(answers(told).values()) == {"left out"}
        assert "set_requires_gradient_sync(True)" in told[0].fix
    net.set_requires_gradient_sync(True)  # the fix
    net(torch.ones(3, 2)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_fsdp_steps_show_what_the_user_called(alone: None) -> None:
    net = _sharded()
    optimizer = torch.optim.Adam(net.parameters())
    with gradviz.record(net) as run:
        net(torch.ones(3, 2)).sum().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    words = [event.word for event in run.events]
    assert words[:5] == ["ones", "linear", "tanh", "linear", "sum"]
    assert words[-3:] == ["clip_grad_norm_", "step", "zero_grad"]
    assert len(words) == 5 + 1 + 4 + 3
    assert not run.story.notes


def test_a_recording_changes_no_number_of_fsdp(alone: None) -> None:
    def train(is_recorded: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net = _sharded()
        optimizer = torch.optim.SGD(net.parameters(), 0.1)
        run = gradviz.record(net)
        if is_recorded:
            run.__enter__()
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.ones(3, 2)).square().sum().backward()
            optimizer.step()
        if is_recorded:
            run.__exit__(None, None, None)
        return [parameter.to_local().detach().clone() for parameter in net.parameters()]

    for bare, recorded in zip(train(False), train(True), strict=True):
        assert torch.equal(bare, recorded)


def test_dtensor_shows_its_part_and_saved_bytes_of_this_rank(of_eight: None) -> None:
    from torch.distributed.tensor.parallel import (
        ColwiseParallel,
        RowwiseParallel,
        parallelize_module,
    )

    net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 16))
    plan = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    parallelize_module(net, init_device_mesh("cpu", (8,), mesh_dim_names=("tp",)), plan)
    loss = net(torch.randn(4, 16)).square().mean()
    relu = next(
        data
        for _, data in gradviz.trace(loss, names=net).nodes(data=True)
        if data.get("op") == "relu"
    )
    assert (relu["shape"], relu["saved"][0].bytes) == ((4, 8), 4 * 8 * 4)
    loss.backward()
    local = net[0].weight.grad.to_local()
    local.copy_(torch.linspace(-1, 1, local.numel()).view_as(local))  # no rank sends real values
    graph = gradviz.trace(loss, names=net)
    data = graph.nodes[graph.find("0.weight")]
    assert data["shape"] == (64, 16)
    assert data["grad"].note == "local [8,16], Shard(0), mesh tp=8"
    assert data["grad"].norm == pytest.approx(local.norm().item(), 1e-4)
    assert "not read" not in str(gradviz.summary(loss, names=net))


@pytest.mark.parametrize("kind", ["meta", "fake"])
def test_what_has_no_values_has_no_norm(kind: str) -> None:
    from contextlib import nullcontext

    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode() if kind == "fake" else nullcontext():
        device = "meta" if kind == "meta" else "cpu"
        net = nn.Linear(2, 2, device=device)
        loss = net(torch.ones(1, 2, device=device)).sum()
        loss.backward()
        text = str(gradviz.summary(loss, names=net))
    assert text.count("not read") == 2


def _collective(word: str, z: torch.Tensor) -> torch.Tensor:
    """A tensor that a function of torch.distributed filled from ``z``."""
    out = torch.zeros_like(z)
    match word:
        case "all_gather":
            dist.all_gather([out], z)
        case "all_to_all_single":
            dist.all_to_all_single(out, z)
        case "gather":
            dist.gather(z, [out], dst=0)
        case "scatter":
            dist.scatter(out, [z], src=0)
        case "reduce_scatter":
            dist.reduce_scatter(out, [z])
    return out


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    "word",
    # Not all_gather_into_tensor: torch 2.13 refuses an input that requires grad, in some runs.
    ["all_gather", "all_to_all_single", "gather", "scatter"],
)
def test_each_collective_is_the_cut(alone: None, word: str) -> None:
    net = TwoHeads()
    with gradviz.record(net) as run:
        z = net.a(torch.ones(2, 2)).expand(2, 2).contiguous()
        net.b(_collective(word, z)).sum().backward()
    told = {each.name: each for each in gradviz.explain(run)}
    assert told["a.weight"].verdict is gradviz.Verdict.CUT
    assert f"torch.distributed.{word} at" in told["a.weight"].reason
    assert told["b.weight"].verdict is gradviz.Verdict.FINE
    assert word in [event.word for event in run.events]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_imported_name_is_seen_too(alone: None) -> None:
    from torch.distributed import all_reduce as mean_of_all

    net = TwoHeads()
    with gradviz.record(net) as run:
        hidden = net.a(torch.ones(2, 2))
        mean_of_all(hidden)
        hidden.square().sum().backward()
    told = gradviz.explain(net.a.weight, run)
    assert told.verdict is gradviz.Verdict.CHANGED_UNSEEN
    assert "changed hidden in place" in told.reason
    assert mean_of_all is dist.all_reduce


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_loss_that_is_summed_for_a_log_is_no_fault(alone: None) -> None:
    net = TwoHeads()
    with gradviz.record(net) as run:
        loss = net(torch.ones(1, 2)).sum()
        loss.backward()
        total = loss.detach().clone()
        dist.all_reduce(total)
        dist.broadcast(net.a.weight.data, src=0)
    assert answers(gradviz.explain(run))["b.weight"] == "fine"


def test_collectives_are_put_back_after_the_recording(alone: None) -> None:
    inner = dist.all_reduce.__wrapped__
    with gradviz.record() as outer, gradviz.record():
        dist.all_reduce(torch.ones(1))
    assert dist.all_reduce.__closure__[0].cell_contents is inner
    assert [event.word for event in outer.events] == ["ones", "all_reduce"]


def test_a_failed_collective_is_no_event(alone: None) -> None:
    with gradviz.record() as run, pytest.raises(TypeError):
        dist.all_reduce("not a tensor")
    assert "all_reduce" not in [event.word for event in run.events]


# Gradients from before the recording, and helpers of torch.


def test_a_gradient_from_before_the_recording_is_not_fine() -> None:
    net = TwoHeads()
    x = torch.ones(1, 2)
    net(x).sum().backward()
    with gradviz.record(net) as run:
        net(x, use_b=False).sum().backward()
    told = {each.name: each for each in gradviz.explain(run)}
    assert told["b.weight"].verdict is gradviz.Verdict.STALE
    assert "from before the recording" in told["b.weight"].reason
    net.zero_grad()  # the fix
    with gradviz.record(net) as run:
        net(x, use_b=False).sum().backward()
    assert answers(gradviz.explain(run))["b.weight"] == "not connected"


def test_a_gradient_that_a_function_gave_inside_the_recording_is_not_from_before() -> None:
    from torch.utils.checkpoint import checkpoint

    net = TwoHeads()
    x = torch.ones(1, 2, requires_grad=True)
    for _ in range(2):
        with gradviz.record(net) as run:
            checkpoint(net, x, use_reentrant=True).sum().backward()
    assert "stale" not in answers(gradviz.explain(run)).values()


def test_a_recording_without_backward_says_nothing_of_old_gradients() -> None:
    net = TwoHeads()
    net(torch.ones(1, 2)).sum().backward()
    with gradviz.record(net) as run:
        net(torch.ones(1, 2)).sum()
    assert "stale" not in answers(gradviz.explain(run)).values()


def test_the_result_that_is_named_did_not_give_the_gradient() -> None:
    a, b = nn.Linear(2, 2), nn.Linear(2, 1)
    net = nn.ModuleDict({"a": a, "b": b})
    b(a(torch.ones(1, 2))).sum().backward()
    loss = b(a(torch.ones(1, 2)).detach()).sum()
    loss.backward()
    told = answers(gradviz.explain(loss, names=net))
    assert (told["a.weight"], told["b.weight"]) == ("from another result", "fine")


@pytest.mark.parametrize(
    ("clip", "word"),
    [
        (nn.utils.clip_grad_norm_, "clip_grad_norm_"),
        (nn.utils.clip_grad_value_, "clip_grad_value_"),
        (lambda p, v: nn.utils.clip_grad_norm_(p, v, foreach=False), "clip_grad_norm_"),
        (
            lambda p, v: nn.utils.clip_grads_with_norm_(p, v, _NORM),
            "clip_grads_with_norm_",
        ),
    ],
)
def test_clipping_is_one_event(clip: Any, word: str) -> None:
    net = nn.Linear(2, 1)
    with gradviz.record(net) as run:
        net(torch.ones(1, 2)).sum().backward()
        clip(net.parameters(), 0.5)
    words = [str(event).split("  ", 1)[1] for event in run.events]
    assert words[-1] == f"{word}  2 gradients clipped"
    assert len(words) == 3 + 1 + 2 + 1


def test_a_scaler_is_told_in_the_words_of_the_user() -> None:
    net = nn.Linear(2, 1)
    optimizer, scaler = torch.optim.SGD(net.parameters(), 0.1), torch.amp.GradScaler("cpu")
    with gradviz.record(net) as run:
        loss = net(torch.full((1, 2), 1e38)).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    words = [event.word for event in run.events]
    assert words[3:] == ["mul", "backward", *["accumulate_grad"] * 2, "unscale_", "step", "update"]
    assert "skipped by GradScaler" in run.events[-2].detail


@pytest.mark.parametrize("steps_before", [0, 2])
def test_a_loss_that_is_too_large_only_with_its_scale(steps_before: int) -> None:
    # The scale may be older than the recording, and `update` may have changed it before.
    net = nn.Linear(2, 1)
    nn.init.ones_(net.weight)
    optimizer, scaler = torch.optim.SGD(net.parameters(), 0.1), torch.amp.GradScaler("cpu")

    def step(value: float) -> None:
        optimizer.zero_grad()
        loss = net(torch.full((1, 2), value)).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    for _ in range(steps_before):
        step(1.0)
    with gradviz.record(net) as run:
        step(1e38)
        step(1e38)
    told = str(gradviz.explain(run))
    assert "scale 65,536 of GradScaler is too large" in told  # since pass 1
    assert "scale 32,768 of GradScaler is too large" in told  # in pass 2
    assert "lower scale does not help" not in told
    optimizer.zero_grad()
    with gradviz.record(net) as run:
        loss = net(torch.full((1, 2), 1.0)).sum()
        scaler.scale(loss).backward()
    assert "scaled by 16384 as GradScaler does" in str(gradviz.explain(net.weight, loss, run))


def test_the_step_of_a_sharded_optimizer_is_one_event(alone: None) -> None:
    net = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
    optimizer = ZeroRedundancyOptimizer(net.parameters(), torch.optim.SGD, lr=0.1)
    with gradviz.record(net) as run:
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()
    steps = [event for event in run.events if event.kind is EventKind.STEP]
    assert [(event.name, event.detail) for event in steps] == [("SGD", "changed weight, bias")]


def test_what_torch_shards_itself_is_no_event(alone: None) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1))
    mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("data", "tensor"))
    parallelize_module(net, mesh["tensor"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
    fully_shard(net, mesh=mesh["data"])  # it makes its parameters in the first forward pass
    with gradviz.record(net) as run:
        net(torch.ones(1, 2)).sum().backward()
    words = [event.word for event in run.events if event.kind is not EventKind.ACCUMULATE]
    assert words == ["ones", "linear", "relu", "linear", "sum", "backward"]


@pytest.mark.parametrize(
    "read",
    [
        lambda w: w.to_local(),
        lambda w: w.full_tensor(),
        lambda w: w.redistribute(placements=[Replicate()]).to_local(),
        lambda w: (w * 2).to_local(),
    ],
)
def test_a_sharded_parameter_that_is_read_under_no_grad(alone: None, read: Any) -> None:
    mesh = init_device_mesh("cpu", (1,))
    w = nn.Parameter(distribute_tensor(torch.randn(4, 4), mesh, [Shard(0)]))
    v = nn.Parameter(torch.randn(4, 4))
    with gradviz.record() as run:
        with torch.no_grad():
            h = read(w)
        loss = (h @ v).sum()
        loss.backward()
    told = gradviz.explain(run, w, loss)
    assert (told.verdict, "cut by no_grad" in told.reason) == (Verdict.CUT, True)
    assert gradviz.explain(run, v, loss).verdict is Verdict.FINE
    original = DTensor.to_local
    with gradviz.record():
        assert DTensor.to_local is not original
    assert DTensor.to_local is original


def test_wrapper_names_are_not_shown(alone: None) -> None:
    net = torch.compile(nn.Linear(2, 1), backend="eager")
    model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
    for module in (net, model):
        loss = module(torch.ones(1, 2)).sum()
        loss.backward()
        assert set(answers(gradviz.explain(loss, names=module))) == {"weight", "bias"}


# Files of the ranks.


def test_each_rank_writes_its_own_file(tmp_path: Path) -> None:
    script = tmp_path / "träin ü.py"
    script.write_text(
        "import torch\nw = torch.ones(2, requires_grad=True)\n(w * 3).sum().backward()\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "gradviz", "record", str(script), "-o", "story.json"]
    for rank in ("0", "1"):
        environment = {**os.environ, "RANK": rank, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
        done = start(command, cwd=tmp_path, env=environment)
        assert done.wait(timeout=120) == 0
    assert sorted(path.name for path in tmp_path.glob("story*")) == [
        "story.rank0.json",
        "story.rank1.json",
    ]
    story = json.loads((tmp_path / "story.rank1.json").read_text(encoding="utf-8"))
    assert "rank 1 of 2" in json.dumps(story)


def test_the_values_of_a_shard_and_its_layout_are_not_cut() -> None:
    grad = TensorSummary((2, 2), "float32", "cpu", (-1.327, -1.327, 0.8461, 0.8461), 2.2)
    grad = replace(grad, note="local [2,2], Shard(0), mesh 1")
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.PARAMETER, name="w", shape=(2, 2), grad=grad)
    text = gradviz.draw(graph).text
    assert "[-1.327 -1.327] [0.8461 0.8461] (local [2,2], Shard(0), mesh 1)" in text
