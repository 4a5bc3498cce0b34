"""Gradient penalty: a differentiated Tensor appears to not have been used in the graph"""

# ask: error
# verdict: input not used

import torch
from torch import nn

critic = nn.Linear(3, 1)
real = torch.ones(2, 3)
mixed = real.clone().requires_grad_()
score = critic(real).sum()
(gradient,) = torch.autograd.grad(score, mixed)  # here
