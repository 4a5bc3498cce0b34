"""What `gradviz.record` costs: forward and backward with it against without, in pairs.

    python benchmarks/record.py [--rounds 9] [--only MLP]

The column "floor" is the ratio of the least that any recorder of this kind can do: a mode that
only passes each call on, or, with ``every=``, a hook that computes the norms of the gradients
before each step. Loops "in a library" run as code of an installed package, whose calls are told
with two lines: that of the library, and that of the program.

The last lines print the memory of a process that records 1,000 training steps. TorchLens stands
beside it where it is installed.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.overrides import TorchFunctionMode

import gradviz

WIDTH, LAYERS, BATCH, TOKENS = 256, 12, 4, 128


class Block(nn.Module):
    """A transformer block with causal attention, as in GPT."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.attend(self.before(x)).split(width, dim=2)
        q, k, v = (p.view(batch, tokens, self.heads, -1).transpose(1, 2) for p in parts)
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(y.transpose(1, 2).reshape(batch, tokens, width))
        wide: Tensor = self.narrow(nn.functional.gelu(self.widen(self.between(x))))
        return x + wide


class GPT(nn.Module):
    """A small GPT: tokens in, logits out."""

    def __init__(self, width: int = WIDTH, layers: int = LAYERS, tokens: int = TOKENS) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(1000, width), nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*(Block(width, 8) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1])
        x = self.tokens(tokens) + self.places(places)
        logits: Tensor = self.head(self.norm(self.blocks(x)))
        return logits


def gpt_step(model: GPT, data: Tensor) -> Callable[[], None]:
    def step() -> None:
        logits = model(data)
        loss = nn.functional.cross_entropy(logits.view(-1, 1000), data.view(-1))
        loss.backward()  # type: ignore[no-untyped-call]

    return step


def layers_step(count: int) -> tuple[Callable[[], None], Callable[[], object]]:
    """One step of many small layers, and what clears its gradients."""
    model = nn.Sequential(*(m for _ in range(count) for m in (nn.Linear(16, 16), nn.ReLU())))
    data = torch.randn(8, 16)

    def step() -> None:
        model(data).square().mean().backward()

    return step, model.zero_grad


def chain_step(length: int) -> Callable[[], None]:
    x = torch.ones(4, requires_grad=True)

    def step() -> None:
        x.grad = None
        y = x
        for _ in range(length):
            y = y * 1.0001
        y.sum().backward()  # type: ignore[no-untyped-call]

    return step


def small_steps() -> dict[str, Callable[[], None]]:
    """Loops of many small calls, each by its name."""
    x = torch.ones(4, requires_grad=True)
    y, scalar, plain = x * 2, (x * 2).sum(), torch.ones(4)

    def untracked() -> None:
        with torch.no_grad():
            z = x
            for _ in range(10_000):
                z = z * 1.0001

    def in_place() -> None:
        for _ in range(10_000):
            plain.add_(1)

    def repeated(call: Callable[[], object], count: int) -> Callable[[], None]:
        def step() -> None:
            for _ in range(count):
                call()

        return step

    loops = {
        "5,000 detach": repeated(y.detach, 5_000),
        "3,000 item": repeated(scalar.item, 3_000),
        "10,000 ops under no_grad": untracked,
        "10,000 ops in place": in_place,
    }
    return {
        **loops,
        **{f"{name}, in a library": in_a_library(step) for name, step in loops.items()},
        "MLP, 50 steps": mlp_steps(50),
        "MLP, 500 steps": mlp_steps(500),
    }


def in_a_library(step: Any) -> Callable[[], None]:
    """The same function, as code of an installed package."""
    file = str(Path("site-packages", "library", "loops.py"))
    code = step.__code__.replace(co_filename=file)
    return FunctionType(code, globals(), step.__name__, None, step.__closure__)


def gpt_steps(count: int) -> Callable[[], None]:
    """Training steps of a GPT of 4 layers."""
    model = GPT(64, 4, 32)
    optimizer = torch.optim.Adam(model.parameters())
    forward_backward = gpt_step(model, torch.randint(1000, (BATCH, 32)))

    def step() -> None:
        for _ in range(count):
            optimizer.zero_grad()
            forward_backward()
            optimizer.step()

    return step


def mlp_steps(count: int) -> Callable[[], None]:
    """Training steps of a small network."""

    def step() -> None:
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer, data = torch.optim.SGD(model.parameters(), 0.01), torch.randn(8, 8)
        for _ in range(count):
            optimizer.zero_grad()
            model(data).square().mean().backward()
            optimizer.step()

    return step


def recorded(step: Callable[[], None], every: int | None = None) -> Callable[[], None]:
    def run() -> None:
        with gradviz.record(every=every):
            step()

    return run


class Empty(TorchFunctionMode):
    """A mode that only passes each call on."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return func(*args, **kwargs) if kwargs else func(*args)


def least(step: Callable[[], None], every: int | None = None) -> Callable[[], None]:
    """The same step with the least that a recorder can do."""

    def read(optimizer: Any, *_: object) -> None:
        groups = optimizer.param_groups
        norms.append(torch._foreach_norm([p.grad for g in groups for p in g["params"]]))

    def with_norms() -> None:
        handle = register_optimizer_step_pre_hook(read)
        try:
            step()
        finally:
            handle.remove()
            norms.clear()

    def with_mode() -> None:
        with Empty():
            step()

    norms: list[Any] = []
    return with_mode if every is None else with_norms


def seconds(task: Callable[[], object]) -> float:
    gc.collect()
    start = time.process_time()
    task()
    return time.process_time() - start


def compare(
    name: str,
    step: Callable[[], None],
    clean: Callable[[], object],
    rounds: int,
    every: int | None = None,
) -> None:
    """Time bare, the least and recorded in turn; print the medians and the median ratios."""
    times = []
    for _ in range(rounds + 2):
        row = []
        for task in (step, least(step, every), recorded(step, every)):
            clean()
            row.append(seconds(task))
        times.append(row)
    times = times[2:]
    bare, _, with_it = (statistics.median(column) * 1e3 for column in zip(*times, strict=True))
    floor, ratio = (statistics.median(row[at] / row[0] for row in times) for at in (1, 2))
    print(f"{name:40} {bare:9.1f} {with_it:9.1f} {ratio:7.2f} {floor:7.2f}", flush=True)


def torchlens(model: GPT, data: Tensor) -> None:
    """Print how long TorchLens' own trace of the same model takes."""
    try:
        import torchlens as lens  # type: ignore[import-not-found]
    except ImportError:
        print("TorchLens is not installed: pip install torchlens")
        return
    log = getattr(lens, "log_forward_pass", None) or lens.trace
    took = statistics.median(seconds(lambda: log(model, data)) for _ in range(3)) * 1e3
    bare = statistics.median(seconds(lambda: model(data)) for _ in range(3)) * 1e3
    print(f"{'TorchLens, forward alone':40} {bare:9.1f} {took:9.1f} {took / bare:7.2f}")


def memory(steps: int, is_bare: bool) -> None:
    """Print how much a process grows while it records training steps, or only trains."""
    torch.set_num_threads(1)
    model = GPT(16, 12, 8)
    optimizer = torch.optim.Adam(model.parameters())
    data = torch.randint(1000, (2, 8))
    step = gpt_step(model, data)

    def resident() -> int:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # what the allocator keeps for later is not growth
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[1]) * resource.getpagesize()

    seen = {}
    with nullcontext() if is_bare else gradviz.record():
        for number in range(1, steps + 1):
            optimizer.zero_grad()
            step()
            optimizer.step()
            if number in (1, 50, steps // 4, steps // 2, steps):
                seen[number] = resident() / 2**20
    print("training alone" if is_bare else "the same, recorded")
    for number, size in seen.items():
        grown = f"{size - seen[50]:+7.1f} since step 50" if number > 50 else ""
        print(f"  step {number:5}: {size:8.1f} MiB {grown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", metavar="PART", help="rows whose name has this part")
    parser.add_argument("--memory", type=int, metavar="STEPS", help="measure only the memory")
    parser.add_argument("--bare", action="store_true", help="of training alone")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory, options.bare)
        return
    torch.manual_seed(0)
    model, data = GPT(), torch.randint(1000, (BATCH, TOKENS))
    count, threads = options.rounds, torch.get_num_threads()
    print(f"milliseconds of CPU, medians of {count} pairs; {threads} threads\n")
    print(f"{'forward + backward':40} {'bare':>9} {'recorded':>9} {'ratio':>7} {'floor':>7}")
    gpt, (layers, clear) = gpt_step(model, data), layers_step(48)
    keep = lambda: None
    rows: list[tuple[str, Callable[[], None], Callable[[], object], int | None]] = [
        ("GPT, 12 layers", gpt, model.zero_grad, None),
        ("the same, gradients kept", gpt, keep, None),
        ("48 small layers", layers, clear, None),
        ("chain of 10,000 on 4 numbers", chain_step(10_000), keep, None),
        *((name, step, keep, None) for name, step in small_steps().items()),
        ("MLP, 2,000 steps, every=100", mlp_steps(2_000), keep, 100),
        ("GPT, 4 layers, 200 steps, every=100", gpt_steps(200), keep, 100),
    ]
    del model
    for name, step, clean, every in rows:
        if options.only in name:
            compare(name, step, clean, options.rounds, every)
    if options.only:
        return
    torchlens(GPT(), data)
    print()
    sys.stdout.flush()
    for more in (["--bare"], []):
        subprocess.run([sys.executable, __file__, "--memory", "1000", *more], check=True)


if __name__ == "__main__":
    main()
