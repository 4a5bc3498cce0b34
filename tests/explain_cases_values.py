"""Gradients of zeros and NaN that saved tensors explain: no variable holds what was computed.

See ``explain_cases.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from explain_cases import case
from torch import nn
from torch.nn import functional as F

import gradviz
from gradviz import Explanation, Explanations, Verdict

__all__: list[str] = []

Step = Callable[[torch.Tensor], torch.Tensor]


def _loop(*steps: Step) -> Explanation | Explanations:
    """Explain a weight after two iterations, with an optimizer, and no name for a result."""
    linear = nn.Linear(3, 4)
    nn.init.ones_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.SGD(linear.parameters(), lr=1e-3)
    with gradviz.record() as run:
        for _ in range(2):
            optimizer.zero_grad()
            found = linear(torch.ones(8, 3))
            for step in steps:
                found = step(found)
            found.sum().backward()
            del found
            optimizer.step()
    return gradviz.explain(linear.weight, run)


@case(Verdict.ZERO, "relu at", "leaky_relu")
def dead_relu_without_a_name():
    return _loop(lambda h: (h - 100).relu() * 3)  # here


@case(Verdict.ZERO, "all 32 inputs are <= 0", "leaky_relu")
def dead_relu_counts_its_inputs():
    return _loop(lambda h: (h - 100).relu() * 2)


@case(Verdict.ZERO, "all 32 inputs are below 0 or above 1", "clamp")
def clamped_without_a_name():
    return _loop(lambda h: (h + 100).clamp(0, 1) * 2)


@case(Verdict.ZERO, "all 32 inputs are below 0 or above 6", "clamp")
def relu6_at_its_end():
    return _loop(lambda h: F.relu6(h + 100) * 2)


@case(Verdict.ZERO, "all 32 inputs are <= 50", "clamp")
def below_a_threshold():
    return _loop(lambda h: F.threshold(h, 50, 0) * 2)


@case(Verdict.ZERO, "it is saturated at every element", "logits")
def saturated_without_a_name():
    return _loop(lambda h: torch.sigmoid(h + 1000) * 2)


@case(Verdict.ZERO, "is all zeros, because of relu at ", "let some inputs be positive")
def weight_behind_a_dead_relu():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    nn.init.constant_(model[0].bias, -100)
    with gradviz.record() as run:
        model(torch.ones(8, 3)).sum().backward()  # here
    return gradviz.explain(model[2].weight, run)


@case(Verdict.ZERO, "are not zero, and their sum is", "detach it in the others")
def alive_relu_is_not_blamed():
    return _loop(lambda h: h.relu() - h)


@case(Verdict.NAN, "first known is at log", "add a small number")
def logarithm_inside_an_expression():
    return _loop(lambda h: ((h * 0).log() * 2).exp() * 0 + (h - h).log())  # here


@case(Verdict.NAN, "it divides by 0", "add a small number")
def divided_inside_an_expression():
    return _loop(lambda h: (h * 0) / (h * 0) * 2)  # here


@case(Verdict.NAN, "its input has a 0", "add a small number")
def root_inside_an_expression():
    return _loop(lambda h: (h - h.detach()).sqrt() * 2)  # here


@case(Verdict.NAN, "has had NaN elements since before this pass", "learning rate")
def weights_that_are_lost():
    w = torch.tensor([1.0, float("nan")], requires_grad=True)
    with gradviz.record() as run:
        loss = (w * 2).sum()
        loss.backward()
        w.grad = None
        loss = (w * w).sum()  # here
        loss.backward()
    return gradviz.explain(w, run)


@case(Verdict.NOT_CONNECTED, "not used by loss", "leave it out of the optimizer")
def never_called_while_the_loss_is_printed():
    model = nn.ModuleDict({"used": nn.Linear(3, 1), "spare": nn.Linear(3, 1)})
    with gradviz.record() as run:
        for _ in range(3):
            model.zero_grad()
            loss = model["used"](torch.ones(2, 3)).sum()
            loss.backward()
            assert loss.item() == loss.item()
    return gradviz.explain(model["spare"].weight, run)


def _large_everywhere(factor: float) -> Explanation | Explanations:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(16, 16) for _ in range(8)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)
    model(torch.randn(4, 16)).pow(2).sum().backward()
    return gradviz.explain(model[0].weight, names=model)


@case(Verdict.EXPLODING, "the norm of its gradient is", "clip_grad_norm_(parameters, 1.0)")
def large_in_every_layer():
    return _large_everywhere(12)


@case(Verdict.EXPLODING, "the norm of its gradient is", "would set the gradients to 0")
def too_large_to_be_clipped():
    return _large_everywhere(60)


@case(Verdict.FINE, "")
def a_scaled_loss_has_large_gradients():
    linear = nn.Linear(16, 16)
    (linear(torch.randn(4, 16)).pow(2).mean() * 65536).backward()
    return gradviz.explain(linear.weight)


def _of_batch(model: nn.Module, batch: torch.Tensor) -> Explanation | Explanations:
    with gradviz.record(model) as run:
        model(batch).pow(2).mean().backward()
    return gradviz.explain(next(model.parameters()), run)


@case(Verdict.NAN, "(its input batch has NaN elements)", "find where it becomes NaN")
def a_batch_with_nan():
    batch = torch.randn(16, 4)
    batch[3, 1] = torch.nan
    return _of_batch(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)), batch)


@case(Verdict.NAN, "at conv", "find where it becomes NaN")
def images_with_nan():
    images = torch.randn(4, 3, 8, 8)
    images[2] = torch.nan
    return _of_batch(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Tanh()), images)


@case(Verdict.NAN, "its input s, created at", "find where it becomes NaN")
def a_sequence_with_nan():
    lstm = nn.LSTM(5, 6)
    with gradviz.record(lstm) as run:
        s = torch.randn(7, 2, 5)
        s[3, 0, 2] = torch.nan
        lstm(s)[0].sum().backward()
    return gradviz.explain(lstm.weight_ih_l0, run)


def _attention(batch: torch.Tensor, mask: torch.Tensor) -> Explanation | Explanations:
    query = nn.Linear(5, 5)
    with gradviz.record(query) as run:
        attention = (query(batch) @ batch.T + mask).softmax(-1)
        (attention @ batch).sum().backward()
    return gradviz.explain(query.weight, run)


@case(Verdict.NAN, "a row of -inf alone gives NaN", "leave an element of each row unmasked")
def a_row_is_masked_as_a_whole():
    mask = torch.zeros(4, 4)
    mask[1] = -torch.inf
    return _attention(torch.randn(4, 5), mask)


@case(Verdict.NAN, "(its input batch has NaN elements)", "find where it becomes NaN")
def a_mask_is_not_blamed_for_nan_in_the_batch():
    batch = torch.randn(4, 5)
    batch[0, 0] = torch.nan
    return _attention(batch, torch.full((4, 4), -torch.inf).triu(1))


@case(Verdict.FINE, "")
def a_causal_mask():
    return _attention(torch.randn(4, 5), torch.full((4, 4), -torch.inf).triu(1))


@case(Verdict.NAN, "its input has elements that are negative or NaN", "clamp it before")
def a_square_root_of_negative_numbers():
    return _loop(lambda h: (h - 10).sqrt())
