"""Small programs that ask autograd for what it refuses; see ``explain_cases.py``."""

from __future__ import annotations

import copy
import warnings

import torch
from explain_cases import case, leaf
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradviz
from gradviz import Verdict

__all__: list[str] = []


@case(Verdict.VIEW_CHANGED, "split made several views", "x = x.clone()")
def one_of_several_views_changed():
    one, _ = leaf(1.0, 2.0).exp().chunk(2)
    try:
        one.mul_(2)  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.VIEW_CHANGED, "after its base, or another view of it", "x = x.clone()")
def base_of_several_views_changed():
    h = leaf(1.0, 2.0).exp()
    one, _ = h.unbind()
    try:
        h.mul_(2)
        one.sum()  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.VIEW_CHANGED, "made under no_grad", "both inside no_grad or both outside")
def view_from_no_grad_changed():
    h = leaf().exp()
    with torch.no_grad():
        view = h.view(3)
    try:
        view.add_(1)  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.VIEW_CHANGED, "take the view out of the graph", "x = x.detach()")
def view_detached_in_place():
    one, _ = leaf(1.0, 2.0).exp().unbind()
    try:
        one.detach_()  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(
    Verdict.NOT_A_LEAF,
    "w is a non-leaf tensor, created by mul at",
    "w = w.detach().requires_grad_()",
)
def optimizer_of_a_result():
    try:
        with gradviz.record() as run:
            w = leaf() * 0.1  # here
            torch.optim.SGD([w], lr=0.1)
    except ValueError as error:
        return gradviz.explain(error, run)


@case(Verdict.NOT_A_LEAF, "h is a non-leaf tensor, created by mul, and only", "h.detach()")
def deepcopy_of_a_result():
    h = leaf() * 2
    try:
        copy.deepcopy([h])  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.NOT_USED, "of x, which does not require grad", ".requires_grad_()")
def grad_of_what_does_not_require_grad():
    x, w = torch.ones(3), leaf()
    try:
        torch.autograd.grad((w * x).sum(), x)  # here
    except RuntimeError as error:
        return gradviz.explain(error, x)


@case(Verdict.NOT_SCALAR, "which is complex", "loss.real.backward()")
def complex_loss():
    w = torch.ones(3, dtype=torch.complex64, requires_grad=True)
    loss = (w * w).sum()
    try:
        loss.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, loss)


@case(Verdict.NAN_RETURNED, "reached sqrt", "add a small number")
def anomaly_mode():
    w = leaf(-1.0, 4.0)
    loss = (w * 2).sqrt().sum()
    try:
        with warnings.catch_warnings(), torch.autograd.detect_anomaly():
            warnings.simplefilter("ignore")
            loss.backward()  # here
    except RuntimeError as error:
        return gradviz.explain(error, loss)


@case(Verdict.NO_GRAPH, "input requires grad, at", "use_reentrant=False")
def checkpoint_of_plain_data():
    layer = nn.Linear(3, 1)
    try:
        with gradviz.record() as run, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loss = checkpoint(layer, torch.ones(3), use_reentrant=True)  # here
            loss.backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


@case(Verdict.CHANGED_IN_PLACE, "saved 'layer.weight' for backward", "optimizer.step() after")
def step_between_two_losses_of_a_layer():
    first, layer = nn.Linear(3, 3), nn.Linear(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    try:
        with gradviz.record() as run:
            out = layer(first(torch.ones(1, 3)))
            out.sum().backward(retain_graph=True)
            optimizer.step()  # here
            out.mean().backward()
    except RuntimeError as error:
        return gradviz.explain(error, run)


class Mixed(torch.autograd.Function):
    """Multiplies by a matrix, and forgets to transpose it, or its device."""

    @staticmethod
    def forward(ctx, x, matrix):
        ctx.save_for_backward(matrix)
        return x @ matrix

    @staticmethod
    def backward(ctx, grad):
        (matrix,) = ctx.saved_tensors
        if len(matrix) == 3:
            return grad @ matrix, None  # here
        return grad * torch.ones(4, device="meta"), None


@case(Verdict.WRONG_BACKWARD, "the backward of Mixed raised", "shape and device")
def shapes_that_do_not_fit_in_a_backward():
    y = Mixed.apply(leaf(), torch.ones(3, 4)).sum()
    try:
        y.backward()
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.WRONG_BACKWARD, "device meta", "shape and device")
def devices_that_do_not_fit_in_a_backward():
    y = Mixed.apply(leaf(1.0, 2.0, 3.0, 4.0), torch.ones(4, 4)).sum()
    try:
        y.backward()
    except RuntimeError as error:
        return gradviz.explain(error, y)


class Forward(torch.autograd.Function):
    """Has a forward alone."""

    @staticmethod
    def forward(ctx, x):
        return x * 2


@case(Verdict.WRONG_BACKWARD, "has no backward", "@staticmethod")
def no_backward_at_all():
    y = Forward.apply(leaf()).sum()
    try:
        y.backward()  # here
    except NotImplementedError as error:
        return gradviz.explain(error, y)


@case(Verdict.CHECKPOINT, "a tensor of shape [3] is of shape [6] now", "depend on its arguments")
def checkpoint_that_goes_another_way():
    calls = []

    def part(x):
        calls.append(1)
        return (x if calls == [1] else torch.cat([x, x])).exp()

    y = checkpoint(part, leaf() * 2, use_reentrant=False).sum()
    try:
        y.backward()
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.CHECKPOINT, "was run again in backward", "depend on its arguments")
def checkpoint_that_does_more():
    calls = []

    def part(x):
        calls.append(1)
        return x.exp() if calls == [1] else x.exp().sin()

    y = checkpoint(part, leaf() * 2, use_reentrant=False, early_stop=False).sum()
    try:
        y.backward()
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.CHECKPOINT, "a reentrant checkpoint", "use_reentrant=False")
def grad_through_a_reentrant_checkpoint():
    w = leaf()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        y = checkpoint(torch.sin, w, use_reentrant=True).sum()
    try:
        torch.autograd.grad(y, w)  # here
    except RuntimeError as error:
        return gradviz.explain(error, y)


@case(Verdict.NOT_SCALAR, "was to become one number", "x.mean().item()")
def item_of_several():
    try:
        leaf().item()  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.VIEW_CHANGED, "whose elements share memory", "x = x.clone()")
def expanded_tensor_written_to():
    x = torch.ones(1).expand(3)
    try:
        x.add_(leaf())  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.VIEW_CHANGED, "a module with a full backward hook", "y = y.clone()")
def result_of_a_hooked_module_changed():
    layer = nn.Linear(3, 3)
    layer.register_full_backward_hook(lambda *_: None)
    y = layer(leaf())
    try:
        y.add_(1)  # here
    except RuntimeError as error:
        return gradviz.explain(error)


@case(Verdict.CUT, "cut by no_grad at", "outside of torch.no_grad()")
def made_under_no_grad_from_what_is_gone():
    v = leaf()
    with gradviz.record() as run:
        with torch.no_grad():
            h = torch.ones(3, requires_grad=True) * 2  # here
        loss = (h * v).sum()
        loss.backward()
    return gradviz.explain(h, run)


@case(Verdict.CHANGED_IN_PLACE, "setitem_ at", "build a new tensor instead of writing into it")
def saved_tensor_changed_through_an_index():
    w = leaf(1.0, 2.0)
    with gradviz.record() as run:
        h = w.sigmoid()
        y = h * h
        h[0] = 0  # here
        try:
            y.sum().backward()
        except RuntimeError as error:
            caught = error
    return gradviz.explain(caught, run)


@case(Verdict.CHANGED_IN_PLACE, "add_ at", "make a new tensor: view = view.add(1)")
def saved_tensor_changed_through_a_view():
    w = leaf(1.0, 2.0)
    with gradviz.record() as run:
        h = w.sigmoid()
        y = h * h
        view = h[:1]
        view.add_(1)  # here
        try:
            y.sum().backward()
        except RuntimeError as error:
            caught = error
    return gradviz.explain(caught, run)
