"""Why does Adam learn so slowly, and not better than plain gradient descent?"""

import torch

import gradviz

model = torch.nn.Linear(2, 1)
with gradviz.record() as run:
    for _ in range(4):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        optimizer.zero_grad()
        model(torch.ones(1, 2)).square().sum().backward()
        optimizer.step()

why = gradviz.explain(model.weight, run)
