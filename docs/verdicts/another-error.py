"""What of an error that has nothing to do with autograd?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
try:
    loss = (w + torch.ones(4)).sum()
except RuntimeError as error:
    why = gradviz.explain(error, w)
