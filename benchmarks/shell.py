"""What it costs to find variables of functions, and to explain a program from the shell.

    python benchmarks/shell.py

Two figures: the CPU time of a training program while its variables are searched, over that of the
bare program (medians of alternating runs in one process); and the CPU time from ``gradviz explain``
to its answer over that of the import of torch and one step of the same program. CPU time, so that
other work on the machine matters less.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from gradviz.frontends.option_values import Extent
from gradviz.frontends.program import run_script
from gradviz.frontends.target import load_target, parse_target

PROGRAM = """
import sys
import torch
from torch import nn

def loss_of(model, x):
    loss = model(x).pow(2).mean()
    return loss

def main(steps):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)
    opt = torch.optim.SGD(model.parameters(), lr=0.01)
    x = torch.randn(2, 32, 256)
    for _ in range(steps):
        opt.zero_grad()
        loss_of(model, x).backward()
        opt.step()

main(int(sys.argv[1]))
"""
PAIRS, STEPS = 7, 8


def seconds(start: Callable[[], object]) -> float:
    """The CPU time of a call, without the processes that it starts."""
    begin = time.process_time()
    start()
    return time.process_time() - begin


def seconds_of(*words: str) -> float:
    """The CPU time of a Python process: the least of three."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def main() -> None:
    """Print both figures."""
    folder = Path(tempfile.mkdtemp())
    path = str(folder / "train.py")
    Path(path).write_text(PROGRAM)
    target = parse_target(f"{path}:loss_of.loss")
    step = Extent(step=STEPS)
    run_script(path, ["1"])  # warm up
    ratios = []
    for _ in range(PAIRS):
        bare = seconds(lambda: run_script(path, [str(STEPS)]))
        searched = seconds(lambda: load_target(target, [str(STEPS)], extent=step, trace=False))
        ratios.append(searched / bare)
    print(f"finding variables: {statistics.median(ratios):.2f} x the bare program")
    one = seconds_of(path, "1")
    words = ["-m", "gradviz", "explain", path, "-o", str(folder / "x.txt"), "--", "1000"]
    told = seconds_of(*words)
    print(f"explain: {told:.2f} s of CPU, {told / one:.2f} x import and one step ({one:.2f} s)")


if __name__ == "__main__":
    main()
