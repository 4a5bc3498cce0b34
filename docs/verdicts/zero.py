"""Why are all my gradients zero?"""

import torch

import gradviz

w = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
with gradviz.record() as run:
    h = torch.relu(w)
    loss = (h * 2).sum()
    loss.backward()

why = gradviz.explain(w, run)
