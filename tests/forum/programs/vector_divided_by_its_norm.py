"""Normalising gives NaN gradients"""

# ask: w
# verdict: NaN

import torch

w = torch.zeros(3, requires_grad=True)
length = w.norm()
unit = w / length  # here
loss = (unit * torch.ones(3)).sum()
loss.backward()
