"""What does "One of the differentiated Tensors appears to not have been used" mean?"""

import torch

import gradviz

real = torch.tensor([1.0, 2.0], requires_grad=True)
mixed = torch.tensor([3.0, 4.0], requires_grad=True)
score = (real**2).sum()
try:
    torch.autograd.grad(score, mixed)
except RuntimeError as error:
    why = gradviz.explain(error, score, mixed)
