"""The programs of the how-to pages run with the real packages, and the commands answer as shown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import children
import pytest
from click.testing import CliRunner
from pages import blocks

import gradviz
from gradviz.frontends.cli import cli

ROOT = Path(gradviz.__file__).parent.parent
PAGES = ("howto/main", "howto/trainers")
PROGRAMS = {
    block.options["caption"]: block.content
    for page in PAGES
    for block in blocks(page)
    if "caption" in block.options
}
CONSOLES = [block.content for page in PAGES for block in blocks(page) if block.kind == "console"]


def commands() -> dict[str, list[str]]:
    """The lines shown under each command."""
    found: dict[str, list[str]] = {}
    for console in CONSOLES:
        for line in console.splitlines():
            if line.startswith("$ gradviz "):
                shown = found.setdefault(line.removeprefix("$ gradviz ").split("#")[0].strip(), [])
            else:
                shown.append(line)
    return found


COMMANDS = commands()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    for name, content in PROGRAMS.items():
        Path(name).write_text(content, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "ranks_train.py"])
def test_each_command_of_the_page_answers_as_it_says(program: str, programs: Path) -> None:
    asked = [command for command in COMMANDS if program in command or "story.json" in command]
    assert {"draw", "explain", "record", "run"} <= {command.split()[0] for command in asked}
    if program != "train.py":
        asked = [command for command in asked if program in command]
    for command in asked:
        result = CliRunner().invoke(cli, command.split())
        assert result.exit_code == 0, f"{command}\n{result.output}"
        lines = [*result.stdout.splitlines(), *result.stderr.splitlines()]
        missing = [line for line in COMMANDS[command] if line not in lines]
        assert not missing, f"{command}\n{result.output}"
    assert list(programs.glob("loss.svg"))


ONLY_THE_TRAINER_HAS_THE_MODEL = """\
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head, self.spare = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(2, 2)
    def forward(self, x, labels=None):
        out = self.head(self.body(x).detach())
        return {"loss": (out - labels).pow(2).mean(), "logits": out}

data = [{"x": torch.ones(3), "labels": torch.ones(1)}] * 20
options = {"report_to": [], "use_cpu": True, "disable_tqdm": True, "save_strategy": "no"}
Trainer(Net(), TrainingArguments("out", max_steps=9, **options), train_dataset=data).train()
"""


def test_a_model_that_only_a_trainer_holds_gives_names(programs: Path) -> None:
    Path("held.py").write_text(ONLY_THE_TRAINER_HAS_THE_MODEL)
    result = CliRunner().invoke(cli, ["record", "held.py", "--step", "2", "-o", "held.json"])
    assert result.exit_code == 0, result.output
    for command in (["explain", "held.json"], ["explain", "held.py"]):
        answer = CliRunner().invoke(cli, command).stdout
        assert "model.body.weight   " in answer
        assert "model.spare.weight  no gradient  no operation that " in answer
        assert "in no graph" not in answer  # the rows above name them
        assert "a leaf" not in answer


@pytest.mark.process
def test_two_ranks_of_torchrun_answer_each_for_itself(programs: Path) -> None:
    ranks = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    explained = run([*ranks, "-m", "gradviz", "explain", "ranks_train.py"])
    for rank in ("rank 0", "rank 1"):
        assert f"{rank} of 2\n4 parameters  fine\n" in explained.stdout, explained.stderr
        assert f"{rank}: gradviz: stopped after backward 2 (ranks_train.py:" in explained.stderr
    record = [*ranks, "-m", "gradviz", "record", "ranks_train.py", "--no-gather", "--step", "2"]
    printed = run(record).stdout
    assert [printed.count(f"{rank} of 2") for rank in ("rank 0", "rank 1")] == [1, 1]
    run([*record, "-o", "story.json"])
    compared = CliRunner().invoke(
        cli, ["compare", "story.rank0.json", "story.rank1.json", "--values"]
    )
    assert compared.exit_code == 0, compared.output
    assert " changed\n" in compared.stdout
    Path("twice.py").write_text(
        PROGRAMS["ranks_train.py"].replace("loss.backward()", "loss.backward(); loss.backward()")
    )
    failed = run([*ranks, "-m", "gradviz", "run", "twice.py"], code=1)
    assert "rank 0 of 2\nRuntimeError: error (backward a second time)" in failed.stderr


def run(command: list[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    process = children.start(command, text=True, **pipes)
    stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == code, stderr
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)
