"""What does "the derivative for 'igamma: input' is not implemented" mean?"""

import torch

import gradviz

a, x = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([1.0, 2.0])
try:
    loss = torch.igamma(a, x).sum()
    loss.backward()
except NotImplementedError as error:
    why = gradviz.explain(error, loss)
