"""Which gradients are a thousand times larger than the others?"""

import torch

import gradviz

first = torch.tensor([1.0], requires_grad=True)
last = torch.tensor([1.0], requires_grad=True)
loss = (first * 1e6 * last.detach() + last).sum()
loss.backward()

why = gradviz.explain([first, last], loss)
