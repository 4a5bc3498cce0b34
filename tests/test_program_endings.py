"""Programs that gradviz ends, and what they do with the exception that ends them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gradviz.frontends.cli import cli


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("lessons"):
            del sys.modules[name]


def gradviz(*words: str, program: str = "") -> Result:
    if program:
        Path("train.py").write_text(program)
    return CliRunner().invoke(cli, words)


STEPS = """
import torch
def steps():
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([w], lr=0.1)
    for _ in range(900):
        optimizer.zero_grad()
        loss = (w * 2).sum()
        loss.backward()
        optimizer.step()
"""


@pytest.mark.parametrize("name", ["fit-it", "bin/fit-it", "fit"])
@pytest.mark.parametrize("start", ["#!{python}\n", "#!/bin/sh\n'''exec' \"{python}\" $0\n' '''\n"])
def test_a_console_script(name: str, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{Path('bin').resolve()}{os.pathsep}{os.environ['PATH']}")
    Path("lessons.py").write_text(STEPS)
    Path("bin").mkdir()
    script = Path("bin", name.removeprefix("bin/"))
    script.write_text(
        start.format(python=sys.executable)
        + f"import sys\nsys.path.insert(0, {str(Path.cwd())!r})\n"
        + "from lessons import steps\nif __name__ == '__main__':\n    sys.exit(steps())\n"
    )
    script.chmod(0o755)
    result = gradviz("explain", name)
    assert (result.exit_code, result.stdout) == (0, "1 parameter  fine\n"), result.output


def test_a_command_that_is_nowhere_on_path() -> None:
    result = gradviz("draw", "fit-it")
    assert result.exit_code == 2
    assert "there is no file fit-it, and no command on PATH; a target is like" in result.stderr


def test_a_recursion_limit_is_left_to_the_program() -> None:
    program = (
        "import sys\nbefore = sys.getrecursionlimit()\nsys.setrecursionlimit(120)\n"
        f"{STEPS}\ndef deep(n): return deep(n - 1) if n else steps()\n"
        "print(before, sys.getrecursionlimit())\ndeep(60)\n"
    )
    limit = sys.getrecursionlimit()
    result = gradviz("explain", "train.py", program=program)
    assert (result.exit_code, result.stdout) == (0, "1 parameter  fine\n"), result.output
    assert f"{limit} 120\n" in result.stderr
    assert sys.getrecursionlimit() == limit


def test_asyncio_does_not_report_the_end_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    program = (
        f"import asyncio\n{STEPS}\nasync def one(): steps()\n"
        "async def main(): await asyncio.gather(one(), asyncio.sleep(0))\nasyncio.run(main())\n"
    )
    result = gradviz("explain", "train.py", program=program)
    assert (result.exit_code, result.stdout) == (0, "1 parameter  fine\n"), result.output
    assert "never retrieved" not in result.output + caplog.text


UNITS = f"""
import unittest
{STEPS}
class Test(unittest.TestCase):
    def test(self):
        steps()
unittest.main(argv=["train.py"])
"""


@pytest.mark.parametrize("words", [("draw",), ("explain",), ("record", "--step", "1")])
def test_a_test_that_fails_because_it_was_ended_is_no_failure(words: tuple[str, ...]) -> None:
    result = gradviz(*words, "train.py", "-o", "x.svg", program=UNITS)
    assert result.exit_code == 0, result.output
    assert "gradviz has its answer and ends the program; --full runs it on" in result.output
    assert "gradviz: train.py catches SystemExit: it ran on after backward" in result.stderr
    assert re.search(r"it ended by sys\.exit\((True|1)\) \(train\.py:", result.stderr)
    assert Path("x.svg").exists()


BESIDE = """
import threading, time, torch
def beside():
    x = torch.ones(200, 200)
    while threading.main_thread().is_alive():
        x = torch.mm(x, x).clamp(0, 1)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        x = torch.mm(x, x).clamp(0, 1)
    print("over")
others = [threading.Thread(target=each) for each in (beside, steps)]
for each in others:
    each.start()
for each in others:
    each.join()
"""


def test_a_thread_that_runs_on_is_waited_for(tmp_path: Path) -> None:
    Path("train.py").write_text(STEPS + BESIDE)
    command = [sys.executable, "-m", "gradviz", "explain", "train.py"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr.count("stopped after backward 2")) == (0, 1), done.stderr
    assert done.stdout.splitlines() == ["1 parameter  fine", "over"]


WAITS = """
done = threading.Event()
def main():
    steps()
    done.set()
threading.Thread(target=main).start()
done.wait()
"""


def test_a_program_that_waits_for_a_thread_ends_where_sigint_is_ignored(tmp_path: Path) -> None:
    Path("train.py").write_text(f"import threading\n{STEPS}{WAITS}")
    command = [sys.executable, "-m", "gradviz", "draw", "train.py"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert (done.returncode, done.stderr.count("stopped after backward 1")) == (0, 1), done.stderr


def test_the_nearest_attribute_is_suggested() -> None:
    program = "import torch\nnet = torch.nn.Linear(2, 1)\nnet(torch.ones(2)).sum().backward()\n"
    result = gradviz("draw", "train.py:net.weigth", program=program)
    assert result.exit_code == 2
    assert result.stderr.endswith("(net is of type Linear); did you mean weight?\n")


ONLY_GRAD = """\
import torch
x = torch.ones(2, requires_grad=True)
for _ in range(2):
    y = (x * 3).sum()
    (g,) = torch.autograd.grad(y, x)
"""


def test_a_program_that_only_calls_autograd_grad_is_drawn() -> None:
    result = gradviz("draw", "train.py", program=ONLY_GRAD)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("y  f32[]  =  6")


def test_a_pass_that_never_comes_is_a_failure_of_record() -> None:
    program = f"{STEPS}steps()".replace("900", "9")
    result = gradviz("record", "train.py", "--step", "40", "-o", "x.svg", program=program)
    assert result.exit_code == 1
    assert "and --step asks for pass 40; recorded to its end" in result.stderr
    assert Path("x.svg").exists()


def test_an_exported_notebook_is_sent_to_ipython() -> None:
    result = gradviz("explain", "train.py", program="get_ipython().system('ls')\n")
    assert result.exit_code == 1
    assert result.stderr.rstrip().endswith("try: gradviz explain -m IPython -- train.py")


def test_pytest_reports_no_failed_test_when_it_is_ended(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import torch\ndef test():\n    w = torch.ones(2, requires_grad=True)\n"
        "    for _ in range(500):\n        w.sum().backward()\n"
    )
    command = [sys.executable, "-m", "gradviz", "explain", "-m", "pytest", "--", "-q", "test_it.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "FAILED" not in result.stdout + result.stderr
    assert "stopped after backward 100 (test_it.py:5)" in result.stderr


GENERATES = """
import torch
def parts():
    w = torch.ones(2, requires_grad=True)
    for at in range(3):
        part = (w * at).sum()
        yield part
list(parts())
"""


def test_the_variables_of_a_generator_are_left_alone() -> None:
    result = gradviz("draw", "train.py:parts.part", program=GENERATES)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert result.stdout.startswith("part  f32[]  =  4")


CHAINED = """
import torch
def inner(at):
    if at:
        inner(at - 1)
    torch.ones(2) + "x"
def main():
    try:
        inner(2)
    except TypeError as error:
        raise ValueError("outer") from error
main()
"""


def test_a_traceback_of_several_errors_has_the_lines_of_the_program_alone() -> None:
    result = gradviz("run", "train.py", program=CHAINED)
    plain = subprocess.run([sys.executable, "train.py"], capture_output=True, text=True)
    assert (result.exit_code, result.stderr) == (1, plain.stderr)


WAITS = """
import queue, threading, torch
def produce(out):
    for _ in range(9):
        out.put(torch.ones(2))
    out.put(None)
batches, w = queue.Queue(maxsize=1), torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.SGD([w], lr=0.1)
threading.Thread(target=produce, args=(batches,)).start()
while (x := batches.get()) is not None:
    optimizer.zero_grad()
    loss = (w * x).sum()
    loss.backward()
    optimizer.step()
"""


def test_a_thread_that_waits_for_a_program_that_was_stopped() -> None:
    Path("train.py").write_text(WAITS)
    words = [sys.executable, "-m", "gradviz", "explain", "train.py"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "1 parameter  fine")


EXPLODES = f"""
{STEPS}
def late():
    w = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([w], lr=3.0)
    for _ in range(90):
        optimizer.zero_grad()
        w.pow(4).sum().backward()
        optimizer.step()
"""


@pytest.mark.parametrize("end", ["late()", "torch.manual_seed(0)\nfor _ in range(1):\n    late()"])
def test_explain_sees_a_fault_of_a_later_step(end: str) -> None:
    result = gradviz("explain", "train.py", program=EXPLODES + end)
    assert result.exit_code == 0, result.output
    assert "w  NaN" in result.stdout and "lower the learning rate" in result.stdout
    assert "stopped after" not in result.stderr


def test_explain_of_many_steps_ends_early() -> None:
    result = gradviz("explain", "train.py", program=f"{STEPS}steps()")
    assert result.stdout == "1 parameter  fine\n"
    assert "gradviz: stopped after backward 100 (train.py:9), so later steps" in result.stderr
