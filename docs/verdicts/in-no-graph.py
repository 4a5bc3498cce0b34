"""Does my optimizer hold the parameters that the loss uses?"""

import copy

import torch

import gradviz

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(copy.deepcopy(model).parameters(), lr=0.1)
with gradviz.record() as run:
    loss = model(torch.ones(1, 2)).sum()
    loss.backward()
    optimizer.step()

why = gradviz.explain(run)[-1]
