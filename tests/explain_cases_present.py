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


@case(Verdict.ZERO, "relu passes nothing: none of its 3 inputs is positive", "leaky_relu")
def dead_relu():
    w = leaf(-1.0, -2.0, -3.0)
    h = torch.relu(w)
    loss = h.sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.ZERO, "none of its 3 inputs is positive", "leaky_relu")
def dead_relu_recorded():
    w = leaf(-1.0, -2.0, -3.0)
    with gradviz.record() as run:
        h = torch.relu(w)  # here
        loss = h.sum()
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.ZERO, "sigmoid passes nothing: it is saturated", "keep the inputs small")
def saturated_sigmoid():
    w = leaf(200.0, 300.0)
    p = torch.sigmoid(w)
    loss = p.sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.ZERO, "tanh passes nothing", "keep the inputs small")
def saturated_tanh():
    w = leaf(200.0, -300.0)
    p = torch.tanh(w)
    loss = p.sum()
    loss.backward()
    return gradviz.explain(w, loss)


@case(Verdict.ZERO, "passes nothing: the other factor, mask,", "leave out the factor")
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


@case(Verdict.ACCUMULATED, "2 backward passes", "zero_grad() before each")
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
