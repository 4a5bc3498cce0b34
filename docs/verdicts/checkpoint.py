"""What does "different metadata than during the forward pass" mean?"""

import torch
from torch.utils.checkpoint import checkpoint

import gradviz

batch = [torch.ones(2), torch.ones(3)]
w = torch.tensor(1.0, requires_grad=True)
loss = checkpoint(lambda w: (w * batch.pop(0)).exp(), w, use_reentrant=False).sum()
try:
    loss.backward()
except RuntimeError as error:
    why = gradviz.explain(error, loss)
