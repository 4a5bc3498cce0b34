"""Why is my loss NaN while every gradient is finite?"""

import torch

import gradviz

w = torch.tensor([-1.0, 2.0], requires_grad=True)
with gradviz.record() as run:
    logs = torch.log(w)
    loss = logs.sum()
    loss.backward()

why = gradviz.explain(w, run)
