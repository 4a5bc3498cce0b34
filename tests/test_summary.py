"""Tensor summaries: right numbers for any tensor, without side effects."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import gradviz
from gradviz.capture.tensors import summary
from gradviz.capture.tensors.summary import FEW, summarize
from gradviz.graph import TensorSummary


def one(tensor: torch.Tensor, **options: bool) -> TensorSummary:
    (found,) = summarize([tensor], **options)
    return found


@pytest.mark.parametrize(
    ("tensor", "values", "dtype"),
    [
        (torch.tensor(2.5), (2.5,), "float32"),
        (torch.tensor([[1, 2], [3, 4]]).t(), (1, 3, 2, 4), "int64"),
        (torch.tensor([True, False]), (True, False), "bool"),
        (torch.tensor([1 + 2j]).conj(), (1 - 2j,), "complex64"),
        (torch.tensor([0.5, 2.0], dtype=torch.bfloat16), (0.5, 2.0), "bfloat16"),
        (torch.tensor([0.5], dtype=torch.float16), (0.5,), "float16"),
        (torch.tensor([0.5]).to(torch.float8_e4m3fn), (0.5,), "float8_e4m3fn"),
        (torch.tensor([2**63 - 1]), (2**63 - 1,), "int64"),
        (torch.ones(1).expand(3), (1.0, 1.0, 1.0), "float32"),
        (torch.empty(0, 3), (), "float32"),
        (torch.arange(8), (0, 1, 2, 3, 4, 5, 6, 7), "int64"),
    ],
)
def test_few_values_are_given_as_python_numbers(
    tensor: torch.Tensor, values: tuple[Any, ...], dtype: str
) -> None:
    found = one(tensor)
    assert found.values == values
    assert [type(value) for value in found.values or ()] == [type(value) for value in values]
    assert (found.shape, found.dtype, found.device) == (tuple(tensor.shape), dtype, "cpu")
    assert (found.mean, found.std, found.min, found.max) == (None, None, None, None)


def test_few_values_have_a_norm_and_counts() -> None:
    found = one(torch.tensor([3.0, math.nan, math.inf, -math.inf, -4.0]))
    assert (found.norm, found.nan, found.inf) == (5.0, 1, 2)
    assert one(torch.tensor([math.nan])).norm is None
    assert one(torch.empty(0)).norm == 0.0


DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e5m2,
    torch.int64,
    torch.int8,
    torch.uint8,
    torch.uint16,
    torch.bool,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(9,), (3, 40), (2, 3, 5)], ids=str)
def test_statistics_of_many_values(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(1)
    tensor = torch.randint(0, 100, shape, generator=generator).to(dtype)
    exact = tensor.to(torch.float64)
    found = one(tensor)
    assert found.values is None
    assert found.norm == pytest.approx(exact.norm().item(), rel=1e-3)
    assert found.mean == pytest.approx(exact.mean().item(), rel=1e-3)
    assert found.std == pytest.approx(exact.std(correction=0).item(), rel=1e-2)
    assert (found.min, found.max) == (exact.min().item(), exact.max().item())
    assert (found.nan, found.inf, found.note) == (0, 0, "")


def test_statistics_of_complex_values_are_of_their_magnitudes() -> None:
    found = one(torch.tensor([3 + 4j] * 9 + [0j]))
    assert found.norm == pytest.approx(15.0)
    assert (found.min, found.max, found.mean) == (0.0, 5.0, 4.5)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(width=32), min_size=FEW + 1, max_size=40),
    st.sampled_from([4, 1 << 18]),
)
def test_statistics_are_those_of_the_finite_values(values: list[float], chunk: int) -> None:
    finite = torch.tensor([v for v in values if math.isfinite(v)], dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "_CHUNK", chunk)
        found = one(torch.tensor(values, dtype=torch.float32))
    assert found.nan == sum(map(math.isnan, values))
    assert found.inf == sum(map(math.isinf, values))
    if not len(finite):
        assert (found.norm, found.mean, found.std, found.min, found.max) == (None,) * 5
        return
    largest = finite.abs().max().item()
    assert found.norm == pytest.approx(finite.norm().item(), rel=1e-3)
    assert found.mean == pytest.approx(finite.mean().item(), rel=1e-3, abs=1e-6 * largest)
    assert found.std == pytest.approx(finite.std(correction=0).item(), rel=2e-2, abs=1e-6 * largest)
    assert (found.min, found.max) == (finite.min().item(), finite.max().item())


@pytest.mark.parametrize(
    ("values", "std"),
    [
        ([100.0 + 1e-3, 100.0 - 1e-3] * 50, 1e-3),  # all digits shared: a difference of squares
        ([1e-25, 3e-25] * 50, 1e-25),  # squares below the smallest float32
        ([1e25, 3e25] * 50, 1e25),  # squares above the largest
        ([7.0] * 100, 0.0),
        ([0.0] * 100, 0.0),
    ],
)
def test_statistics_hold_where_squares_do_not(values: list[float], std: float) -> None:
    found = one(torch.tensor(values))
    assert found.std == pytest.approx(std, rel=1e-2)
    assert found.norm == pytest.approx(math.hypot(*values), rel=1e-3)
    assert found.mean == pytest.approx(sum(values) / len(values), rel=1e-5)


def test_a_broadcast_tensor_costs_what_its_storage_costs() -> None:
    # 8 TB if it were copied.
    found = one(torch.tensor([1.0, 3.0]).expand(10**12, 2))
    assert (found.mean, found.min, found.max) == (2.0, 1.0, 3.0)
    assert found.std == pytest.approx(1.0)
    assert found.norm == pytest.approx(math.sqrt(10**13))
    assert found.numel == 2 * 10**12


def test_the_order_is_kept_among_different_kinds() -> None:
    tensors = [torch.full((n,), float(n)) for n in (20, 1, 9, 3, 20)]
    tensors.insert(2, torch.empty(4, device="meta"))
    assert [found.shape[0] for found in summarize(tensors)] == [20, 1, 4, 9, 3, 20]
    assert [found.mean for found in summarize(tensors)] == [20.0, None, None, 9.0, None, 20.0]
    assert summarize([]) == []


def test_only_small_ones_are_read_on_request() -> None:
    small, large = summarize([torch.ones(8), torch.ones(9)], values_only_if_small=True)
    assert small.values == (1.0,) * 8
    assert large == TensorSummary((9,), "float32", "cpu")


def test_a_sample_is_counted_in_intervals_from_min_to_max() -> None:
    ramp = torch.arange(1200.0)
    rows = torch.zeros(64, 64)
    rows[:, :6] = 1  # a sample of one column would be all ones or all zeros
    odd = torch.cat([torch.arange(100.0), torch.tensor([math.nan, math.inf])])
    tensors = [ramp, rows, odd, ramp.half(), torch.ones(100), torch.ones(3)]
    even, matrix, finite, half, equal, small = summarize(tensors, with_bins=True)
    assert even.bins is not None
    assert even.bins == half.bins
    assert max(even.bins) - min(even.bins) <= 1
    assert 100 < sum(even.bins) < 200
    assert matrix.bins is not None
    assert matrix.bins[-1] / sum(matrix.bins) == pytest.approx(6 / 64, abs=0.05)
    assert not any(matrix.bins[1:-1])
    assert finite.bins is not None
    assert sum(finite.bins) == 100
    assert equal.bins is None
    assert small.bins is None
    assert summarize([ramp])[0].bins is None


def test_stacking_as_on_an_accelerator_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(2)
    shapes = [(3,), (40,), (5, 8), (100,), (), (40,), (0,), (7,)]
    tensors = [torch.randn(shape, generator=generator) for shape in shapes]
    tensors += [tensors[1].bfloat16(), tensors[2].to(torch.complex64).conj(), tensors[3] > 0]
    tensors += [torch.tensor([2**60 + 1]), torch.tensor([1 + 2j]).conj(), tensors[0] > 0]
    tensors += [torch.full((40,), math.nan), tensors[0].bfloat16(), tensors[2].t()]
    expected = summarize(tensors, with_bins=True)
    copies = 0

    def to_host(*args: Any) -> torch.Tensor:
        nonlocal copies
        copies += 1
        return args[0]

    monkeypatch.setattr(summary, "_array", lambda data: None)
    monkeypatch.setattr(summary, "_is_on_accelerator", lambda data: True)
    monkeypatch.setattr(torch.Tensor, "cpu", to_host)
    found = summarize(tensors, with_bins=True)
    assert copies == 1
    assert [each.bins for each in found] == [each.bins for each in expected]
    for left, right in zip(found, expected, strict=True):
        assert (left.shape, left.dtype, left.values) == (right.shape, right.dtype, right.values)
        assert (left.min, left.max, left.nan) == (right.min, right.max, right.nan)
        for a, b in ((left.norm, right.norm), (left.mean, right.mean), (left.std, right.std)):
            assert a == (b if b is None else pytest.approx(b, rel=1e-3, abs=1e-6))


@pytest.mark.parametrize("layers", [2, 20])
def test_all_gradients_of_a_model_come_in_one_copy(
    monkeypatch: pytest.MonkeyPatch, layers: int
) -> None:
    """As if the CPU were an accelerator: the copies do not grow with the model."""
    sizes = [(6 + number % 3, 6 + (number + 1) % 3) for number in range(layers)]
    model = torch.nn.Sequential(*(torch.nn.Linear(*size) for size in sizes))
    loss = model(torch.ones(4, 6)).pow(2).sum()
    loss.backward()
    copied: list[int] = []

    def to_host(data: torch.Tensor) -> torch.Tensor:
        copied.append(data.numel())
        return data

    monkeypatch.setattr(summary, "_array", lambda data: None)
    monkeypatch.setattr(summary, "_is_on_accelerator", lambda data: True)
    monkeypatch.setattr(torch.Tensor, "cpu", to_host)
    graph = gradviz.trace(loss, names=model)
    gradients = [data["grad"] for _, data in graph.nodes(data=True) if data.get("grad")]
    assert len(gradients) == 2 * layers
    assert len(copied) == 1


class Loud(torch.Tensor):
    """A subclass that raises in every operation."""

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("an operation on Loud was seen")


def _fake() -> torch.Tensor:
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        return torch.ones(3)


def _made(make: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Build a tensor of a kind on which torch itself comments."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make()


def silently(tensors: list[torch.Tensor]) -> list[TensorSummary]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return summarize(tensors)


def _quantised() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.tensor([0.5, 1.0]), 0.5, 0, torch.quint8)


def _nested(layout: torch.layout) -> torch.Tensor:
    return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout)


SPECIAL: list[tuple[Callable[[], torch.Tensor], tuple[int, ...], str]] = [
    (lambda: torch.ones(3, device="meta"), (3,), "meta: no values"),
    (lambda: torch.eye(3).to_sparse(), (3, 3), "sparse: 3 values stored"),
    (lambda: torch.eye(3).to_sparse_csr(), (3, 3), "sparse: 3 values stored"),
    (lambda: torch.sparse_coo_tensor(torch.tensor([[0, 0]]), torch.ones(2), (2,)), (2,), "sparse"),
    (lambda: _nested(torch.strided), (2, -1, 3), "nested: 2 tensors"),
    (lambda: _nested(torch.jagged), (2, -1, 3), "nested: 2 tensors"),
    (_fake, (3,), "values not read: FakeTensor"),
    (torch.nn.UninitializedParameter, (), "not initialized"),
    (
        lambda: torch.zeros(16, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
        (16,),
        "values not read",
    ),
]


@pytest.mark.parametrize(
    ("make", "shape", "note"), SPECIAL, ids=[f"{s[2]} {s[1]}" for s in SPECIAL]
)
def test_what_cannot_be_read_says_so(
    make: Callable[[], torch.Tensor], shape: tuple[int, ...], note: str
) -> None:
    special, beside = silently([_made(make), torch.arange(9.0)])
    assert (special.shape, special.note) == (shape, note)
    assert special.values is None and special.norm is None
    assert beside.mean == 4.0


def test_what_can_be_read_is() -> None:
    (quantised,) = silently([_made(_quantised)])
    assert (quantised.values, quantised.note, quantised.dtype) == (
        (0.5, 1.0),
        "quantized",
        "quint8",
    )
    assert one(torch.ones(2).as_subclass(Loud)).values == (1.0, 1.0)
    assert one(torch.nn.Parameter(torch.ones(2))).values == (1.0, 1.0)
    with torch.inference_mode():
        made_here = torch.ones(9)
        assert one(made_here).mean == 1.0
    assert one(made_here).mean == 1.0


def test_inside_function_transforms() -> None:
    found: dict[str, list[TensorSummary]] = {}

    def look(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def program(x: torch.Tensor) -> torch.Tensor:
            found[name] = summarize([x, x.repeat(10)])
            return (x * x).sum()

        return program

    torch.func.grad(look("grad"))(torch.arange(3.0))
    torch.func.vmap(look("vmap"))(torch.ones(2, 3))
    small, large = found["grad"]
    assert small.values == (0.0, 1.0, 2.0) and large.mean == 1.0
    for batched in found["vmap"]:
        assert (batched.values, batched.norm, batched.note) == (None, None, "values not read")


def test_a_failing_read_spoils_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    real = summary.read

    def fails_on_fives(small: list[torch.Tensor], large: list[torch.Tensor]) -> Any:
        if any(data.numel() == 5 for data in small):
            raise RuntimeError("a device-side assert")
        return real(small, large)

    monkeypatch.setattr(summary, "read", fails_on_fives)
    four, five, nine = summarize([torch.ones(4), torch.ones(5), torch.ones(9)])
    assert four.values == (1.0,) * 4 and nine.mean == 1.0
    assert five == TensorSummary((5,), "float32", "cpu", note="values not read")


def test_nothing_of_the_program_changes() -> None:
    leaf = torch.ones(20, requires_grad=True)
    inner = leaf * 2
    before = (leaf._version, inner._version, torch.get_rng_state(), inner.grad_fn)
    with torch.enable_grad():
        summarize([leaf, inner, inner.t()])
        assert torch.is_grad_enabled()
    assert (leaf._version, inner._version) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert inner.grad_fn is before[3] and leaf.grad is None
    inner.sum().backward()  # type: ignore[no-untyped-call]
    assert leaf.grad is not None


def test_modes_of_the_user_see_nothing() -> None:
    seen: list[object] = []

    class Functions(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    class Dispatches(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            seen.append(func)
            return func(*args, **(kwargs or {}))

    tensors = [torch.ones(3), torch.full((20,), math.nan), torch.ones(9, requires_grad=True)]
    with Functions(), Dispatches():
        torch.ones(1)
        assert seen  # the modes do work
        seen.clear()
        summarize(tensors)
        assert seen == []


def test_no_tensor_is_kept() -> None:
    import weakref

    tensor = torch.ones(20)
    ref = weakref.ref(tensor)
    found = one(tensor)
    del tensor
    assert ref() is None and found.mean == 1.0


def test_tensors_that_are_read_together_are_read_as_one_by_one() -> None:
    shapes = [(9,), (16, 64), (16, 65), (3, 5), (1024,)]
    tensors = [torch.randn(*shape) for shape in shapes]
    tensors += [torch.randn(5, 7, dtype=torch.float64).t(), torch.full((30,), 2.5)]
    tensors += [torch.tensor([math.nan, *range(20)]), torch.tensor([math.inf, *range(20)])]
    tensors += [torch.full((20,), 1e30), torch.full((20,), 1e-30), 1e4 + torch.randn(50) * 1e-2]
    together = summarize(tensors, with_bins=True)
    alone = [one(each, with_bins=True) for each in tensors]
    assert [(each, each.bins) for each in together] == [(each, each.bins) for each in alone]
    for each, found in zip(tensors, together, strict=True):
        wide = each.double()[each.isfinite()]
        assert found.norm == pytest.approx(wide.norm().item(), rel=1e-6)
        assert found.std == pytest.approx(wide.std(correction=0).item(), rel=1e-3)
        assert (found.min, found.max) == (wide.min().item(), wide.max().item())
