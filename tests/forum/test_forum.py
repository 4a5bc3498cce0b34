"""Programs after questions that are asked again and again: each gets the right verdict and line.

A program says at its top what is asked, and what the right answer is. The line to be named ends
in ``# here``. Those in ``threads`` are each written after one thread, named by its title and
address; ``README.md`` tells how their first run went.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from gradviz import record
from gradviz.capture.tensors.names import Names
from gradviz.diagnosis import Explanation
from gradviz.diagnosis.explain import answer
from gradviz.frontends.program import run_script

HERE = Path(__file__).parent
THREADS = sorted(HERE.glob("threads/*.py"))
PROGRAMS = [*sorted(HERE.glob("programs/*.py")), *THREADS]


def header(text: str, word: str) -> str:
    found = re.search(rf"^# {word}: (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.stem)
def test_question(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADVIZ_DEBUG", "1")
    text = program.read_text()
    recording = record()
    with torch.enable_grad():  # a program may leave them off
        done = run_script(str(program), within=recording)
    names = Names.of_namespace(done.namespace)
    ask = header(text, "ask")
    if ask == "error":
        assert done.error is not None
        told = answer([done.error, recording], names, None)
    else:
        assert done.error is None
        told = answer([eval(ask, done.namespace), recording], names, None)
    assert isinstance(told, Explanation)
    assert told.verdict.value == header(text, "verdict")
    assert told.fix
    assert header(text, "says") in told.reason
    here = [at for at, line in enumerate(text.splitlines(), 1) if line.endswith("# here")]
    if here:
        assert f"{program.name}:{here[0]}" in [line.rpartition("/")[2] for line in told.lines]
        assert f"{program.name}:{here[0]}" in told.reason


def test_every_thread_is_named_and_there_are_twenty() -> None:
    assert len(THREADS) >= 20
    for program in THREADS:
        title, _, address = program.read_text().split("\n")[:3]
        assert title.startswith('"""')
        assert address.startswith("https://")
