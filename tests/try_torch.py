"""Run the fast tests with another version of torch, in an environment of its own.

    python tests/try_torch.py 2.12.0               # in a temporary folder, removed afterwards
    python tests/try_torch.py 2.12.0 --keep old    # the environment stays in old/ and is used again

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


def installed(version: str, folder: Path) -> Path:
    """The folder of an environment with a version of torch and all that the tests import."""
    folder = folder.resolve()
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pin for pin in pins if not pin.startswith("torch==")))
    pip = [str(python), "-m", "pip", "install", "-q", "-c", str(constraints)]
    subprocess.run([*pip, f"torch=={version}", "-e", f"{ROOT}[dev]"], check=True)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("version", help="of torch: 2.12.0")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the environment here")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = installed(options.version, options.keep or Path(scratch, "environment"))
        ready = folder / ".ready"  # newer than what `make` would set up the environment again for
        ready.touch()
        fast = ["make", "test-fast", f"BIN={folder / 'bin'}", f"READY={ready}"]
        return subprocess.run(fast, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
