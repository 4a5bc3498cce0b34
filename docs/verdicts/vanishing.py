"""Which gradients are ten thousand times smaller than the others?"""

import torch

import gradviz

first = torch.tensor([1.0], requires_grad=True)
last = torch.tensor([1.0], requires_grad=True)
loss = (torch.sigmoid(first * 14) + last).sum()
loss.backward()

why = gradviz.explain([first, last], loss)
