"""Why has my gradient clipping no effect?"""

import torch

import gradviz

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with gradviz.record() as run:
    loss = (model(torch.ones(1, 2)) * 100).sum()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    loss.backward()
    optimizer.step()

why = gradviz.explain(model.weight, run)
