"""Run the fast tests with another version of torch, in an environment of its own.

    python tests/try_torch.py 2.10.0               # in a temporary folder, removed afterwards
    python tests/try_torch.py 2.10.0 --keep old    # the environment stays in old/ and is used again

A wheel of torch from PyPI for Linux brings CUDA libraries: some gigabytes for each version.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SLOW = ("big", "deep", "docs", "course", "collector")  # as in `make test-fast`
FAST = [
    *(
        "-m",
        "not (process or tool or latex)",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--maxfail=1000",
    ),
    *(f"--ignore=tests/test_{name}.py" for name in SLOW),
]


def installed(version: str, folder: Path) -> Path:
    """An environment in a folder with a version of torch and all that the tests import."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pin for pin in pins if not pin.startswith("torch==")))
    pip = [str(python), "-m", "pip", "install", "-q", "-c", str(constraints)]
    subprocess.run([*pip, f"torch=={version}", "-e", f"{ROOT}[dev]"], check=True)
    return python


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="of torch: 2.10.0")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the environment here")
    parser.add_argument("tests", nargs="*", help="files of tests; without any, the fast ones")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        python = installed(options.version, options.keep or Path(scratch, "environment"))
        run = [str(python), "-m", "pytest", *FAST, *(options.tests or ["tests"])]
        return subprocess.run(run, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
