"""Copies from an accelerator to the host: each waits for all kernels before it.

They are counted on a device written in Python (`benchmarks/counting_device.py`), in a process of
its own, since a device cannot be unregistered.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

GPU = Path(__file__).parent.parent / "benchmarks" / "gpu.py"
ON_DEVICE = Path(__file__).parent / "forum" / "on_device.py"


@pytest.fixture(scope="module")
def counts() -> dict[str, dict[str, int]]:
    command = [sys.executable, str(GPU), "--device", "counting", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, dict[str, int]] = json.loads(done.stdout)
    return found


def test_a_trace_copies_once(counts: dict[str, dict[str, int]]) -> None:
    traces = {name: row["copies"] for name, row in counts.items() if not name.startswith("record")}
    assert traces and set(traces.values()) == {1}


def test_a_recorded_step_copies_at_most_four_times(counts: dict[str, dict[str, int]]) -> None:
    steps = {name: row["copies"] for name, row in counts.items() if name.startswith("record")}
    assert len(steps) == 4 and max(steps.values()) <= 4, steps


def test_gradients_of_nan_take_as_many_kernels_as_others(
    counts: dict[str, dict[str, int]],
) -> None:
    usual, nan = counts["trace, 150 parameters"], counts["trace, gradients of NaN"]
    assert nan["kernels"] == usual["kernels"]


def test_values_and_verdicts_are_those_of_the_cpu() -> None:
    program = f"""
import sys; sys.path.insert(0, {str(GPU.parent)!r})
import counting_device, gpu, torch, gradviz
texts = []
for device in ("cpu", "counting"):
    torch.manual_seed(0)
    model, x = gpu.Wide(torch.relu), torch.randn(4, 16)
    model, x = model.to(device), x.to(device)
    model.layers[3].weight.register_hook(lambda gradient: gradient * 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    with gradviz.record(model) as run:
        gpu.step(model, x, optimizer)
    text = f"{{gradviz.explain(run)}}{{gradviz.draw(run).text}}"
    texts.append(text.replace(" counting:0", "").replace("counting:0", "cpu"))
import difflib
different = [*difflib.unified_diff(*(text.splitlines() for text in texts), lineterm="", n=0)]
assert not different, different
assert "hook" in texts[0]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_each_step_of_a_loop_copies_at_most_four_times() -> None:
    program = f"""
import sys; sys.path.insert(0, {str(GPU.parent)!r})
import counting_device, gpu, torch, gradviz
model, x = gpu.Wide().to("counting"), torch.randn(4, 16).to("counting")
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
copies = []
with gradviz.record(model) as run:
    for _ in range(8):
        counting_device.copies.clear()
        gpu.step(model, x, optimizer)
        copies.append(counting_device.copies.total())
assert 0 < min(copies) <= max(copies) <= 4, copies
assert run.story.frames
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_programs_are_explained_as_on_the_cpu() -> None:
    command = [sys.executable, str(ON_DEVICE), "counting"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
