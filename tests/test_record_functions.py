"""What runs inside a Function or a reentrant checkpoint: what it reads, and where data is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from recording import strict  # noqa: F401
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradviz
from gradviz.diagnosis.answers import Verdict
from gradviz.graph import Cause, GradGraph
from gradviz.serialize import load


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class Nested(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return Square.apply(x + 1).exp()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


class Module(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, module: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return module(x.detach()).tanh()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


def uses_inside(graph: GradGraph) -> dict[str, set[str]]:
    return {
        data["op"]: set(data["uses_inside"])
        for _, data in graph.nodes(data=True)
        if "uses_inside" in data
    }


@pytest.mark.parametrize("function", [Square, Nested])
def test_a_function_of_detached_data_does_not_break_the_trail(function: Any) -> None:
    w, x = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        z = function.apply(x.detach() * 1)
        (w * z).sum().backward()
    told = gradviz.explain(run, [w, x])
    assert [told.of(name).verdict for name in "wx"] == [Verdict.FINE, Verdict.CUT]
    assert "detach()" in told.of("x").reason
    graph = run.frames[-1].graph
    assert graph.nodes[run.key_of(z)]["op"] == function.__name__
    assert run.story.notes == ()


def test_a_function_of_plain_data_cuts_nothing() -> None:
    w = torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        (w * Square.apply(torch.ones(3))).sum().backward()
    assert gradviz.explain(run, w).verdict is Verdict.FINE


@pytest.mark.parametrize("is_before", [True, False])
def test_the_leaves_that_a_function_reads_are_known(is_before: bool) -> None:
    block, head, spare = nn.Linear(3, 3), nn.Linear(3, 1), nn.Linear(3, 3)
    model = nn.ModuleDict({"block": block, "head": head, "spare": spare})
    with gradviz.record(model) as run:
        x = torch.ones(2, 3, requires_grad=True)
        loss = head(Module.apply(x, block)).sum()
        if not is_before:
            loss.backward()
    inside = uses_inside(run.frames[-1].graph)
    assert inside == {"Module": {run.key_of(block.weight), run.key_of(block.bias)}}
    told = gradviz.explain(run, names=model)
    assert "is used inside Module" in told.of("block.weight").reason
    assert "inside" not in told.of("spare.weight").reason
    assert told.of("spare.weight").verdict is Verdict.NOT_CONNECTED


def test_what_a_reentrant_checkpoint_reads_is_known_before_backward() -> None:
    a, b, c = (nn.Linear(3, 3) for _ in range(3))
    model = nn.ModuleDict({"a": a, "b": b, "c": c})
    with gradviz.record(model) as run:
        loss = c(checkpoint(b, a(torch.ones(2, 3)), use_reentrant=True)).sum()
    assert uses_inside(run.frames[-1].graph) == {
        "checkpoint": {run.key_of(b.weight), run.key_of(b.bias)}
    }
    told = gradviz.explain(run, names=model)
    assert "is used inside checkpoint" in told.of("b.weight").reason
    loss.backward()
    assert b.weight.grad is not None


def test_a_checkpoint_without_an_input_that_requires_grad_is_the_cut() -> None:
    block, head = nn.Linear(3, 3), nn.Linear(3, 1)
    model = nn.ModuleDict({"block": block, "head": head})
    with gradviz.record(model) as run:
        h = checkpoint(block, torch.ones(4, 3), use_reentrant=True)  # the cut
        head(h.relu()).sum().backward()
    for name in ("block.weight", "block.bias"):
        told = gradviz.explain(run, names=model).of(name)
        assert told.verdict is Verdict.CUT
        assert "checkpoint, of which no input requires grad" in told.reason
    graph = run.frames[-1].graph
    assert Cause.CUSTOM_FUNCTION in {data.get("cause") for *_, data in graph.edges(data=True)}


@pytest.mark.parametrize("fix", ["input", "not reentrant"])
def test_the_fixes_work(fix: str) -> None:
    block, head = nn.Linear(3, 3), nn.Linear(3, 1)
    model = nn.ModuleDict({"block": block, "head": head})
    with gradviz.record(model) as run:
        x = torch.ones(4, 3, requires_grad=fix == "input")
        h = checkpoint(block, x, use_reentrant=fix == "input")
        head(h.relu()).sum().backward()
    told = gradviz.explain(run, names=model)
    assert all(told.of(name).verdict is not Verdict.CUT for name in ("block.weight", "block.bias"))
    assert block.bias.grad is not None


def test_a_graph_tensor_read_from_outside_counts_with_its_leaves() -> None:
    w, x = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        scaled = w * 2

        class Scale(torch.autograd.Function):
            @staticmethod
            def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
                return x * scaled

            @staticmethod
            def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
                return gradient

        Scale.apply(x).sum().backward()
    assert uses_inside(run.frames[-1].graph) == {"Scale": {run.key_of(w)}}


def test_the_facts_are_saved(tmp_path: Any) -> None:
    block = nn.Linear(3, 3)
    with gradviz.record(block) as run:
        Module.apply(torch.ones(2, 3, requires_grad=True), block).sum().backward()
    path = tmp_path / "my story.json"
    run.save(path)
    assert uses_inside(load(path)[-1].graph) == uses_inside(run.frames[-1].graph)


def test_a_checkpoint_reads_its_module_after_no_grad_within_inference_mode() -> None:
    torch.manual_seed(0)
    inner, head = nn.Linear(2, 2), nn.Linear(2, 1)

    def model(x: torch.Tensor) -> torch.Tensor:
        return head(checkpoint(inner, head.weight + x, use_reentrant=True))  # type: ignore[no-any-return]

    with gradviz.record() as run:
        for _ in range(2):
            (model(torch.ones(3, 2)) * torch.zeros(1)).sum().backward()
            with torch.inference_mode(), torch.no_grad():
                model(torch.ones(3, 2))
            inner.zero_grad(), head.zero_grad()
        (model(torch.ones(3, 2)) * torch.zeros(1)).sum().backward()
    told = gradviz.explain(inner.weight, run)
    assert told.verdict is Verdict.ZERO
    assert "mul" in told.reason
