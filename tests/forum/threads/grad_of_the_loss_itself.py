"""Loss.grad is constant 1

https://discuss.pytorch.org/t/loss-grad-is-constant-1/130964
"""

# ask: loss
# verdict: not a leaf

import torch
from torch import nn

model = nn.Linear(1, 1)
out = model(torch.randn(1, 1))
loss = out**2  # here
loss.backward()
