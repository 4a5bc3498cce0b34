"""How long a picture of an LSTM cell unrolled for 100 steps takes, torchviz with dot beside it.

Each picture is drawn in a process of its own, which is stopped at a time limit. Building the
graph and importing torch are not counted. torchviz is compared where it is installed.
Run: ``python benchmarks/draw.py [--steps 100] [--limit 60] [--repeat 3]``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

LIMIT_S = 2.0
MODEL = """
import sys, time, torch
sys.setrecursionlimit(1_000_000)
torch.manual_seed(0)
cell, inputs = torch.nn.LSTMCell(8, 16), torch.randn({steps}, 1, 8)
state = (torch.zeros(1, 16), torch.zeros(1, 16))
for step in inputs:
    state = cell(step, state)
loss = state[0].square().mean()
"""
PEERS = {
    "gradviz": """
import gradviz
began = time.perf_counter()
gradviz.draw(loss).save(sys.argv[1] + ".svg")
print(time.perf_counter() - began)
""",
    "torchviz": """
from torchviz import make_dot
began = time.perf_counter()
make_dot(loss, params=dict(cell.named_parameters())).render(sys.argv[1], format="svg")
print(time.perf_counter() - began)
""",
}


def seconds(peer: str, steps: int, limit: float) -> tuple[float, int] | str:
    """Seconds and bytes of one picture, or why there is none."""
    program = MODEL.format(steps=steps) + PEERS[peer]
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(Path(folder) / "x")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that its dot can be stopped with it
        )
        try:
            out, error = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            return f"stopped after {limit:.0f} s"
        finally:
            stop(child)
        if child.returncode:
            return f"failed: {error.strip().splitlines()[-1]}"
        return float(out), (Path(folder) / "x.svg").stat().st_size


def stop(child: subprocess.Popen[str]) -> None:
    """End a process and what it started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    child.communicate()


def missing(peer: str) -> str:
    """Why a peer cannot be measured here, or ""."""
    if importlib.util.find_spec(peer) is None:
        return f"not installed: pip install {peer}"
    if peer == "torchviz" and not shutil.which("dot"):
        return "not measured: no dot on PATH"
    return ""


def row(peer: str, steps: int, limit: float, repeat: int) -> str:
    """A line of the table: the median of the runs, or why there is none."""
    if missing(peer):
        return f"{peer:10}{missing(peer)}"
    times = []
    for _ in range(repeat):
        result = seconds(peer, steps, limit)
        if isinstance(result, str):
            return f"{peer:10}{result}"
        times.append(result[0])
        size = result[1]
    median = statistics.median(times)
    verdict = f"limit {LIMIT_S:.0f} s: {'met' if median < LIMIT_S else 'MISSED'}"
    return f"{peer:10}{median:.2f} s   {size / 1024:5.0f} KiB   {verdict}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100, help="of the LSTM cell (default 100)")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds per run (default 60)")
    parser.add_argument("--repeat", type=int, default=3, help="runs per median (default 3)")
    options = parser.parse_args()
    print(f"LSTM cell, {options.steps} steps: loss to x.svg, median of {options.repeat}")
    for peer in PEERS:
        print(row(peer, options.steps, options.limit, options.repeat), flush=True)


if __name__ == "__main__":
    main()
