"""Why does clip_grad_norm_ warn that its parameters are an empty generator?"""

import torch

import gradviz

model = torch.nn.Linear(2, 1)
parameters = model.parameters()
optimizer = torch.optim.SGD(parameters, lr=0.1)
with gradviz.record() as run:
    loss = (model(torch.ones(1, 2)) * 100).sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()

why = gradviz.explain(model.weight, run)
