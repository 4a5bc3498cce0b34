"""How long ``import gradviz`` takes on top of ``import torch``, and what takes it.

Each measurement is a fresh interpreter that has imported torch already; the table shows
medians. Run: ``python benchmarks/startup.py [--repeat 9]``.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections import Counter

IMPORT = "import gradviz"
FIRST_USE = "import gradviz; gradviz.draw"  # what is loaded when a name is first used
LIMITS_MS = {IMPORT: 60.0, FIRST_USE: 120.0}  # where Python keeps bytecode
TIMED = "import time, torch; began = time.perf_counter(); {}; print(time.perf_counter() - began)"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Start a fresh interpreter and wait for it."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)


def milliseconds(statement: str, repeat: int) -> list[float]:
    """Time a statement in fresh interpreters; the first run only warms the file cache."""
    runs = [run("-c", TIMED.format(statement)) for _ in range(repeat + 1)]
    return sorted(1000 * float(done.stdout) for done in runs[1:])


def breakdown(statement: str) -> Counter[str]:
    """Milliseconds of import by package, of what torch had not imported already."""
    report = run("-X", "importtime", "-c", f"import torch; {statement}").stderr
    lines = [line.removeprefix("import time:").split("|") for line in report.splitlines()]
    modules = [(row[0], row[2]) for row in lines if len(row) == 3]
    torch_at = max(i for i, (_, name) in enumerate(modules) if name == " torch")
    packages: Counter[str] = Counter()
    for own, name in modules[torch_at + 1 :]:
        packages[name.strip().split(".")[0]] += int(own) / 1000  # type: ignore[assignment]
    return packages


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=9, help="runs per median (default 9)")
    repeat = parser.parse_args().repeat
    print(f"ms on top of `import torch`, median of {repeat}")
    for statement, limit in LIMITS_MS.items():
        times = milliseconds(statement, repeat)
        median = statistics.median(times)
        verdict = f"limit {limit:.0f}: {'met' if median <= limit else 'MISSED'}"
        spread = f"({times[0]:.1f} to {times[-1]:.1f})"
        print(f"{statement:30}{median:8.1f}  {spread:18}{verdict}")
    print(f"\nms of its own by package, the biggest of `{FIRST_USE}`")
    for package, own in breakdown(FIRST_USE).most_common(8):
        print(f"{package:30}{own:8.1f}")


if __name__ == "__main__":
    main()
