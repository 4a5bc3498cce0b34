"""What does "Can't call numpy() on Tensor that requires grad" mean?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
h = w * 2
try:
    h.numpy()
except RuntimeError as error:
    why = gradviz.explain(error, h)
