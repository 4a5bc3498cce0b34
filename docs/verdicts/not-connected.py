"""Why does one parameter of my model get no gradient?"""

import torch

import gradviz

used = torch.tensor([1.0, 2.0], requires_grad=True)
spare = torch.tensor([3.0, 4.0], requires_grad=True)
with gradviz.record() as run:
    loss = (used * 2).sum()
    loss.backward()

why = gradviz.explain(spare, run)
