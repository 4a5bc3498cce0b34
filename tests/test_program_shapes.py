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


SHADOWS = """
import click, sys
sys.setrecursionlimit(150)
import torch
print(click.shout())
w = torch.ones(2, requires_grad=True)
loss = (w * 2).sum()
loss.backward()
"""


def test_a_file_of_the_program_wins_over_an_installed_module(start: Path) -> None:
    Path("click.py").write_text("def shout(): return 'mine'\n")
    Path("shadows.py").write_text(SHADOWS)
    limit, module = sys.getrecursionlimit(), sys.modules["click"]
    result = CliRunner().invoke(cli, ["draw", "shadows.py:loss", "-o", "x.svg"])
    assert result.exit_code == 0, result.output
    assert "mine" in result.output
    assert (sys.getrecursionlimit(), sys.modules["click"]) == (limit, module)


SLOW = """
import signal, sys, torch
w = torch.ones(2, requires_grad=True)
for _ in range(3):
    loss = (w * 2).sum()
    loss.backward()
raise KeyboardInterrupt
"""


def test_ctrl_c_while_recording_draws_what_there_is(start: Path) -> None:
    Path("slow.py").write_text(SLOW)
    result = CliRunner().invoke(cli, ["record", "slow.py", "-o", "s.svg"])
    assert result.exit_code == 130
    assert "slow.py was stopped by Ctrl-C; drawn as far as it came" in result.stderr
    assert "after backward 1" in Path("s.svg").read_text()


def test_run_shows_the_traceback_of_ctrl_c(start: Path) -> None:
    Path("slow.py").write_text(SLOW)
    result = CliRunner().invoke(cli, ["run", "slow.py"])
    assert result.exit_code == 130
    assert result.stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_line_a_function_and_a_number_of_a_pass(start: Path) -> None:
    line = source_of("main()").splitlines().index("        loss.backward()") + 1
    for variable in ("main.loss", str(line)):
        result = run("main()", "draw", variable=variable)
        assert result.stdout.startswith("loss  f32[]"), result.output
    third = run("main()", "draw", "--step", "3")
    assert f"gradviz: stopped after backward 3 (train.py:{line})" in third.stderr
    late = run("main()", "draw", "--step", "99")
    assert "train.py ran backward 20 times, and --step asks for pass 99" in late.stderr


def test_options_without_effect_are_refused(start: Path) -> None:
    result = run("main()", "draw", "--transparent", "-o", "x.html")
    assert result.exit_code == 2
    assert "--transparent has no effect on html: it is for svg, png, pdf, dot" in result.stderr
    assert not Path("x.html").exists()
