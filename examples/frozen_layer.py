"""A frozen layer: no gradient for it, but gradients through it.

To freeze a layer, set requires_grad_(False) on it: its weights then receive no gradient.
Freeze the first layer and the graph stops at the second: backward has less to do.
Freeze the second, and the graph still runs through it, because the first layer lies behind.
"""

import torch
from torch import nn

import gradviz

first, second = nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False)
nn.init.constant_(first.weight, 0.5)
nn.init.constant_(second.weight, 0.5)
inputs = torch.tensor([[1.0, 2.0]])

first.requires_grad_(False)
loss = second(first(inputs)).sum()
loss.backward()
print("first frozen:  first", first.weight.grad, " second", second.weight.grad)  # None, 1.5
first_frozen = gradviz.Frame("first layer frozen", gradviz.trace(loss))

first.requires_grad_(True)
second.requires_grad_(False)
second.weight.grad = None
loss = second(first(inputs)).sum()
loss.backward()
print("second frozen: first", first.weight.grad, " second", second.weight.grad)  # [0.5, 1], None
second_frozen = gradviz.Frame("second layer frozen", gradviz.trace(loss))

story = gradviz.Story((first_frozen, second_frozen))
