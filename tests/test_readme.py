"""The README is correct: its code runs, and prints the output below it."""

from __future__ import annotations

import contextlib
import io
import linecache
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_every_python_block_runs_and_prints_what_stands_under_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    checked = 0
    for number, (language, code) in enumerate(BLOCKS):
        if language != "python":
            continue
        printed = io.StringIO()
        # From a file, because a recording finds lines and variables in it.
        (tmp_path / "train.py").write_text(code, encoding="utf-8")
        linecache.checkcache()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(tmp_path / "train.py"), "exec"), namespace)
        follows = BLOCKS[number + 1] if number + 1 < len(BLOCKS) else ("", "")
        if follows[0] == "text":
            assert printed.getvalue().strip() == follows[1].strip()
            checked += 1
        else:
            assert printed.getvalue() == ""
    assert checked >= 2
    for name in ("loss.svg", "run.svg", "accumulation.svg"):
        assert (tmp_path / name).read_text().startswith("<svg ")


def commands() -> list[str]:
    shell = [code for language, code in BLOCKS if language == "console"]
    lines = [line for code in shell for line in code.split("\n")]
    return [line[2:].split("  #")[0].strip() for line in lines if line.startswith("$ ")]


TRAIN = """
import argparse, torch
model = torch.nn.Module()
model.encoder = torch.nn.Module()
model.encoder.layers = torch.nn.Sequential(*(torch.nn.Linear(3, 3) for _ in range(5)))
parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=1)
for epoch in range(parser.parse_args().epochs):
    x = torch.ones(3, requires_grad=True)
    loss = (model.encoder.layers(x) * 2).sum()
    loss.backward()
"""


def test_every_gradviz_command_runs(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    path = str(Path(shutil.which("sh") or "/bin/sh").parent)
    assert len(commands()) >= 6
    for command in commands():
        program, *arguments = shlex.split(command)
        if program == "torchrun":  # here the same command in one process
            program, arguments = "gradviz", arguments[arguments.index("gradviz") + 1 :]
        assert program == "gradviz"
        done = subprocess.run(
            [sys.executable, "-m", "gradviz", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={"PYTHONPATH": str(ROOT), "PATH": path},
        )
        assert done.returncode == 0, (command, done.stderr)
    assert (tmp_path / "gallery" / "index.html").exists()


def test_every_make_target_and_file_that_it_names_is_there() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
    for path in re.findall(r'(?:src="|\]\()([\w./]+)', README):
        assert (ROOT / path).exists(), path
