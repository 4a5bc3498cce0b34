"""`torch.where` produces nan in backward pass for differentiable forward pass

https://github.com/pytorch/pytorch/issues/68425
"""

# ask: a
# verdict: NaN

import torch

a = torch.tensor(100.0, requires_grad=True)
grown = torch.exp(a)  # here
b = torch.where(a <= 0, grown, 1 + a)
b.backward()
