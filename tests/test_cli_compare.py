"""``gradviz compare``, as a user and a CI job meet it."""

import json
from pathlib import Path

import pytest
from test_cli import finish, run, start

TRAIN = """
import sys
import torch

x = torch.ones(3, requires_grad=True)
loss = (x * 2)MIDDLE.sum()
half = (x * 2).sum()
print("ran")
if "--backward" in sys.argv:
    loss.backward()
if "--fail" in sys.argv:
    raise ValueError("too far")
"""


@pytest.fixture(autouse=True)
def two_versions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, middle in (("old", ""), ("new", ".relu()")):
        Path(folder).mkdir()
        Path(folder, "train.py").write_text(TRAIN.replace("MIDDLE", middle))
        assert run("draw", f"{folder}/train.py:loss", "-o", f"{folder}.json").exit_code == 0


def test_two_saved_graphs_as_text():
    result = run("compare", "old.json", "new.json")
    assert result.exit_code == 0
    assert result.stdout == "1 added\n+ relu  after mul\n"
    assert result.stderr == ""
    assert run("compare", "old.json", "old.json").stdout == "no difference\n"


def test_two_versions_of_a_script_each_with_its_own_modules():
    for folder, body in (("old", "x.exp()"), ("new", "x.sin()")):
        Path(folder, "layers.py").write_text(f"def layer(x):\n    return {body}\n")
        source = Path(folder, "train.py").read_text()
        source = f"from layers import layer\n{source}\nloss = layer(loss)\n"
        Path(folder, "train.py").write_text(source)
    process = start("compare", "old/train.py:loss", "new/train.py:loss", "-o", "-")
    code, stdout, stderr = finish(process)
    assert code == 0
    assert stdout.splitlines()[:3] == [
        "2 added, 1 removed",
        "+ relu  after mul",
        "+ sin  after sum",
    ]
    assert stderr == "ran\nran\n"


def test_two_variables_of_one_script_from_one_run():
    result = run("compare", "new/train.py:half", "new/train.py:loss")
    assert result.stdout == "1 added\n+ relu  after mul\n"
    assert result.stderr == "ran\n"


def test_a_saved_graph_and_a_script_with_arguments():
    result = run("compare", "new.json", "new/train.py:loss", "--", "--backward")
    assert result.stdout.splitlines() == [
        "3 changed",
        "~ x  .grad  None → 2 2 2",
        "~ mul  after x  saved tensors  held → freed",
        "~ relu  after mul  saved tensors  held → freed",
    ]


def test_files_in_each_format():
    result = run("compare", "old.json", "new.json", "-o", "d.svg", "-o", "d.json", "-o", "d.txt")
    assert result.exit_code == 0, result.stderr
    assert result.stderr.splitlines() == ["wrote d.svg", "wrote d.json", "wrote d.txt"]
    assert "1 added" in Path("d.svg").read_text()
    assert [frame["title"] for frame in json.loads(Path("d.json").read_text())["frames"]] == [
        "before",
        "after",
    ]
    assert Path("d.txt").read_text() == "1 added\n+ relu  after mul\n"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["old.json", "new.json"], 0),
        (["old.json", "new.json", "--exit-code"], 1),
        (["old.json", "old.json", "--exit-code"], 0),
        (["old.json", "no.json", "--exit-code"], 2),
    ],
)
def test_the_exit_code_is_for_a_ci_job_and_needs_no_torch(args, expected):
    process = start("compare", *args, code="import sys; sys.modules['torch'] = None")
    code, stdout, stderr = finish(process)
    assert code == expected
    assert stdout == {0: stdout, 1: "1 added\n+ relu  after mul\n", 2: ""}[code]
    assert bool(stderr) is (code == 2)


def test_a_saved_graph_against_the_script_as_it_is_now():
    for place, expected in (("new/train.py:loss", 0), ("old/train.py:loss", 1)):
        result = run("compare", "--exit-code", "new.json", place)
        assert result.exit_code == expected, result.output
        assert result.stdout.startswith(("no difference\n", "1 removed\n- relu")[expected])


def test_numbers_count_with_values():
    Path("a.py").write_text(
        "import torch\nx = torch.ones(2, requires_grad=True)\nl = (x * 2).sum()"
    )
    Path("b.py").write_text(Path("a.py").read_text().replace("ones(2", "zeros(2"))
    assert run("compare", "a.py:l", "b.py:l").stdout == "no difference\n"
    said = run("compare", "a.py:l", "b.py:l", "--values").stdout
    assert said.splitlines()[:2] == ["2 changed", "~ x  value  1 1 → 0 0"]


@pytest.mark.parametrize("options", [(), ("--exit-code",), ("-o", "d.txt", "-o", "-")])
def test_a_script_that_failed_later_is_compared_and_said(options):
    result = run("compare", "new.json", "new/train.py:loss", *options, "--", "--fail")
    assert result.exit_code == 1
    assert result.stdout == "no difference\n"
    said = "Warning: new/train.py failed after it had set loss: ValueError: too far"
    assert said in result.stderr.splitlines()[-1]


def test_two_variables_of_a_script_that_failed_later():
    result = run("compare", "new/train.py:half", "new/train.py:loss", "--", "--fail")
    assert (result.exit_code, result.stdout) == (1, "1 added\n+ relu  after mul\n")
    assert result.stderr.count("failed after it had set half and loss") == 1


MISUSE = [
    (["compare", "old.json"], 2, "Missing argument 'AFTER"),
    (["compare", "old.json", "new.json", "--", "--epochs"], 2, "saved graphs take no arguments"),
    (["compare", "old.json", "new/train.py:los"], 2, "did you mean loss?"),
    (["compare", "old.json", "strip.json"], 2, "strip.json holds 2 frames, and one is compared"),
    (["compare", "old.json", "layers.json"], 1, "layers.json is not JSON"),
]


@pytest.mark.parametrize(("args", "code", "said"), MISUSE)
def test_misuse_is_one_line_that_says_what_to_do(args, code, said):
    run("compare", "old.json", "new.json", "-o", "strip.json")
    Path("layers.json").write_text("{")
    result = run(*args)
    assert result.exit_code == code
    assert said in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.output
