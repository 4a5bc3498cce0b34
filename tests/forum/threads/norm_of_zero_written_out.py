"""Gradient of zero norm is nan

https://github.com/pytorch/pytorch/issues/2421
"""

# ask: x
# verdict: NaN

import torch

x = torch.zeros(3, requires_grad=True)
x.pow(2).sum().sqrt().backward()  # here
