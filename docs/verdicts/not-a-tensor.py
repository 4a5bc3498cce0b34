"""What does "'float' object has no attribute 'backward'" mean?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
try:
    with gradviz.record() as run:
        loss = (w * 2).sum().item()
        loss.backward()
except AttributeError as error:
    why = gradviz.explain(error, run)
