"""The command line, as a user meets it: streams, exit codes, one clear line per fault."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import children
import pytest
from click.testing import CliRunner

import gradviz
from gradviz.frontends.cli import cli
from gradviz.frontends.files import FORMATS

ROOT = Path(gradviz.__file__).parent.parent
PYTHONPATH = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

TRAIN = """
import sys
import torch

print("a word from the script")
x = torch.ones(3, requires_grad=True)
loss = (x * 2).sum()
out = {"logits": loss}
if "--fail" in sys.argv:
    raise ValueError("too far")
if "--late" in sys.argv:
    late = loss
if "--epochs" in sys.argv:
    print("arguments:", sys.argv[1:])
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TRAIN)


def run(*args):
    return CliRunner().invoke(cli, args, prog_name="gradviz")


def start(*args, code="", **options):
    """A real process; ``code`` runs in it first."""
    code += "; from gradviz.frontends.cli import main; main()"
    env = {**os.environ, "PYTHONPATH": PYTHONPATH, **options.pop("env", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    command = [sys.executable, "-c", code.lstrip("; "), *args]
    return children.start(command, env=env, text=True, **{**pipes, **options})


def finish(process):
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def test_text_goes_to_standard_output_and_the_scripts_words_aside():
    result = run("draw", "train.py:loss")
    assert result.exit_code == 0
    assert result.stdout.startswith("loss  f32[]")
    assert "x  f32[3]  leaf" in result.stdout
    assert result.stdout.endswith("\n")
    assert result.stderr == "a word from the script\n"


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_by_its_suffix(name):
    result = run("draw", "train.py:loss", "-o", f"loss.{name}")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "a word from the script\n"
    assert result.stderr == f"wrote loss.{name}\n"
    assert Path(f"loss.{name}").stat().st_size > 0


def test_several_outputs_from_one_run():
    result = run("draw", "train.py:loss", "-o", "a.svg", "-o", "b.json", "-o", "-", "-q")
    assert result.exit_code == 0
    assert Path("a.svg").read_text().startswith("<svg ")
    assert "gradviz" in json.loads(Path("b.json").read_text())
    assert result.stdout.startswith("loss  f32[]")
    assert result.stderr == "a word from the script\n"


@pytest.mark.parametrize("name", ["svg", "dot", "json", "mmd", "png"])
def test_a_dash_with_a_format(name):
    run("draw", "train.py:loss", "-o", "graph.json")
    result = run("draw", "graph.json", "-o", "-", "--format", name)
    run("draw", "graph.json", "-o", f"same.{name}")
    assert result.exit_code == 0
    assert result.stdout_bytes == Path(f"same.{name}").read_bytes()


def test_the_scripts_own_arguments():
    result = run("draw", "train.py:loss", "-o", "loss.txt", "--", "--epochs", "3", "--title")
    assert result.exit_code == 0
    assert "arguments: ['--epochs', '3', '--title']" in result.stdout


def test_a_saved_graph_is_drawn_as_the_script_was():
    run("draw", "train.py:loss", "-o", "graph.json", "-o", "first.svg")
    result = run("draw", "graph.json", "-o", "again.svg")
    assert result.exit_code == 0, result.stderr
    assert Path("again.svg").read_bytes() == Path("first.svg").read_bytes()


def test_a_saved_graph_needs_no_torch():
    run("draw", "train.py:loss", "-o", "graph.json")
    code, stdout, stderr = finish(
        start("draw", "graph.json", code="import sys; sys.modules['torch'] = None")
    )
    assert (code, stderr) == (0, "")
    assert stdout.startswith("loss  f32[]")


def test_a_name_that_was_asked_for_is_the_name_in_the_picture():
    Path("train.py").write_text(TRAIN + "\nl = loss\n")
    assert run("draw", "train.py:loss").stdout.startswith("loss  f32[]")
    assert run("draw", "train.py:out['logits']").stdout.startswith("out['logits']  f32[]")


def test_title_views_theme_and_direction_reach_the_picture():
    run("draw", "train.py:loss", "-o", "graph.json")

    def drawn(*options):
        return run("draw", "graph.json", "-o", "-", "--format", "svg", *options).stdout

    plain = drawn()
    assert "My picture" in drawn("--title", "My picture")
    assert "My picture" not in plain
    assert drawn("--views", "none") != plain
    assert drawn("--views", "hide_bookkeeping,clone_shared_leaves") == plain
    assert drawn("--direction", "gradient") != plain
    assert "prefers-color-scheme" in plain
    assert "prefers-color-scheme" not in drawn("--theme", "dark")


MISUSE = [
    (["draw"], "Missing argument"),
    (["drow", "train.py:loss"], "No such command 'drow'"),
    (["draw", "train.py:loss", "--epochs", "3"], r"the script's own options go after --"),
    (["draw", "train.py:loss", "other.py:loss"], "unexpected extra argument"),
    (["draw", "train.py:loss", "--theme", "blue"], "--theme must be one of auto, light, dark"),
    (["draw", "train.py:loss", "-o", "loss.tex"], "writes no TikZ; for LaTeX write .pdf or .eps"),
    (["draw", "train.py:loss", "-o", "loss.wav"], "the suffix '.wav' is none of .svg .png"),
    (["draw", "train.py:loss", "-o", "a.png", "--format", "svg"], "a.png is png by its suffix"),
    (["draw", "train.py:loss", "--views", "none,top:3"], "none stands alone: it cannot be"),
    (["draw", "train.py:loss", "--views", "nothing"], "no view 'nothing'; views are none, hide_"),
    (["draw", "train.py:f(x)"], "a name is like loss, main.loss"),
    (["draw", "train.py:los"], "train.py has no variable los; did you mean loss?"),
    (["draw", "train.py"], "it defines the tensors loss f32[], x f32[3]"),
    (["draw", "trian.py:loss"], "no file trian.py; did you mean train.py?"),
    (["draw", ":loss"], "':loss' names no script: a target is like train.py:loss"),
    (["saved", "train.py"], "say what of train.py to list"),
    (["summary", "train.py"], "try: gradviz summary train.py:loss"),
    (["compare", "train.py", "train.py:loss"], "say what"),
    (["explain", "graph.json:loss"], "cannot read graph.json: No such file"),
    (["summary", "graph.json:loss"], "is taken whole: gradviz summary graph.json"),
    (["draw", "train.py:sys"], "train.py:sys: "),
    (["draw", "no.json"], "cannot read no.json: No such file or directory"),
    (["draw", "graph.json", "--", "--epochs"], "is a saved graph and takes no"),
]  # fmt: skip


@pytest.mark.parametrize(("args", "said"), MISUSE)
def test_misuse_is_exit_code_2_and_says_what_to_do(args, said):
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert "Traceback" not in result.output


FAILURES = [
    (["draw", "train.py:late", "--", "--fail"], "did not get as far as late: ValueError: too far"),
    (["draw", "train.py:loss", "-o", "no/loss.svg"], "there is no folder no; make it with: mkdir"),
    (["draw", "train.py:loss", "-o", "train.py/loss.svg"], "train.py is a file, not a folder"),
    (["draw", "train.py:loss", "-o", "/dev/full", "--format", "svg"], "no space is left on the"),
    (["draw", "damaged.json"], "damaged.json is not JSON"),
    (["draw", "stdin.py:loss"], "stdin.py did not get as far as loss: it asked for input"),
    (["gallery", "train.py"], "train.py: it is a file, not a folder"),
]


@pytest.mark.parametrize(("args", "said"), FAILURES)
def test_a_failure_is_exit_code_1_and_one_line(args, said):
    Path("damaged.json").write_text('{"gradviz": 1, ')
    Path("stdin.py").write_text("loss = input()")
    result = run(*args)
    assert result.exit_code == 1
    last = result.stderr.splitlines()[-1]
    assert last.startswith("Error: ")
    assert said in last
    assert "Traceback" not in result.output
    assert sorted(map(str, Path().iterdir())) == ["damaged.json", "stdin.py", "train.py"]


def test_what_was_there_before_the_script_failed_is_drawn():
    result = run("draw", "train.py:loss", "-o", "loss.svg", "--", "--fail")
    assert result.exit_code == 1
    assert Path("loss.svg").exists()
    assert result.stderr.splitlines() == [
        "wrote loss.svg",
        "Warning: train.py failed after it had set loss: ValueError: too far (train.py:10); "
        "drawn as it was then",
    ]


def test_the_folder_is_missed_before_the_script_runs():
    result = run("draw", "train.py:loss", "-o", "no/loss.svg")
    assert "a word from the script" not in result.output


def test_debug_shows_the_traceback():
    result = run("draw", "train.py:los", "--debug")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last == "Error: train.py has no variable los; did you mean loss?"


@pytest.mark.parametrize("name", ["loss", "late"])
def test_debug_shows_the_traceback_of_the_script(name):
    result = run("draw", f"train.py:{name}", "-o", "loss.txt", "--debug", "--", "--fail")
    assert result.exit_code == 1
    assert 'raise ValueError("too far")' in result.stderr
    assert "too far" in result.stderr.splitlines()[-1]


def test_what_c_code_and_children_of_the_script_print_goes_aside_too():
    Path("train.py").write_text(
        "import os\nos.system('echo child')\nos.write(1, b'descriptor\\n')\nprint('python')\n"
        + TRAIN
    )
    code, stdout, stderr = finish(start("draw", "train.py:loss", "-o", "-", "--format", "json"))
    assert code == 0
    assert json.loads(stdout)["gradviz"]
    assert stderr.splitlines() == ["child", "descriptor", "python", "a word from the script"]


def test_ctrl_c_is_one_line_and_leaves_nothing():
    Path("train.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\nloss = 1")
    process = start("draw", "train.py:loss", "-o", "loss.svg")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    code, stdout, stderr = finish(process)
    assert code == 130
    assert stdout == ""
    assert stderr.strip() == "gradviz: stopped; nothing was left half-written"
    assert [str(path) for path in Path().iterdir()] == ["train.py"]


def test_a_reader_that_goes_away_is_no_traceback():
    process = start("draw", "train.py:loss", "-o", "-", "--format", "svg")
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 1
    assert stderr == "a word from the script\n"


@pytest.mark.parametrize(
    "args",
    [
        ["summary", "train.py:loss"],
        ["saved", "train.py:loss"],
        ["explain", "train.py:loss"],
        ["--help"],
        ["--version"],
        ["draw", "--help"],
    ],
)
def test_a_full_disk_behind_what_is_printed(args):
    with Path("/dev/full").open("w") as full:
        code, _, stderr = finish(start(*args, stdout=full))
    assert code == 1
    words = "Error: cannot write to standard output: no space is left on the disk; free some"
    assert stderr.replace("a word from the script\n", "").startswith(words)
    assert len(stderr.replace("a word from the script\n", "").splitlines()) == 1


def test_a_full_disk_behind_standard_output():
    with Path("/dev/full").open("w") as full:
        code, _, stderr = finish(start("draw", "train.py:loss", stdout=full))
    assert code == 1
    assert stderr.splitlines()[1:] == [
        "Error: cannot write to standard output: no space is left on the disk; free some, or "
        "write elsewhere"
    ]


def test_no_colours_and_no_progress_where_there_is_no_terminal():
    _, stdout, stderr = finish(start("draw", "train.py:los"))
    assert "\x1b" not in stdout + stderr


def test_python_m_gradviz_is_the_same_and_the_help_needs_no_torch():
    code = "import runpy; runpy.run_module('gradviz', run_name='__main__')"
    env = {**os.environ, "PYTHONPATH": PYTHONPATH}
    blocked = f"import sys; sys.modules['torch'] = None; sys.argv[1:] = ['--help']; {code}"
    done = subprocess.run([sys.executable, "-c", blocked], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Usage: gradviz [OPTIONS] COMMAND")
    assert "gradviz draw train.py:loss -o loss.svg" in done.stdout


def test_the_version_names_torch_and_the_layout_engines():
    result = run("--version")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"gradviz {gradviz.__version__}"
    assert result.stdout.splitlines()[1].startswith("torch 2.")
    assert result.stdout.splitlines()[2].startswith("layout: ")


@pytest.mark.parametrize("command", ["draw", "gallery"])
def test_each_command_has_help(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"Usage: gradviz {command}" in result.stdout


def test_shell_completion_is_there():
    code, stdout, _ = finish(start(env={"_GRADVIZ_COMPLETE": "bash_source"}))
    assert code == 0
    assert "_gradviz_completion" in stdout
