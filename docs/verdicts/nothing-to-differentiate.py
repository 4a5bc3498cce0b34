"""What does "element 0 of tensors does not require grad" mean?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
try:
    with gradviz.record() as run, torch.no_grad():
        loss = (w * 2).sum()
        loss.backward()
except RuntimeError as error:
    why = gradviz.explain(error, run)
