"""Answers that were wrong while facts travelled as words: names, paths and events of every kind."""

from __future__ import annotations

import linecache
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from house import ROOT
from torch import nn

import gradviz
from gradviz import Explanation, Verdict
from gradviz.diagnosis.explain import RULES, describe

NAMES = (
    "weight",
    "my weight",
    "it's",
    'a "b"',
    "größe",
    "🔥",
    "a, b",
    "changed 1 of 2",
    "w at x:3",
)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_does_not_change_a_verdict(name: str) -> None:
    params = {name: torch.tensor([1.0, 2.0], requires_grad=True)}
    optimizer = torch.optim.SGD(params.values(), lr=0.1)
    with gradviz.record() as run:
        loss = (params[name] * 2).sum()
        loss.backward()
        optimizer.step()
        optimizer.step()
    told = gradviz.explain(params[name], loss, run, names=params)
    assert isinstance(told, Explanation)
    assert told.verdict is Verdict.STALE
    assert told.name == name


@pytest.mark.parametrize("has_spare", [False, True])
def test_an_unused_layer_in_the_optimizer_hides_nothing(has_spare: bool) -> None:
    net, spare = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)), nn.Linear(3, 3)
    params = [*net.parameters(), *(spare.parameters() if has_spare else ())]
    optimizer = torch.optim.SGD(params, lr=0.1)
    with gradviz.record(net) as run:
        net(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        optimizer.step()
    verdicts = {each.name: each.verdict for each in gradviz.explain(run)}
    assert {verdicts[name] for name, _ in net.named_parameters()} == {Verdict.STALE}
    others = {each for name, each in verdicts.items() if name not in dict(net.named_parameters())}
    assert others == ({Verdict.NOT_CONNECTED} if has_spare else set())


def test_the_line_that_cleared_a_gradient_is_its_own() -> None:
    a, b, c = (torch.ones(2, requires_grad=True) for _ in range(3))
    with gradviz.record() as run:
        (a * 2 + b * 3 + c).sum().backward()
        for each in (a, b):
            each.grad = None
        c.grad = None
        loss = (a * 2 + b * 3 + c).sum()
    told = gradviz.explain(c, loss, run)
    assert told.verdict is Verdict.CLEARED
    assert "(c.grad = None)" in told.reason
    other = gradviz.explain(a, loss, run)
    assert "(each.grad = None)" in other.reason


@pytest.mark.parametrize("folder", ["my project", "größe", "it's"])
def test_a_path_is_kept_whole(folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    program = tmp_path / folder / "train.py"
    program.write_text(
        "import torch, gradviz\n"
        "x = torch.tensor([1.0, 2.0], requires_grad=True)\n"
        "try:\n"
        "    with gradviz.record() as run:\n"
        "        y = x.exp()\n"
        "        y.mul_(2)\n"
        "        y.sum().backward()\n"
        "except RuntimeError as error:\n"
        "    told = gradviz.explain(error, run)\n"
    )
    names: dict[str, object] = {"__name__": "__main__"}
    exec(compile(program.read_text(), str(program), "exec"), names)
    told = names["told"]
    linecache.clearcache()
    assert isinstance(told, Explanation)
    assert f"{folder}/train.py:6" in told.lines
    assert all(location.file.endswith("train.py") for location in told.locations)
    assert "mul" in told.fix


def test_the_order_of_the_rules_can_be_printed() -> None:
    text = describe()
    assert len(text.splitlines()) == len(RULES)
    assert text.index("cleared") < text.index("fine")


def test_tensors_are_explained_together() -> None:
    w, b = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    loss = (w * 2).sum()
    loss.backward()
    both = gradviz.explain(w, b, loss=loss)
    assert [each.name for each in both] == ["b", "w"]
    assert [each.name for each in gradviz.explain(w, b)] == ["b", "w"]
    assert gradviz.explain(w, loss).verdict is Verdict.FINE


def test_a_recorded_detach_crosses_few_files() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "hops.py")]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    row = next(line for line in table.splitlines() if line.startswith("a recorded detach()"))
    assert 0 < int(row.split()[3]) <= 12
