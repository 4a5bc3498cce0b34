"""Big models on the command line: how deep, which part, all of it, and the summary."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import children
import pytest
from click.testing import CliRunner, Result

import gradviz
from gradviz.frontends.cli import cli
from gradviz.frontends.command_graph import draw
from gradviz.frontends.options import OPTIONS
from gradviz.views import SCALES

HERE = Path(__file__).parent
ROOT = Path(gradviz.__file__).parent.parent

TRAIN = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from folding import stack
loss, model = stack(12)
if "--backward" in sys.argv:
    loss.backward()
"""


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TRAIN)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A saved graph, so that not each test runs the script."""
    folder = tmp_path_factory.mktemp("saved")
    (folder / "train.py").write_text(TRAIN)
    path = folder / "graph.json"
    done = run("draw", str(folder / "train.py:loss"), "-o", str(path), "--", "--backward")
    assert done.exit_code == 0, done.stderr
    return str(path)


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args, prog_name="gradviz")


def drawn(*args: str) -> str:
    done = run("draw", *args)
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_depth_draws_modules_of_the_script_by_the_names_of_its_model() -> None:
    text = drawn("train.py:loss", "--depth", "1")
    assert "model.entry" in text
    assert "model.layers.0…11  ×12" in text
    assert "model.layers.0." not in text
    assert "by module (depth 1)" in text


def test_a_deeper_depth_shows_more(graph: str) -> None:
    lines = [len(drawn(graph, "--depth", depth).splitlines()) for depth in "1239"]
    assert lines[0] == lines[1] < lines[2] == lines[3]
    assert "model.layers.0.widen  Linear" in drawn(graph, "--depth", "3")


@pytest.mark.parametrize(
    ("name", "there", "absent"),
    [
        ("model.layers.3", "model.layers.3.widen.weight", "model.layers.7"),
        ("layers.3", "model.layers.3.widen.weight", "model.layers.7"),
        ("layers.3.widen.weight", "model.layers.3.widen.weight", "model.layers.7"),
        ("layers.*.norm", "model.layers.7.norm.weight", "model.layers.7.narrow.weight"),
        ("layer_norm", "model.layers.7.norm.weight", "model.layers.7.narrow.weight"),
    ],
)
def test_focus_takes_names_patterns_and_operations(
    graph: str, name: str, there: str, absent: str
) -> None:
    text = drawn(graph, "--focus", name, "--radius", "1")
    assert there in text
    assert absent not in text
    assert "more" in text


def test_every_group_says_how_to_look_inside_and_it_works(graph: str) -> None:
    done = run("draw", graph, "--depth", "3", "-o", "deep.svg")
    assert done.exit_code == 0
    svg = Path("deep.svg").read_text()
    ways = [line.split("--focus ")[1] for line in svg.splitlines() if "--focus " in line]
    assert len(ways) == svg.count("folded\n") > 4  # each in a tooltip of its own
    for way in set(ways):
        assert f"in focus: {way}" in drawn(graph, "--focus", way)


def test_a_group_without_a_module_is_opened_by_its_first_operation() -> None:
    Path("chain.py").write_text(
        "import torch\nx = y = torch.ones(3, requires_grad=True)\n"
        "for _ in range(500): y = (y * 2).sin().exp()\n"
    )
    run("draw", "chain.py:y", "-o", "chain.svg", "-o", "chain.json")
    (way,) = {
        line.split("--focus ")[1]
        for line in Path("chain.svg").read_text().splitlines()
        if "to see its inside" in line
    }
    assert way.startswith("n")
    assert f"in focus: {way}" in drawn("chain.json", "--focus", way)


def test_all_folds_nothing(graph: str) -> None:
    text = drawn(graph, "--all")
    for layer in range(12):
        assert f"model.layers.{layer}.widen.weight" in text
    assert "folded" not in text


def test_a_large_picture_is_warned_of_before_it_is_laid_out() -> None:
    Path("chain.py").write_text(
        "import torch\nx = y = torch.ones(3, requires_grad=True)\n"
        "for _ in range(700): y = (y * 2).sin()\n"
    )
    done = run("draw", "chain.py:y", "--all", "-o", "all.svg", "-o", "chain.json")
    assert done.exit_code == 0
    assert "Warning: 1,402 nodes to draw, which may take about 1 s; --depth 2" in done.stderr
    for quiet in (["-o", "all.txt"], ["-o", "all.svg", "-q"]):
        assert "Warning" not in run("draw", "chain.json", "--all", *quiet).stderr
    assert "Warning" not in run("draw", "chain.json", "-o", "fit.svg").stderr


@pytest.mark.parametrize("by", SCALES)
def test_color_by_is_said_in_the_picture(graph: str, by: str) -> None:
    # Backward has run, so that nothing is kept any more.
    said = "(nothing is kept for backward here)" if by == "saved_bytes" else "(column: "
    assert said in drawn(graph, "--color-by", by)
    assert drawn(graph, "--color-by", by) == drawn(graph, "--color-by", by)
    assert drawn(graph, "--depth", "1", "--color-by", by) != drawn(graph, "--depth", "1")


def test_the_command_offers_every_scale() -> None:
    (option,) = [option for option in draw.params if option.name == "color_by"]
    assert tuple(OPTIONS[option.name].choices) == SCALES


MISUSE = [
    (["draw", "x.json", "--depth", "0"], "--depth must be an integer >= 1, got '0'"),
    (["draw", "x.json", "--depth", "1", "--focus", "fc"], "--depth and --focus exclude each other"),
    (["draw", "x.json", "--focus", "fc", "--all"], "--focus and --all exclude each other"),
    (["draw", "x.json", "--all", "--views", "none"], "--all and --views exclude each other"),
    (["draw", "x.json", "--views", "focus_on"], "the view focus_on needs a target: focus_on:NAME"),
    (["draw", "x.json", "--radius", "3"], "--radius says how much to draw around a --focus"),
    (
        ["draw", "x.json", "--focus", "fc", "--radius", "-1"],
        "--radius must be an integer >= 0",
    ),
    (["draw", "x.json", "--color-by", "norm"], "--color-by must be one of grad_norm, saved_bytes"),
    (["summary", "x.json", "--depth", "0"], "--depth must be an integer >= 1, got '0'"),
    (["summary", "x.json", "--", "--epochs"], "is a saved graph and takes no arguments"),
    (["summary", "train.py"], "it defines the tensors loss"),
    (["summary", "train.py:model"], "train.py:model: "),
]


@pytest.mark.parametrize(("args", "said"), MISUSE)
def test_misuse_is_exit_code_2_and_one_line(args: list[str], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert said in last
    assert "Traceback" not in result.output


def test_a_name_that_is_not_there_is_misuse_with_those_that_come_close(graph: str) -> None:
    result = run("draw", graph, "--focus", "layers.3.widn")
    assert result.exit_code == 2
    assert "nothing is called 'layers.3.widn'; there are model.layers.3.widen" in result.stderr


def test_summary_is_plain_text_when_piped(graph: str) -> None:
    done = run("summary", graph, "--depth", "1")
    assert done.exit_code == 0, done.stderr
    assert "\x1b" not in done.stdout
    lines = [line.lstrip("├─└│ ").split() for line in done.stdout.splitlines()]
    rows = {line[0]: line[1:] for line in lines if line}
    assert "3.74k" in rows["layers"]
    assert rows["total"][1] == "3.84k"
    assert rows["total"][0] == "90"


def test_summary_runs_a_script_and_keeps_its_words_aside() -> None:
    Path("train.py").write_text(TRAIN + "print('a word from the script')\n")
    done = run("summary", "--full", "train.py:loss", "--", "--backward")
    assert done.exit_code == 0
    assert "a word" not in done.stdout
    assert done.stderr == "a word from the script\n"
    assert "─ 11" in done.stdout
    assert "freed" in done.stdout


def test_summary_of_a_script_that_failed_is_told_and_exit_code_1() -> None:
    Path("train.py").write_text(TRAIN + "raise ValueError('too far')\n")
    done = run("summary", "train.py:loss")
    assert done.exit_code == 1
    assert "total" in done.stdout
    assert "summed up as it was then" in done.stderr


def test_summary_has_colours_on_a_terminal(graph: str) -> None:
    mine, its = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gradviz", "summary", graph, "--depth", "1"]
    done = subprocess.run(command, stdout=its, stderr=subprocess.PIPE, env=env, check=False)
    os.close(its)
    written = os.read(mine, 100_000).decode()
    os.close(mine)
    assert done.returncode == 0, done.stderr
    assert "\x1b[1m" in written
    assert "─ layers" in written


STAGES = {
    "running": ("gradviz.frontends.program", "run_script"),
    "tracing": ("gradviz.capture.tracer", "trace_subjects"),
    "folding": ("gradviz.frontends.drawing", "apply"),
    "layout": ("gradviz.renderers.compose", "lay_out"),
    "drawing svg": ("gradviz.frontends.drawing", "iter_svg"),
}

SLOW = """
import importlib, sys, time
module, name, seconds = sys.argv[1:4]
del sys.argv[1:4]
module = importlib.import_module(module)
real = getattr(module, name)
def slow(*arguments, **options):
    print("here", flush=True)
    time.sleep(float(seconds))
    return real(*arguments, **options)
setattr(module, name, slow)
from gradviz.frontends.cli import main
main()
"""


def slow(stage: str, seconds: float, stderr: int = subprocess.PIPE) -> subprocess.Popen[str]:
    """A real process that takes long over one stage, and says when it is there."""
    arguments = [*STAGES[stage], str(seconds), "draw", "train.py:loss", "-o", "loss.svg"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "80"}
    return children.start(
        [sys.executable, "-c", SLOW, *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        stdin=subprocess.DEVNULL,
        env=env,
        text=True,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_at_any_stage_is_one_line_and_leaves_nothing(stage: str) -> None:
    process = slow(stage, 60)
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130, stderr
    assert stderr.strip() == "gradviz: stopped; nothing was left half-written"
    assert [path.name for path in Path().iterdir()] == ["train.py"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_takes_long_says_its_name_on_a_terminal(stage: str) -> None:
    mine, its = pty.openpty()
    process = slow(stage, 2.5, stderr=its)
    os.close(its)
    process.communicate(timeout=120)
    assert process.returncode == 0
    written = os.read(mine, 100_000).decode()
    os.close(mine)
    assert f"{stage} " in written.replace("\r\n", "\n")
    assert "\x1b[?25h" in written or stage == "running"  # the cursor is there again


def test_a_script_that_draws_shows_the_stage_too() -> None:
    Path("draw.py").write_text(
        "import time, gradviz, gradviz.renderers.compose as panel\n"
        "real = panel.lay_out\n"
        "panel.lay_out = lambda *a, **k: (time.sleep(2.5), real(*a, **k))[1]\n"
        "import torch\n"
        "gradviz.draw(torch.ones(2, requires_grad=True).sum()).save('x.svg')\n"
    )
    mine, its = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    done = subprocess.run([sys.executable, "draw.py"], stderr=its, env=env, check=False)
    os.close(its)
    written = os.read(mine, 100_000).decode()
    os.close(mine)
    assert done.returncode == 0
    assert "layout ..." in written


def test_the_description_says_which_engine_drew_a_big_picture_and_why() -> None:
    Path("chain.py").write_text(
        "import torch\nx = y = torch.ones(3, requires_grad=True)\n"
        "for _ in range(400): y = (y * 2).sin()\n"
    )
    run("draw", "chain.py:y", "--all", "-o", "all.svg", "-o", "chain.json")
    described = Path("all.svg").read_text().split("<desc")[1].split("</desc>")[0]
    assert "Layout: gradviz layered (a large graph)" in described
    assert "folded" not in described
    assert "of 800 operations folded into 1 group by repeats" in drawn("chain.json")
