"""A recurrent network of 50 steps, and a vanishing gradient.

One small cell is used 50 times, so the graph is 50 cells deep, and all share the same weights.
In the backward pass each cell multiplies the gradient by numbers below 1: the gradient of the last
state is large, that of the first is tiny. This is called a vanishing gradient.
The states are non-leaf tensors: retain_grad() keeps the gradient of each of them.
"""

import torch
from torch import nn

torch.manual_seed(0)
inputs = torch.randn(50, 1, 3)
cell = nn.RNNCell(3, 4, bias=False)

states = [torch.zeros(1, 4)]
for features in inputs:
    states.append(cell(features, states[-1]))
    states[-1].retain_grad()
loss = states[-1].square().mean()
loss.backward()

print(f"loss {loss.item():.4f}")
for step in (1, 10, 20, 30, 40, 50):
    print(f"largest gradient at state {step:2}: {states[step].grad.abs().max():.3e}")
print(f"gradient at the weights, all steps added: {cell.weight_hh.grad.norm():.4f}")
