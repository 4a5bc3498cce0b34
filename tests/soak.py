"""Many draws and recordings in one process: memory, threads, files and children must not grow.

    make soak                                            # 10,000 draws and 2,000 recordings
    python tests/soak.py --draws 1000 --recordings 200   # fewer

Prints a line every tenth, and ends with 1 when something has grown: resident memory by more than
5 % after the first 500 draws and 100 recordings, or the number of threads, open files or children.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

import gradviz

FORMATS = ("svg", "txt", "json", "mmd", "html", "dot")


@dataclass(frozen=True)
class Held:
    """What a process holds.

    Args:
        memory: resident, in MB.
        threads, files, children: how many.
        objects: those that the collector of Python knows.
    """

    memory: float
    threads: int
    files: int
    children: int
    objects: int


def held() -> Held:
    """What this process holds now; Linux only."""
    gc.collect()
    own = Path("/proc/self")
    pages = int((own / "statm").read_text().split()[1])
    children = (own / "task" / str(os.getpid()) / "children").read_text().split()
    return Held(
        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        threading.active_count(),
        len(list((own / "fd").iterdir())),
        len(children),
        len(gc.get_objects()),
    )


def draw(number: int) -> None:
    """Draw a small training step, in another format each time."""
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    loss = model(torch.ones(2, 3)).square().mean()
    loss.backward()
    gradviz.draw(loss, names=model).render(FORMATS[number % len(FORMATS)])


def record(number: int) -> None:
    """Record two steps with a cut, an error and an explanation."""
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradviz.record(model) as run:
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(torch.ones(2, 3)).square().mean() + model.bias.detach().sum()
            loss.backward()
            optimizer.step()
        if number % 3 == 0:
            try:
                loss.backward()
            except RuntimeError as error:
                str(gradviz.explain(error, run, names=model))
    str(gradviz.explain(run, names=model))


def grown(before: Held, after: Held, memory: float = 1.05) -> list[str]:
    """What has grown, in words; nothing when all is well."""
    found = []
    if after.memory > before.memory * memory:
        found.append(f"memory: {before.memory:.0f} -> {after.memory:.0f} MB")
    for name in ("threads", "files", "children"):
        if getattr(after, name) > getattr(before, name):
            found.append(f"{name}: {getattr(before, name)} -> {getattr(after, name)}")
    return found


def main() -> None:
    """Run both, and say what has grown."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--draws", type=int, default=10_000, help="how many (10,000)")
    parser.add_argument("--recordings", type=int, default=2_000, help="how many (2,000)")
    given = parser.parse_args()
    found = []
    for do, count, first in ((draw, given.draws, 500), (record, given.recordings, 100)):
        first, before = min(first, count // 2), held()
        for number in range(count):
            do(number)
            if number + 1 == first:
                before = held()
            if (number + 1) % max(1, count // 10) == 0:
                print(f"{do.__name__:<8}{number + 1:>7,}  {held()}", flush=True)
        found += [f"{do.__name__}: {each}" for each in grown(before, held())]
    print("\n".join(found) or "nothing has grown")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
