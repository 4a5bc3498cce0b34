"""Awkward graphs, and awkward places to draw in: hooks, transforms, modes, threads."""

from __future__ import annotations

import math
import threading
from typing import Any

import torch
from awkward import leaf_of_ones as _w
from awkward import shows
from cases import case
from torch import Tensor
from torch.autograd.graph import get_gradient_edge
from torch.utils.checkpoint import checkpoint

from gradviz import Drawing, draw
from gradviz.graph import Buffers

E = torch.tensor(math.e).item()  # to float32


@shows("1 untracked, 0 edges", y={"requires_grad": False, "value.values": (2.0, 2.0)})
def detached() -> Drawing:
    x = _w(2)
    y = (x * 2).detach()
    return draw(y)


@shows("1 untracked, 0 edges", y={"requires_grad": False, "inference": None})
def made_under_no_grad() -> Drawing:
    x = _w(2)
    with torch.no_grad():
        y = x * 2
        return draw(y)


@shows("1 leaf, 0 edges", y={"grad": None})
def leaf_by_request_under_no_grad() -> Drawing:
    x = _w(2)
    with torch.no_grad():
        y = (x * 2).requires_grad_()
    return draw(y)


@shows(
    "1 untracked, 1 result, 2 operations, 1 accumulate, 1 leaf, 5 edges",
    y={"inference": True},
    loss={"inference": None, "root": 1},
)
def under_inference_mode() -> Drawing:
    x = _w(2)
    loss = (x * x).sum()
    with torch.inference_mode():
        y = x * 2
        return draw(y, loss)


@shows(
    "1 result, 2 operations, 1 accumulate, 1 leaf, 4 edges",
    x={"grad.values": (E, E)},
    exp={"buffers": Buffers.FREED},
    sum={"buffers": Buffers.NOTHING_SAVED},
)
def freed_graph() -> Drawing:
    x = _w(2)
    loss = x.exp().sum()
    loss.backward()
    return draw(loss)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    y={"device": "cpu", "value.values": (2.0, 2.0)},
)
def meta_as_default_device() -> Drawing:
    x = _w(2)
    y = x * 2
    with torch.device("meta"):
        return draw(y)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    x={"value.note": "values not read: FakeTensor", "shape": (3,)},
)
def fake_tensors() -> Drawing:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        x = _w(3)
        y = x * 2
        return draw(y)


@shows(
    "1 result, 5 operations, 1 accumulate, 1 parameter, 1 untracked, 9 edges",
    **{"encoder.weight": {"aliases": ("decoder.weight",)}},
)
def tied_weights() -> Drawing:
    program = case("tied_weights").build()
    return draw(*program.subjects, names=program.names)


@shows("1 result, 2 operations, 1 accumulate, 1 leaf, 4 edges", unbind={"outputs": 3})
def several_outputs_one_used() -> Drawing:
    x = _w(3)
    parts = x.unbind()
    y = parts[2] * 2
    return draw(y)


@shows("1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges", y={"root": 0})
def same_tensor_twice() -> Drawing:
    x = _w(2)
    y = x * 2
    return draw(y, y, [y])


@shows("2 results, 2 operations, 1 accumulate, 1 leaf, 5 edges", z={"root": 0}, y={"root": 1})
def root_inside_another_root() -> Drawing:
    x = _w(2)
    y = x * 2
    z = y + 1
    return draw(z, y)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    h={"root": 0},
    mul={"buffers": Buffers.FREED},
)
def part_of_a_deleted_graph() -> Drawing:
    x = _w(2)
    h = x * 2
    loss = h.exp().sum()
    loss.backward()
    del loss
    return draw(h)


@shows(
    "1 untracked, 1 result, 3 operations, 1 accumulate, 1 leaf, 5 edges",
    h={"hooks": 1, "buffers": Buffers.HELD},
    exp={"buffers": Buffers.FREED},
)
def inside_a_backward_hook() -> Drawing:
    drawn: list[Drawing] = []
    x = _w(2)
    h = x * 2
    loss = h.exp().sum()
    h.register_hook(lambda grad: drawn.append(draw(grad, loss, names={"h": h, "loss": loss})))
    loss.backward()
    return drawn[0]


@shows(
    "1 result, 4 operations, 1 accumulate, 1 leaf, 1 untracked, 9 edges",
    grad={"value.values": (4.0, 4.0)},
)
def inside_a_double_backward_hook() -> Drawing:
    drawn: list[Drawing] = []
    x = _w(2)
    h = x * 2
    h.register_hook(lambda grad: drawn.append(draw(grad, names={"grad": grad, "x": x})))
    torch.autograd.grad((h * h).sum(), x, create_graph=True)
    return drawn[0]


@shows(
    "1 result, 2 operations, 1 accumulate, 1 leaf, 5 edges",
    x={"value.values": (1.0, 2.0)},
    y={"value.values": (5.0,)},
)
def inside_func_grad() -> Drawing:
    drawn: list[Drawing] = []

    def program(x: Tensor) -> Tensor:
        y = (x * x).sum()
        drawn.append(draw(y))
        return y

    torch.func.grad(program)(torch.tensor([1.0, 2.0]))
    return drawn[0]


@shows("1 untracked, 0 edges", y={"opaque": "inside a torch.func transform", "shape": ()})
def inside_vmap() -> Drawing:
    drawn: list[Drawing] = []
    w = _w(3)

    def program(x: Tensor) -> Tensor:
        y = (x * w).sum()
        drawn.append(draw(y))
        return y

    torch.func.vmap(program)(torch.ones(2, 3))
    return drawn[0]


@shows(
    "1 result, 5 operations, 1 accumulate, 1 leaf, 1 untracked, 10 edges",
    y={"value.values": (2.0, 0.0, 0.0, 2.0)},
)
def result_of_func_jacobian() -> Drawing:
    x = _w(2)
    y = torch.func.jacrev(lambda x: x * x)(x)
    return draw(y)


@shows("1 untracked, 0 edges", y={"value.note": "values not read", "shape": (2,)})
def inside_functionalize() -> Drawing:
    drawn: list[Drawing] = []

    def program(x: Tensor) -> Tensor:
        y = x * 2
        drawn.append(draw(y))
        return y

    torch.func.functionalize(program)(torch.ones(2))
    return drawn[0]


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    compiled={"opaque": "torch.compile"},
)
def result_of_a_compiled_function() -> Drawing:
    x = _w(2)
    y = torch.compile(lambda x: x.sin() * 2, backend="aot_eager")(x)
    return draw(y)


@shows("1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges", y={"value.values": (2.0, 2.0)})
def inside_anomaly_mode() -> Drawing:
    with torch.autograd.set_detect_anomaly(True):
        x = _w(2)
        y = x * 2
        return draw(y)


@shows("1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges", y={"value.values": (2.0, 2.0)})
def inside_another_thread() -> Drawing:
    drawn: list[Drawing] = []

    def program() -> None:
        x = _w(2)
        y = x * 2
        drawn.append(draw(y))

    thread = threading.Thread(target=program)
    thread.start()
    thread.join()
    return drawn[0]


@shows("1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges", exp={"buffers": Buffers.HELD})
def saved_by_hooks_that_raise() -> Drawing:
    def unpack(packed: object) -> Tensor:
        raise RuntimeError("unpacked")

    x = _w(2)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: "packed", unpack):
        y = x.exp()
    return draw(y)


@shows(
    "1 result, 2 operations, 1 accumulate, 1 leaf, 4 edges",
    checkpoint={"opaque": "reentrant checkpoint", "buffers": Buffers.FREED},
)
def checkpointed_and_freed() -> Drawing:
    x = _w(2)
    y = checkpoint(lambda x: x.sin().exp(), x, use_reentrant=True).sum()
    y.backward()
    return draw(y)


class Halves(torch.autograd.Function):
    """Several outputs: one differentiable, one not, one no tensor at all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Any:
        ctx.save_for_backward(x)
        rest = x.long()
        ctx.mark_non_differentiable(rest)
        return x / 2, rest, "text"

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] / 2


@shows(
    "1 result, 1 untracked, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    Halves={"buffers": Buffers.FREED},
    rest={"requires_grad": False},
)
def custom_function_with_odd_outputs() -> Drawing:
    x = _w(2)
    y, rest, _ = Halves.apply(x)
    y.sum().backward()
    return draw(y, rest)


@shows(
    "1 result, 2 operations, 1 accumulate, 1 leaf, 4 edges",
    y={"version": 1, "buffers": Buffers.HELD},
)
def changed_in_place_after_saving() -> Drawing:
    x = _w(2)
    y = x.exp()
    z = y * 2
    with torch.no_grad():
        y.add_(1)
    return draw(z)


@shows(
    "1 result, 4 operations, 1 accumulate, 1 leaf, 1 untracked, 9 edges",
    x={"grad.values": (2.0, 2.0)},
)
def gradient_with_a_graph_of_its_own() -> Drawing:
    x = _w(2)
    (x * x).sum().backward(create_graph=True)
    y = x.grad
    drawing = draw(y)
    x.grad = None  # x and its gradient hold each other
    return drawing


@shows("1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges", y={"root": 0, "shape": (2,)})
def edge_instead_of_a_tensor() -> Drawing:
    x = _w(2)
    y = x * 2
    return draw(get_gradient_edge(y))


@shows("1 leaf, 0 edges", x={"root": 0, "value.values": (1.0, 1.0)})
def edge_of_a_leaf() -> Drawing:
    x = _w(2)
    return draw(get_gradient_edge(x))


@shows("1 result, 1 operation, 1 accumulate, 1 leaf, 102 edges", stack={"shape": (100, 2)})
def hundred_uses_of_one_leaf() -> Drawing:
    w = _w(2)
    y = torch.stack([w] * 100)
    return draw(y)
