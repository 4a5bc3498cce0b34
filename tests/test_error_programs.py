"""Programs that raise: the right verdict and line, no false sentence, and a fix that works."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import error_programs_more  # noqa: F401  (registers its programs)
import pytest
import torch
from error_programs import PROGRAMS, ErrorProgram

from gradviz import Explanation, record
from gradviz.capture.tensors.names import Names
from gradviz.diagnosis.explain import answer
from gradviz.frontends.program import run_script

FOLDERS = ["plain", "my project 🦆"]


def run(text: str, folder: Path, recording: Any = None) -> Any:
    folder.mkdir(exist_ok=True)
    path = folder / "prog.py"
    path.write_text(text, encoding="utf-8")
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return run_script(str(path), within=recording)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.name)
def test_error_program(
    program: ErrorProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADVIZ_DEBUG", "1")
    monkeypatch.chdir(tmp_path)
    recording = record()
    done = run(program.text, tmp_path / FOLDERS[len(program.name) % 2], recording)
    assert (done.error is None) == (program.verdict == "")
    if done.error is not None:
        told = answer([done.error, recording], Names.of_namespace(done.namespace), None)
        assert isinstance(told, Explanation)
        print(told)
        assert told.verdict.value == program.verdict
        for words in program.says:
            assert words in told.reason
        for words in program.avoids:
            assert words not in told.reason
            assert words not in told.fix
        if program.line:
            line = f"prog.py:{program.line}"
            assert line in [each.rpartition("/")[2] for each in told.lines]
            assert line in told.reason
        for code in program.fix:
            assert code in told.fix


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda each: each.name)
def test_fixed_program(program: ErrorProgram, tmp_path: Path) -> None:
    if program.fixed != program.text or not program.verdict:
        done = run(program.fixed, tmp_path / "fixed")
        assert done.error is None, done.ending
        assert eval(program.then, done.namespace)


LIBRARY = """
import torch
def reset(w):
    w.zero_()
def finish(loss):
    loss.backward()
def plot(x):
    return x.numpy()
def train(w):
    return torch.optim.SGD([w * 1], lr=0.1)
def grow(w):
    w[0] = 1
"""


@pytest.mark.parametrize(
    ("call", "verdict", "line"),
    [
        ("reset(w)", "leaf changed in place", 4),
        ("finish(w * 2)", "not a scalar", 6),
        ("plot(w)", "numpy", 8),
        ("train(w)", "leaf required", 10),
        ("grow(w)", "leaf changed in place", 12),
    ],
)
def test_an_error_in_a_library_is_reported_where_the_user_calls_it(
    call: str, verdict: str, line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "vendor 🦆"))
    monkeypatch.delitem(sys.modules, "veclib", raising=False)
    (tmp_path / "vendor 🦆").mkdir()
    (tmp_path / "vendor 🦆" / "veclib.py").write_text(LIBRARY.lstrip(), encoding="utf-8")
    code = f"import torch\nimport veclib\nw = torch.ones(3, requires_grad=True)\nveclib.{call}\n"
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    done = run(code, tmp_path, recording := record())
    told = answer([done.error, recording], Names.of_namespace(done.namespace), None)
    assert isinstance(told, Explanation)
    assert told.verdict.value == verdict
    assert f"at prog.py:4 (veclib.{call}), inside vendor 🦆/veclib.py:{line - 1} (" in told.reason
