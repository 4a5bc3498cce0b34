"""`gradviz.summary`: every operation, parameter and byte in one row, and none twice."""

from __future__ import annotations

import math

import pytest
import torch
from folding import folded_graphs, stack
from hypothesis import given, settings
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradviz
from gradviz.errors import SubjectError, UsageError
from gradviz.graph import GradGraph, NodeKind
from gradviz.reports.modules import rows_of


@given(graph=folded_graphs())
@settings(max_examples=60)
def test_the_rows_add_up_to_the_total_and_that_to_the_graph(graph: GradGraph) -> None:
    for depth in (1, 2, None):
        found = rows_of(graph, depth)
        for fact in ("ops", "saved_bytes", "nan", "inf"):
            assert sum(getattr(row, fact) for row in found.rows) == getattr(found.total, fact)
        operations = [d for _, d in graph.nodes(data=True) if d["kind"] is NodeKind.OPERATION]
        assert found.total.ops == len(operations)
        assert found.total.saved_bytes == graph.saved_bytes
        assert found.total.leaves == len(graph.leaves)


def test_the_table_says_what_a_reentrant_checkpoint_leaves_out() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    x = torch.ones(1, 2, requires_grad=True)
    loss = net[1](checkpoint(net[0], x, use_reentrant=True)).sum()
    known = "left out: what a reentrant checkpoint runs (0.weight, 0.bias), recorded only when"
    assert any(each.startswith(known) for each in gradviz.summary(loss, names=net).notes)
    loss = net[1](checkpoint(lambda x: net[0](x), x, use_reentrant=True)).sum()
    known = "left out: what a reentrant checkpoint runs, recorded only when"
    assert any(each.startswith(known) for each in gradviz.summary(loss, names=net).notes)
    assert not any("left out" in each for each in gradviz.summary(net(x).sum(), names=net).notes)


def test_each_row_is_what_the_model_says() -> None:
    loss, model = stack(3)
    loss.backward()
    table = gradviz.summary(loss, names=model, depth=2)
    rows = {row.module: row for row in table.rows}
    assert list(rows) == ["entry", "layers.0", "layers.1", "layers.2", "head", ""]
    for name, row in rows.items():
        if not name:
            continue
        parameters = list(model.get_submodule(name).parameters())
        assert row.parameters == sum(p.numel() for p in parameters)
        grads = [p.grad for p in parameters if p.grad is not None]
        assert row.grad_norm == pytest.approx(math.hypot(*(float(g.norm()) for g in grads)))
        assert (row.leaves, row.without_grad) == (len(parameters), 0)
    assert table.total.parameters == sum(p.numel() for p in model.parameters())


def test_a_parameter_that_two_modules_share_counts_once() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode, self.decode = nn.Linear(3, 3), nn.Linear(3, 3)
            self.decode.weight = self.encode.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.decode(self.encode(x).relu())
            return y

    model = Tied()
    total = gradviz.summary(model(torch.ones(2, 3)).sum(), names=model).total
    assert total.parameters == 9 + 3 + 3


def test_the_depth_by_default_fits_a_screen_and_is_said() -> None:
    loss, model = stack(30)
    table = gradviz.summary(loss, names=model)
    assert len(table.rows) <= 40
    assert "modules to depth 2 of 3" in table.notes
    assert len(gradviz.summary(loss, names=model, depth=3).rows) > 90


def test_what_is_wrong_with_gradients_is_counted() -> None:
    w = torch.ones(4, requires_grad=True)
    (w * torch.tensor([1.0, math.inf, math.nan, math.nan])).sum().backward()
    v = torch.ones(2, requires_grad=True)
    table = gradviz.summary((w * v.sum()).sum())
    assert (table.total.nan, table.total.inf, table.total.without_grad) == (2, 1, 1)
    assert "2 NaN 1 inf" in str(table)
    assert "no gradient: 1 of 2 leaves, .grad is None" in table.notes


def test_freed_is_not_the_same_as_nothing_kept() -> None:
    loss, model = stack(1)
    before = gradviz.summary(loss, names=model)
    loss.backward()
    after = gradviz.summary(loss, names=model)
    assert before.total.saved_bytes > 0
    assert not before.total.freed
    assert (after.total.saved_bytes, after.total.freed) == (0, True)
    assert "freed" in str(after)


def test_of_a_recording_what_was_saved_is_counted_before_it_is_freed() -> None:
    with gradviz.record() as run:
        loss, model = stack(1)
        before = gradviz.summary(loss, names=model)
        loss.backward()
        after = gradviz.summary(loss, names=model)
    table = gradviz.summary(run, names=model)
    assert table.total.saved_bytes == before.total.saved_bytes
    assert "saved: as it was before a backward pass freed it" in table.notes
    assert "freed: a backward pass freed the saved tensors" in after.notes


def test_it_takes_what_draw_takes() -> None:
    x = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        loss = (x * 3).sum()
        loss.backward()
    graph = gradviz.trace(loss)
    one = gradviz.summary(graph)
    assert str(one) == str(gradviz.summary(loss)) == str(gradviz.summary(gradviz.Frame("", graph)))
    assert gradviz.summary(run).total.ops == 2
    for nothing in (3, None, "loss"):
        with pytest.raises(SubjectError):
            gradviz.summary(nothing)
    with pytest.raises(UsageError, match="no frame"):
        gradviz.summary(gradviz.Story())
    with pytest.raises(UsageError, match="depth must be an integer >= 1, or None, got 0"):
        gradviz.summary(loss, depth=0)


def test_text_is_the_same_in_any_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, model = stack(2)
    table = gradviz.summary(loss, names=model)
    plain = str(table)
    for name, value in {"COLUMNS": "20", "FORCE_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    assert str(table) == plain
    assert all(line == line.rstrip() for line in plain.splitlines())


def test_a_module_with_marks_of_its_own_in_its_name_is_shown_as_it_is() -> None:
    graph = GradGraph()
    graph.add_node("n0", kind=NodeKind.OPERATION, op="mul", module="net.[bold]a")
    graph.add_node("n1", kind=NodeKind.OPERATION, op="mul", module="net.b")
    graph.add_edge("n0", "n1", 0)
    assert "[bold]a" in str(gradviz.summary(graph))


class _Plain:
    """An object that is no module, with tensors as attributes."""

    def __init__(self) -> None:
        self.w = torch.randn(3, 2, requires_grad=True)
        self.b = torch.zeros(2, requires_grad=True)

    def rows(self) -> list[str]:
        h = torch.ones(4, 3) @ self.w + self.b
        return [row.module for row in gradviz.summary(h.pow(2).sum()).rows]


def test_an_object_that_is_no_module_has_no_row() -> None:
    assert "self" not in _Plain().rows()


def test_a_box_counts_the_frozen_parameters_too() -> None:
    net = nn.Sequential(*[nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(6)])
    for block in net[2:]:
        block[0].weight.requires_grad_(False)
    loss = net(torch.ones(1, 4)).sum()
    loss.backward()
    text = str(gradviz.draw(loss, names=net, depth=1))
    assert "2…5  ×4  Sequential" in text and "80 parameters, 64 frozen" in text
    assert "0  Sequential  f32[1,4]  20 parameters  " in text


class _Checkpointed(nn.Module):
    """One layer runs in a reentrant checkpoint, and one is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(checkpoint(self.b, self.a(x), use_reentrant=True)).sum()


def test_the_parameters_of_a_module_are_all_counted() -> None:
    net = _Checkpointed()
    loss = net(torch.ones(2, 4))
    table = gradviz.summary(loss, names={"net": net})
    assert table.total.known_parameters == sum(p.numel() for p in net.parameters()) == 133
    assert "net  _Checkpointed  f32[2,1]    5     133" in str(table)
    assert "133 parameters, 84 not in the graph" in gradviz.draw(loss, names={"net": net}).svg
    with gradviz.record() as run:
        net(torch.ones(2, 4)).backward()
    assert gradviz.summary(run).total.unreached == 84


def test_parameters_of_modules_without_a_row_are_named_apart() -> None:
    net = nn.ModuleDict({"body": nn.Linear(4, 4).requires_grad_(False), "head": nn.Linear(4, 1)})
    loss = net["head"](net["body"](torch.ones(2, 4))).sum()
    table = gradviz.summary(loss, names={"net": net})
    assert [row.module for row in table.rows] == ["net.head", ""]
    assert "params: 20 of the total are of modules without a row" in table.notes


class _Adapter(nn.Module):
    """Frozen modules run beside a low-rank part, and before it."""

    def __init__(self) -> None:
        super().__init__()
        self.ln, self.base = nn.LayerNorm(8), nn.Linear(8, 8)
        self.up, self.down = nn.Linear(2, 8, bias=False), nn.Linear(8, 2, bias=False)
        self.ln.requires_grad_(False)
        self.base.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.ln(x)
        return (self.base(h) + self.up(self.down(h))).sum()


def test_a_module_without_a_graph_is_before_the_first_use_of_its_result() -> None:
    net = _Adapter()
    with gradviz.record(net) as run:
        net(torch.ones(2, 8)).backward()
    rows = [row.module for row in gradviz.summary(run).rows if row.module]
    assert rows == ["ln", "down", "up", "base"]
