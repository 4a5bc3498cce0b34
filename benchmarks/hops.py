"""Count the file borders that a call crosses inside gradviz.

A border is crossed when a function of one file of gradviz calls a function of another. Fewer
borders mean fewer places to read to follow a call, and fewer calls on the hot path.

    python benchmarks/hops.py            # a table with the goals
    python benchmarks/hops.py --list     # every crossing too, in order
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import gradviz

PACKAGE = str(Path(gradviz.__file__).parent)
WARM_UP = 3


class Crossings:
    """The calls from one file of gradviz to another, while a ``with`` block runs."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str]] = []

    def __enter__(self) -> Crossings:
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *error: object) -> None:
        sys.setprofile(None)

    def _profile(self, frame: FrameType, what: str, _: Any) -> None:
        caller = frame.f_back
        if what != "call" or caller is None:
            return
        source, target = caller.f_code.co_filename, frame.f_code.co_filename
        if source != target and source.startswith(PACKAGE) and target.startswith(PACKAGE):
            self.seen.append((_short(source), _short(target), frame.f_code.co_name))


def _short(path: str) -> str:
    return path[len(PACKAGE) + 1 :]


def recorded_detach() -> list[tuple[str, str, str]]:
    """The crossings of one ``detach()`` inside a recording."""
    w = torch.ones(3, requires_grad=True)
    with gradviz.record():
        y = w * 2
        for _ in range(WARM_UP):
            y.detach()
        with Crossings() as crossings:
            y.detach()
    return crossings.seen


def explained_cut() -> list[tuple[str, str, str]]:
    """The crossings of ``str(explain(x, loss, run))``, where a detach cut x off."""
    x = torch.ones(3, requires_grad=True)
    w = torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        loss = ((x * 2).detach() * w).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    for _ in range(WARM_UP):
        str(gradviz.explain(x, loss, run))
    with Crossings() as crossings:
        str(gradviz.explain(x, loss, run))
    return crossings.seen


MEASURED: dict[str, tuple[Callable[[], list[tuple[str, str, str]]], int]] = {
    "a recorded detach()": (recorded_detach, 12),
    "str(explain(x, loss, run))": (explained_cut, 60),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--list", action="store_true", help="print every crossing, in order")
    listed = parser.parse_args().list
    print(f"{'call':<30}{'crossings':>10}{'goal':>8}{'borders':>10}{'files':>8}")
    for name, (measure, goal) in MEASURED.items():
        seen = measure()
        borders = Counter((source, target) for source, target, _ in seen)
        files = {file for border in borders for file in border}
        print(f"{name:<30}{len(seen):>10}{f'<= {goal}':>8}{len(borders):>10}{len(files):>8}")
        if listed:
            for source, target, function in seen:
                print(f"    {source} -> {target} {function}")


if __name__ == "__main__":
    main()
