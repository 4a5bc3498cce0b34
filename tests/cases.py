"""Small tensor programs that the tests share: each with what its picture has to say.

``build()`` runs the program and returns a fresh `Program`; the same call gives the same graph
in any process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

__all__ = ["CASES", "Case", "Program", "case"]


@dataclass(frozen=True, eq=False)
class Program:
    """What to draw, and what to call it: ``trace(*subjects, names=names)``."""

    subjects: tuple[Any, ...]
    names: dict[str, torch.Tensor] | nn.Module = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A program with a name for the test report, and the lesson of its picture."""

    name: str
    build: Callable[[], Program]
    says: str


CASES: list[Case] = []


def case(name: str) -> Case:
    """The case called ``name``."""
    return next(found for found in CASES if found.name == name)


def _case(says: str) -> Callable[[Callable[[], Program]], Callable[[], Program]]:
    """Register a program under its function's name; its random numbers are seeded."""

    def register(build: Callable[[], Program]) -> Callable[[], Program]:
        def seeded() -> Program:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                return build()

        CASES.append(Case(build.__name__, seeded, says))
        return seeded

    return register


def _x() -> torch.Tensor:
    return torch.tensor([-2.2168, 0.1898, 1.4724], requires_grad=True)


@_case("a chain of two operations over one leaf; the constant 2 is no node")
def mul_chain() -> Program:
    x = _x()
    y = x * 2 + 1
    return Program((y,), {"x": x, "y": y})


@_case("two parallel edges from x into mul")
def x_times_x() -> Program:
    x = _x()
    y = x * x * 2
    return Program((y,), {"x": x, "y": y})


@_case("x.grad is 1/3 everywhere after backward")
def mean_backward() -> Program:
    x = _x()
    loss = x.mean()
    loss.backward()
    return Program((loss,), {"x": x, "loss": loss})


@_case("the second backward has added to the first: [-0.5534, 1.0924, 0.3392]")
def vector_backward() -> Program:
    x = _x()
    x.mean().backward()
    y = x * x * 2
    y.backward(torch.tensor([0.1, 1.0, 0.001]))
    return Program((y,), {"x": x, "y": y})


@_case("one untracked node: detach has left the graph")
def detached() -> Program:
    x = _x()
    y = (x * 2).detach()
    return Program((y,), {"x": x, "y": y})


@_case("x gets a gradient, the detached branch is an input without one")
def detached_branch() -> Program:
    x = _x()
    loss = (x * (x * 2).detach()).sum()
    return Program((loss,), {"x": x, "loss": loss})


@_case("one untracked node: made under no_grad")
def no_grad() -> Program:
    x = _x()
    with torch.no_grad():
        y = x * 2
    return Program((y,), {"x": x, "y": y})


@_case("mul has one input that gets no gradient: w was frozen")
def frozen() -> Program:
    x, w = _x(), torch.ones(3, requires_grad=True)
    w.requires_grad_(False)
    y = x * w
    return Program((y,), {"x": x, "w": w, "y": y})


@_case("one untracked node, marked as made under inference_mode")
def inference_mode() -> Program:
    x = _x()
    with torch.inference_mode():
        y = x * 2
    return Program((y,), {"x": x, "y": y})


@_case("split has two outputs, and both are used")
def split() -> Program:
    x = torch.arange(4.0, requires_grad=True)
    first, second = x.split(2)
    y = first * second
    return Program((y,), {"x": x, "first": first, "second": second, "y": y})


@_case("two roots share a trunk")
def two_losses() -> Program:
    w = torch.ones(3, requires_grad=True)
    trunk = (w * 2).exp()
    loss_a, loss_b = trunk.sum(), trunk.prod()
    return Program((loss_a, loss_b), {"w": w, "loss_a": loss_a, "loss_b": loss_b})


@_case("backward through one head has freed the trunk, the other head still holds its buffers")
def half_freed() -> Program:
    w = torch.ones(3, requires_grad=True)
    trunk = (w * 2).exp()
    loss_a, loss_b = trunk.sum(), trunk.prod()
    loss_a.backward()
    return Program((loss_a, loss_b), {"w": w, "loss_a": loss_a, "loss_b": loss_b})


@_case("exp and mul have lost their buffers: a second backward would raise")
def freed() -> Program:
    w = torch.ones(4, requires_grad=True)
    loss = (w.exp() * w).sum()
    loss.backward()
    return Program((loss,), {"w": w, "loss": loss})


@_case("retain_graph kept the buffers, and w.grad holds two backward passes: 6")
def retain_graph() -> Program:
    w = torch.ones(4, requires_grad=True)
    loss = (w * 3).sum()
    loss.backward(retain_graph=True)
    loss.backward()
    return Program((loss,), {"w": w, "loss": loss})


@_case("the gradient is there and all zero")
def zeroed() -> Program:
    w = torch.ones(4, requires_grad=True)
    loss = (w * 3).sum()
    loss.backward()
    assert w.grad is not None
    w.grad.zero_()
    return Program((loss,), {"w": w, "loss": loss})


@_case("y was changed in place: its version counter is above 0")
def in_place() -> Program:
    x = _x()
    y = x * 2
    y.add_(1)
    return Program((y,), {"x": x, "y": y})


@_case("transpose, view and expand stand between the leaf and the sum")
def views() -> Program:
    x = torch.ones(2, 3, requires_grad=True)
    y = x.t().reshape(-1, 1).expand(6, 2).sum()
    return Program((y,), {"x": x, "y": y})


@_case("the column that was copied into a base goes through CopySlices")
def copy_into_slice() -> Program:
    x = _x()
    base = torch.zeros(2, 3)
    base[0] = x * 2
    return Program((base,), {"x": x, "base": base})


@_case("a linear layer: weight and bias meet the input in addmm")
def linear_layer() -> Program:
    model = nn.Linear(3, 2)
    return Program((model(torch.ones(4, 3)).sum(),), model)


@_case("two layers and a loss, with gradients on every parameter")
def mlp() -> Program:
    model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
    loss = nn.functional.mse_loss(model(torch.randn(8, 3)), torch.zeros(8, 1))
    loss.backward()
    return Program((loss,), model)


@_case("the second layer is never reached: its gradients stay None")
def unused_layer() -> Program:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    loss = model[0](torch.ones(1, 3)).sum()
    loss.backward()
    return Program((loss,), model)


class Cube(torch.autograd.Function):
    """x**3, with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * x * x * grads[0]


@_case("a custom Function is one operation by its own name")
def custom_function() -> Program:
    x = _x()
    y = Cube.apply(x)
    return Program((y,), {"x": x, "y": y})


@_case("the gradient is itself a graph over x")
def double_backward() -> Program:
    x = _x()
    (grad,) = torch.autograd.grad((x**3).sum(), x, create_graph=True)
    return Program((grad.sum(),), {"x": x, "grad": grad})


def _block(x: torch.Tensor) -> torch.Tensor:
    return (x.sin() * 2).exp()


@_case("the operations are there, their buffers are not: they will be recomputed")
def checkpointed() -> Program:
    x = _x()
    y = checkpoint(_block, x, use_reentrant=False).sum()
    return Program((y,), {"x": x, "y": y})


@_case("a reentrant checkpoint is one opaque operation")
def checkpointed_reentrant() -> Program:
    x = _x()
    y = checkpoint(_block, x, use_reentrant=True).sum()
    return Program((y,), {"x": x, "y": y})


@_case("h is no leaf, but keeps its gradient: 2")
def retain_grad() -> Program:
    x = _x()
    h = x * 3
    h.retain_grad()
    y = (h * 2).sum()
    y.backward()
    return Program((y,), {"x": x, "h": h, "y": y})


@_case("one hook on h, one on x")
def hooks() -> Program:
    x = _x()
    h = x * 3
    h.register_hook(lambda grad: grad * 2)
    x.register_hook(lambda grad: grad)
    return Program((h.sum(),), {"x": x, "h": h})


class Tied(nn.Module):
    """An encoder and a decoder with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 3, bias=False)
        self.decoder = nn.Linear(3, 3, bias=False)
        self.decoder.weight = self.encoder.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(x)
        return self.decoder(hidden)  # type: ignore[no-any-return]


@_case("one weight with two names and two uses")
def tied_weights() -> Program:
    model = Tied()
    return Program((model(torch.ones(1, 3)).sum(),), model)


@_case("complex values, shown as such")
def complex_numbers() -> Program:
    z = torch.tensor([1 + 2j, -1j], requires_grad=True)
    loss = (z * z.conj()).real.sum()
    loss.backward()
    return Program((loss,), {"z": z, "loss": loss})


@_case("bfloat16 values, one dtype on every node")
def bfloat16() -> Program:
    w = torch.ones(4, dtype=torch.bfloat16, requires_grad=True)
    loss = (w * 0.5).sum()
    loss.backward()
    return Program((loss,), {"w": w, "loss": loss})


@_case("an input that was cast: float32 below, float16 above")
def mixed_dtypes() -> Program:
    w = torch.ones(4, requires_grad=True)
    y = w.to(torch.float16) * 2
    return Program((y,), {"w": w, "y": y})


@_case("the table's gradient is sparse")
def sparse_gradient() -> Program:
    table = nn.Embedding(10, 3, sparse=True)
    loss = table(torch.tensor([1, 4, 4])).sum()
    loss.backward()
    return Program((loss,), table)


@_case("cat and stack have several inputs, in order")
def cat_and_stack() -> Program:
    a, b, c = (torch.full((2,), float(i), requires_grad=True) for i in range(3))
    y = torch.stack([torch.cat([a, b]), torch.cat([b, c])])
    return Program((y,), {"a": a, "b": b, "c": c, "y": y})


@_case("the running statistics are buffers, not leaves")
def batch_norm() -> Program:
    model = nn.BatchNorm1d(3)
    return Program((model(torch.randn(4, 3)).square().sum(),), model)


@_case("convolution with an absent bias: one untracked input less than it has arguments")
def conv_without_bias() -> Program:
    model = nn.Conv2d(1, 2, 3, bias=False)
    return Program((model(torch.randn(1, 1, 5, 5)).mean(),), model)


@_case("query, key and value meet in one attention")
def attention() -> Program:
    q, k, v = (torch.randn(1, 2, 4, 8, requires_grad=True) for _ in range(3))
    y = nn.functional.scaled_dot_product_attention(q, k, v)
    return Program((y,), {"q": q, "k": k, "v": v, "y": y})


@_case("three steps share the cell's four parameters")
def lstm_cell() -> Program:
    cell = nn.LSTMCell(2, 3)
    h, c = torch.zeros(1, 3), torch.zeros(1, 3)
    for step in range(3):
        h, c = cell(torch.full((1, 2), float(step)), (h, c))
    return Program((h.sum(),), cell)


@_case("the gradient of w is NaN in one place")
def nan_gradient() -> Program:
    w = torch.tensor([1.0, 0.0, 4.0], requires_grad=True)
    loss = (w.sqrt() * torch.tensor([1.0, 0.0, 1.0])).sum()
    loss.backward()
    return Program((loss,), {"w": w, "loss": loss})


@_case("a leaf alone: nothing has been computed from it")
def leaf_alone() -> Program:
    x = _x()
    return Program((x,), {"x": x})


@_case("names that look like markup, DOT and escapes stay text")
def hostile_names() -> Program:
    a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    y = a * b
    return Program((y,), {"<b>a</b>": a, 'q"\\n|{}\n\U0001f525': b, "--> y;": y})
