"""Every command answers for every shape of a program, and stops as soon as it can."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result
from program_shapes import SHAPES, source_of

from gradviz.frontends import variables
from gradviz.frontends.cli import cli
from gradviz.recording import passes


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(variables, "_QUICK_PASSES", 0)  # as if each pass took long
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


def in_a_process(*words: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-m", "gradviz", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


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
    is_cleared = any(word in SHAPES[shape][0] for word in ("zero_grad", "grad = None"))
    assert ("parameters  fine" if is_cleared else "accumulated  2 backward passes") in result.stdout
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
    assert "weight" in again.stdout or "parameters of " in again.stdout


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


def test_ctrl_c_while_explaining_answers_with_what_there_is(start: Path) -> None:
    Path("slow.py").write_text(SLOW)
    result = CliRunner().invoke(cli, ["explain", "slow.py", "--full"])
    assert result.exit_code == 130
    assert result.stdout.startswith("w  accumulated  3 backward passes"), result.stdout
    assert "it was stopped by Ctrl-C (slow.py:7); explained as it was then" in result.stderr
    CliRunner().invoke(cli, ["record", "slow.py", "-o", "s.json"])
    saved = CliRunner().invoke(cli, ["explain", "s.json"]).stdout
    assert saved.startswith("w  accumulated  3 backward passes")


class Monitoring:
    """The part of ``sys.monitoring`` (3.12) that is used, on top of a profile function."""

    events = SimpleNamespace(PY_RETURN=1, PY_UNWIND=2)

    def __init__(self) -> None:
        self.tools: dict[int, str] = {4: "another tool"}
        self.codes: dict[object, int] = {}
        self.calls: dict[int, Any] = {}

    def get_tool(self, tool: int) -> str | None:
        return self.tools.get(tool)

    def use_tool_id(self, tool: int, name: str) -> None:
        self.tools[tool] = name

    def free_tool_id(self, tool: int) -> None:
        del self.tools[tool]

    def register_callback(self, tool: int, event: int, call: Any) -> None:
        self.calls[event] = call

    def set_local_events(self, tool: int, code: object, events: int) -> None:
        self.codes[code] = events

    def set_events(self, tool: int, events: int) -> None:
        def profile(frame: Any, event: str, value: object) -> None:
            if event == "return" and self.codes.get(frame.f_code):
                here = SimpleNamespace(_getframe=lambda _: frame)
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(passes, "sys", here)
                    self.calls[1](frame.f_code, 0, value)

        sys.setprofile(profile if events else None)


def test_locals_are_found_by_monitoring(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("train.py").write_text(
        "import torch\ndef make():\n    loss = (torch.ones(2, requires_grad=True) * 2).sum()\n"
        "    return 1\nmake()\n"
    )
    monitoring = Monitoring()
    monkeypatch.setattr(sys, "monitoring", monitoring, raising=False)
    result = CliRunner().invoke(cli, ["draw", "train.py:make.loss"])
    assert result.stdout.startswith("loss  f32[]  =  4"), result.output
    assert monitoring.tools == {4: "another tool"}
    assert sys.getprofile() is None


def test_a_program_that_closes_standard_output(start: Path) -> None:
    Path("train.py").write_text("import sys\nsys.stdout.close()\n" + SLOW.partition("raise")[0])
    result = CliRunner().invoke(cli, ["explain", "train.py"])
    assert (result.exit_code, result.stdout[:14]) == (0, "w  accumulated")
    assert "stopped after backward 2" in result.stderr


def test_an_error_without_text(start: Path) -> None:
    error = "class E(Exception):\n    def __str__(self): raise ValueError('no')\nraise E\n"
    Path("train.py").write_text(error)
    result = CliRunner().invoke(cli, ["run", "train.py"])
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert result.stderr.endswith("E: <exception str() failed>\n")


def test_sizes_that_are_not_known_are_not_counted(start: Path) -> None:
    run("top level", "record", "--step", "1", "-o", "story.json")
    text = Path("story.json").read_text()
    Path("story.json").write_text(text.replace("[4,3]", "[-4,3]").replace("[4, 3]", "[-4, 3]"))
    assert "[-4" in Path("story.json").read_text().replace(" ", "")
    table = CliRunner().invoke(cli, ["summary", "story.json"]).stdout
    assert "-" not in table.replace("grad norm", "")
    assert [e.split()[2] for e in table.splitlines() if e.startswith("total")] == ["9"]


def test_run_shows_the_traceback_of_ctrl_c(start: Path) -> None:
    Path("slow.py").write_text(SLOW)
    result = CliRunner().invoke(cli, ["run", "slow.py"])
    assert (result.exit_code, result.stderr.split()[-1]) == (130, "KeyboardInterrupt")


def test_a_line_a_function_and_a_number_of_a_pass(start: Path) -> None:
    line = source_of("main()").splitlines().index("        loss.backward()") + 1
    for variable in ("main.loss", str(line)):
        result = run("main()", "draw", variable=variable)
        assert result.stdout.startswith("loss  f32[]"), result.output
    third = run("main()", "draw", "--step", "3")
    assert f"gradviz: stopped after backward 3 (train.py:{line})" in third.stderr
    late = run("main()", "draw", "--step", "99")
    assert "train.py ran backward 20 times, and --step asks for pass 99" in late.stderr
    local = run("main()", "draw", "--step", "99", variable="main.loss")
    assert "train.py ran backward 20 times, and --step asks for pass 99" in local.stderr


def test_options_without_effect_are_refused(start: Path) -> None:
    result = run("main()", "draw", "--transparent", "-o", "x.html")
    assert result.exit_code == 2
    assert "--transparent has no effect on html: it is for svg, png, pdf, eps, dot" in result.stderr
    assert not Path("x.html").exists()


NEVER_CLEARED = """\
import torch
from torch import nn


def main():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        loss = model(torch.ones(4, 3)).pow(2).mean()
        loss.backward()
        optimizer.step()


main()
"""


FAILS_IN_A_THREAD = """\
import threading
import torch


def train():
    w = torch.ones(3, requires_grad=True)
    y = (w * 2).exp()
    y.add_(1)
    y.sum().backward()


thread = threading.Thread(target=train)
thread.start()
thread.join()
print("joined")
"""


def test_an_error_in_a_thread_is_explained(start: Path) -> None:
    Path("train.py").write_text(FAILS_IN_A_THREAD)
    ran = in_a_process("run", "train.py")
    assert (ran.returncode, ran.stdout) == (0, "joined\n"), ran.stderr
    assert ran.stderr.count("Traceback") == 1 and "in <module>" not in ran.stderr
    assert "fix: make a new tensor: y = y.add(1)\n" in ran.stderr
    explained = in_a_process("explain", "train.py")
    assert explained.returncode == 1
    assert "fix: make a new tensor: y = y.add(1)\n" in explained.stdout


IN_THREADS = """
import threading
import torch
from torch import nn

def work(seed, done):
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(20):
        optimizer.zero_grad()
        loss = model(torch.ones(2, 3)).pow(2).mean()
        loss.backward()
        optimizer.step()
    done.append(seed)

done = []
threads = [threading.Thread(target=work, args=(n, done), name=f"worker-{n}") for n in range(3)]
for each in threads:
    each.start()
for each in threads:
    each.join()
print("trained", sorted(done))
"""


@pytest.mark.parametrize("command", ["draw", "explain", "summary", "memory"])
def test_one_of_several_threads_is_answered_for(command: str, start: Path) -> None:
    Path("train.py").write_text(IN_THREADS)
    for _ in range(3):
        asked = in_a_process(command, "train.py")
        assert asked.returncode == 0, asked.stderr
        assert "2 parameters  fine" in asked.stdout or command != "explain"
        assert "Traceback" not in asked.stderr and "trained" not in asked.stderr
        if "threads ran backward" in asked.stderr:  # the others may not have begun
            assert "; this is worker-" in asked.stderr


def test_a_recording_says_which_thread_it_shows(start: Path) -> None:
    Path("train.py").write_text(IN_THREADS)
    asked = in_a_process("record", "train.py", "-o", "story.svg")
    assert (asked.returncode, asked.stdout) == (0, "trained [0, 1, 2]\n"), asked.stderr
    assert "gradviz: 3 threads ran backward; this is worker-" in asked.stderr  # any may be first


IN_PROCESSES = """
import multiprocessing
import torch

def work(seed=0):
    w = torch.ones(2, requires_grad=True)
    loss = (w * 2).sum()
    loss.backward()
    return seed

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print("trained", pool.map(work, range(3)))
"""


@pytest.mark.parametrize("command", ["draw", "explain"])
def test_a_program_that_trains_in_processes_runs_to_its_end(command: str, start: Path) -> None:
    Path("train.py").write_text(IN_PROCESSES)
    asked = in_a_process(command, "train.py")
    assert asked.returncode == 2
    assert "trained [0, 1, 2]" in asked.stderr
    assert "work ran no backward pass in this process" in asked.stderr
    assert asked.stderr.endswith(f"to call work: gradviz {command} train:work\n")


ACCUMULATES = """\
import torch
from torch import nn


def main():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for at in range(1, 9):
        loss = model(torch.ones(4, 3)).pow(2).mean() / 4
        loss.backward()
        if at % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()


main()
"""


@pytest.mark.parametrize("step", ["2", "4", "6"])
def test_a_program_ended_before_its_step_is_not_said_to_miss_it(step: str, start: Path) -> None:
    Path("train.py").write_text(ACCUMULATES)
    asked = CliRunner().invoke(cli, ["explain", "train.py", "--step", step])
    assert asked.stdout == "2 parameters  fine\n", asked.output
    CliRunner().invoke(cli, ["record", "train.py", "--step", step, "-o", "story.json"])
    assert CliRunner().invoke(cli, ["explain", "story.json"]).stdout == asked.stdout
    Path("train.py").write_text(ACCUMULATES.replace("optimizer.step()", "pass"))
    assert "has made no step" in CliRunner().invoke(cli, ["explain", "train.py"]).stdout


@pytest.mark.parametrize("options, passes", [((), 2), (("--step", "2"), 2), (("--full",), 3)])
def test_explain_goes_into_the_second_step(
    start: Path, options: tuple[str, ...], passes: int
) -> None:
    Path("train.py").write_text(NEVER_CLEARED)
    result = CliRunner().invoke(cli, ["explain", "train.py", *options])
    assert f"accumulated  {passes} backward passes (at train.py:10)" in result.stdout
    assert "fine" not in result.stdout


def test_explain_does_not_wait_for_an_optimizer_that_wraps_another(start: Path) -> None:
    Path("train.py").write_text(
        "import torch\nclass Wrapper(torch.optim.Optimizer):\n"
        "    def __init__(self, inner):\n        self.inner = inner\n"
        "    param_groups = property(lambda self: self.inner.param_groups)\n"
        "    state = property(lambda self: self.inner.state)\n"
        "    def zero_grad(self): self.inner.zero_grad()\n"
        "    def step(self): self.inner.step()\n"
        "net = torch.nn.Linear(2, 1)\nopt = Wrapper(torch.optim.SGD(net.parameters(), 0.1))\n"
        "for _ in range(9):\n    opt.zero_grad(); net(torch.ones(2)).pow(2).sum().backward()\n"
        "    opt.step()\n"
    )
    result = CliRunner().invoke(cli, ["explain", "train.py"])
    assert "stopped after backward 2 (train.py:12)" in result.stderr, result.output


def test_explain_of_two_losses_ends_after_both(start: Path) -> None:
    Path("gan.py").write_text(
        "import torch\nfrom torch import nn\n"
        "D, G = nn.Linear(2, 1), nn.Linear(2, 2)\n"
        "d, g = (torch.optim.SGD(each.parameters(), 0.1) for each in (D, G))\n"
        "for _ in range(9):\n"
        "    fake = G(torch.ones(4, 2))\n"
        "    d.zero_grad(); (D(fake.detach()) ** 2).mean().backward(); d.step()\n"
        "    g.zero_grad(); ((D(fake) - 1) ** 2).mean().backward(); g.step()\n"
    )
    result = CliRunner().invoke(cli, ["explain", "gan.py"])
    assert "stopped after backward 4 (gan.py:8)" in result.stderr
    assert result.stdout == "4 parameters  fine\n"
    assert "stale" not in result.stdout


def test_explain_names_what_is_carried_into_the_second_step(start: Path) -> None:
    Path("rnn.py").write_text(
        "import torch\nfrom torch import nn\n"
        "rnn = nn.RNN(3, 4)\noptimizer = torch.optim.SGD(rnn.parameters(), lr=0.1)\n"
        "h = torch.zeros(1, 1, 4)\n"
        "for _ in range(5):\n"
        "    out, h = rnn(torch.ones(2, 1, 3), h)\n"
        "    optimizer.zero_grad(); out.sum().backward(); optimizer.step()\n"
    )
    result = CliRunner().invoke(cli, ["explain", "rnn.py"])
    assert "fix: detach it before rnn.py:7: h = h.detach()" in result.stdout


def test_explain_explains_an_error_of_the_first_pass(start: Path) -> None:
    Path("train.py").write_text(
        "import torch\nnet = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Sigmoid())\n"
        "h = net(torch.ones(5, 3))\nh += 1\nh.sum().backward()\n"
    )
    result = CliRunner().invoke(cli, ["explain", "train.py"])
    assert result.exit_code == 1
    assert "fix: make a new tensor: h = h + 1" in result.stdout
    assert "Error: train.py failed: RuntimeError" in result.stderr


REPLACED = """\
import torch
w, b = torch.zeros(3, 1, requires_grad=True), torch.zeros(1, requires_grad=True)
params = [w, b]
for _ in range(9):
    w, b = params
    loss = ((torch.ones(4, 3) @ w + b - 1) ** 2).mean()
    loss.backward()
    UPDATE
"""


@pytest.mark.parametrize(
    ("update", "name"),
    [
        ("params = [w - 0.1 * w.grad, b - 0.1 * b.grad]", "w"),
        # From Python 3.12 on the variable of a list comprehension is gone after the error.
        *[("params = [p - 0.1 * p.grad for p in params]", "p (w)")][: sys.version_info < (3, 12)],
        ("for at, p in enumerate(params):\n        params[at] = p - 0.1 * p.grad", "p (w)"),
    ],
)
def test_explain_runs_on_to_the_update_of_a_result(start: Path, update: str, name: str) -> None:
    Path("train.py").write_text(REPLACED.replace("UPDATE", update))
    result = CliRunner().invoke(cli, ["explain", "train.py"])
    assert result.exit_code == 1
    line = 8 + update.count("\n")
    assert f"{name}.grad is None at train.py:{line}" in result.stdout
    assert f"it is a non-leaf tensor, created by sub at train.py:{line}" in result.stdout


def test_explain_ends_after_the_third_pass_if_a_result_is_updated(start: Path) -> None:
    update = "params = [w - 0.1, b - 0.1] if w.grad is None else [w - w.grad, b - b.grad]"
    Path("train.py").write_text(REPLACED.replace("UPDATE", update))
    result = CliRunner().invoke(cli, ["explain", "train.py"])
    assert result.exit_code == 0
    assert "gradviz: stopped after backward 3 (train.py:7)" in result.stderr


def test_a_program_that_catches_everything_is_said_to_have_run_on(start: Path) -> None:
    Path("train.py").write_text(
        "import torch\nw = torch.ones(2, requires_grad=True)\nfor step in range(3):\n"
        "    try:\n        (w * 2).sum().backward()\n"
        "    except BaseException:\n        print('caught')\nprint('end')\n"
    )
    result = CliRunner().invoke(cli, ["draw", "train.py", "-o", "x.svg"])
    assert result.exit_code == 0
    assert result.stdout == "caught\nend\n"
    assert "train.py catches SystemExit: it ran on after backward 1" in result.stderr


def test_os_exit_is_reported(start: Path) -> None:
    Path("train.py").write_text(
        "import os, torch\nw = torch.ones(2, requires_grad=True)\nloss = (w * 2).sum()\n"
        "loss.backward()\nif os.fork() == 0:\n    os._exit(3)\nos.wait()\nos._exit(7)\n"
    )
    result = in_a_process("record", "train.py", "-o", "x.svg")
    assert result.returncode == 7
    assert result.stderr.count("train.py called os._exit(7), which ends Python at once") == 1
    assert result.stderr.count("os._exit") == 1
    assert not Path("x.svg").exists()


@pytest.mark.parametrize("options", [("--until", "late"), ("--step", "2")])
def test_os_exit_is_reported_wherever_the_program_is_stopped(
    start: Path, options: tuple[str, ...]
) -> None:
    Path("train.py").write_text(
        "import os, torch\nw = torch.ones(2, requires_grad=True)\n(w * 2).sum().backward()\n"
        "os._exit(7)\nlate = w\n"
    )
    result = in_a_process("record", "train.py", *options, "-o", "x.svg")
    assert result.returncode == 7
    assert result.stderr.startswith("Warning: train.py called os._exit(7), which ends Python")
    unwritten = in_a_process("run", "train.py")
    assert (unwritten.returncode, unwritten.stderr) == (7, "")


def test_summary_counts_what_was_saved_before_it_is_freed(start: Path) -> None:
    result = run("main()", "summary")
    assert result.exit_code == 0, result.output
    table, notes = result.stdout.split("total", 1)
    assert "freed" not in table
    assert notes.splitlines()[-1] == "saved: as it was before a backward pass freed it"
    held = run("main()", "summary", "--step", "2")
    assert held.stdout.split("total")[1].split()[:3] == notes.split()[:3]
    whole = run("top level", "summary", "--full", variable="loss")
    assert whole.stdout.split("total")[1].split()[:3] == notes.split()[:3]


def test_explain_of_a_file_that_is_not_python(start: Path) -> None:
    Path("train.py").write_text("import torch\ndef f(:\n    pass\n")
    result = CliRunner().invoke(cli, ["explain", "train.py"])
    assert result.exit_code == 1
    assert result.stderr == "Error: train.py:2 is not valid Python: invalid syntax\n"


def test_the_variables_of_functions_are_named_where_nothing_else_is(start: Path) -> None:
    Path("train.py").write_text(
        "import torch\ndef main():\n    w = torch.ones(2, requires_grad=True)\n"
        "    loss = (w * 2).sum()\nmain()\n"
    )
    # In a process of its own: one whose tests have started others would tell of them.
    command = [sys.executable, "-m", "gradviz", "draw", "train.py"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 2
    said = result.stderr.replace("\n", " ")
    assert "no tensors at top level; variables of its functions are main.loss, main.w" in said
    assert result.stderr.endswith("try: gradviz draw train.py:main.loss\n")
    assert CliRunner().invoke(cli, ["draw", "train.py:main.loss"]).exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["draw", "-m", "train.py"], "-m takes the name of a module, got the file train.py"),
        (["record", "train.py", "--every", "2", "--norms", "n.html"], "none of .svg .png .pdf"),
        (["record", "train.py", "--every", "2", "--norms", "no/n.svg"], "there is no folder no"),
    ],
)
def test_misuse_is_found_before_the_program_runs(start: Path, words: list[str], said: str) -> None:
    Path("train.py").write_text("print('ran')\n")
    result = CliRunner().invoke(cli, words)
    assert result.exit_code in (1, 2)
    assert result.stdout == ""
    assert said in result.stderr


@pytest.mark.parametrize("command", ["draw", "run"])
def test_a_folder_is_not_called_a_missing_module(start: Path, command: str) -> None:
    Path("package").mkdir()
    result = CliRunner().invoke(cli, [command, "package"])
    assert result.exit_code == 2
    assert "package is a folder and no module; give a script in it: package/train.py" in (
        result.stderr
    )
