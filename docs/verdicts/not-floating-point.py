"""What does "Only Tensors of floating point dtype can require gradients" mean?"""

import torch

import gradviz

steps = torch.tensor([1, 2, 3])
try:
    steps.requires_grad_()
except RuntimeError as error:
    why = gradviz.explain(error, steps)
