"""`check`: autograd's gradients against differences, and the custom Function that is wrong."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import Function

import gradviz
from gradviz.checking.numeric import NumericOutcome
from gradviz.errors import ScriptError, SubjectError, UsageError


def function(name, forward, backward):
    """A custom Function of its inputs; ``backward(inputs, g)`` gives one gradient per input."""

    def run(ctx, *inputs):
        ctx.save_for_backward(*inputs)
        return forward(*inputs)

    def back(ctx, g):
        return backward(ctx.saved_tensors, g)

    return type(name, (Function,), {"forward": staticmethod(run), "backward": staticmethod(back)})


def cube(x):
    return x**3


Right = function("Right", cube, lambda saved, g: 3 * saved[0] ** 2 * g)
Factor = function("Factor", cube, lambda saved, g: saved[0] ** 2 * g)
Sign = function("Sign", cube, lambda saved, g: -3 * saved[0] ** 2 * g)
NoChain = function("NoChain", cube, lambda saved, g: 3 * saved[0] ** 2)
Constant = function("Constant", cube, lambda saved, g: 2 * g)
Forgets = function("Forgets", cube, lambda saved, g: None)
Product = function("Product", torch.mul, lambda saved, g: (g * saved[1], g * saved[0]))
Swapped = function("Swapped", torch.mul, lambda saved, g: (g * saved[0], g * saved[1]))
Doubled = function("Doubled", torch.mul, lambda saved, g: (g * saved[1], 2 * g * saved[0]))


class Modern(Function):
    """Written with ``setup_context``."""

    @staticmethod
    def forward(x, power):
        return x**power

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, ctx.power = inputs
        ctx.save_for_backward(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * x ** (ctx.power - 1), None


class InPlace(Function):
    """Changes its input, and says so; its backward is right."""

    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x)
        return x.mul_(5)

    @staticmethod
    def backward(ctx, g):
        return 5 * g


def points(*values, **options):
    return torch.tensor(values, requires_grad=True, **options)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            Factor,
            "Factor.backward gives 1 4 for inputs[0] where differences say 3 12: 0.3333 times",
        ),
        (
            Sign,
            "gives -3 -12 for inputs[0] where differences say 3 12: the sign is wrong",
        ),
        (NoChain, "the gradient that comes in is left out"),
        (Constant, "Constant.backward gives 2 2 for inputs[0] where differences say 3 12"),
        (Forgets, "Forgets.backward gives None for inputs[0] where differences say 3 12"),
    ],
)
def test_a_wrong_backward_is_named_with_its_line(wrong, says):
    apply = wrong.apply  # as programs do it, long before

    def fn(x):
        return (Right.apply(x).sin() + apply(x)).sum() * 3

    x = points(1.0, 2.0)
    found = gradviz.check(fn, x)
    line = fn.__code__.co_firstlineno + 1
    assert not found.ok
    assert says in found.reason
    assert found.culprit.name == wrong.__name__
    assert found.culprit.source.endswith(f"test_check.py:{line}")
    assert found.inputs[0].outcome is NumericOutcome.WRONG
    assert found.graph.nodes[found.culprit.node]["op"] == wrong.__name__
    assert "forward" in vars(wrong)
    assert apply(x).tolist() == [1.0, 8.0]


def test_the_function_without_a_mistake_is_right():
    assert gradviz.check(lambda x: Right.apply(x).sum(), points(1.0, -2.0)).ok
    assert gradviz.check(lambda x: Product.apply(x, x.exp()), points(1.0, -2.0)).ok
    assert gradviz.check(lambda x: InPlace.apply(x * 1).exp(), points(0.1, -0.2)).ok


def test_swapped_inputs_and_one_wrong_of_two():
    a, b = points(1.0, 2.0), points(3.0, 5.0)
    swapped = gradviz.check(lambda a, b: Swapped.apply(a, b).sum(), a, b)
    assert "are swapped" in swapped.reason
    doubled = gradviz.check(lambda a, b: Doubled.apply(a, b).sum(), a, b)
    assert [each.outcome for each in doubled.inputs] == [NumericOutcome.OK, NumericOutcome.WRONG]
    assert doubled.reason.startswith("Doubled.backward gives 2 4 for inputs[1] where")
    assert "2 times what it should be" in doubled.reason


def test_the_first_of_several_wrong_ones():
    found = gradviz.check(lambda x: Sign.apply(Factor.apply(x)).sum(), points(1.0, 1.5))
    assert found.culprit.name == "Factor"


def test_setup_context_and_plain_arguments():
    found = gradviz.check(lambda x: Modern.apply(x, 2).sum(), points(1.0, 3.0))
    assert found.reason.startswith("Modern.backward gives 1 3 for x where differences say 2 6")
    assert Modern.setup_context.__name__ == "setup_context"


def test_errors_that_cancel_are_still_no_mismatch():
    """Only a gradient that is wrong is reported: two wrong signs make a right one."""
    assert gradviz.check(lambda x: Sign.apply(Sign.apply(x)).sum(), points(1.1)).ok


BUILT_IN = {
    "exp": torch.exp,
    "log": lambda x: (x * x + 1).log(),
    "matmul": lambda x: x @ x.T,
    "softmax": lambda x: x.softmax(-1),
    "norm": torch.linalg.norm,
    "layer_norm": lambda x: torch.nn.functional.layer_norm(x, (3,)),
    "cumprod": lambda x: x.cumprod(0),
    "gather": lambda x: x[[0, 0, 1]],
    "sort": lambda x: x.sort().values,
    "in place": lambda x: (x * 2).mul_(3).sin_(),
    "several outputs": lambda x: (x.sum(), x.unbind(0)[1]),
    "inverse": lambda x: torch.linalg.inv(x[:, :2] + 3 * torch.eye(2, dtype=x.dtype)),
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_operations_are_right(name):
    torch.manual_seed(1)
    x = torch.randn(2, 3, requires_grad=True)
    found = gradviz.check(BUILT_IN[name], x)
    assert found.ok, str(found)
    assert found.inputs[0].outcome is NumericOutcome.OK
    assert found.inputs[0].max_rel_error < 1e-5


@pytest.mark.parametrize(
    ("fn", "values"),
    [
        (torch.relu, (0.0, 1.0)),
        (torch.nn.functional.leaky_relu, (0.0, -1.0)),
        (lambda x: x.max(), (2.0, 2.0, 2.0)),
        (lambda x: (x.abs() + 3 * x).relu(), (0.0,)),
        (lambda x: x.clamp(min=1.0), (1.0, 3.0)),
        (lambda x: x.relu() - (-x).relu(), (0.0,)),
        (lambda x: (x * x).sqrt(), (0.0,)),
    ],
)
def test_a_kink_is_not_called_wrong(fn, values):
    found = gradviz.check(fn, points(*values))
    assert found.inputs[0].outcome is NumericOutcome.KINK
    assert found.culprit is None
    assert "not differentiable at this point" in str(found)


@pytest.mark.parametrize("offset", [1e-7, 3e-7, -2e-8])
def test_a_kink_beside_the_point_does_not_disturb(offset):
    assert gradviz.check(torch.relu, points(offset)).ok


def test_a_wrong_backward_at_a_kink_is_wrong():
    TwiceRelu = function("TwiceRelu", torch.relu, lambda saved, g: -5 * g)
    found = gradviz.check(lambda x: TwiceRelu.apply(x).sum(), points(0.0))
    assert found.culprit.name == "TwiceRelu"


def test_what_does_not_settle_cannot_be_told():
    found = gradviz.check(lambda x: x.sqrt().sum(), points(0.0, 4.0))
    assert not found.ok
    assert found.inputs[0].outcome is NumericOutcome.UNSTEADY


def test_a_gradient_that_is_nan_is_wrong():
    found = gradviz.check(lambda x: torch.where(x > 0, x.sqrt(), 0 * x).sum(), points(-1.0))
    assert found.inputs[0].outcome is NumericOutcome.WRONG
    assert "autograd NaN, differences 0" in str(found)


def test_a_cut_inside_the_function_is_named():
    def fn(x):
        h = x.detach()
        return (x * h).sum()

    found = gradviz.check(fn, points(1.0, 2.0))
    line = fn.__code__.co_firstlineno + 1
    assert found.cuts[0].startswith("detach at ")
    assert found.cuts[0].endswith(f"test_check.py:{line}")
    assert "data leaves the graph by detach" in found.reason
    assert not gradviz.check(lambda x: x.detach(), points(1.0)).ok


def test_a_cut_by_no_grad_and_a_hook_that_no_cut_explains():
    def frozen(x):
        with torch.no_grad():
            h = x * 2
        return (x * h).sum()

    def hooked(x):
        y = x * 3
        y.register_hook(lambda g: g * 2)
        return y.sum()

    assert gradviz.check(frozen, points(1.0)).cuts[0].startswith("no_grad at ")
    found = gradviz.check(hooked, points(1.0))
    assert not found.ok
    assert found.reason == "neither a custom Function nor a cut explains it"


def test_a_module_names_its_argument():
    found = gradviz.check(torch.nn.Linear(2, 1).double(), points(1.0, 2.0))
    assert [each.name for each in found.inputs] == ["input"]
    assert found.ok


def test_float32_is_computed_in_float64_and_nothing_is_changed():
    x = torch.tensor([0.1, 0.7], requires_grad=True)
    count, w = torch.tensor([2, 3]), torch.ones(2)
    version, states = x._version, (torch.get_rng_state(), random.getstate(), np.random.get_state())
    seen = []

    def fn(x, count, w, power):
        seen.append((x.dtype, count.dtype, w.dtype))
        random.random(), np.random.rand(), torch.rand(1)
        return ((x * count) ** power @ w).sum()

    found = gradviz.check(fn, x, count, w, 3)
    assert found.ok
    assert [each.name for each in found.inputs] == ["x"]
    assert set(seen) == {(torch.float64, torch.int64, torch.float64)}
    assert (x.grad, x._version, x.dtype) == (None, version, torch.float32)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2][1])


@pytest.mark.parametrize(
    "x",
    [
        torch.arange(12.0).reshape(3, 4).T[1:],
        torch.arange(3.0).expand(2, 3),
        torch.tensor(1.5),
        torch.ones(0, 3),
        torch.ones(2, dtype=torch.bfloat16),
    ],
    ids=["non-contiguous", "expanded", "0-d", "empty", "bfloat16"],
)
def test_any_layout_and_size(x):
    x = x.detach().requires_grad_()
    found = gradviz.check(lambda x: (x * x.exp()).sum(), x)
    assert found.ok
    assert len(found.inputs[0].places) == x.numel()


def test_a_large_input_is_sampled():
    found = gradviz.check(lambda x: (x**2).sum(), torch.ones(1000, requires_grad=True))
    assert len(found.inputs[0].places) == 256
    assert found.ok
    assert gradviz.draw(found).text.count("elements of it") == 1


def test_an_unused_input_is_right_and_under_no_grad_it_works_as_well():
    with torch.no_grad():
        found = gradviz.check(lambda a, b: a.sin().sum(), points(1.0), points(2.0))
    assert found.ok
    assert found.inputs[1].is_none
    assert "autograd None, differences 0" in str(found)


def test_what_it_refuses():
    x = points(1.0, 2.0)
    with pytest.raises(SubjectError, match="no input requires grad"):
        gradviz.check(torch.sin, torch.ones(2))
    with pytest.raises(SubjectError, match="complex"):
        gradviz.check(torch.abs, torch.ones(2, dtype=torch.complex64, requires_grad=True))
    with pytest.raises(UsageError, match="complex"):
        gradviz.check(lambda x: torch.fft.fft(x), x)
    with pytest.raises(UsageError, match="other numbers each time"):
        gradviz.check(lambda x: torch.nn.functional.dropout(x), x)
    with pytest.raises(UsageError, match="the output is float32"):
        gradviz.check(lambda x: x.float().sum(), x)
    with pytest.raises(UsageError, match="eps must be a number between 0 and 1, got 0"):
        gradviz.check(torch.sin, x, eps=0)
    with pytest.raises(SubjectError, match="one by one"):
        gradviz.check(torch.cat, [x, x])
    with pytest.raises(SubjectError, match="returned None"):
        gradviz.check(lambda x: None, x)
    with pytest.raises(ScriptError, match=r"model\.double\(\)"):
        gradviz.check(torch.nn.Linear(2, 1), x)


def test_the_picture_has_both_values():
    found = gradviz.check(lambda x: Constant.apply(x).sum(), points(1.0, 2.0))
    text = gradviz.draw(found).text
    assert "Constant  gives 2 2 for inputs[0] where differences say 3 12" in text
    assert ".grad  2 2" in text
    assert "differences 3 12" in text
    assert gradviz.draw(found).svg.startswith("<svg ")
    right = gradviz.draw(gradviz.check(lambda x: (x * x).sum(), points(1.0, 2.0))).text
    assert "x ok: autograd 2 4, differences 2 4." in right


UNARY = [torch.sin, torch.tanh, torch.exp, torch.sigmoid, torch.square, torch.atan]
BINARY = [torch.add, torch.sub, torch.mul, torch.atan2]
STEPS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 7), st.integers(0, 7)), max_size=6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(STEPS, st.booleans())
def test_random_expressions(steps, spoil):
    def fn(a, b):
        pool = [a.sin() + 0.3, b.cos() - 0.4]
        for op, one, other in steps:
            first, second = pool[one % len(pool)], pool[other % len(pool)]
            new = UNARY[op](first) if op < 6 else BINARY[op - 6](first, second)
            pool.append(new.tanh())
        last = pool[-1] + pool[0]
        return (Factor.apply(last) if spoil else last).sum()

    found = gradviz.check(fn, points(0.3, -1.1), points(0.8, 0.2))
    assert found.ok is (not spoil or all(max(map(abs, i.numeric)) < 1e-4 for i in found.inputs))
    assert (found.culprit is None) is found.ok
