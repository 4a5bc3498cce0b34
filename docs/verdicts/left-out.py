"""Why does `torch.autograd.grad` leave `.grad` as it was?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
with gradviz.record() as run:
    loss = (w**2).sum()
    (gradient,) = torch.autograd.grad(loss, w)

why = gradviz.explain(w, run)
