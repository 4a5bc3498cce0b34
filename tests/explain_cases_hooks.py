"""Small programs with hooks on a path, or temporarily frozen leaves; see ``explain_cases.py``."""

from __future__ import annotations

import torch
from explain_cases import case, leaf
from torch import nn

import gradviz
from gradviz import Verdict

__all__: list[str] = []


@case(Verdict.HOOK, "on h at", "handle.remove()")
def hook_on_the_way_that_scales():
    w = leaf()
    with gradviz.record() as run:
        h = w * 2
        h.register_hook(lambda grad: grad * 0.1)  # here
        h.sum().backward()
    return gradviz.explain(w, run)


@case(Verdict.FINE, "norm 3.464")
def hook_on_another_way():
    v = leaf()
    with gradviz.record() as run:
        h = leaf(1.0, 1.0, 1.0) * 2
        h.register_hook(lambda grad: grad * 0.1)
        (h * v).sum().backward()
    return gradviz.explain(v, run)


@case(Verdict.FINE, "norm 1.732")
def hook_that_only_looks():
    w = leaf()
    with gradviz.record() as run:
        h = w * 1
        h.register_hook(lambda grad: None)
        h.sum().backward()
    return gradviz.explain(w, run)


@case(Verdict.HOOK, "changed the gradient before it reached the tensor: 1 → nan", "handle.remove()")
def hook_on_the_way_that_makes_nan():
    w = leaf()
    with gradviz.record() as run:
        h = w * 2
        h.register_hook(lambda grad: grad / 0 * 0)  # here
        h.sum().backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "all 3 inputs are <= 0", "leaky_relu")
def relu_that_is_dead_behind_a_hook_that_scales():
    w = leaf(-1.0, -2.0, -3.0)
    with gradviz.record() as run:
        h = torch.relu(w)  # here
        y = h * 2
        y.register_hook(lambda grad: grad * 10)
        y.sum().backward()
    return gradviz.explain(w, run)


@case(Verdict.HOOK, "on module 1 at", "handle.remove()")
def module_hook_that_zeroes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].register_full_backward_hook(lambda module, grads, outs: (grads[0] * 0,))  # here
    with gradviz.record(model) as run:
        model(torch.ones(2, 3)).sum().backward()
    return gradviz.explain(model[0].weight, run)


@case(Verdict.HOOK, "on module Linear at", "handle.remove()")
def module_hook_that_scales_without_names_of_modules():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].register_full_backward_hook(lambda module, grads, outs: (grads[0] * 9,))  # here
    with gradviz.record() as run:
        model(torch.ones(2, 3)).sum().backward()
    return gradviz.explain(model[0].bias, run)


@case(Verdict.FINE, "it has a gradient")
def own_parameter_of_a_module_with_a_hook():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].register_full_backward_hook(lambda module, grads, outs: (grads[0] * 0,))
    with gradviz.record(model) as run:
        model(torch.ones(2, 3)).sum().backward()
    return gradviz.explain(model[1].weight, run)


@case(Verdict.FINE, "what a hook on the path to it does was not recorded")
def hook_on_the_way_that_was_not_recorded():
    w = leaf()
    h = w * 2
    h.register_hook(lambda grad: grad * 0.1)
    loss = h.sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.FINE, "norm 3.464")
def hook_of_an_earlier_pass():
    w = leaf()
    with gradviz.record() as run:
        h = w * 2
        handle = h.register_hook(lambda grad: grad * 0)
        h.sum().backward(retain_graph=True)
        w.grad = None
        handle.remove()
        h.sum().backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by requires_grad_(False)", "before the forward")
def frozen_during_the_forward_pass():
    w, v = leaf(), leaf()
    with gradviz.record() as run:
        w.requires_grad_(False)  # here
        loss = (w * v).sum()
        w.requires_grad_(True)
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.CUT, "cut by requires_grad_(False)", "before the forward pass")
def one_of_several_frozen_in_a_loop():
    layer, head = nn.Linear(2, 3), nn.Linear(3, 1)
    with gradviz.record() as run:
        for each in layer.parameters():
            each.requires_grad = False  # here
        out = head(layer(torch.ones(4, 2))).mean()
        for each in layer.parameters():
            each.requires_grad = True
        out.backward()
    return gradviz.explain(layer.weight, run)


@case(Verdict.NAN, "a row of nothing else gives NaN", "unmasked")
def softmax_of_a_masked_row():
    v = torch.ones(3, 1, requires_grad=True)
    with gradviz.record() as run:
        scores = torch.zeros(2, 3).masked_fill(torch.tensor([[True], [False]]), -torch.inf)
        weights = scores.requires_grad_().softmax(dim=-1)  # here
        out = weights @ v
        out.sum().backward()
    return gradviz.explain(v, run)
