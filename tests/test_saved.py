"""Tensors saved for backward: the table, the command, and the memory that torch itself reports."""

import time
from pathlib import Path

import pytest
import torch
from test_cli import run
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradviz
from gradviz import Frame, Story
from gradviz.graph import Buffers, GradGraph, NodeKind, SavedTensor
from gradviz.reports.memory import saved, saved_at_most
from gradviz.serialize import loads, to_json


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


def bytes_seen_by_hooks(program, model, given=()):
    """What torch hands to be saved, each storage once, without what the model holds anyway.

    What checkpoints were ``given`` by the program is kept as well.
    """
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = program()
    for tensor in given:
        pack(tensor)
    held = [*model.parameters(), *model.buffers()]
    own = {tensor.untyped_storage()._cdata for tensor in held}
    total = sum(t.untyped_storage().nbytes() for key, t in storages.items() if key not in own)
    return total, result


@pytest.mark.parametrize("name", MODELS)
def test_the_total_is_what_torch_saves_to_the_byte(name):
    torch.manual_seed(0)
    build, shape = MODELS[name]
    model, x = build(), torch.randn(shape)
    expected, _ = bytes_seen_by_hooks(lambda: model(x).square().mean(), model)
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
    assert table.total == saved(gradviz.trace(loss)).total == 4 * 128 * 4
    assert str(table).splitlines()[0].startswith("f32[4,128]  2.05 kB  output of exp, h  ")
    assert "test_saved.py:" in str(table)


def test_what_several_operations_share_counts_once():
    x = torch.ones(1000, requires_grad=True)
    h = x * 2
    loss = (h.sin() + h.cos() + h.exp()).sum()
    table = saved(gradviz.trace(loss))
    assert (
        table.total == 4000 + 4000
    )  # h and the result of exp; the number 2 is no tensor of the user's
    assert sorted(str(table).splitlines()[:2]) == [
        "f32[1000]  4 kB  output of exp",
        "f32[1000]  4 kB  output of mul, h  kept by sin, shared with cos",
    ]


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
        shape = (size // 4,)
        graph.add_node(
            f"n{number}",
            kind=NodeKind.OPERATION,
            op=op,
            shape=shape,
            dtype="float32",
            saved=(SavedTensor("result", -1, shape, "float32", number, size),),
            source=f"train.py:{number}",
            module=f"blocks.{number}.mlp",
        )
    assert saved(graph).text(2).splitlines() == [
        "f32[300000]  1.2 MB  output of gelu  train.py:1 (blocks.1.mlp)",
        "f32[249900]    1 MB  output of sin   train.py:2 (blocks.2.mlp)",
        "… and 1 more tensor with 40 B",
        "total 2.2 MB, kept for backward: 3 tensors",
        "checkpointing a module frees at least: blocks.1 1.2 MB, blocks.2 1 MB",  # 40 B are nothing
    ]


def test_a_graph_that_was_saved_tells_the_same():
    w = torch.ones(50, requires_grad=True)
    graph = gradviz.trace((w.exp().sin() * w).sum())
    loaded = loads(to_json(Story((Frame("", graph),))))[0].graph
    assert str(saved(loaded)) == str(saved(graph))
    assert "200 B of leaves that are saved as well (w)" in str(saved(loaded))


def test_a_graph_from_before_tensors_were_told_is_listed_by_operation():
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.OPERATION, op="exp", shape=(2,), saved_bytes=40)
    assert saved(graph).text().splitlines()[0] == "?  40 B  saved by exp"


def test_frozen_parameters_buffers_and_numbers_are_not_counted():
    model = nn.Sequential(
        nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Sequential(nn.Linear(32, 32, bias=False))
    )
    model[2].requires_grad_(False)
    x = torch.randn(5, 6)
    expected, loss = bytes_seen_by_hooks(lambda: model(x).exp().sum(), model)
    for graph in (gradviz.trace(loss, names=model), recorded(lambda: model(x).exp().sum(), model)):
        table = saved(graph)
        assert table.total == expected
        assert "2.0.weight" in table.leaves
        assert table.leaf_bytes == 32 * 32 * 4 + 3 * 32 * 4  # and of the norm: weight, mean, var
        assert not any("2.0.weight" in row.name for row in table.rows)
    y = torch.ones(3, requires_grad=True)
    assert str(saved(gradviz.trace((y * 2 / 0.5).sum()))) == "nothing is kept for backward"


def recorded(program, model):
    with gradviz.record(model) as run:
        loss = program()
        run.mark("forward")
    assert loss.requires_grad
    return run.frames[-1].graph


def test_tensors_without_a_storage_are_kept_and_of_unknown_size():
    told = []

    def program(x):
        y = (x * x).sin()
        told.append(str(saved(gradviz.trace(y.sum(), names={}))))
        return y.sum()

    torch.func.grad(program)(torch.ones(2))
    assert told == ["not known: the size of 3 tensors kept as well"]
    w = torch.ones(3, 3, requires_grad=True)
    graph = gradviz.trace(torch.sparse.mm(torch.eye(3).to_sparse(), w).sum())
    assert "not known: the size of 1 tensor kept" in str(saved(graph))


def test_many_views_of_one_tensor_are_told_in_time():
    h, total = torch.randn(4, 4, requires_grad=True).exp(), torch.zeros(())
    for _ in range(2000):
        h = h.t()
        total = total + h.square().sum()
    graph = gradviz.trace(total, names={})
    begun = time.process_time()
    table = saved(graph)
    assert time.process_time() - begun < 3  # going back along all of them each time took 10
    assert [row.what for row in table.rows] == ["output of exp"]


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        out, between = a * b, a + 1
        ctx.save_for_backward(a, b, out, between)
        return out

    @staticmethod
    def backward(ctx, grad):
        return grad, grad


def test_inputs_leaves_views_and_custom_functions():
    w, x = torch.ones(3, requires_grad=True), torch.ones(3)
    h = w * 1.5
    out = Scale.apply(h, w)
    loss = (out.exp() * x).sum() + h.view(1, 3)[0].sin().sum() + h.expand(2, 3).max(0)[0].sum()
    lines = str(gradviz.explain(loss, names={"w": w, "x": x, "h": h}).saved).splitlines()
    assert "f32[3]  12 B  output of mul, h  kept by Scale, shared with sin" in lines
    assert "f32[3]  12 B  input of mul, x" in lines
    assert "f32[3]  12 B  output of exp" in lines
    assert "i64[3]  24 B  indices of max" in lines
    assert lines.count("f32[3]  12 B  saved by Scale") == 2  # no output, as far as can be seen
    assert "held anyway, and not counted: 12 B of leaves that are saved as well (w)" in lines


def test_what_hooks_have_packed_and_checkpoints_recompute_is_said_and_not_unpacked():
    w = torch.ones(3, requires_grad=True)
    calls = []

    def part(x):
        calls.append(1)
        return x.exp().sin()

    loss = checkpoint(part, w * w, use_reentrant=False).sum()
    text = str(gradviz.explain(loss).saved)
    assert "packed by a hook, as of a checkpoint: what 2 operations saved" in text
    assert len(calls) == 1


def test_a_tensor_that_was_changed_since_it_was_saved_is_still_an_input():
    w = torch.ones(3, requires_grad=True)
    h, other = w.exp(), w.exp()
    loss = (h * other).sum()
    h.add_(1)
    before = torch.autograd._get_sequence_nr()
    table = gradviz.explain(loss, names={}).saved
    assert torch.autograd._get_sequence_nr() == before
    assert {row.what for row in table.rows} == {"output of exp"}


def test_leaves_that_share_a_storage_are_taken_off_once():
    flat = torch.ones(6)
    a, b = flat[:3].requires_grad_(), flat[3:].detach().requires_grad_()
    table = gradviz.explain((a * b).sum().exp(), names={"a": a, "b": b}).saved
    assert (table.total, table.leaf_bytes, table.leaves) == (4, 24, ("b", "a"))


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
    result = run("saved", "--full", "train.py:loss")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "f32[500]  2 kB  output of exp, h  train.py:5  shared with sin",
        "total 2 kB, kept for backward: 1 tensor",
    ]
    assert result.stderr.startswith("done\nin the frame: ")


def test_without_a_name_it_shows_what_the_first_step_keeps(script):
    result = run("memory", "train.py")
    assert result.exit_code == 0, result.stderr
    assert "f32[500]  2 kB  output of exp, h" in result.stdout
    assert "in the frame: forward" in result.stderr


def test_the_command_reads_a_saved_graph_and_refuses_arguments(script):
    x = torch.ones(500, requires_grad=True)
    gradviz.draw(x.exp().sin().exp()).save("graph.json")
    result = run("saved", "graph.json", "-n", "1")
    assert result.stdout.splitlines()[0].split() == ["f32[500]", "2", "kB", "output", "of", "exp"]
    assert "… and 1 more tensor with 2 kB" in result.stdout.splitlines()
    assert run("saved", "graph.json", "--", "--epochs").exit_code == 2
    assert run("saved", "train.py:nothing").exit_code == 2


def test_what_a_hook_has_made_of_a_tensor_is_the_users_own():
    asked = []

    class Lazy:
        def __getattr__(self, name):
            asked.append(name)
            raise AttributeError(name)

    x = torch.ones(1000, requires_grad=True)
    for pack in (lambda tensor: Lazy(), lambda tensor: [tensor.half(), "meta"]):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda packed: packed):
            graph = gradviz.trace((x * x).sum())
        (kept,) = (data["saved"] for _, data in graph.nodes(data=True) if "saved" in data)
        assert [(each.dtype, each.bytes) for each in kept] == [("", 0), ("", 0)]
    assert asked == []


def test_two_inputs_from_one_node_are_told_apart():
    one, other = (torch.ones(4, requires_grad=True) * 1).split(2)
    graph = gradviz.trace((one * other).sum())
    (kept,) = (
        data["saved"]
        for _, data in graph.nodes(data=True)
        if data.get("op") == "mul" and len(data.get("saved", ())) == 2
    )
    assert [(each.argument, each.input) for each in kept] == [("other", 1), ("self", 0)]
