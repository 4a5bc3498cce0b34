"""Why has my gradient clipping no effect?"""

import torch

import gradviz

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with gradviz.record() as run:
    (model(torch.ones(1, 2)) * 100).sum().backward()
    optimizer.step()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)

why = gradviz.explain(model.weight, run)
