"""No public call moves a random state, a mode, a flag or a version; checked in a fresh process.

A fresh process counts: the first call imports what it needs, and an import can draw numbers.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import random, sys
import numpy as np
import torch
from torch import nn
import gradviz

random.seed(1); np.random.seed(2); torch.manual_seed(3)
model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
x = torch.ones(2, 3)
spare = torch.ones(2, requires_grad=True)


def made():
    return model(x).sum()


loss, other = made(), made()
loss.backward(retain_graph=True)
try:
    torch.ones(3).sum().backward()
except RuntimeError as raised:
    error = raised


def recorded():
    with gradviz.record(model) as run:
        made().backward()
    gradviz.draw(run).render("txt")
    gradviz.explain(run)
    str(gradviz.explain(run))


def flags():
    return (
        torch.is_grad_enabled(), torch.is_anomaly_enabled(), torch.is_inference_mode_enabled(),
        torch.get_default_dtype(), torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark, len(torch.overrides._get_current_function_mode_stack()),
        torch.nn.Parameter.__new__, torch.autograd._engine_run_backward,
        torch.inference_mode.__enter__,
        torch.overrides.has_torch_function, sys.getrecursionlimit(),
    )


def state():
    return (
        random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist(),
        [tensor._version for tensor in (x, spare, loss, *model.parameters())], flags(),
        [tensor.requires_grad for tensor in (x, spare, loss, *model.parameters())],
    )


CALLS = {
    "trace": lambda: gradviz.trace(loss),
    "draw txt": lambda: gradviz.draw(loss).render("txt"),
    "draw svg": lambda: gradviz.draw(loss).render("svg"),
    "draw html": lambda: gradviz.draw(loss).render("html"),
    "draw json": lambda: gradviz.draw(loss).render("json"),
    "draw mermaid": lambda: gradviz.draw(loss).render("mmd"),
    "explain": lambda: str(gradviz.explain(loss, names=model)),
    "explain a leaf": lambda: str(gradviz.explain(spare, loss)),
    "explain an error": lambda: str(gradviz.explain(error)),
    "summary": lambda: str(gradviz.summary(loss, names=model)),
    "memory": lambda: str(gradviz.memory(loss)),
    "compare": lambda: str(gradviz.compare(loss, other)),
    "check": lambda: str(gradviz.check(lambda t: (t * 2).sum(), torch.ones(2, requires_grad=True))),
    "repr": lambda: repr(gradviz.draw(loss)),
    "record": recorded,
}
for name, call in CALLS.items():
    before = state()
    call()
    after = state()
    for number, (old, new) in enumerate(zip(before, after)):
        if old != new:
            print(name, "moved", number, *([(a, b) for a, b in zip(old, new) if a != b][:1]))
print("done")
"""


def test_no_public_call_moves_anything(tmp_path: Path) -> None:
    script = tmp_path / "every call.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
