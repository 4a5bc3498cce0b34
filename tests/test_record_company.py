"""Recordings beside other things that change how torch runs."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from recording import events, strict
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import gradviz
from gradviz.story import EventKind

__all__ = ["strict"]


def words(run: gradviz.Recording) -> list[str]:
    return [event.word for event in run.events]


def block(x: torch.Tensor) -> torch.Tensor:
    return (x.sin() * 2).exp()


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpoint_computes_again_without_being_seen(use_reentrant: bool) -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        y = checkpoint(block, x, use_reentrant=use_reentrant)
        loss = y.sum()
        before = words(run)
        loss.backward()
    assert words(run)[len(before) :] == ["backward", "accumulate_grad"]
    inside = ["apply"] if use_reentrant else ["sin", "mul", "exp"]
    assert before == ["ones", *inside, "sum"]
    assert [data["op"] for _, data in run.frames[0].graph.nodes(data=True) if "buffers" in data]


def test_parameters_within_a_reentrant_checkpoint_are_counted() -> None:
    layer = nn.Linear(2, 2)
    with gradviz.record(layer) as run:
        x = torch.ones(1, 2, requires_grad=True)
        checkpoint(layer, x, use_reentrant=True).sum().backward()
    names = {event.name for event in events(run, EventKind.ACCUMULATE)}
    assert names == {"x.grad", "weight.grad", "bias.grad"}


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_function_is_not_taken_apart(backend: str) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    compiled = torch.compile(block, backend=counter, fullgraph=True)
    x = torch.ones(2, requires_grad=True)
    compiled(x).sum().backward()
    bare = x.grad
    x.grad = None
    with gradviz.record() as run:
        y = compiled(x)
        y = compiled(x)
        y.sum().backward()
    assert bare is not None and x.grad is not None and torch.equal(bare, x.grad)
    assert counter.frame_count <= 2  # once without and once with the mode
    assert words(run)[-3:] == ["sum", "backward", "accumulate_grad"]
    assert len(run.frames) == 2


def test_a_custom_function_has_the_line_that_applied_it() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            ctx.save_for_backward(x)
            with torch.no_grad():
                return x * x * x

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (x,) = ctx.saved_tensors
            return 3 * x * x * grads[0]

    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        c = Cube.apply(y)
        d = c + 1
        d.sum().backward()
    assert words(run) == ["ones", "mul", "apply", "add", "sum", "backward", "accumulate_grad"]
    graph = run.frames[0].graph
    nodes = {data["op"]: data for _, data in graph.nodes(data=True) if "op" in data}
    lines = {word: int(nodes[word]["source"].rpartition(":")[2]) for word in ("mul", "Cube", "add")}
    assert lines["Cube"] == lines["mul"] + 1 == lines["add"] - 1
    assert (nodes["Cube"]["name"], nodes["add"]["name"]) == ("c", "d")
    assert not [event for event in events(run) if event.kind is EventKind.MODE]


def test_a_function_without_torch_inside_has_the_line_that_applied_it() -> None:
    class Same(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return grads[0]

    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        line = sys._getframe().f_lineno + 1
        s = Same.apply(x)
        (s * 2).sum().backward()
    nodes = {data.get("op"): data for _, data in run.frames[0].graph.nodes(data=True)}
    assert nodes["Same"]["source"].endswith(f":{line}")
    assert nodes["mul"]["source"].endswith(f":{line + 1}")


class Loud(torch.Tensor):
    """A subclass with its own idea of every function."""

    calls: list[str] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        cls.calls.append(getattr(func, "__name__", ""))
        return super().__torch_function__(func, types, args, kwargs or {})


def test_a_subclass_is_called_as_often_as_without() -> None:
    def program() -> list[str]:
        Loud.calls.clear()
        x = torch.ones(2).as_subclass(Loud).requires_grad_()
        y = x * 2
        z = y.detach()
        with torch.no_grad():
            y.add_(z)
        loss = (y + 1).sum()
        loss.backward()
        loss.item()
        return list(Loud.calls)

    bare = program()
    with gradviz.record() as run:
        recorded = program()
    assert recorded == bare
    assert [each for each in words(run) if each in ("mul", "add", "sum")] == ["mul", "add", "sum"]
    assert "add_" in words(run) and "item" in words(run)


class Counting(TorchFunctionMode):
    """A user's own mode."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


class CountingDispatch(TorchDispatchMode):
    """The same, further down."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("kind", [Counting, CountingDispatch])
def test_other_modes_see_what_they_saw_without(kind: type, inside: bool) -> None:
    def program() -> None:
        x = torch.ones(2, requires_grad=True)
        z = x.detach()
        (x * z).sum().backward()
        x.grad.zero_()  # type: ignore[union-attr]

    with kind() as bare:
        program()
    if inside:
        with gradviz.record(), kind() as mode:
            program()
    else:
        with kind() as mode, gradviz.record():
            program()
    assert mode.seen == bare.seen


@pytest.mark.filterwarnings("ignore:This process")
def test_workers_of_a_data_loader() -> None:
    data = TensorDataset(torch.arange(8.0).reshape(4, 2))
    model = nn.Linear(2, 1)
    with gradviz.record() as run:
        for (batch,) in DataLoader(data, batch_size=2, num_workers=1):
            model(batch).sum().backward()
    assert words(run).count("backward") == 2
    assert len(run.frames) == 4


def test_transforms_of_functions() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        slopes = torch.func.vmap(torch.func.grad(lambda t: (t**2).sum()))(x.detach().reshape(2, 1))
        (x * slopes[:, 0]).sum().backward()
    assert [frame.title for frame in run.frames] == ["forward", "after backward 1 (x.grad +2)"]
    assert words(run).count("backward") == 1


def test_gradient_mode_was_off_before() -> None:
    with torch.no_grad(), gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        with torch.enable_grad():
            z = x * 3
    graph = run.frames[-1].graph
    causes = {data["cause"].value for *_, data in graph.edges(data=True) if "cause" in data}
    assert causes == {"no_grad"}
    assert y.shape == z.shape


def test_backward_from_a_hook_and_operations_in_hooks_are_not_the_programs() -> None:
    with gradviz.record() as run:
        x = torch.ones(2, requires_grad=True)
        y = x * 2
        y.register_hook(lambda grad: grad * 10)
        y.sum().backward()
    hooked = ["register_hook", "sum", "backward", "hook"]
    assert words(run) == ["ones", "mul", *hooked, "accumulate_grad"]
    assert events(run, EventKind.ACCUMULATE)[0].detail == "+20, pass 1"
