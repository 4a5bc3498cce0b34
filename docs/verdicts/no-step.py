"""Why does a model whose gradients are cleared and computed again not learn?"""

import torch

import gradviz

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with gradviz.record() as run:
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(torch.ones(1, 2)).sum()
        loss.backward()
        # optimizer.step() is missing

why = gradviz.explain(model.weight, run)
