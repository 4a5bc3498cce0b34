"""Pytorch: torch.autograd.grad returns NoneType

https://github.com/pytorch/pytorch/issues/106556
"""

# ask: image
# verdict: cut

import torch

image = torch.ones(4, requires_grad=True)
score = (image**2).sum()
(attribution,) = torch.autograd.grad(score, image)  # here
loss = attribution[:2].sum()
loss.requires_grad = True
loss.backward()
