"""Nonetype of param.grad.data

https://github.com/KaiyangZhou/pytorch-center-loss/issues/4
"""

# ask: centers
# verdict: backward not run

import torch

centers = torch.randn(4, 2, requires_grad=True)
optimizer = torch.optim.SGD([centers], lr=0.5)
loss = (torch.ones(3, 2) - centers[:3]).pow(2).sum()
optimizer.zero_grad()
for param in [centers]:
    assert param.grad is None
