"""Cuts in and behind transforms of ``torch.func``: each is told, with its line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import func
from torch.nn import Parameter

import gradviz

ONES = torch.ones(4, 3)
CUT = {
    "vmap_moves_an_output": lambda w, x: torch.vmap(lambda r: r * w.detach(), out_dims=1)(x),
    "vmap_moves_one_of_two": lambda w, x: torch.vmap(
        lambda r: (r, r * w.detach()), out_dims=(0, 1)
    )(x)[1],
    "vmap_under_no_grad": lambda w, x: torch.no_grad()(torch.vmap(lambda r: r * w, out_dims=-1))(x),
    "vmap_in_chunks": lambda w, x: torch.vmap(lambda r: r * w, chunk_size=2)(x).detach(),
    "vjp": lambda w, x: func.vjp(lambda t: (t * x).exp(), w)[0].detach(),
    "pullback": lambda w, x: func.vjp(lambda t: (t * w).exp(), x)[1](ONES)[0].detach(),
    "grad_of_a_closure": lambda w, x: func.grad(lambda t: (t * w.detach()).pow(2).sum())(x),
    "value_of_a_closure": lambda w, x: func.grad_and_value(lambda t: (t * w.detach()).pow(2).sum())(
        x
    )[1],
    "gradients_per_sample": lambda w, x: torch.vmap(
        func.grad(lambda t: (t * w.detach()).pow(2).sum())
    )(x),
    "jacrev": lambda w, x: func.jacrev(lambda t: (t * w).sin())(x[0]).detach(),
    "functional_call": lambda w, x: func.functional_call(
        torch.nn.Linear(3, 3, bias=False), {"weight": w.detach().expand(3, 3)}, (x,)
    ),
}
FINE = {
    "vmap": lambda w, x: torch.vmap(lambda r: r * w, out_dims=1)(x),
    "chunks": lambda w, x: torch.vmap(lambda r: r * w, chunk_size=3)(x),
    "closure": lambda w, x: func.grad(lambda t: (t * w).pow(2).sum())(x),
    "pull": lambda w, x: func.vjp(lambda t: (t * w).exp(), x)[1](ONES)[0],
    "jacrev": lambda w, x: func.jacrev(lambda t: (t * w).sin())(x[0]),
    "jvp": lambda w, x: func.jvp(lambda t: (t * w).sin(), (x,), (ONES,))[1],
    "functional_call": lambda w, x: func.functional_call(
        torch.nn.Linear(3, 3, bias=False), {"weight": w.expand(3, 3)}, (x,)
    ),
}


def asked(compute: Callable[..., Any]) -> gradviz.Explanation:
    """The answer about a parameter that a loss is computed from, beside another one."""
    weight, other = Parameter(torch.full((3,), 2.0)), Parameter(torch.ones(1))
    x = torch.linspace(-1, 1, 12).reshape(4, 3)
    with gradviz.record() as run:
        loss = (compute(weight, x).sum() * other).sum()
        loss.backward()
    answer = gradviz.explain(weight, run)
    assert (weight.grad is None) == (answer.verdict.value != "fine")
    return answer


@pytest.mark.parametrize("name", CUT)
def test_a_cut_in_a_transform_is_told(name: str) -> None:
    lines, first = inspect.getsourcelines(CUT[name])
    answer = asked(CUT[name])
    assert answer.verdict.value == "cut", str(answer)
    assert answer.locations
    assert {each.line for each in answer.locations} <= set(range(first, first + len(lines) + 3))


@pytest.mark.parametrize("name", FINE)
def test_a_gradient_through_a_transform_is_fine(name: str) -> None:
    assert asked(FINE[name]).verdict.value == "fine"


def test_a_tensor_that_a_transform_does_not_use_is_not_connected() -> None:
    answer = asked(lambda w, x: torch.vmap(lambda r: r * 2, out_dims=1)(x))
    assert answer.verdict.value == "not connected"


def test_what_linearize_closes_over_is_a_constant() -> None:
    def pushed(w: Any, x: Any) -> Any:
        return func.linearize(lambda t: (t * w).sin(), x)[1](ONES)

    answer = asked(pushed)
    assert "torch.func.linearize(), to which it is a constant" in answer.reason
    assert "torch.func.jvp" in answer.fix  # FINE["jvp"]
