"""Where a backward pass loses a gradient: seen while it runs, named when no cause is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from recording import strict
from torch.nn import functional as F

import gradviz
from gradviz.facts import BackwardDetails, EventKind, Loss
from gradviz.serialize import loads, to_json

__all__ = ["strict"]


def lost(run: gradviz.Recording) -> list[tuple[str, int, Loss]]:
    """The word of each operation that lost a gradient, the input, and how."""
    graph = run.frames[0].graph
    found = []
    for event in run.events:
        if event.kind is EventKind.BACKWARD and isinstance(event.details, BackwardDetails):
            for each in event.details.lost:
                found.append((graph.nodes[each.node]["op"], each.input, each.loss))
    return found


def test_zeros_are_named_where_a_gradient_went_in() -> None:
    w = torch.zeros(3, 2, requires_grad=True)
    with gradviz.record() as run:
        angle = torch.atan2(w[:, 0], w[:, 1])
        (angle * 2).sum().backward()
    assert lost(run) == [("atan2", 0, Loss.ZERO), ("atan2", 1, Loss.ZERO)]
    told = gradviz.explain(w, run)
    assert told.verdict is gradviz.Verdict.ZERO
    assert told.reason.startswith("atan2 at ") and "was not zero" in told.reason
    assert loads(to_json(run.story)).events == run.story.events


def test_the_fix_is_right() -> None:
    w = torch.ones(3, 2, requires_grad=True)  # other values
    with gradviz.record() as run:
        torch.atan2(w[:, 0], w[:, 1] + 1).sum().backward()
    assert not lost(run)
    assert gradviz.explain(w, run).verdict is gradviz.Verdict.FINE


def test_a_way_past_it_counts() -> None:
    w = torch.zeros(3, requires_grad=True)
    with gradviz.record() as run:
        (torch.atan2(w, w) + w).sum().backward()
    assert lost(run)
    assert gradviz.explain(w, run).verdict is gradviz.Verdict.FINE


def test_a_gradient_that_leaves_the_range_of_its_dtype() -> None:
    w = torch.ones(4, requires_grad=True)
    with gradviz.record() as run:
        ((w.half() * 2).float() * 1e6).sum().backward()
    assert (("to", 0, Loss.NOT_FINITE)) in lost(run)
    told = gradviz.explain(w, run)
    assert told.verdict is gradviz.Verdict.INFINITE
    assert "a finite gradient came to it" in told.reason and "float16" in told.fix


class Half(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * weight

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None


def test_a_function_that_returns_none() -> None:
    x, weight = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    with gradviz.record() as run:
        apply: Any = Half.apply
        apply(x, weight).sum().backward()
    told = gradviz.explain(weight, run)
    assert told.verdict is gradviz.Verdict.CUT
    assert "returned None for the input" in told.reason
    assert gradviz.explain(x, run).verdict is gradviz.Verdict.FINE


@pytest.mark.parametrize("create_graph", [False, True])
def test_looking_changes_nothing(create_graph: bool) -> None:
    def step() -> tuple[torch.Tensor, int]:
        torch.manual_seed(0)
        w = torch.randn(4, requires_grad=True)
        (w * 2).relu().exp().sum().backward(create_graph=create_graph)
        assert w.grad is not None
        return w.grad, w._version

    plain = step()
    with gradviz.record():
        recorded = step()
    assert torch.equal(plain[0], recorded[0]) and plain[1] == recorded[1]
    assert plain[0].requires_grad is recorded[0].requires_grad is create_graph


def test_no_hook_is_left_behind() -> None:
    w = torch.ones(2, requires_grad=True)
    with gradviz.record() as run:
        loss = (w * 2).sum()
        loss.backward(retain_graph=True)
    events = len(run.events)
    loss.backward()
    assert len(run.events) == events and not lost(run)


def _overwrite(x: torch.Tensor, index: Any, value: Any) -> torch.Tensor:
    x[index] = value
    return x[index]


FLAT: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], str]] = {
    **{
        each.__name__.strip("_"): (lambda x, each=each: each(x * 1e3 - 1e4), "it is saturated")
        for each in (F.celu, F.elu, F.gelu, F.hardsigmoid, F.hardswish, F.mish, F.silu, F.softplus)
    },
    "erf": (lambda x: torch.erf(x + 100), "it is saturated"),
    "log_sigmoid": (lambda x: F.logsigmoid(x + 1e4), "it is saturated"),
    "hardshrink": (lambda x: F.hardshrink(x, 9), "not farther than lambd from 0"),
    "softshrink": (lambda x: F.softshrink(x, 9), "not farther than lambd from 0"),
    "div": (lambda x: torch.div(x, 3, rounding_mode="floor"), "constant between steps"),
    "sgn": (lambda x: torch.sgn(x), "constant between steps"),
    "fmax": (lambda x: torch.fmax(x, x.detach() + 1), "it selects the other input"),
    "clamp": (lambda x: x.clamp(min=torch.full_like(x, 9)), "outside the range min to max"),
    "l1_loss (abs)": (lambda x: F.l1_loss(x, x.detach()), "its input is 0"),
    "remainder": (lambda x: torch.remainder(torch.zeros(4), x + 9), "rounded quotient is 0"),
    "fill_": (lambda x: (x * 1).fill_(2.0), "it writes other values there"),
    "copy_": (lambda x: (x * 1).copy_(torch.ones(4)), "it writes other values there"),
    "copy_slices": (lambda x: _overwrite(x * 1, 0, 1.0), "it writes other values there"),
    "setitem_": (lambda x: _overwrite(x * 1, slice(None), 1.0), "it writes other values there"),
}


@pytest.mark.parametrize("op", FLAT)
def test_flat_everywhere(op: str) -> None:
    w = torch.linspace(-1, 1, 4).requires_grad_()
    with gradviz.record() as run:
        FLAT[op][0](w).sum().backward()
    found = gradviz.explain(w, run)
    assert found.verdict is gradviz.Verdict.ZERO
    assert found.reason.startswith(f"{op} at ") and FLAT[op][1] in found.reason


_ALWAYS_FLAT = ("div", "l1_loss (abs)", "fill_", "copy_")


@pytest.mark.parametrize("op", [op for op in FLAT if op not in _ALWAYS_FLAT])
def test_flat_somewhere_is_healthy(op: str) -> None:
    w = torch.linspace(-1, 1, 4).requires_grad_()
    with gradviz.record() as run:
        (FLAT[op][0](w).sum() + w[0]).backward()
    assert gradviz.explain(w, run).verdict is gradviz.Verdict.FINE


def test_a_part_that_is_written_gives_the_rest_its_gradient() -> None:
    w = torch.ones(4, requires_grad=True)
    with gradviz.record() as run:
        x = w * 1
        x[0] = 5.0
        (x * 0).sum().backward()
    assert gradviz.explain(w, run).reason.startswith("mul at ")


def test_an_update_of_a_part_is_no_new_value() -> None:
    w = torch.ones(4, requires_grad=True)
    with gradviz.record() as run:
        x = w * 1
        x[:2] *= 0
        x[:2].sum().backward()
    assert "other values" not in gradviz.explain(w, run).reason


def test_the_bound_of_a_clamp_is_not_its_input() -> None:
    low = torch.zeros(4, requires_grad=True)
    with gradviz.record() as run:
        torch.ones(4).clamp(min=low).sum().backward()
    found = gradviz.explain(low, run)
    assert found.verdict is gradviz.Verdict.ZERO and "outside" not in found.reason
