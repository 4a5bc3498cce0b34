"""Why does my gradient double at every iteration?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
with gradviz.record() as run:
    for _ in range(2):
        loss = (w**2).sum()
        loss.backward()

why = gradviz.explain(w, run)
