"""Small programs whose hooks change gradients on their way; see ``explain_cases.py``."""

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


@case(Verdict.HOOK, "changed the gradient on its way: 1 → nan", "handle.remove()")
def hook_on_the_way_that_makes_nan():
    w = leaf()
    with gradviz.record() as run:
        h = w * 2
        h.register_hook(lambda grad: grad / 0 * 0)  # here
        h.sum().backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "none of its 3 inputs is positive", "leaky_relu")
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


@case(Verdict.FINE, "what a hook on its way does to it was not recorded")
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
