"""``gradviz record``, as a user meets it: a whole script, run unchanged."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_cli import finish, run, start

import gradviz
from gradviz.frontends.program import Reached, run_script
from gradviz.serialize import load, loads

TRAIN = """
import sys
import torch

print("a word from the script")
w = torch.ones(3, requires_grad=True)
for step in range(2):
    loss = (w * 2).sum()
    loss.backward()
frozen = w.detach()
if "--late" in sys.argv:
    late = loss
if "--fail" in sys.argv:
    raise ValueError("too far")
"""
AFTER_TWO = "w  f32[3]  leaf  =  1 1 1  .grad  4 4 4"


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TRAIN)


def test_events_with_their_lines_and_the_last_moment_as_text():
    code, stdout, stderr = finish(start("record", "train.py"))
    assert (code, stderr) == (0, "a word from the script\n")
    events, _, last = stdout.partition("\n\n")
    assert events.splitlines()[1:4] == [
        "2 times:",
        "│ train.py:8  mul, loss = sum",
        "│ train.py:9  loss  backward",
    ]
    assert "train.py:10  frozen  detach" in events.splitlines()
    assert AFTER_TWO in last
    assert "(the last of 5 moments; -o story.txt or story.svg shows each)" in last


def test_the_script_is_run_as_it_is(tmp_path):
    Path("train.py").write_text(
        "import sys, torch\n"
        "assert __name__ == '__main__' and locals() is globals()\n"
        "print(sys.argv, __file__, sorted(n for n in globals() if not n.startswith('_')))\n"
    )
    code, stdout, _ = finish(start("record", "train.py", "-o", "s.svg", "--", "--epochs", "3"))
    assert code == 0
    assert stdout == f"['train.py', '--epochs', '3'] {tmp_path / 'train.py'} ['sys', 'torch']\n"


@pytest.mark.parametrize("name", ["svg", "json", "html", "txt"])
def test_moments_in_a_file(name):
    result = run("record", "train.py", "-o", f"story.{name}", "--title", "Two steps")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "a word from the script\n"
    assert result.stderr == f"wrote story.{name}\n"
    text = Path(f"story.{name}").read_text()
    assert "Two steps" in text
    assert "after backward 2" in text
    if name == "json":  # as it was recorded: what is new is told against the frame before
        assert "changes" not in text
        text = str(gradviz.draw(loads(text)))
    assert "+2, pass 2" in text


def test_some_of_the_frames():
    assert run("record", "train.py", "-o", "all.json").exit_code == 0
    result = run("record", "train.py", "-o", "two.json", "--frames", "1, 3,99")
    assert result.exit_code == 0
    titles, two = (
        [frame["title"] for frame in json.loads(Path(path).read_text())["frames"]]
        for path in ("all.json", "two.json")
    )
    assert two == [titles[0], titles[2]]
    said = f"Warning: there is no frame 99: the recording has {len(titles)} frames"
    assert said in result.stderr.splitlines()


def test_a_moment_of_a_run_can_be_compared():
    for frame in ("1", "2"):
        run("record", "train.py", "-o", f"{frame}.json", "--frames", frame)
    result = run("compare", "1.json", "2.json")
    assert "~ w  .grad  None → 2 2 2  train.py:6" in result.stdout.splitlines()


def test_until_ends_the_script_at_the_first_value():
    result = run("record", "train.py", "--until", "loss")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == ["train.py:6  w = ones", "train.py:8  mul, loss = sum"]
    assert "loss  f32[]" in result.stdout
    assert "backward" not in result.stdout.split("\n\n")[0]


def test_until_a_variable_that_never_comes_is_said():
    result = run("record", "train.py", "-o", "s.svg", "--until", "late")
    assert result.exit_code == 1
    assert "Warning: train.py gave late no value; recorded to its end" in result.stderr
    assert Path("s.svg").exists()


def test_until_sees_every_way_to_bind_a_name(tmp_path):
    ways = ["x = 1", "for x in [1]: pass", "import math as x", "def x(): pass", "(x := 1)"]
    for way in ways:
        Path("way.py").write_text(f"before = 1\n{way}\nafter = [before for _ in range(2)]\n")
        run_of = run_script("way.py", until="x")
        assert isinstance(run_of.error, Reached)
        assert not run_of.failed
        assert "x" in run_of.namespace
        assert "after" not in run_of.namespace
    Path("way.py").write_text("y = 1\ndel y\ny = [y for y in (2,)][0]\nz = len(globals()) > y\n")
    assert run_script("way.py", until="x").namespace["z"] is True


def test_a_script_that_fails_is_drawn_as_far_as_it_came():
    code, stdout, stderr = finish(start("record", "train.py", "-o", "s.html", "--", "--fail"))
    assert (code, stdout) == (1, "a word from the script\n")
    assert stderr.splitlines() == [
        "wrote s.html",
        "Warning: train.py failed: ValueError: too far (train.py:14); drawn as far as it came",
    ]
    assert "ValueError" in Path("s.html").read_text()


def test_debug_shows_the_traceback_of_the_script():
    result = run("record", "train.py", "-o", "s.svg", "--debug", "--", "--fail")
    assert 'raise ValueError("too far")' in result.stderr


def test_few_events_are_kept_when_few_are_wanted():
    result = run("record", "train.py", "--max-events", "4")
    assert result.exit_code == 0
    assert len(result.stdout.split("\n\n")[0].splitlines()) == 4


STEPS = """
import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for step in range(9):
    optimizer.zero_grad()
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
"""


def test_the_terminal_shows_one_moment_and_says_so():
    Path("steps.py").write_text(STEPS)
    stdout = run("record", "steps.py").stdout
    assert "\nafter step\n" in stdout  # without a number: that of a frame would be another
    assert "(the last of 12 moments; -o story.txt or story.svg shows each)" in stdout
    assert "12 of 35 moments were kept (max_frames=12)" in stdout


def test_every_records_some_steps_and_shows_the_norms_of_all():
    Path("steps.py").write_text(STEPS)
    result = run("record", "steps.py", "--every", "4")
    assert result.exit_code == 0
    assert "model.weight  99999" in result.stdout and "steps 1 to 9" in result.stdout
    result = run("record", "steps.py", "--every", "4", "-o", "s.svg", "--norms", "my norms.svg")
    assert result.exit_code == 0 and "steps 1 to 9" in Path("my norms.svg").read_text()
    assert "step 9: after step" in Path("s.svg").read_text()


def test_a_script_without_torch_has_nothing_to_show():
    Path("plain.py").write_text("print('hello')\n")
    result = run("record", "plain.py", "-o", "s.svg")
    assert result.exit_code == 0
    assert Path("s.svg").exists()


MISUSE = [
    (["record"], "Missing argument"),
    (["record", "train.py:loss"], "gradviz record train.py --until loss; to draw loss alone"),
    (["record", "graph.json"], "graph.json is a saved graph; record runs a program, like train.py"),
    (["record", "trian.py"], "no file trian.py; did you mean train.py?"),
    (["record", "train.py", "--until", "loss['x']"], "--until must be the name of a variable"),
    (["record", "train.py", "--frames", "1-3"], "--frames must be integers >= 1, as in 1,3,5"),
    (["record", "train.py", "--frames", "99"], "--frames asks for 99; the recording has"),
    (["record", "train.py", "--max-events", "-1"], "must be an integer >= 0"),
    (["record", "train.py", "--every", "1"], "must be an integer >= 2"),
    (["record", "train.py", "--norms", "n.svg"], "--norms needs --every"),
    (["record", "train.py", "--epochs", "3"], "the script's own options go after --"),
]


@pytest.mark.parametrize(("args", "said"), MISUSE)
def test_misuse_is_exit_code_2_and_says_what_to_do(args, said):
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output


def test_a_place_that_is_missing_is_said_before_the_script_runs():
    result = run("record", "train.py", "-o", "no/story.svg")
    assert result.exit_code == 1
    assert "there is no folder no" in result.stderr
    assert "a word from the script" not in result.output


FORK = """
import os, sys, torch
w = torch.ones(2, requires_grad=True)
child = os.fork()
if child == 0:
    (w * 5).sum().backward()
    print("in the child")
    END
print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
loss = (w * 2).sum()
"""


@pytest.mark.parametrize(
    ("command", "end", "status"),
    [
        ("record", "sys.exit(7)", 7),
        ("record", "raise ValueError('bad')", 1),
        ("draw", "sys.exit(7)", 7),
        ("draw", "raise ValueError('bad')", 1),
        ("explain", "sys.exit()", 0),
        ("summary", "sys.exit(7)", 7),
        ("run", "sys.exit(7)", 7),
        ("run", "raise ValueError('bad')", 1),
    ],
)
def test_a_forked_child_ends_as_it_would_without_gradviz(command, end, status):
    Path("fork.py").write_text(FORK.replace("END", end))
    target = "fork.py" if command in ("record", "run") else "fork.py:loss"
    code, stdout, stderr = finish(start(command, target))
    both = stdout + stderr
    assert code == 0
    assert both.count(f"status {status}") == 1
    assert both.count("in the child") == 1
    assert stdout.count("operations from 1 leaf") == (command in ("record", "draw"))
    raised = [line for line in stderr.splitlines() if line.startswith(("  File", "ValueError"))]
    line = '  File "' + str(Path("fork.py").resolve()) + '", line 8, in <module>'
    assert raised == ([line, "ValueError: bad"] if end.startswith("raise") else [])
    assert "Warning" not in stderr
    assert "Error:" not in stderr.replace("ValueError:", "")


def test_a_recording_saved_in_python_has_its_answers(tmp_path: Path) -> None:
    with gradviz.record() as run:
        w, cut = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
        loss = (w * cut.detach()).sum()
        loss.backward()
    answer = gradviz.explain(run)
    for subject in (run, answer):
        path = subject.save(tmp_path / "story.json")
        assert str(gradviz.explain(load(path))) == str(answer)
        assert [each.rule for each in load(path).verdicts or ()]
    one = gradviz.explain(cut, run)
    saved = gradviz.explain(load(one.save(tmp_path / "one.json")))
    assert str(saved[0]) == str(one)


def test_the_modules_of_a_program_are_recorded(tmp_path, monkeypatch):
    """An activation that replaces another, a loss in a module, and a model of a function."""
    (tmp_path / "style.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Loss(nn.Module):\n"
        "    def forward(self, x):\n"
        "        self.loss = (x.t() @ x).pow(2).mean()\n"
        "        return x\n"
        "parts = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2)).requires_grad_(False)\n"
        "def main():\n"
        "    added = Loss()\n"
        "    net = nn.Sequential(parts[0], added, nn.Tanh(), parts[2])\n"
        "    x = torch.ones(4, 3, requires_grad=True)\n"
        "    total = net(x).sum() + added.loss\n"
        "    total.backward()\n"
        "main()\n"
    )
    monkeypatch.chdir(tmp_path)
    result = run("record", "style.py", "-o", "style.json")
    assert result.exit_code == 0, result.output
    graph = load("style.json").frames[0].graph
    modules = {data.get("op"): data.get("module") for _, data in graph.nodes(data=True)}
    assert modules["mm"] == modules["mean"] == "net.1" and modules["tanh"] == "net.2"
    assert modules["add"] == ""
    assert graph.graph["modules"]["net.1"] == "Loss"


@pytest.mark.process
def test_a_recorded_program_is_the_same_to_the_byte_in_each_process(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Trainer:\n"
        "    def __init__(self):\n"
        "        layers = [nn.Linear(2, 2) for _ in range(4)]\n"
        "        self.model, self.spare = nn.Linear(3, 2), nn.Sequential(*layers)\n"
        "        both = [*self.model.parameters(), *self.spare.parameters()]\n"
        "        self.optimizer = torch.optim.SGD(both, lr=0.1)\n"
        "    def fit(self):\n"
        "        for _ in range(3):\n"
        "            self.optimizer.zero_grad()\n"
        "            self.model(torch.ones(4, 3)).sum().backward()\n"
        "            self.optimizer.step()\n"
        "torch.manual_seed(0)\n"
        "Trainer().fit()\n"
    )
    for seed in ("1", "2", "3"):
        command = [sys.executable, "-m", "gradviz", "record", "train.py", "-o", f"{seed}.json"]
        env = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run(command, cwd=tmp_path, env=env, check=True, timeout=120)
    assert len({(tmp_path / f"{seed}.json").read_bytes() for seed in "123"}) == 1


def test_an_answer_does_not_depend_on_the_order_of_sets(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "a, b, x = nn.Linear(3, 3), nn.Linear(3, 3), torch.ones(8, 3)\n"
        "optimizer = torch.optim.SGD([*a.parameters(), *b.parameters()], lr=0.01)\n"
        "apart = (a(x).detach() - b(x).detach()).pow(2).mean()\n"
        "loss = a(x).pow(2).mean() + b(x).pow(2).mean() + apart\n"
        "loss.backward()\n"
        "optimizer.step()\n"
    )
    said = []
    for seed in ("1", "2", "3"):
        command = [sys.executable, "-m", "gradviz", "explain", "train.py"]
        env = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
        said.append(done.stdout)
    assert "a(x).detach() at train.py:5" in said[0]
    assert said == said[:1] * 3
