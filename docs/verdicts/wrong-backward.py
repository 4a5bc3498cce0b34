"""What does "returned an invalid gradient at index 0" mean?"""

import torch

import gradviz


class Scale(torch.autograd.Function):
    """Doubles, and has a wrong backward."""

    forward = staticmethod(lambda ctx, x: x * 2)
    backward = staticmethod(lambda ctx, grad: grad.repeat(3))


w = torch.tensor([1.0, 2.0], requires_grad=True)
loss = Scale.apply(torch.exp(w)).sum()
try:
    loss.backward()
except RuntimeError as error:
    why = gradviz.explain(error, loss)
