"""What checkpointing a module would free: held against what torch saves with and without it."""

import warnings

import pytest
import torch
from test_saved import bytes_seen_by_hooks
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradviz
from gradviz.graph import GradGraph, NodeKind, SavedTensor
from gradviz.reports.memory import saved


class Block(nn.Module):
    """A transformer block; without dropout, whose mask on a CPU is no result of an operation."""

    def __init__(self, width=16):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.checkpointed = False

    def forward(self, x):
        if self.checkpointed:
            return checkpoint(self.inside, x, use_reentrant=False)
        return self.inside(x)

    def inside(self, x):
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(10, 16), nn.Linear(16, 10)
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, tokens):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("is_recorded", [True, False])
def test_what_checkpointing_a_block_frees_is_right_to_the_byte(number, is_recorded):
    torch.manual_seed(0)
    model, tokens = Transformer(), torch.randint(0, 10, (2, 7))
    if is_recorded:
        with gradviz.record() as run:
            loss = model(tokens).sum()
        table = gradviz.explain(run, names=model).saved
    else:
        loss = model(tokens).sum()
        table = gradviz.explain(loss, names=model).saved
    model.blocks[number].checkpointed = True
    left, _ = bytes_seen_by_hooks(lambda: model(tokens).sum(), model)
    block = f"model.blocks.{number}" if is_recorded else f"blocks.{number}"
    assert table.modules[block] == table.total - left


def test_a_transformer_says_of_each_tensor_what_it_is():
    torch.manual_seed(0)
    model = Transformer()
    with gradviz.record() as run:
        loss = model(torch.randint(0, 10, (2, 7))).sum()
    table = gradviz.explain(run, names=model).saved
    rows = [row for row in table.rows if row.module.startswith("model.blocks.1")]
    assert {row.what for row in rows} >= {
        "output of gelu",
        "output of layer_norm",
        "mean of layer_norm",
        "logsumexp of scaled_dot_product_attention",
        "output of add",
    }
    gelu = next(row for row in rows if row.what == "output of gelu")
    assert (gelu.tensor, gelu.bytes, gelu.shared) == ("f32[2,7,64]", 3584, "kept by addmm")
    assert gelu.where.startswith("tests/test_checkpoints.py:") and gelu.where.endswith(
        " (model.blocks.1)"
    )
    assert {"model.blocks.0.up.weight", "model.head.weight"} <= set(table.leaves)
    assert "held anyway, and not counted: " in str(table)
    assert loss.requires_grad


class Shifted(nn.Module):
    """A block to which a tensor goes that requires no grad."""

    def __init__(self, given):
        super().__init__()
        self.fc, self.given, self.checkpointed = nn.Linear(64, 64), given, False

    def forward(self, x, extra):
        if not self.checkpointed:
            return self.inside(x, extra)
        self.given += [x, extra]
        return checkpoint(self.inside, x, extra, use_reentrant=False)

    def inside(self, x, extra):
        return torch.tanh(self.fc(x + extra)).sin()


class Masked(Shifted):
    def inside(self, x, extra):
        return torch.tanh(torch.tanh(self.fc(x * extra)).sin())


class Scaled(Shifted):
    def inside(self, x, extra):
        return torch.sigmoid(torch.tanh(torch.tanh(self.fc(x)).exp()) / extra)


class Net(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.given = []
        self.blocks = nn.ModuleList(kind(self.given) for _ in range(2))
        self.head = nn.Linear(64, 1)

    def forward(self, x):
        for block in self.blocks:
            x = block(x, torch.rand(100, 64) + 1)
        return self.head(x).sum()


@pytest.mark.parametrize("is_recorded", [True, False])
@pytest.mark.parametrize("kind", [Shifted, Masked, Scaled])
def test_checkpointing_frees_at_least_what_is_said(kind, is_recorded):
    torch.manual_seed(0)
    model, x = Net(kind), torch.randn(100, 64)
    with gradviz.record(model) as run:
        loss = model(x)
    table = saved(run.frames[-1].graph if is_recorded else gradviz.trace(loss, names=model))
    before, _ = bytes_seen_by_hooks(lambda: model(x), model)
    model.blocks[1].checkpointed = True
    after, _ = bytes_seen_by_hooks(lambda: model(x), model, model.given)
    assert len(model.given) == 2
    assert table.modules.get("blocks.1", 0) <= max(before - after, 0)
    assert (before > after) == ("blocks.1" in table.modules), (before, after)


def test_of_blocks_that_use_what_cannot_be_seen_none_is_recommended():
    graph = GradGraph()
    for number, op in enumerate(("exp", "where", "exp")):
        result = SavedTensor("result", -1, (8,), "float32", number, 4000)
        data = {"untracked_inputs": 1} if op == "where" else {}
        where = f"blocks.{number}"
        graph.add_node(
            f"n{number}", kind=NodeKind.OPERATION, op=op, saved=(result,), module=where, **data
        )
    assert list(saved(graph).modules) == ["blocks.0", "blocks.2"]


def test_gradients_of_what_a_reentrant_checkpoint_runs_have_names():
    net = nn.ModuleDict({"a": nn.Linear(2, 2), "b": nn.Linear(2, 2)})
    with gradviz.record() as run:
        inside = checkpoint(net["b"], net["a"](torch.ones(1, 2)), use_reentrant=True)
        inside.sum().backward()
    added = [event.name for event in run.events if event.word == "accumulate_grad"]
    names = [f"net.{part}.{kind}.grad" for part in "ab" for kind in ("bias", "weight")]
    assert sorted(added) == names


@pytest.mark.parametrize("is_one", [True, False], ids=["one call", "a call for each layer"])
def test_each_of_many_parameters_in_checkpoints_without_gradients_is_told_the_call(is_one):
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(20))
    run_all = nn.Sequential(*layers)
    with warnings.catch_warnings(), gradviz.record() as run:
        warnings.simplefilter("ignore")
        h = torch.ones(1, 2)
        for layer in [run_all] if is_one else layers:
            h = checkpoint(layer, h, use_reentrant=True)
        nn.Linear(2, 1)(h).sum().backward()
    told = gradviz.explain(run, names=layers)
    assert {each.verdict for each in told if each.name[:1].isdigit()} == {gradviz.Verdict.CUT}
    assert len(told) >= 40
