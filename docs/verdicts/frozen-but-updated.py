"""Why does a frozen layer still change?"""

import torch

import gradviz

w, head = torch.tensor([1.0, 2.0], requires_grad=True), torch.ones(2, requires_grad=True)
optimizer = torch.optim.SGD([w, head], lr=0.1)
with gradviz.record() as run:
    (w * head).sum().backward()
    w.requires_grad_(False)
    (w * head).sum().backward()
    optimizer.step()

why = gradviz.explain(w, run)
