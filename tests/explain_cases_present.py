"""Small programs whose gradient is there, and odd; see ``explain_cases.py``."""

from __future__ import annotations

import torch
from explain_cases import case, leaf
from torch import nn

import gradviz
from gradviz import Verdict

__all__: list[str] = []


# A gradient that is there.


@case(Verdict.FINE, "norm 3.464")
def fine():
    w = leaf()
    loss = (w * 2).sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.FINE, "norm")
def retained():
    w = leaf()
    h = w * 2
    h.retain_grad()
    h.sum().backward()
    return gradviz.explain(h)


@case(Verdict.ZERO, "relu blocks the gradient: all 3 inputs are <= 0", "leaky_relu")
def dead_relu():
    w = leaf(-1.0, -2.0, -3.0)
    h = torch.relu(w)
    loss = h.sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.ZERO, "all 3 inputs are <= 0", "leaky_relu")
def dead_relu_recorded():
    w = leaf(-1.0, -2.0, -3.0)
    with gradviz.record() as run:
        h = torch.relu(w)  # here
        loss = h.sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "sigmoid blocks the gradient: it is saturated", "keep the inputs small")
def saturated_sigmoid():
    w = leaf(200.0, 300.0)
    p = torch.sigmoid(w)
    loss = p.sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.ZERO, "tanh blocks the gradient", "keep the inputs small")
def saturated_tanh():
    w = leaf(200.0, -300.0)
    p = torch.tanh(w)
    loss = p.sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.ZERO, "blocks the gradient: the other factor, mask,", "leave out the factor")
def masked():
    w = leaf()
    mask = torch.zeros(3)
    with gradviz.record() as run:
        loss = (w * mask).sum()  # here
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "its gradient is all zeros", "name the results")
def zero_for_no_known_reason():
    w = leaf(-1.0, -2.0)
    loss = torch.relu(w * 2).sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.ZERO, "set to zeros by zero_ at", "call backward()")
def zeroed():
    w = leaf()
    with gradviz.record() as run:
        loss = (w**2).sum()
        loss.backward()
        w.grad.zero_()  # here
    return gradviz.explain(w, run)


@case(Verdict.ACCUMULATED, "2 backward passes", "zero_grad() of an optimizer or module")
def two_passes():
    w = leaf()
    with gradviz.record() as run:
        for _ in range(2):
            loss = (w * 2).sum()
            loss.backward()  # here
    return gradviz.explain(w, run)


@case(Verdict.FINE, "norm")
def cleared_between_two_passes():
    w = leaf()
    with gradviz.record() as run:
        for _ in range(2):
            w.grad = None
            loss = (w * 2).sum()
            loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.INFINITE, "the first known is at sqrt (its input has a 0)", "clamp it")
def root_of_zero():
    w = leaf(0.0, 4.0)
    loss = torch.sqrt(w).sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.NAN, "the first known is at sqrt", "clamp it")
def nan_behind_a_root():
    w = leaf(0.0, 4.0)
    with gradviz.record() as run:
        square = w * w
        root = torch.sqrt(square)  # here
        loss = root.sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.NAN, "the first known is at log", "clamp it")
def logarithm_of_a_negative():
    w = leaf(-1.0, 2.0)
    p = torch.log(w)
    loss = (p * w).sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.NAN, "is not known", "set_detect_anomaly(True)")
def nan_for_no_known_reason():
    w = leaf(0.0, 4.0)
    loss = (w * torch.sqrt(w * w)).sqrt().sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.SPARSE, "sparse tensor", "SparseAdam")
def sparse():
    w = nn.Parameter(torch.ones(10, 3))
    loss = nn.functional.embedding(torch.tensor([1, 2]), w, sparse=True).sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.ZERO, "all 2 inputs are below 0 or above 1", "inside that range")
def clamped():
    w = leaf(-1.0, 2.0)
    with gradviz.record() as run:
        loss = w.clamp(0, 1).sum()  # here
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "is constant between steps", "soft version")
def rounded():
    w = leaf()
    with gradviz.record() as run:
        loss = (w * 2).round().sum()  # here
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "its condition is False everywhere", "check the condition")
def branch_that_is_never_chosen():
    w = leaf()
    mask = torch.zeros(3, dtype=torch.bool)
    with gradviz.record() as run:
        loss = torch.where(mask, w, 0.0).sum()  # here
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "its mask is True everywhere", "check the mask")
def everything_is_masked():
    w = leaf()
    mask = torch.ones(3, dtype=torch.bool)
    with gradviz.record() as run:
        loss = w.masked_fill(mask, 0.0).sum()  # here
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "its input is all zeros, where its slope is 0", "other than zero")
def started_at_the_minimum():
    w = leaf(0.0, 0.0)
    with gradviz.record() as run:
        loss = (w**2).sum()  # here
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "all 4,096 inputs are <= 0", "leaky_relu")
def dead_relu_of_a_large_layer():
    w = torch.full((64,), -1.0, requires_grad=True)
    with gradviz.record() as run:
        h = torch.relu(w.expand(64, 64))  # here
        loss = h.sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.NAN, "its input has a 1", "clamp it")
def angle_of_equal_vectors():
    w = leaf(0.0)
    with gradviz.record() as run:
        cosine = torch.cos(w)
        loss = torch.acos(cosine).sum()  # here
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.NAN, "its input target has NaN elements", "select from target")
def target_with_a_gap():
    w = leaf(1.0, 2.0)
    target = torch.tensor([1.0, float("nan")])
    with gradviz.record() as run:
        error = w - target  # here
        loss = (error**2).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.HOOK, "than it received: 2 → 20", "handle.remove()")
def hook_on_a_leaf():
    w = leaf()
    with gradviz.record() as run:
        w.register_hook(lambda grad: grad * 10)  # here
        loss = (w * 2).sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.HOOK, "the hook zeros_like on h at", "handle.remove()")
def hook_on_the_way():
    w = leaf()
    with gradviz.record() as run:
        h = w * 2
        h.register_hook(torch.zeros_like)  # here
        loss = h.sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.FINE, "what its hook does to it was not recorded")
def hook_and_no_recording():
    w = leaf()
    w.register_hook(lambda grad: grad * 10)
    loss = (w * 2).sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.STALE, "used it for the second time", "one backward() for each step")
def two_steps_after_one_backward():
    w = leaf()
    optimizer = torch.optim.SGD([w], lr=0.1)
    with gradviz.record() as run:
        loss = (w**2).sum()
        loss.backward()
        for _ in range(2):
            optimizer.step()  # here
    return gradviz.explain(w, run)


@case(Verdict.STALE, "accumulated nothing in it", "optimizer.zero_grad()")
def left_over_from_the_other_loss():
    w, v = leaf(), leaf()
    optimizer = torch.optim.SGD([w, v], lr=0.1)
    with gradviz.record() as run:
        loss = (w * v).sum()
        loss.backward()
        optimizer.step()  # here
        other = (v**2).sum()
        other.backward()
    return gradviz.explain(w, run)


@case(Verdict.FINE, "from before the change at")
def validation_with_gradients_after_the_last_step():
    layer, x = nn.Linear(2, 1), torch.ones(3, 2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with gradviz.record(layer) as run:
        for _ in range(2):
            optimizer.zero_grad()
            layer(x).pow(2).mean().backward()
            optimizer.step()  # here
        val = layer(x).mean()
    assert val.requires_grad
    return gradviz.explain(layer.weight, run)


@case(Verdict.FINE, "from before the change at")
def validation_after_an_update_by_hand():
    w = leaf()
    with gradviz.record() as run:
        (w * 2).sum().backward()
        with torch.no_grad():
            w -= 0.1 * w.grad  # here
        val = (w * 3).sum()
    assert val.requires_grad
    return gradviz.explain(w, run)


@case(Verdict.FINE, "from before the change at")
def evaluation_after_a_step():
    w = leaf()
    optimizer = torch.optim.SGD([w], lr=0.1)
    with gradviz.record() as run:
        for _ in range(2):
            optimizer.zero_grad()
            (w * 2).sum().backward()
            optimizer.step()  # here
        with torch.no_grad():
            score = (w * 3).sum()
    assert score.numel() == 1
    return gradviz.explain(w, run)


@case(Verdict.STALE, "copy_ at", "call backward() again")
def loaded_after_backward():
    w = leaf()
    with gradviz.record() as run:
        loss = (w**2).sum()
        loss.backward()
        with torch.no_grad():
            w.copy_(torch.ones(3))  # here
    return gradviz.explain(w, run)


@case(Verdict.FINE, "from before the change at")
def used_by_one_step():
    w = leaf()
    optimizer = torch.optim.SGD([w], lr=0.1)
    with gradviz.record() as run:
        for _ in range(2):
            optimizer.zero_grad()
            loss = (w**2).sum()
            loss.backward()
            optimizer.step()  # here
    return gradviz.explain(w, run)
