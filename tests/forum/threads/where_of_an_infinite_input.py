"""Gradient of torch.where not handling nan correctly

https://github.com/pytorch/pytorch/issues/18287
"""

# ask: x
# verdict: NaN

import math

import torch

x = torch.tensor([0.0, math.inf], requires_grad=True)
waves = torch.cos(x)  # here
y = torch.where(x < 1.0, waves, torch.zeros_like(x))
y.sum().backward()
