"""What does "grad can be implicitly created only for scalar outputs" mean?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
losses = w**2
try:
    losses.backward()
except RuntimeError as error:
    why = gradviz.explain(error, losses)
