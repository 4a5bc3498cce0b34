"""Awkward kinds of tensors, containers and names, and what is no tensor at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from awkward import fails, shows
from awkward import leaf_of_ones as _w
from cases import case
from torch import Tensor, nn

from gradviz import Drawing, draw


@shows("1 leaf, 0 edges", x={"grad": None, "value.values": (1.0, 1.0)})
def leaf() -> Drawing:
    x = _w(2)
    return draw(x)


@shows("1 untracked, 0 edges", x={"value.values": (1, 2**62), "requires_grad": False})
def integers() -> Drawing:
    x = torch.tensor([1, 2**62])
    return draw(x)


@shows("1 untracked, 0 edges", x={"value.values": (True, True, True), "dtype": "bool"})
def booleans() -> Drawing:
    x = torch.ones(3) > 0
    return draw(x)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    x={"shape": (), "value.values": (3.0,)},
    y={"value.values": (6.0,)},
)
def scalar() -> Drawing:
    x = torch.tensor(3.0, requires_grad=True)
    y = x * 2
    return draw(y)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges", x={"shape": (0, 3), "value.values": ()}
)
def empty() -> Drawing:
    x = _w(0, 3)
    y = x * 2
    return draw(y)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    x={"grad.values": ()},
    y={"value.values": (0.0,)},
)
def empty_sum() -> Drawing:
    x = _w(0)
    y = x.sum()
    y.backward()
    return draw(y)


@shows("1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges", x={"shape": (1,) * 60})
def many_dimensions() -> Drawing:
    x = _w(*[1] * 60)
    y = x * 2
    return draw(y)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    y={"shape": (10**12, 1), "value.mean": 1.0, "value.norm": 1e6},
)
def broadcast_beyond_memory() -> Drawing:
    x = _w(1)
    y = x.expand(10**12, 1)
    return draw(y)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    z={"value.values": (1 + 2j,), "dtype": "complex64"},
)
def complex_values() -> Drawing:
    z = torch.tensor([1 + 2j], requires_grad=True)
    y = z.abs()
    y.backward()
    return draw(y)


@shows(
    "1 result, 2 operations, 1 accumulate, 1 leaf, 4 edges",
    x={"value.note": "sparse: 3 values stored", "shape": (3, 3)},
)
def sparse_leaf() -> Drawing:
    x = torch.eye(3).to_sparse().requires_grad_()
    y = torch.sparse.sum(x)
    return draw(y)


@shows(
    "1 result, 2 operations, 1 accumulate, 1 parameter, 4 edges",
    weight={"grad.note": "sparse", "grad.norm": None},
)
def sparse_gradient() -> Drawing:
    program = case("sparse_gradient").build()
    return draw(*program.subjects, names=program.names)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    x={"shape": (2, -1, 3), "value.note": "nested: 2 tensors"},
)
def nested_jagged() -> Drawing:
    x = torch.nested.nested_tensor(
        [torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged, requires_grad=True
    )
    y = x * 2
    return draw(y)


@shows(
    "1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    x={"shape": (2, -1, 3), "value.note": "nested: 2 tensors"},
)
def nested_strided() -> Drawing:
    x = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], requires_grad=True)
    y = x * 2
    return draw(y)


@shows(
    "1 result, 2 operations, 1 accumulate, 1 leaf, 4 edges",
    x={"dtype": "bfloat16", "grad.mean": 2.0, "grad.norm": 6.0},
)
def bfloat16() -> Drawing:
    x = _w(9, dtype=torch.bfloat16)
    y = (x * 2).sum()
    y.backward()
    return draw(y)


@shows("1 untracked, 0 edges", x={"dtype": "float8_e4m3fn", "value.values": (1.0, 1.0)})
def float8() -> Drawing:
    x = torch.ones(2).to(torch.float8_e4m3fn)
    return draw(x)


@shows(
    "1 result, 2 operations, 1 accumulate, 1 leaf, 4 edges",
    x={"device": "meta", "value.note": "meta: no values"},
)
def meta_device() -> Drawing:
    x = _w(3, device="meta")
    y = (x * 2).sum()
    return draw(y)


@shows("1 untracked, 0 edges", x={"value.note": "quantized", "value.values": (0.5, 1.0)})
def quantised() -> Drawing:
    x = torch.quantize_per_tensor(torch.tensor([0.5, 1.0]), 0.5, 0, torch.quint8)
    return draw(x)


class Loud(Tensor):
    """A subclass that raises when it is read."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} was seen")


@shows("1 untracked, 0 edges", x={"value.values": (1.0, 1.0)})
def subclass_that_raises() -> Drawing:
    x = torch.ones(2).as_subclass(Loud)
    return draw(x)


@shows("1 result, 2 operations, 1 accumulate, 1 leaf, 4 edges", x={"value.values": (1.0, 1.0)})
def subclass_as_leaf() -> Drawing:
    class Plain(Tensor):
        pass

    x = _w(2).detach().as_subclass(Plain).requires_grad_()
    y = x * 2
    return draw(y)


@shows("1 parameter, 0 edges", **{"model.weight": {"value.note": "not initialized"}})
def lazy_parameter() -> Drawing:
    model = nn.LazyLinear(2)
    return draw(model.weight)


@shows(
    "1 result, 1 untracked, 1 operation, 1 accumulate, 1 leaf, 3 edges",
    values={"root": 0},
    indices={"root": 1, "dtype": "int64"},
)
def minimum_with_its_index() -> Drawing:
    x = torch.tensor([3.0, 1.0], requires_grad=True)
    return draw(torch.min(x, dim=0))


@shows("1 result, 1 operation, 1 accumulate, 1 leaf, 3 edges", loss={"root": 0})
def entries_that_are_no_tensors() -> Drawing:
    x = _w(2)
    return draw({"loss": x * 2, "step": 3, "note": "text", "cache": None, "array": np.ones(2)})


@shows(
    "1 result, 1 operation, 2 accumulates, 2 leaves, 5 edges",
    **{"<b>a</b>": {"grad": None}, "--> y;": {"root": 0}},
)
def names_like_markup() -> Drawing:
    program = case("hostile_names").build()
    return draw(*program.subjects, names=program.names)


@shows(
    "1 result, 4 operations, 5 accumulates, 5 leaves, 14 edges",
    **{"</svg>]]>&amp;": {"grad": None}, "x" * 5000: {"grad": None}},
)
def names_that_are_odd_text() -> Drawing:
    a, b, c, d, e = (_w(1) for _ in range(5))
    names = {"": a, "x" * 5000: b, "\x1b[31m\x00\ud800": c, "‮abc": d, "</svg>]]>&amp;": e}
    return draw(a * b * c * d * e, names=names, title="<script>\x00|\n")


@shows(
    "1 result, 2 operations, 1 accumulate, 1 leaf, 4 edges",
    x={"grad.inf": 20, "grad.norm": None},
    loss={"value.nan": 1},
)
def not_a_number() -> Drawing:
    x = torch.full((20,), float("nan"), requires_grad=True)
    loss = (x * float("inf")).sum()
    loss.backward()
    return draw(loss)


@shows("1 leaf, 0 edges", x={"root": 0})
def list_that_holds_itself() -> Drawing:
    x = _w(2)
    loop: list[Any] = [x]
    loop.append(loop)
    return draw(loop)


@shows(
    "1 result, 1 untracked, 3 operations, 1 accumulate, 1 leaf, 5 edges",
    **{"y.data": {"root": 0}, "y.batch_sizes": {"root": 1}},
)
def packed_sequence() -> Drawing:
    x = _w(3, 1)
    y = nn.utils.rnn.pack_padded_sequence(x[:, None] * 2, torch.tensor([3]))
    return draw(y)


fails("none", lambda: draw(None), "pass the loss; loss.backward() returns None")
fails("nothing", lambda: draw(), "nothing to draw")
fails("number", lambda: draw(_w(2).sum().item()), "was .item() called?")
fails("text", lambda: draw("loss"), "pass the tensor itself, not its name")
fails("array", lambda: draw(np.ones(2)), "pass the tensor it was made from")
fails("module", lambda: draw(nn.Linear(2, 2)), "draw(model(x), names=model)")
fails("method", lambda: draw(_w(2).mean), "did you forget the call: loss.mean()")
fails("class", lambda: draw(Tensor), "it is a class")
fails("generator", lambda: draw(x for x in [_w(2)]), "pass list(...) of it")
fails("optimizer", lambda: draw(torch.optim.SGD([_w(2)])), "pass the loss")
fails("node", lambda: draw((_w(2) * 2).grad_fn), "GradientEdge(node, 0)")
fails("empty list", lambda: draw([]), "no tensor in []")
fails("shape", lambda: draw(_w(2).shape), "no tensor in")
fails("set", lambda: draw({_w(2)}), "tuples, lists, dicts and dataclasses")
fails("module in a list", lambda: draw([_w(2), nn.ReLU()]), "at [1]: cannot draw a ReLU")
fails("names as list", lambda: draw(_w(2), names=[_w(2)]), "names cannot be [tensor(")
fails("names by number", lambda: draw(_w(2), names={1: _w(2)}), "a name must be a string")
