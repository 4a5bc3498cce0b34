"""Why is the gradient gone when I print it at the end of the step?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
optimizer = torch.optim.SGD([w], lr=0.1)
with gradviz.record() as run:
    loss = (w**2).sum()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

why = gradviz.explain(w, run)
