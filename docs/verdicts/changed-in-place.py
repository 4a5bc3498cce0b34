"""What does "modified by an inplace operation" mean?"""

import torch

import gradviz

w, x = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0])
try:
    with gradviz.record() as run:
        h = torch.sigmoid(w * x)
        h += x
        loss = h.sum()
        loss.backward()
except RuntimeError as error:
    why = gradviz.explain(error, run)
