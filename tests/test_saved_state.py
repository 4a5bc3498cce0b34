"""Whether saved tensors are held, freed or were never saved: each answer is proved by torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch._C import _autograd

import gradviz
from gradviz.capture.autograd import nodes
from gradviz.graph import Buffers, GradGraph, NodeKind

ONE = torch.tensor([0, 1, 2])
SOURCE = torch.ones(3)


class SavesNothing(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 2


class SavesInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return 2 * x * gradient


class SavesInSetup(torch.autograd.Function):
    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return x * x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


def copied_slices(x: torch.Tensor) -> torch.Tensor:
    y = torch.zeros(3)
    y[:2] = x[:2] * x[1:]
    return y


PROGRAMS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "scatter_add into the leaf": lambda x: x.scatter_add(0, ONE, SOURCE),
    "index_add into the leaf": lambda x: x.index_add(0, ONE, SOURCE),
    "index_add of the leaf": lambda x: torch.zeros(3).index_add(0, ONE, x),
    "index_copy into the leaf": lambda x: x.index_copy(0, ONE[:1], SOURCE[:1]),
    "index_put into the leaf": lambda x: x.index_put((ONE[:1],), SOURCE[:1]),
    "fmod with a constant": lambda x: torch.fmod(x, SOURCE),
    "remainder with a constant": lambda x: torch.remainder(x, SOURCE),
    "add": lambda x: x + SOURCE,
    "lerp towards a constant": lambda x: torch.lerp(x, SOURCE, 0.5),
    "addcmul onto the leaf": lambda x: torch.addcmul(x, SOURCE, SOURCE),
    "addcdiv by a constant": lambda x: torch.addcdiv(x, x, SOURCE),
    "addmm onto the leaf": lambda x: torch.addmm(x, torch.ones(2, 2), torch.ones(2, 3)),
    "mul with a number": lambda x: x * 3,
    "mul with itself": lambda x: x * x,
    "mul with a constant": lambda x: x * SOURCE,
    "exp": torch.exp,
    "masked_scatter": lambda x: x.masked_scatter(SOURCE > 0, SOURCE),
    "where": lambda x: torch.where(SOURCE > 0, x, SOURCE),
    "copied slices": copied_slices,
    "a Function that saves nothing": SavesNothing.apply,
    "a Function that saves its input": SavesInput.apply,
    "a Function with setup_context": SavesInSetup.apply,
}


def operations(graph: GradGraph) -> dict[str, Buffers]:
    return {
        data["op"]: data["buffers"]
        for _, data in graph.nodes(data=True)
        if data["kind"] is NodeKind.OPERATION and "buffers" in data
    }


@pytest.mark.parametrize("name", PROGRAMS)
def test_freed_is_said_only_where_a_second_pass_fails(name: str) -> None:
    x = torch.rand(3, requires_grad=True)
    result = PROGRAMS[name](x)
    loss = result.sum()
    before = operations(gradviz.trace(loss))
    assert Buffers.FREED not in before.values()
    loss.backward()
    after = operations(gradviz.trace(loss))
    try:
        loss.backward()
    except RuntimeError:
        assert Buffers.FREED in after.values()
    else:
        assert Buffers.FREED not in after.values()
    for op, state in before.items():
        if state is Buffers.NOTHING_SAVED:
            assert after[op] in (Buffers.NOTHING_SAVED, Buffers.UNKNOWN)


@pytest.mark.parametrize("name", PROGRAMS)
def test_asking_changes_nothing(name: str) -> None:
    x = torch.rand(3, requires_grad=True)
    nodes._saved_something.clear()
    loss = PROGRAMS[name](x).sum()
    gradviz.trace(loss)
    loss.backward()
    expected = torch.rand(3, requires_grad=True)
    expected.data.copy_(x.data)
    PROGRAMS[name](expected).sum().backward()
    assert x.grad is not None
    assert expected.grad is not None
    assert x.grad.equal(expected.grad)


def test_a_recording_remembers_that_a_function_saved_nothing() -> None:
    with gradviz.record() as run:
        x = torch.ones(3, requires_grad=True)
        loss = SavesNothing.apply(x).sum()
        loss.backward()
        run.mark("now")
    for frame in run.frames:
        assert operations(frame.graph)["SavesNothing"] is Buffers.NOTHING_SAVED


def test_a_pack_hook_that_returns_none_is_not_freed() -> None:
    x = torch.ones(3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda held: None, lambda held: x):
        loss = (x * 2).exp().sum()
    assert Buffers.FREED not in operations(gradviz.trace(loss)).values()


def test_without_the_data_of_saved_tensors_their_state_is_unknown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(_autograd.SavedTensor, "data")
    x = torch.ones(3, requires_grad=True)
    loss = x.exp().sum()
    assert operations(gradviz.trace(loss))["exp"] is Buffers.UNKNOWN
    loss.backward()
    graph = gradviz.trace(loss)
    assert operations(graph)["exp"] is Buffers.UNKNOWN
    assert all("saved_bytes" not in data for _, data in graph.nodes(data=True))


def test_without_the_name_of_a_node_its_class_is_used() -> None:
    class Nameless:
        def name(self) -> str:
            raise RuntimeError("not implemented")

    assert nodes.node_name(Nameless()) == "Nameless"  # type: ignore[arg-type]


def test_without_the_metadata_of_inputs_shapes_are_left_out() -> None:
    class Mul:
        def __init__(self, node: Any) -> None:
            self.node = node

        def __getattr__(self, name: str) -> Any:
            if name == "_input_metadata":
                raise AttributeError(name)
            return getattr(self.node, name)

    node: Any = Mul((torch.ones(3, requires_grad=True) * 2).grad_fn)
    kind, data, _ = nodes.NodeReader().read(node, node.next_functions)
    assert kind.op == "mul"
    assert "shape" not in data


LIBRARY = """
@torch.library.custom_op("my_lib::{name}", mutates_args=())
def operation(x: torch.Tensor, k: float) -> torch.Tensor:
    return x * k
operation.register_autograd(lambda ctx, gradient: (gradient * 2, None))
"""


@pytest.mark.parametrize("name", ["scale", "scale_twice", "scale_default"])
def test_an_operation_of_torch_library_has_its_own_name(name: str, tmp_path: Any) -> None:
    path = tmp_path / "library.py"
    path.write_text(LIBRARY.format(name=name))
    namespace: dict[str, Any] = {"torch": torch}
    exec(compile(path.read_text(), path, "exec"), namespace)
    x = torch.ones(2, requires_grad=True)
    graph = gradviz.trace(namespace["operation"](x, 2.0))
    assert [*operations(graph)] == [name]
