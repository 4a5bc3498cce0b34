"""What does "a leaf Variable that requires grad is being used in an in-place operation" mean?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
try:
    w -= 0.1
except RuntimeError as error:
    why = gradviz.explain(error, w)
