"""What about an error that is not related to autograd?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
try:
    loss = (w + torch.ones(4)).sum()
except RuntimeError as error:
    why = gradviz.explain(error, w)
