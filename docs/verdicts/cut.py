"""The encoder does not train: why are its gradients None?"""

import torch

import gradviz

encoder = torch.tensor([1.0, 2.0], requires_grad=True)
decoder = torch.tensor([3.0, 4.0], requires_grad=True)
with gradviz.record() as run:
    code = (encoder * 2).detach()
    loss = (code * decoder).sum()
    loss.backward()

why = gradviz.explain(encoder, run)
