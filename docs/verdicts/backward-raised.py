"""What went wrong in backward, when the message does not say where?"""

import torch

import gradviz


def halve(grad):
    """Half of a gradient, if it is small."""
    raise ValueError("the gradient is too large")


w = torch.tensor([1.0, 2.0], requires_grad=True)
try:
    with gradviz.record() as run:
        h = w.exp()
        h.register_hook(halve)
        (h * 3).sin().sum().backward()
except ValueError as error:
    why = gradviz.explain(error, run)
