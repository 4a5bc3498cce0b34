"""The fix of each change in place, applied to the program: backward then runs."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch

import gradviz

_PROGRAM = """
import torch
import torch.nn.functional as F
from torch import nn

def run(w, scale_into):
    y = w * 2
    z = y.sigmoid()
    out = (z * z).sum()
    {line}
    return out
"""
_numbers = itertools.count()
_COPY = "z = z.clone()"
_PART = f"torch.where; or write into it after backward, or into a copy: {_COPY}"
FIXES = {
    "z += 1": "make a new tensor: z = z + 1",
    "z.add_(1)": "make a new tensor: z = z.add(1)",
    "z = z.mul_(2)": "make a new tensor: z = z.mul(2)",
    "F.relu_(z)": "make a new tensor: z = F.relu(z)",
    "torch.sin_(z)": "make a new tensor: z = torch.sin(z)",
    "torch.ops.aten.add_(z, 1)": "make a new tensor: z = torch.ops.aten.add(z, 1)",
    "F.dropout(z, 0.5, inplace=True)": "make a new tensor: z = F.dropout(z, 0.5)",
    "torch.mul(y.detach(), 2, out=z.detach())": "z = torch.mul(y.detach(), 2)",
    "z.detach().mul_(2)": "make a new tensor: z = z.mul(2)",
    "u = F.elu(z, inplace=True).sum()": "F.elu(z) instead of F.elu(z, inplace=True)",
    "z.view(-1).add_(1)": "z.view(-1).add(1) instead of z.view(-1).add_(1)",
    "z.clamp_(min=0).mul_(3)": "z.clamp(min=0) instead of z.clamp_(min=0)",
    "z[0] = 1": _PART,
    "z[0] += 1": _PART,
    "z[:2].mul_(2)": _PART,
    "nn.init.zeros_(z)": f"change a copy: {_COPY}",
    "scale_into(y.detach(), z)": f"change a copy: {_COPY}",
    "d = {'h': z}; d['h'] += 1": "make a new tensor: d['h'] = d['h'] + 1",
    "d = [z]; d[0].add_(1)": "make a new tensor: d[0] = d[0].add(1)",
}


@torch.library.custom_op("gradviz_tests::scale_into", mutates_args=("out",))
def scale_into(x: torch.Tensor, out: torch.Tensor) -> None:
    """An operator that changes its second argument."""
    out.copy_(x * 2)


def _run(line: str, folder: Path) -> RuntimeError | None:
    """The error of a program in a file; no two have the same name."""
    file = folder / f"program_{next(_numbers)}.py"
    file.write_text(_PROGRAM.format(line=line))
    space: dict[str, object] = {}
    exec(compile(file.read_text(), file, "exec"), space)
    with gradviz.record() as recording:
        try:
            space["run"](torch.randn(3, requires_grad=True), scale_into).backward()  # type: ignore
        except RuntimeError as error:
            error.recording = recording  # type: ignore[attr-defined]
            return error
    return None


@pytest.mark.parametrize("line", FIXES)
def test_the_fix_works(line, tmp_path):
    error = _run(line, tmp_path)
    assert error is not None
    explanation = gradviz.explain(error, error.recording)
    assert f".py:10 ({line})" in explanation.reason
    assert explanation.fix.endswith(FIXES[line]), explanation.fix
    fix = explanation.fix.partition(": ")[2]
    if " instead of " in fix:
        new, _, old = fix.partition(" instead of ")
        fixed = line.replace(old, new)
    elif _COPY in fix:
        fixed = f"{_COPY}; {line}"
    else:
        fixed = f"{line.rpartition('; ')[0] or 'pass'}; {fix}"
    assert _run(fixed, tmp_path) is None


def test_a_change_through_data_does_not_count(tmp_path):
    error = _run("z.data.mul_(2); z.detach().add_(1)", tmp_path)
    assert error is not None
    explanation = gradviz.explain(error, error.recording)
    assert "add_ at " in explanation.reason
    assert _run("z.data.mul_(2)", tmp_path) is None


def test_operators_of_a_program_that_change_an_argument_are_recorded():
    t = torch.zeros(3)
    with gradviz.record() as recording:
        scale_into(torch.ones(3), t)
        torch.ops.gradviz_tests.scale_into(torch.ones(3), t)
        torch.ops.aten.add.out(t, t, out=t)
    changed = [event.word for event in recording.events if event.kind.value == "in-place"]
    assert changed == ["scale_into", "scale_into", "add"]


def test_a_result_that_is_gone_is_not_said_to_be_none():
    def step(w):
        loss = (w * 2).sin().sum()  # backward is not called, and loss is dropped
        assert loss.requires_grad

    w = torch.ones(3, requires_grad=True)
    with gradviz.record() as recording:
        step(w)
    explanation = gradviz.explain(w, recording)
    assert explanation.verdict is gradviz.Verdict.NOT_RUN
    assert "the graph at its end has no result of sum at " in explanation.reason
    with gradviz.record() as recording, torch.no_grad():
        step_of_data = (w * 2).sum()
        del step_of_data
    assert "has no result of" not in gradviz.explain(w, recording).reason


LEAVES = ("w += 1", "w -= 0.1 * w.detach()", "w.add_(1)", "w[0] = 1", "w[0].mul_(2)", "F.relu_(w)")


@pytest.mark.parametrize("line", LEAVES)
def test_the_fix_of_a_changed_leaf_works(line, tmp_path):
    error = _run(line, tmp_path)
    assert error is not None
    explanation = gradviz.explain(error)
    assert explanation.verdict is gradviz.Verdict.LEAF_CHANGED
    assert explanation.reason.startswith(("a leaf that ", "a view of a leaf that "))
    update = f"with torch.no_grad(): {line}"
    part = "w[0]" if "mul_" in line else "w"
    copy = f"change a copy: x = {part}.clone()"
    assert explanation.fix == f"to update it: {update}; to compute with changed values, {copy}"
    assert _run(f"out = out + 0\n    {update}", tmp_path) is None
    assert _run(f"x = w.clone(); {line.replace('w', 'x', 1)}", tmp_path) is None


def test_a_module_that_changes_its_input_in_place(tmp_path):
    error = _run("out = nn.ReLU(inplace=True)(w).sum()", tmp_path)
    assert error is not None
    explanation = gradviz.explain(error)
    assert explanation.fix.startswith("compute with a copy of it, x = w.clone(), or leave out")
    assert _run("out = nn.ReLU(inplace=True)(w.clone()).sum()", tmp_path) is None


def test_a_part_of_a_tensor_in_a_list(tmp_path):
    error = _run("d = [z]; d[0][:2] = 0", tmp_path)
    assert error is not None
    assert gradviz.explain(error, error.recording).fix.endswith("a copy: x = d[0].clone()")
    assert _run("d = [z]; x = d[0].clone(); x[:2] = 0", tmp_path) is None


def test_a_module_that_changes_a_saved_tensor(tmp_path):
    line = "m = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)); u = m(z).sum()"
    error = _run(line, tmp_path)
    assert error is not None
    fix = gradviz.explain(error, error.recording).fix
    assert fix == "make a new tensor: leave out inplace=True where m is made"
    assert _run(line.replace("inplace=True", ""), tmp_path) is None
