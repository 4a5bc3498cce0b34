"""Small programs whose gradient is missing, each with the verdict that is right by construction.

A line that ends in ``# here`` is the one that the explanation has to name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

import gradviz
from gradviz import Explanation, Explanations, Verdict

__all__ = ["CASES", "Case", "case", "leaf"]


@dataclass(frozen=True)
class Case:
    """A program that returns its own explanation.

    Args:
        name: for the test report.
        run: the program.
        verdict: the right one.
        says: words that the reason must have.
        fix: words that the fix must have; "" for no fix.
        line: the line to be named, ``explain_cases.py:12``; "" for none.
    """

    name: str
    run: Callable[[], Explanation | Explanations]
    verdict: Verdict
    says: str
    fix: str
    line: str


CASES: list[Case] = []
Program = Callable[[], "Explanation | Explanations"]


def case(verdict: Verdict, says: str, fix: str = "") -> Callable[[Program], Program]:
    """Register a program under its function's name."""

    def register(run: Program) -> Program:
        lines, first = inspect.getsourcelines(run)
        marked = [first + at for at, line in enumerate(lines) if line.rstrip().endswith("# here")]
        file = (inspect.getsourcefile(run) or "").replace("\\", "/").rpartition("/")[2]
        line = f"{file}:{marked[0]}" if marked else ""
        CASES.append(Case(run.__name__, run, verdict, says, fix, line))
        return run

    return register


def leaf(*values: float) -> torch.Tensor:
    """A leaf that requires grad."""
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


# Not recorded: what the graph proves, and no more.


@case(Verdict.NOT_RUN, "connected to loss", "call loss.backward()")
def backward_not_run():
    w = leaf()
    loss = (w * 2).sum()
    return gradviz.explain(w, loss)


@case(Verdict.NOT_RUN, "connected to loss", "call loss.backward()")
def root_found_among_the_variables():
    w = leaf()
    loss = (w * 2).sum()
    assert loss.requires_grad
    return gradviz.explain(w)


@case(Verdict.NOT_RUN, "connected to y", "call y.sum().backward()")
def backward_not_run_on_a_vector():
    w = leaf()
    y = w * 2
    return gradviz.explain(w, y)


@case(Verdict.NOT_KNOWN, "no result was found", "gradviz.explain(w, loss)")
def nothing_to_start_from():
    w = leaf()
    return gradviz.explain(w)


@case(Verdict.NOT_CONNECTED, "was not recorded", "gradviz.record()")
def not_used_and_not_recorded():
    w, v = leaf(), leaf()
    loss = (v * 2).sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.NOT_CONNECTED, "was not recorded", "gradviz.record()")
def cut_and_not_recorded():
    w, v = leaf(), leaf()
    loss = (v + w.detach()).sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.NOT_KNOWN, "was not recorded", "gradviz.record()")
def cleared_and_not_recorded():
    w = leaf()
    loss = (w**2).sum()
    loss.backward()
    w.grad = None
    return gradviz.explain(w, loss)


@case(Verdict.NOT_KNOWN, "another tensor has a gradient", "gradviz.record()")
def left_out_and_not_recorded():
    w, v = leaf(), leaf()
    loss = (w + v).sum()
    loss.backward(inputs=[v])
    return gradviz.explain(w, loss)


@case(Verdict.FROZEN, "requires_grad is False", "requires_grad_(True)")
def frozen_parameter():
    w = nn.Parameter(torch.ones(2), requires_grad=False)
    return gradviz.explain(w)


@case(Verdict.UNTRACKED, "was not recorded", "x.requires_grad_()")
def plain_tensor():
    x = torch.ones(2)
    return gradviz.explain(x)


@case(Verdict.UNTRACKED, "was not recorded", "z.requires_grad_()")
def detached_and_not_recorded():
    w = leaf()
    z = (w * 2).detach()
    return gradviz.explain(z)


@case(Verdict.INTEGER, "it is int64", "i.float().requires_grad_()")
def integers():
    i = torch.arange(3)
    return gradviz.explain(i)


@case(Verdict.INTEGER, "it is bool", ".float()")
def booleans():
    mask = leaf() > 1
    return gradviz.explain(mask)


@case(Verdict.INFERENCE, "inference_mode", "torch.no_grad()")
def inference_tensor():
    with torch.inference_mode():
        x = torch.ones(2)
    return gradviz.explain(x)


@case(Verdict.NON_LEAF, "created by mul", "h.retain_grad() before backward")
def non_leaf():
    w = leaf()
    h = w * 2
    h.sum().backward()
    return gradviz.explain(h)


@case(Verdict.NON_LEAF, "created by to", "w.detach().requires_grad_()")
def converted():
    w = leaf().to(torch.float64)
    w.sum().backward()
    return gradviz.explain(w)


@case(Verdict.NON_LEAF, "created by mul", "w.detach().requires_grad_()")
def scaled_at_the_start():
    w = torch.randn(3, requires_grad=True) * 0.1
    w.sum().backward()
    return gradviz.explain(w)


@case(Verdict.NON_LEAF, "created by sub", "with torch.no_grad(): w -= ...")
def reassigned_by_the_update():
    w = leaf()
    (w * 2).sum().backward()
    w = w - 0.1 * w.grad
    return gradviz.explain(w)


@case(Verdict.NON_LEAF, "created by select", "read w.grad")
def view_of_a_leaf():
    w = leaf()
    row = w[0]
    row.backward()
    return gradviz.explain(row)


@case(Verdict.NOT_RUN, "nothing was accumulated", "call loss.backward()")
def retained_and_not_run():
    w = leaf()
    h = w * 2
    h.retain_grad()
    loss = h.sum()
    return gradviz.explain(h, loss)


@case(Verdict.NOT_RUN, "connected to loss", "loss.backward()")
def one_element_is_enough():
    w = leaf(1.0)
    loss = w * 2
    return gradviz.explain(w, loss)


# Recorded: the cause and its line.


@case(Verdict.CUT, "cut by detach() at", "leave out the detach()")
def detached():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        h = (w * 2).detach()  # here
        loss = (h * v).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by no_grad at", "outside of torch.no_grad()")
def under_no_grad():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        with torch.no_grad():
            h = w * 2  # here
        loss = (h * v).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by .data at", "instead of .data")
def through_data():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        h = w.data  # here
        loss = (h * v).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by torch.tensor() at", "use the tensor itself")
def rebuilt_from_its_values():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        h = torch.tensor(w)  # here
        loss = (h * v).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by tolist() at", "keep it a tensor")
def became_numbers():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        numbers = w.tolist()  # here
        loss = (torch.tensor(numbers) * v).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.NOT_CONNECTED, "it became plain numbers by tolist() at", "keep it a tensor")
def became_other_numbers():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        numbers = w.tolist()  # here
        loss = (torch.tensor(sum(numbers)) * v).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by gt at", "torch.sigmoid((w - 1) / scale)")
def compared():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        mask = w > 1  # here
        loss = (v * mask).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by argmax at", "soft version")
def argmax():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        best = w.argmax()  # here
        loss = v[best] * 2
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by detach() at", "leave out the detach()")
def detached_two_steps_before():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        h = w.exp().detach()  # here
        k = h * 3 + 1
        loss = (k * v).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.NOT_CONNECTED, "not used by loss", "leave it out of the optimizer")
def not_used():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        loss = (v * 2).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.NOT_RUN, "no backward pass", "loss.backward()")
def recorded_without_backward():
    w = leaf()
    with gradviz.record() as run:
        loss = (w * 2).sum()
    assert loss.requires_grad
    return gradviz.explain(w, run)


@case(Verdict.LEFT_OUT, "inputs= without it", "add w to inputs=")
def left_out_by_inputs():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        loss = (w * v).sum()
        loss.backward(inputs=[v])  # here
    return gradviz.explain(w, run)


@case(Verdict.LEFT_OUT, "returns gradients", "call loss.backward() instead")
def asked_by_autograd_grad():
    w = leaf()
    with gradviz.record() as run:
        loss = (w**2).sum()
        torch.autograd.grad(loss, w)  # here
    return gradviz.explain(w, run)


@case(Verdict.CLEARED, "cleared afterwards by zero_grad at", "read w.grad before")
def cleared_by_zero_grad():
    w = leaf()
    optimizer = torch.optim.SGD([w], lr=0.1)
    with gradviz.record() as run:
        loss = (w**2).sum()
        loss.backward()
        optimizer.zero_grad()  # here
    return gradviz.explain(w, run)


@case(Verdict.CLEARED, "cleared afterwards by .grad = None at", "read w.grad before")
def cleared_by_hand():
    w = leaf()
    with gradviz.record() as run:
        loss = (w**2).sum()
        loss.backward()
        w.grad = None  # here
    return gradviz.explain(w, run)


@case(Verdict.FROZEN, "switched off at", "requires_grad_(True)")
def frozen_while_recorded():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        w.requires_grad_(False)  # here
        loss = (w * v).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by detach() at", "leave out the detach()")
def asked_of_the_detached():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        h = (w * 2).detach()  # here
        loss = (h * v).sum()
        loss.backward()
    return gradviz.explain(h, run)


@case(Verdict.NON_LEAF, "created by mul at", "h.retain_grad()")
def non_leaf_with_its_line():
    w = leaf()
    with gradviz.record() as run:
        h = w * 2  # here
        loss = h.sum()
        loss.backward()
    return gradviz.explain(h, run)
