"""What only a GPU shows: collected on a machine that has one (`conftest.py`)."""

from __future__ import annotations

import gc
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import gradviz

pytestmark = pytest.mark.gpu
GPU = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
ON_DEVICE = Path(__file__).parent / "forum" / "on_device.py"


def model_on(device: str = "cuda") -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1), nn.LayerNorm(32), nn.Linear(32, 4)
    ).to(device)


def train(model: nn.Module, steps: int = 3) -> list[Tensor]:
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(steps):
        optimizer.zero_grad()
        x = torch.randn(8, 16, device="cuda")
        loss = nn.functional.cross_entropy(model(x), torch.arange(8, device="cuda") % 4)
        loss.backward()
        optimizer.step()
    return [*(parameter.detach().clone() for parameter in model.parameters()), torch.rand(3).cuda()]


def test_a_recording_changes_no_number() -> None:
    bare = train(model_on())
    model = model_on()
    with gradviz.record(model) as run:
        recorded = train(model)
    assert all(map(torch.equal, bare, recorded))
    assert not run.story.notes
    assert "fine" in str(gradviz.explain(run))


def test_a_closed_recording_holds_no_device_memory() -> None:
    model = model_on()
    train(model)
    gc.collect()
    before = torch.cuda.memory_allocated()
    with gradviz.record(model) as run:
        train(model)
    for parameter in model.parameters():
        parameter.grad = None
    gc.collect()
    held = torch.cuda.memory_allocated() - before
    assert run.frames and held < 1 << 20, held


def test_copies_counted_by_the_profiler() -> None:
    command = [sys.executable, str(GPU), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    for name, row in json.loads(done.stdout).items():
        assert row["copies"] <= row["limit"], (name, row)


def test_a_gradient_from_another_stream_is_read_when_it_is_there() -> None:
    stream = torch.cuda.Stream()
    x = torch.ones(4096, 4096, device="cuda")
    w = torch.ones(4096, device="cuda", requires_grad=True)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(50):
            x = x @ x / 4096
        loss = (x @ w).sum()
        loss.backward()
    graph = gradviz.trace(loss, names={"w": w})
    (leaf,) = [data for _, data in graph.nodes(data=True) if data.get("name") == "w"]
    assert math.isclose(leaf["grad"].norm, 4096 * 64, rel_tol=1e-3)


def test_mixed_precision_with_a_scaler() -> None:
    model = model_on()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda", init_scale=2.0**40)
    with gradviz.record(model) as run:
        for _ in range(2):
            optimizer.zero_grad()
            with torch.autocast("cuda", dtype=torch.float16):
                loss = model(torch.randn(8, 16, device="cuda")).square().mean()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert not run.story.notes
    assert "by autocast" in gradviz.draw(run, views=()).text
    assert any("skipped" in str(event) for event in run.events), [*map(str, run.events)]


def test_a_recording_that_begins_in_a_capture_is_refused() -> None:
    x = torch.ones(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = x * 2
        with pytest.raises(gradviz.errors.UsageError, match="CUDA graph"), gradviz.record():
            pass
    graph.replay()
    assert y.tolist() == [2.0] * 3


def test_a_capture_inside_a_recording_works_and_its_replay_is_opaque() -> None:
    model = model_on()
    x = torch.randn(8, 16, device="cuda")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            optimizer.zero_grad(set_to_none=True)
            model(x).square().mean().backward()
    torch.cuda.current_stream().wait_stream(side)
    with gradviz.record(model) as run:
        graph = torch.cuda.CUDAGraph()
        optimizer.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            loss = model(x).square().mean()
            loss.backward()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        graph.replay()
        optimizer.step()
    assert any(
        not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)
    )
    assert not run.story.notes, run.story.notes
    assert any("CUDA graph" in str(event) for event in run.events), [*map(str, run.events)]


def test_gradients_of_16_bits_with_nan() -> None:
    w = torch.tensor([1.0, 0.0, 2.0] * 5, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    with gradviz.record() as run:
        loss = (w / w).sum()
        loss.backward()
    text = str(gradviz.explain(w, run))
    assert "NaN" in text and "div" in text, text


def test_devices_of_a_graph_are_shown() -> None:
    w = torch.ones(3, requires_grad=True)
    loss = (w.cuda() * 2).cpu().sum()
    loss.backward()
    text = gradviz.draw(loss, views=()).text
    assert "cuda:0" in text and w.grad is not None


def test_programs_are_explained_as_on_the_cpu() -> None:
    command = [sys.executable, str(ON_DEVICE), "cuda"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_recording_a_loop_waits_at_most_four_times_a_step() -> None:
    model = model_on()
    train(model)
    copies = []
    activities = [torch.profiler.ProfilerActivity.CUDA]
    for steps in (8, 16):
        with torch.profiler.profile(activities=activities) as profile, gradviz.record(model):
            train(model, steps)
            torch.cuda.synchronize()
        copies.append(sum("DtoH" in event.name for event in profile.events()))
    assert copies[1] - copies[0] <= 8 * 4, copies
