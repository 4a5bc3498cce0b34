"""``gradviz explain`` and ``gradviz run``, as a user meets them."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from test_cli import finish, run, start

import gradviz
from gradviz.frontends.cli import cli

TRAIN = """
import sys
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.head = nn.Linear(2, 3), nn.Linear(3, 1)

    def forward(self, x):
        h = self.encoder(x)
        h = h.detach()
        return self.head(h)

print("a word from the script")
model = Net()
w = torch.ones(2, requires_grad=True)
loss = model(torch.ones(4, 2)).mean() + (w * 2).sum()
loss.backward()
if "--twice" in sys.argv:
    loss.backward()
if "--fail" in sys.argv:
    raise ValueError("too far")
if "--exit" in sys.argv:
    sys.exit(7)
"""


@pytest.fixture(autouse=True)
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TRAIN)


def test_a_model_as_a_table():
    code, stdout, stderr = finish(start("explain", "train.py:model"))
    assert code == 0
    first, *rest = stderr.splitlines()
    assert first == "a word from the script"
    assert all(line.startswith("gradviz: stopped after backward 1 (train.py:") for line in rest)
    cut = "no gradient  the path to loss is cut by detach() at train.py:13 (h = h.detach())"
    assert stdout.splitlines() == [
        f"encoder.weight      {cut}",
        f"encoder.bias        {cut}",
        "  fix: train.py:13: leave out the detach()",
        "2 other parameters  fine",
    ]


def test_a_loss_tells_of_every_leaf():
    result = run("explain", "train.py:loss", "-q", "-o", "why.txt")
    assert result.exit_code == 0
    lines = Path("why.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [
        "model.encoder.weight",
        "model.encoder.bias",
        "fix:",
        "3",
    ]


def test_one_tensor():
    result = run("explain", "train.py:w", "-o", "why.txt", "-o", "why.svg", "--title", "Why")
    assert result.exit_code == 0
    assert Path("why.txt").read_text().startswith("w: fine\n  it has a gradient, norm")
    assert "Why" in Path("why.svg").read_text()


def test_a_picture_of_a_model_marks_what_is_wrong():
    assert run("explain", "train.py:model", "-o", "why.json").exit_code == 0
    assert '"verdict": "cut"' in Path("why.json").read_text().replace('":"', '": "')


def test_a_script_that_fails_later_is_explained_and_said():
    code, stdout, stderr = finish(start("explain", "train.py:w", "--", "--fail"))
    assert code == 1
    assert stdout.startswith("w: fine")
    assert "Warning: train.py failed after it had set w: ValueError: too far" in stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["explain", "train.py:model.forward"], "cannot explain"),
        (["explain", "graph.json"], "cannot read graph.json: No such file"),
        (["run", "trane"], "there is no module 'trane'"),
        (["run", "graph.json"], "run takes a program, like train.py; graph.json is a saved"),
        (["run", "trian.py"], "did you mean train.py"),
    ],
)
def test_misuse(args, said):
    result = run(*args)
    assert result.exit_code == 2
    assert said in result.stderr


def test_run_passes_everything_through():
    assert finish(start("run", "train.py")) == (0, "a word from the script\n", "")
    assert finish(start("run", "train.py", "--", "--exit"))[0] == 7


def test_run_explains_an_error_of_autograd_under_the_traceback():
    code, stdout, stderr = finish(start("run", "train.py", "--", "--twice"))
    assert (code, stdout) == (1, "a word from the script\n")
    traceback, _, told = stderr.partition("\n\n")
    assert traceback.startswith("Traceback (most recent call last):\n  File ")
    assert 'train.py", line 22, in <module>' in traceback.splitlines()[1]
    assert str(Path(gradviz.__file__).parent) not in traceback
    assert told.startswith(
        "RuntimeError: error (backward a second time)\n  backward at train.py:22 "
        "(loss.backward()) reached operations whose saved tensors backward at train.py:20 "
        "(loss.backward()) freed"
    )


def test_run_leaves_other_errors_alone():
    code, _, stderr = finish(start("run", "train.py", "--", "--fail"))
    assert code == 1
    assert stderr.endswith("ValueError: too far\n")


def test_a_program_whose_models_are_made_while_it_runs_tells_which_parts_were_not_called():
    Path("spare.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.body, self.spare = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)\n"
        "    def forward(self, x):\n"
        "        return self.body(x)\n"
        "def main():\n"
        "    net = Net()\n"
        "    optimizer = torch.optim.SGD(net.parameters(), 0.1)\n"
        "    loss = net(torch.ones(3, 2)).sum()\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
        "main()\n"
    )
    assert run("explain", "spare.py", "-q", "-o", "why.txt").exit_code == 0
    assert "not used by loss: net.spare was not called" in Path("why.txt").read_text()


TEMPLATE = """
import torch
layer = torch.nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
encoder = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
head = torch.nn.Linear(8, 2)
optimizer = torch.optim.Adam(PARAMETERS)
for _ in range(3):
    optimizer.zero_grad()
    loss = head(encoder(torch.randn(2, 5, 8)).mean(1)).square().mean()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("target", ["train.py", "train.py:loss"])
@pytest.mark.parametrize(
    ("parameters", "encoder", "layer"),
    [
        ("[*encoder.parameters(), *head.parameters()]", "38 parameters", ""),
        ("head.parameters()", "left out of the optimizer", "not trained"),
        ("[*layer.parameters(), *head.parameters()]", "left out of the optimizer", "no gradient"),
    ],
)
def test_a_layer_that_a_library_copies(
    parameters: str,
    encoder: str,
    layer: str,
    target: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TEMPLATE.replace("PARAMETERS", parameters))
    result = CliRunner().invoke(cli, ["explain", target])
    assert result.exit_code == 0, result.output
    rows = result.stdout.splitlines()
    of_layer = [row for row in rows if row.startswith("layer.self_attn.in_proj_weight")]
    # A template whose copies are trained is right as it is.
    assert len(of_layer) == bool(layer) and all(layer in row for row in of_layer)
    cut = "cut by deepcopy(), which copies values and no gradient, at train.py:4"
    assert all(cut in row for row in of_layer)
    start = "encoder.layers.0" if "left out" in encoder else "38 parameters"
    assert any(row.startswith(start) and encoder in row for row in rows), result.stdout


CHANGED = """
import torch

class Same(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output

y = Same.apply(torch.ones(3, requires_grad=True))
y.detach().mul_(2)
"""


def test_a_view_whose_history_cannot_be_read_is_listed():
    Path("changed.py").write_text(CHANGED)
    result = run("explain", "changed.py")
    assert result.exit_code == 0, result.output
    assert "no result of apply at changed.py:13" in result.stdout


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("out = net(torch.ones(1, 2))", "it is connected to out, and no backward pass has"),
        ("loss = net(torch.ones(1, 2)).sum()\nstep()", "made a step at forward.py:8 (step())"),
        ("with torch.no_grad(): y = net(torch.ones(1, 2))", "cut off by no_grad at forward.py:7"),
    ],
)
def test_a_program_without_a_backward_pass_is_explained(code, said):
    Path("forward.py").write_text(
        "import torch\nnet = torch.nn.Linear(2, 1)\n"
        "optimizer = torch.optim.SGD(net.parameters(), 0.1)\n\n"
        f"step = optimizer.step\n\n{code}\n"
    )
    result = run("explain", "forward.py")
    assert result.exit_code == 0 and said in result.stdout, result.output


@pytest.mark.parametrize("target", ["model.py", "model.py:net"])
def test_the_picture_counts_a_parameter_once(target, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)\n"
        "        self.spare = nn.Linear(3, 3)\n"
        "    def forward(self, x):\n"
        "        return self.c(self.b(self.a(x).relu())).sum()\n"
        "net = Net()\n"
        "net(torch.ones(2, 4)).backward()\n"
    )
    assert run("explain", target, "-o", "why.svg").exit_code == 0
    svg = Path("why.svg").read_text(encoding="utf-8")
    assert "121 parameters" in svg and "not connected" in svg
    assert "not in the graph" not in svg
