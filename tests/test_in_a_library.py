"""Cuts and changes inside a library are reported at the line of the program that called it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from recording import strict

from gradviz import record
from gradviz.capture.tensors.names import Names
from gradviz.diagnosis.explain import answer
from gradviz.facts import EventKind
from gradviz.frontends.program import run_script
from gradviz.graph import EdgeKind
from gradviz.serialize import loads, to_json

__all__ = ["strict"]

_LIBRARY = """
import torch

def embed(module, x):
    return module(x).detach()

def scaled(x):
    x.mul_(2)
    return x

@torch.no_grad()
def outer(module, x):
    return inner(module, x)

def inner(module, x):
    return module(x)

def read(x, how):
    return getattr(x, how)(*[1] * (how == "add_"))

def doubled(x):
    with torch.no_grad():
        return x * 2
"""
_PROGRAM = """
import torch, lib_of_others
from torch import nn

torch.manual_seed(0)
a, b = nn.Linear(2, 2), nn.Linear(2, 2)
{line}  # line 7
(b(h) * 1).sum().backward()
"""


def _recorded(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, library: str = "site-packages"
) -> tuple[Any, Any]:
    place = folder / library
    place.mkdir()
    (place / "lib_of_others.py").write_text(_LIBRARY, encoding="utf-8")
    program = folder / "my 'größe' 🎉.py"
    program.write_text(_PROGRAM.format(line=line), encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.delitem(sys.modules, "lib_of_others", raising=False)
    recording = record()
    done = run_script(str(program), within=recording)
    return recording, done


@pytest.mark.parametrize("library", ["site-packages", "vendored parts"])
@pytest.mark.parametrize(
    ("line", "word", "inside"),
    [
        ("h = lib_of_others.embed(a, torch.ones(3, 2))", "detach", 5),
        ("h = lib_of_others.outer(a, torch.ones(3, 2))", "no_grad", 16),
    ],
)
def test_a_cut_has_both_lines(
    line: str, word: str, inside: int, library: str, tmp_path: Path, monkeypatch: Any
) -> None:
    recording, done = _recorded(line, tmp_path, monkeypatch, library)
    graph = recording.story[-1].graph
    edges = [edge for *_, edge in graph.edges(data=True) if edge["kind"] is EdgeKind.CUT]
    cut = next(edge for edge in edges if edge.get("cause") is not None and "inside" in edge)
    assert cut["source"].endswith(".py:7")
    assert cut["inside"] == f"{library}/lib_of_others.py:{inside}"
    names = Names.of_namespace(done.namespace)
    told = answer([done.namespace["a"].weight, recording], names, None)
    assert f"{word}" in told.reason and ".py:7 (" in told.reason
    assert f", inside {library}/lib_of_others.py:{inside}" in told.reason
    assert [at.line for at in told.locations][:2] == [7, inside]  # and where no_grad began
    if library == "site-packages":
        assert ".py:7: call a function of that library" in told.fix
    else:
        assert told.fix.startswith(f"{library}/lib_of_others.py:{inside}: ")


def test_events_have_both_lines_and_keep_them_in_a_file(tmp_path: Path, monkeypatch: Any) -> None:
    recording, _ = _recorded("h = lib_of_others.embed(a, torch.ones(3, 2))", tmp_path, monkeypatch)
    (cut,) = [event for event in recording.events if event.kind is EventKind.CUT]
    assert (cut.location.line, cut.inside.line) == (7, 5)
    assert "(inside site-packages/lib_of_others.py:5)" in str(cut)
    text = to_json(recording.story)
    assert '"gradviz": 2' in text
    assert [event for event in loads(text).events if event.inside] == [
        event for event in recording.events if event.inside
    ]
    assert to_json(loads(text)) == text


def test_what_the_program_does_itself_has_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    recording, _ = _recorded("h = a(torch.ones(3, 2)).detach()", tmp_path, monkeypatch)
    assert not any(event.inside for event in recording.events)
    assert '"inside"' not in to_json(recording.story)


def test_a_change_in_place_has_both_lines(tmp_path: Path, monkeypatch: Any) -> None:
    line = "h = a(torch.ones(3, 2)).sigmoid(); lib_of_others.scaled(h)"
    recording, done = _recorded(line, tmp_path, monkeypatch)
    told = answer([done.error, recording], Names.of_namespace(done.namespace), None)
    assert "mul_ at " in told.reason
    assert ", inside site-packages/lib_of_others.py:8 (x.mul_(2)), changed it" in told.reason
    assert "give the library a copy: h.clone()" in told.fix


@pytest.mark.parametrize(
    ("call", "word"),
    [
        ("read(w, 'detach')", "detach"),
        ("read(w, 'item')", "item"),
        ("read(plain, 'add_')", "add_"),
        ("doubled(w)", "mul"),
    ],
)
def test_each_of_several_calls_of_a_library_has_its_line(
    call: str, word: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """A repeated call shares the record of the latest, unless another line called the library."""
    called = f"lib_of_others.{call}"
    line = "w, plain = torch.ones((), requires_grad=True), torch.ones(1)\n"
    line += f"for _ in range(3): {called}\n{called}\nfor _ in range(2): {called}\nh = w * a.weight"
    recording, _ = _recorded(line, tmp_path, monkeypatch)
    lines = [event.location.line for event in recording.story.events if event.word == word]
    assert [each for each in lines if each < 11] == [8, 8, 8, 9, 10, 10]
    assert recording.story.notes == ()


def test_the_copy_that_the_fix_asks_for_is_right(tmp_path: Path, monkeypatch: Any) -> None:
    line = "h = a(torch.ones(3, 2)).sigmoid(); lib_of_others.scaled(h.clone())"
    _, done = _recorded(line, tmp_path, monkeypatch)
    assert done.error is None and done.namespace["a"].weight.grad is not None


def test_a_trainer_of_a_library_uses_the_names_of_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "trainer_of_others.py").write_text(
        "def fit(of_library, x):\n    for _ in range(2):\n        of_library(x).sum().backward()\n"
    )
    program = tmp_path / "train.py"
    program.write_text(
        "import torch, trainer_of_others\ndef main():\n    net = torch.nn.Linear(2, 1)\n"
        "    trainer_of_others.fit(net, torch.ones(3, 2))\nmain()\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    recording = record()
    run_script(str(program), within=recording)
    names = {data.get("name") for _, data in recording.frames[-1].graph.nodes(data=True)}
    assert {"net.weight", "net.bias"} <= names
