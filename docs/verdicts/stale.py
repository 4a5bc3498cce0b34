"""Why does a parameter still change that my loss no longer uses?"""

import torch

import gradviz

w, head = torch.tensor([1.0, 2.0], requires_grad=True), torch.ones(2, requires_grad=True)
optimizer = torch.optim.SGD([w, head], lr=0.1)
with gradviz.record() as run:
    (w * head).sum().backward()
    optimizer.step()
    loss = (head**2).sum()
    loss.backward()

why = gradviz.explain(w, run)
