"""How often gradviz copies from an accelerator to the host, and what a recorded step costs there.

    python benchmarks/gpu.py                     # the GPU, or, without one, a device that counts
    python benchmarks/gpu.py --device counting   # the device of counting_device.py: no times
    python benchmarks/gpu.py --json

Each copy waits until all kernels before it have run. The copies of the bare program are not
counted: they are measured and subtracted.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import gradviz

sys.path.insert(0, str(Path(__file__).parent))

Run = Callable[[], object]


class Counts:
    """Copies to the host and kernels, from the counting device or from torch's profiler."""

    def __init__(self, device: str) -> None:
        self.device = device

    def of(self, run: Run) -> tuple[int, int]:
        """Copies to the host and kernels of one call."""
        gc.collect()
        if self.device == "counting":
            import counting_device

            counting_device.copies.clear()
            counting_device.kernels.clear()
            run()
            return counting_device.copies.total(), counting_device.kernels.total()
        torch.cuda.synchronize()
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            run()
            torch.cuda.synchronize()
        on_device = [e for e in profile.events() if e.device_type.name == "CUDA"]
        copies = sum("DtoH" in event.name for event in on_device)
        return copies, len(on_device)


class Wide(nn.Module):
    """75 linear layers: 150 parameters."""

    def __init__(self, activation: Callable[[Tensor], Tensor] = torch.tanh) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(16, 16) for _ in range(75))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + self.activation(layer(x))
        return x


def step(model: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """A step of training that copies nothing to the host."""
    optimizer.zero_grad()
    loss: Tensor = model(x).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss


def recorded(run: Run, *models: nn.Module) -> object:
    """The same in a recording."""
    with gradviz.record(*models) as recording:
        run()
    return recording


def programs(device: str) -> Iterator[tuple[str, int, Run, Run]]:
    """Name, limit of copies, the program with gradviz, and without."""
    torch.manual_seed(0)
    x = torch.randn(4, 16).to(device)
    model = Wide().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    bare = partial(step, model, x, optimizer)
    loss = bare()
    yield "trace, 150 parameters", 3, lambda: gradviz.trace(loss, names=model), lambda: None
    yield "trace without names", 3, lambda: gradviz.trace(loss), lambda: None
    yield "summary", 3, lambda: gradviz.summary(loss), lambda: None
    yield "explain(loss)", 3, lambda: str(gradviz.explain(loss, names=model)), lambda: None
    yield "record a step", 4, lambda: recorded(bare, model), bare
    yield "record a step, no names", 4, lambda: recorded(bare), bare
    with hooks(model):
        yield "record a step, 150 hooks", 4, lambda: recorded(bare, model), bare
        yield "trace, 150 hooks", 3, lambda: gradviz.trace(loss, names=model), lambda: None
    relus = nn.Sequential(*(m for _ in range(600) for m in (nn.Linear(8, 8), nn.ReLU()))).to(device)
    sgd = torch.optim.SGD(relus.parameters(), lr=1e-3)
    small = torch.randn(4, 8).to(device)
    yield (
        "record a step, 600 relus",
        4,
        lambda: recorded(partial(step, relus, small, sgd)),
        partial(step, relus, small, sgd),
    )
    if device == "cuda":
        layer = nn.TransformerEncoderLayer(768, 12, 3072, 0.0, batch_first=True)
        encoder = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False).to(device)
        adam = torch.optim.AdamW(encoder.parameters(), lr=1e-4)
        large = partial(step, encoder, torch.randn(16, 512, 768, device=device), adam)
        yield "record a step, 12 x 768", 4, lambda: recorded(large, encoder), large
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    yield "trace, gradients of NaN", 3, lambda: gradviz.trace(loss, names=model), lambda: None


@contextlib.contextmanager
def hooks(model: nn.Module) -> Iterator[None]:
    """A hook on each parameter, as for clipping or logging."""
    handles = [
        parameter.register_hook(lambda gradient: gradient * 0.5)  # type: ignore[no-untyped-call]
        for parameter in model.parameters()
    ]
    yield
    for handle in handles:
        handle.remove()


def times(runs: tuple[Run, Run], rounds: int) -> float:
    """The median of the ratios of two programs, each run to the end of its last kernel."""
    ratios = []
    for _ in range(rounds):
        each = []
        for run in runs:
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            each.append(time.perf_counter() - start)
        ratios.append(each[0] / each[1])
    return statistics.median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default = "cuda" if torch.cuda.is_available() else "counting"
    parser.add_argument("--device", choices=("cuda", "counting"), default=default)
    parser.add_argument("--json", action="store_true", help="print the counts as JSON")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if options.device == "counting":
        import counting_device  # noqa: F401
    counts = Counts(options.device)
    found = {}
    for name, limit, run, bare in programs(options.device):
        run(), bare()  # what is computed once and kept
        (copies, kernels), (own, own_kernels) = counts.of(run), counts.of(bare)
        row: dict[str, float] = {
            "copies": copies - own,
            "limit": limit,
            "kernels": kernels - own_kernels,
        }
        if options.device == "cuda" and own_kernels:
            row["ratio"] = round(times((run, bare), options.rounds), 2)
        found[name] = row
        if not options.json:
            print(f"{name:28}" + "".join(f"  {key} {value:>6}" for key, value in row.items()))
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
