"""A frozen layer: no gradient for it, but gradients through it.

To freeze a layer, set requires_grad_(False) on it: its weights then receive no gradient.
If you freeze one in the middle, the graph still runs through it, to the first layer. If you freeze
the first as well, the graph begins at the last layer, and backward has less to compute.
"""

import torch
from torch import nn

import gradviz

first, middle, last = (nn.Linear(1, 1, bias=False) for _ in range(3))
for layer in (first, middle, last):
    nn.init.constant_(layer.weight, 0.5)
inputs = torch.tensor([[8.0]])

with gradviz.record() as one:
    middle.requires_grad_(False)
    loss = last(middle(first(inputs))).sum()
    loss.backward()
print("middle frozen:", *(layer.weight.grad for layer in (first, middle, last)))  # 2, None, 2

first.weight.grad = last.weight.grad = None
with gradviz.record() as both:
    first.requires_grad_(False)
    loss = last(middle(first(inputs))).sum()
    loss.backward()
print("first as well:", *(layer.weight.grad for layer in (first, middle, last)))  # None, None, 2

through, behind = one.frames[-1].graph, both.frames[-1].graph
story = gradviz.Story(
    (
        gradviz.Frame("the middle frozen", through, "The first still receives a gradient."),
        gradviz.Frame("the first as well", behind, "The graph begins at the last layer."),
    )
)
