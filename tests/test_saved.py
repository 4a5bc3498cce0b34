"""What is kept for backward: the table, the command, and the memory that torch itself reports."""

from pathlib import Path

import pytest
import torch
from test_cli import run
from torch import nn

import gradviz
from gradviz.explanation.saved import saved, saved_at_most
from gradviz.graph import Buffers, GradGraph, NodeKind


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mixer = nn.LayerNorm(16), nn.MultiheadAttention(16, 4, batch_first=True)
        self.up, self.down = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x):
        h = self.norm(x)
        x = x + self.mixer(h, h, h, need_weights=False)[0]
        return x + self.down(torch.nn.functional.gelu(self.up(x)))


class Unrolled(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(8, 12)

    def forward(self, x):
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0]


MODELS = {
    "an MLP": (lambda: nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4)), (5, 6)),
    "a conv net": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.1),
            nn.Flatten(),
            nn.Linear(72, 10),
        ),
        (4, 3, 8, 8),
    ),
    "an attention block": (Attention, (2, 7, 16)),
    "an unrolled LSTMCell": (Unrolled, (3, 9, 8)),
}


def bytes_seen_by_hooks(program, parameters):
    """What torch hands to be saved, each storage once, without the parameters."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = program()
    own = {parameter.untyped_storage()._cdata for parameter in parameters}
    total = sum(t.untyped_storage().nbytes() for key, t in storages.items() if key not in own)
    return total, result


@pytest.mark.parametrize("name", MODELS)
def test_the_total_is_what_torch_saves_to_the_byte(name):
    torch.manual_seed(0)
    build, shape = MODELS[name]
    model, x = build(), torch.randn(shape)
    expected, _ = bytes_seen_by_hooks(lambda: model(x).square().mean(), model.parameters())
    loss = model(x).square().mean()
    table = saved(gradviz.trace(loss, names=model))
    assert expected > 500
    assert table.total == expected
    assert [row.bytes for row in table.rows] == sorted((r.bytes for r in table.rows), reverse=True)


def test_a_recording_knows_line_and_amount():
    x = torch.randn(4, 128, requires_grad=True)
    with gradviz.record() as run:
        h = x.exp()
        loss = (h * 2).sum()
    title, table = saved_at_most(run.frames, "loss")
    assert title in [frame.title for frame in run.frames]
    assert table.total == saved(gradviz.trace(loss)).total == 4 * 128 * 4 + 8
    assert str(table).splitlines()[0].startswith("f32[4,128]  2.05 kB  exp h  ")
    assert "test_saved.py:" in str(table)


def test_what_several_operations_share_counts_once():
    x = torch.ones(1000, requires_grad=True)
    h = x * 2
    loss = (h.sin() + h.cos() + h.exp()).sum()
    table = saved(gradviz.trace(loss))
    assert table.total == 4000 + 4000 + 8  # h, the result of exp, and the number 2 as float64


def test_freed_and_empty_graphs_say_so():
    x = torch.ones(3, requires_grad=True)
    loss = (x.exp() * x.sin()).sum()
    loss.backward()
    assert str(saved(gradviz.trace(loss))) == "freed: 3 operations, by a backward pass"
    assert str(saved(gradviz.trace((x + 1).sum()))) == "nothing is kept for backward"


def test_what_cannot_be_seen_is_said():
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.OPERATION, op="compiled", buffers=Buffers.UNKNOWN)
    assert str(saved(graph)) == "not known: what 1 operation may keep"


def test_lines_are_aligned_and_the_rest_is_summed_up():
    graph = GradGraph()
    for number, (op, size) in enumerate([("exp", 40), ("gelu", 1_200_000), ("sin", 999_600)]):
        graph.add_node(
            f"n{number}",
            kind=NodeKind.OPERATION,
            op=op,
            shape=(size // 4,),
            dtype="bfloat16",
            saved_bytes=size,
            source=f"train.py:{number}",
            module=f"blocks.{number}.mlp",
        )
    assert saved(graph).text(2).splitlines() == [
        "bf16[300000]  1.2 MB  gelu  train.py:1 (blocks.1.mlp)",
        "bf16[249900]    1 MB  sin   train.py:2 (blocks.2.mlp)",
        "… and 1 more operation with 40 B",
        "total 2.2 MB, kept for backward by 3 operations",
        "checkpointing a module frees at most: blocks.1 1.2 MB, blocks.2 1 MB, blocks.0 40 B",
    ]


def test_checkpointing_frees_no_more_than_is_said():
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(8, 64), nn.GELU()) for _ in range(1)))
    model.append(nn.Linear(64, 8))
    x = torch.randn(16, 8, requires_grad=True)
    table = saved(gradviz.trace(model(x).sum(), names=model))
    h = torch.utils.checkpoint.checkpoint(model[0], x, use_reentrant=False)
    left, _ = bytes_seen_by_hooks(lambda: model[1](h), model.parameters())
    assert 0 < table.total - left <= table.modules["0"] + x.untyped_storage().nbytes()
    assert set(table.modules) == {"0", "1"}


TRAIN = """
import torch
w = torch.ones(500, requires_grad=True)
for step in range(2):
    h = w.exp()
    loss = h.sin().sum()
    loss.backward()
print("done")
"""


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("train.py").write_text(TRAIN)


def test_the_command_shows_what_backward_has_freed_by_the_end(script):
    result = run("saved", "train.py:loss")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "f32[500]  2 kB  sin  train.py:6",
        "total 2 kB, kept for backward by 1 operation",
    ]
    assert result.stderr.startswith("done\nat the moment: ")


def test_the_command_reads_a_saved_graph_and_refuses_arguments(script):
    x = torch.ones(500, requires_grad=True)
    gradviz.draw(x.exp().sin().exp()).save("graph.json")
    result = run("saved", "graph.json", "-n", "1")
    assert result.stdout.splitlines()[0].split() == ["f32[500]", "2", "kB", "exp"]
    assert "… and 2 more operations with 4 kB" not in result.stdout.splitlines()[0]
    assert run("saved", "graph.json", "--", "--epochs").exit_code == 2
    assert run("saved", "train.py:nothing").exit_code == 2
