"""Why is `.grad` None after `w = w * 0.1`, `.to(...)` or `.cuda()`?"""

import torch

import gradviz

with gradviz.record() as run:
    w = torch.tensor([1.0, 2.0], requires_grad=True) * 0.1
    loss = (w**2).sum()
    loss.backward()

why = gradviz.explain(w, run)
