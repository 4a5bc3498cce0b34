"""Small programs that misuse functions related to backward; see ``explain_cases.py``."""

from __future__ import annotations

import numpy as np
import torch
from explain_cases import case, leaf
from torch import nn

import gradviz
from gradviz import Verdict

__all__: list[str] = []


@case(Verdict.WRONG_GRADIENT, "a gradient of shape [4], and y has [3]", "torch.ones_like(y)")
def gradient_of_the_wrong_size():
    y = leaf() * 2
    try:
        y.backward(torch.ones(4))  # here
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.WRONG_GRADIENT, "dtype complex64, and y has float32", "torch.ones_like(y)")
def gradient_of_the_wrong_type():
    y = leaf() * 2
    try:
        y.backward(torch.ones(3, dtype=torch.complex64))  # here
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.WRONG_GRADIENT, "device meta, and y has cpu", "torch.ones_like(y)")
def given_gradient_on_the_wrong_device():
    y = leaf() * 2
    try:
        y.backward(torch.ones(3, device="meta"))  # here
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.WRONG_GRADIENT, "shape [2], and y has [3]", "torch.ones_like(y)")
def grad_outputs_of_the_wrong_size():
    w = leaf()
    y = w * 2
    try:
        torch.autograd.grad(y, w, grad_outputs=torch.ones(2))  # here
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.WRONG_GRADIENT, "was given a float as its gradient", "loss.backward()")
def gradient_that_is_a_number():
    loss = leaf().sum()
    try:
        loss.backward(1.0)  # here
    except TypeError as error:
        return gradviz.explain(error, loss)


@case(Verdict.WRONG_GRADIENT, "the hook on h at", "return None")
def hook_that_changes_the_size():
    try:
        with gradviz.record() as run:
            h = leaf() * 2
            h.register_hook(lambda grad: grad[:2])  # here
            h.sum().backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.WRONG_GRADIENT, "the hook shorten returned a gradient of another shape", "None")
def hook_that_changes_the_size_and_was_not_recorded():
    def shorten(grad):
        return grad[:2]

    h = leaf() * 2
    h.register_hook(shorten)
    try:
        h.sum().backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, h)


@case(Verdict.WRONG_GRADIENT, "(torch.FloatTensor → torch.DoubleTensor)", "return None")
def hook_that_changes_the_type():
    w = leaf()
    try:
        with gradviz.record() as run:
            w.register_hook(lambda grad: grad.double())  # here
            (w * 2).sum().backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.WRONG_GRADIENT, "of another dtype or device", "return None")
def hook_that_changes_the_device():
    try:
        with gradviz.record() as run:
            h = leaf() * 2
            h.register_hook(lambda grad: grad.to("meta"))  # here
            h.sum().backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.WRONG_GRADIENT, "returned a float, not a tensor", "return None")
def hook_that_returns_a_number():
    h = leaf() * 2
    h.register_hook(lambda grad: 3.0)
    try:
        h.sum().backward()  # here
    except TypeError as error:
        return gradviz.explain(error, h)


@case(Verdict.WRONG_GRADIENT, "returned 2 gradients for 1", "one gradient for each input")
def module_hook_that_returns_too_many():
    layer = nn.Linear(3, 3)
    layer.register_full_backward_hook(lambda module, grads, outs: (grads[0], grads[0]))
    try:
        layer(leaf()).sum().backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.WRONG_GRADIENT, "shape [4] was assigned", "torch.zeros_like(w)")
def assigned_gradient_of_the_wrong_size():
    w = leaf()
    try:
        w.grad = torch.ones(4)  # here
    except RuntimeError as error:
        return gradviz.explain(error, w)


@case(Verdict.WRONG_GRADIENT, "dtype double was assigned", "grad.to(w.dtype)")
def assigned_gradient_of_the_wrong_type():
    w = leaf()
    try:
        w.grad = torch.ones(3, dtype=torch.float64)  # here
    except RuntimeError as error:
        return gradviz.explain(error, w)


@case(Verdict.WRONG_GRADIENT, "an int was assigned", "w.grad = None")
def assigned_gradient_that_is_a_number():
    w = leaf()
    try:
        w.grad = 0  # here
    except TypeError as error:
        return gradviz.explain(error, w)


@case(Verdict.NO_GRAPH, "retain_grad() was called", "let a leaf require grad")
def retain_grad_of_plain_data():
    try:
        with gradviz.record() as run:
            x = torch.ones(3) * 2
            x.retain_grad()  # here
    except RuntimeError as error:
        return gradviz.explain(error, x, run)


@case(Verdict.NO_GRAPH, "cut off by detach() at", "leave out the detach()")
def hook_on_what_was_detached():
    w = leaf()
    try:
        with gradviz.record() as run:
            h = (w * 2).detach()  # here
            h.register_hook(print)
    except RuntimeError as error:
        return gradviz.explain(error, h, run)


@case(Verdict.NO_GRAPH, "register_hook() was called", "record the program")
def hook_on_what_was_not_recorded():
    x = torch.ones(3)
    try:
        x.register_hook(print)  # here
    except RuntimeError as error:
        return gradviz.explain(error, x)


@case(Verdict.NOT_A_LEAF, "gradients are accumulated in leaves only", "h.register_hook(hook)")
def hook_after_accumulation_on_a_result():
    h = leaf() * 2
    try:
        h.register_post_accumulate_grad_hook(print)  # here
    except RuntimeError as error:
        return gradviz.explain(error, h)


@case(Verdict.NOT_A_LEAF, "the parameter 'weight' was to be replaced", "weight.copy_(x)")
def parameter_replaced_by_a_tensor():
    layer = nn.Linear(2, 2)
    try:
        layer.weight = layer.weight * 2  # here
    except TypeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "numbers were read from a tensor at", "print(loss.item())")
def backward_of_an_item():
    w = leaf()
    try:
        with gradviz.record() as run:
            loss = (w * 2).sum().item()  # here
            loss.backward()
    except AttributeError as error:
        return gradviz.explain(error, run)


@case(Verdict.NOT_A_TENSOR, "was called on total, a float, which has no graph", "item()")
def backward_of_a_sum_of_items():
    total = 0.0
    for _ in range(3):
        total += leaf().sum().item()
    try:
        total.backward()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "an array, which has no graph", "numpy()")
def backward_of_an_array():
    loss = np.square(leaf().detach().numpy())
    try:
        loss.backward()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "None: the function that should return it", "return loss")
def forward_without_return():
    class Forgetful(nn.Module):
        def forward(self, x):
            self.out = x.sum()

    loss = Forgetful()(leaf())
    try:
        loss.backward()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "a tuple of results", "take the loss out of it")
def backward_of_a_tuple():
    loss = leaf().sum(), leaf()
    try:
        loss.backward()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "w.grad is None", "if w.grad is not None")
def update_before_backward():
    w = leaf()
    try:
        with torch.no_grad():
            w -= 0.1 * w.grad  # here
    except TypeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_A_TENSOR, "w.grad is None", "if w.grad is not None")
def zeros_before_backward():
    w = leaf()
    try:
        w.grad.zero_()  # here
    except AttributeError as error:
        return gradviz.explain(error)


@case(Verdict.OPTIMIZER, "was given no parameters", "nn.ModuleList")
def optimizer_of_a_list_of_layers():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = [nn.Linear(2, 2)]

    try:
        torch.optim.SGD(Net().parameters(), lr=0.1)  # here
    except ValueError as error:
        return gradviz.explain(error)


@case(Verdict.OPTIMIZER, "can be iterated once", "parameters = list(")
def optimizer_of_a_used_up_generator():
    parameters = nn.Linear(2, 2).parameters()
    assert sum(each.numel() for each in parameters) == 6
    try:
        torch.optim.SGD(parameters, lr=0.1)  # here
    except ValueError as error:
        return gradviz.explain(error)


@case(Verdict.OPTIMIZER, "torch.FloatTensor where parameters are needed", "torch.optim.SGD([w]")
def optimizer_of_a_tensor():
    w = leaf()
    try:
        torch.optim.SGD(w, lr=0.1)  # here
    except TypeError as error:
        return gradviz.explain(error)


@case(Verdict.OPTIMIZER, "Adam at", "SparseAdam")
def adam_of_sparse_gradients():
    table = nn.Embedding(3, 2, sparse=True)
    optimizer = torch.optim.Adam(table.parameters())
    table(torch.tensor([1])).sum().backward()
    try:
        optimizer.step()  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.OPTIMIZER, "no parameter of the optimizer has a gradient", "scaler.scale(loss)")
def scaler_without_gradients():
    scaler, optimizer = torch.amp.GradScaler("cpu"), torch.optim.SGD([leaf()], lr=0.1)
    scaler.scale(torch.ones(1))
    try:
        scaler.step(optimizer)  # here
    except AssertionError as error:
        return gradviz.explain(error)


@case(Verdict.OPTIMIZER, "several times in each step", "give step() a function")
def lbfgs_without_a_closure():
    try:
        torch.optim.LBFGS([leaf()]).step()  # here
    except TypeError as error:
        return gradviz.explain(error)


@case(Verdict.NO_DERIVATIVE, "it was called at", "detach that input")
def operation_without_a_derivative():
    w, x = leaf(), torch.ones(3)
    try:
        with gradviz.record() as run:
            y = torch.igamma(w, x)  # here
            y.sum().backward()
    except NotImplementedError as error:
        return gradviz.explain(error, run)


@case(Verdict.NO_DERIVATIVE, "add was called with out=", "leave out= out")
def operation_with_out():
    try:
        torch.add(leaf(), leaf(), out=torch.empty(3))  # here
    except RuntimeError as error:
        return gradviz.explain(error)
