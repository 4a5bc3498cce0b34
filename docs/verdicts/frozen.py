"""Why does the layer that I froze stay frozen?"""

import torch

import gradviz

backbone = torch.tensor([1.0, 2.0], requires_grad=True)
head = torch.tensor([3.0, 4.0], requires_grad=True)
with gradviz.record() as run:
    backbone.requires_grad_(False)
    loss = (backbone * head).sum()
    loss.backward()

why = gradviz.explain(backbone, run)
