"""Small programs in which the nearest line is not the cause; see ``explain_cases.py``."""

from __future__ import annotations

import torch
from explain_cases import case, leaf
from torch import nn

import gradviz
from gradviz import Verdict

__all__: list[str] = []


class Config:
    optimizer = None


def with_gradient():
    w = leaf()
    (w * 2).sum().backward()
    return w


@case(Verdict.OTHER_ERROR, "no attribute 'step'")
def optimizer_that_is_none():
    w, config = with_gradient(), Config()
    try:
        config.optimizer.step(w.grad)  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.OTHER_ERROR, "no attribute 'zero_'")
def another_none_with_the_same_method():
    w, total = with_gradient(), None
    try:
        total.zero_(), w.grad.zero_()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.OTHER_ERROR, "no attribute 'step'")
def schedule_that_is_none_and_was_recorded():
    w, schedule = with_gradient(), None
    try:
        with gradviz.record() as run:
            schedule.step(), w.grad.zero_()  # here
    except AttributeError:
        return gradviz.explain(run)[0]


@case(Verdict.OTHER_ERROR, "unsupported operand type")
def rate_that_is_none():
    w, rate = with_gradient(), None
    try:
        with torch.no_grad():
            w -= rate * w.grad  # here
    except TypeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "b.grad is None", "if b.grad is not None")
def second_of_two_gradients():
    w, b = with_gradient(), leaf()
    try:
        b.data -= w.grad * b.grad  # here
    except TypeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "layer.weight.grad is None", "if layer.weight.grad is not None")
def gradient_of_a_parameter_in_a_longer_product():
    layer, rate = nn.Linear(2, 2), 0.1
    try:
        with gradviz.record() as run:
            layer.weight.data -= rate * layer.weight.grad * rate  # here
    except TypeError as error:
        return gradviz.explain(error, run)


@case(Verdict.NOT_A_TENSOR, "b.grad is None", "if b.grad is not None")
def one_of_several_stacked_gradients():
    w, b = with_gradient(), leaf()
    try:
        with gradviz.record() as run:
            torch.stack([w.grad, b.grad])  # here
    except TypeError as error:
        return gradviz.explain(error, run)


@case(Verdict.WRONG_GRADIENT, "was given an int as its gradient", "loss.backward()")
def gradient_that_is_a_number_and_was_recorded():
    try:
        with gradviz.record() as run:
            leaf().sum().backward(2)  # here
    except TypeError:
        return gradviz.explain(run)[0]


@case(Verdict.WRONG_GRADIENT, "torch.autograd.grad at", "grad_outputs=torch.ones_like(loss)")
def grad_outputs_that_are_a_number():
    w = leaf()
    try:
        torch.autograd.grad(w.sum(), w, 1.0)  # here
    except TypeError as error:
        return gradviz.explain(error)


@case(Verdict.OTHER_ERROR, "'float' object is not iterable")
def list_of_a_number():
    try:
        torch.stack(list(0.5)).backward(1.0)  # here
    except TypeError as error:
        return gradviz.explain(error)


@case(Verdict.OTHER_ERROR, "'float' object is not iterable")
def sum_of_a_number_that_was_recorded():
    w = leaf()
    try:
        with gradviz.record() as run:
            sum(3.0, w).backward()  # here
    except TypeError:
        return gradviz.explain(run)[0]


@case(Verdict.WRONG_GRADIENT, "torch.autograd.grad at", "result: grad_outputs=torch")
def grad_outputs_of_the_wrong_size_that_were_recorded():
    w = leaf()
    try:
        with gradviz.record() as run:
            torch.autograd.grad(w * 2, w, torch.ones(2))  # here
    except RuntimeError:
        return gradviz.explain(run)[0]


@case(Verdict.NOT_A_TENSOR, "was called on an array", "numpy()")
def array_of_a_named_tensor():
    w = leaf()
    try:
        w.detach().numpy().backward()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(
    Verdict.NOT_A_TENSOR,
    "called on out, an Output, which is not a tensor",
    "output.loss.backward()",
)
def backward_of_an_object():
    class Output:
        loss = None

    out = Output()
    try:
        out.backward()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "called on x, a list, not a tensor", "torch.tensor(x, dtype")
def requires_grad_of_a_list():
    x = [1.0]
    try:
        x.requires_grad_()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "called on x, an int, which has no graph", "item()")
def backward_of_an_int():
    x = 3
    try:
        x.backward()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.WRONG_GRADIENT, "the hook on w at", "return None")
def hook_from_before_the_recording_beside_an_innocent_one():
    w = leaf()
    w.register_hook(lambda grad: grad[:2])  # here
    try:
        with gradviz.record() as run:
            v = leaf()
            v.register_hook(lambda grad: grad * 2)
            (w * v).sum().backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.WRONG_GRADIENT, "a hook returned a gradient of another shape", "return None")
def hook_on_a_node_beside_an_innocent_one():
    try:
        with gradviz.record() as run:
            h = leaf() * 2
            h.register_hook(lambda grad: grad * 2)
            h.grad_fn.register_prehook(lambda grads: (grads[0][:2],))
            h.sum().backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.WRONG_GRADIENT, "the hook shorten returned a gradient of another shape, in", "None")
def hook_on_a_node_with_a_name():
    def shorten(grads):
        return (grads[0][:2],)

    try:
        with gradviz.record() as run:
            h = leaf() * 2
            h.register_hook(lambda grad: grad[[0, 0, 0]] + 1e-9)
            h.grad_fn.register_prehook(shorten)
            h.sum().backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, run)
