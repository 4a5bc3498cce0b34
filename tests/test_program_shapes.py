"""Every command answers for every shape of a program, and stops as soon as it can."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from program_shapes import SHAPES, source_of

from gradviz.frontends.cli import cli


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.split(".")[0] in ("train", "package"):
            del sys.modules[name]


def run(shape: str, command: str, *options: str, variable: str = "") -> Result:
    _, how, arguments = SHAPES[shape]
    *flags, place = how
    if place.startswith("package."):
        folder = Path("package")
        folder.mkdir(exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "lessons.py").write_text("steps = 20\n")
        path = folder / "train.py"
    else:
        path = Path(place if place.endswith(".py") else "train.py")
    path.write_text(source_of(shape), encoding="utf-8")
    target = f"{place.partition(':')[0]}:{variable}" if variable else place
    words = [command, *flags, target, *options]
    return CliRunner().invoke(cli, [*words, "--", *arguments] if arguments else words)


@pytest.mark.parametrize("shape", SHAPES)
def test_draw_without_a_name_stops_after_the_first_step(shape: str, start: Path) -> None:
    result = run(shape, "draw")
    assert result.exit_code == 0, result.output
    assert "weight  f32[" in result.stdout
    assert ".grad  None" not in result.stdout
    assert "trained" not in result.output
    assert "gradviz: stopped after backward 1 (" in result.stderr


@pytest.mark.parametrize("shape", [each for each in SHAPES if each != "module:function"])
def test_a_variable_is_found_wherever_it_lives(shape: str, start: Path) -> None:
    result = run(shape, "draw", variable="loss")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("loss  f32[]")
    assert "trained" not in result.output


@pytest.mark.parametrize("shape", SHAPES)
def test_explain_answers_for_every_parameter(shape: str, start: Path) -> None:
    result = run(shape, "explain")
    assert result.exit_code == 0, result.output
    assert "parameters  fine" in result.stdout
    assert "trained" not in result.output


@pytest.mark.parametrize("shape", SHAPES)
def test_run_runs_to_the_end(shape: str, start: Path) -> None:
    result = run(shape, "run")
    assert (result.exit_code, result.stdout) == (0, "trained\n"), result.output


@pytest.mark.parametrize("shape", SHAPES)
def test_record_ends_after_a_number_of_passes(shape: str, start: Path) -> None:
    result = run(shape, "record", "--step", "2", "-o", "story.json")
    assert result.exit_code == 0, result.output
    assert "gradviz: stopped after backward 2 (" in result.stderr
    assert "trained" not in result.output
    again = CliRunner().invoke(cli, ["draw", "story.json"])
    assert again.exit_code == 0
    assert "weight" in again.stdout
