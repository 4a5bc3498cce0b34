"""Which parameters of my program are not trained?"""

import copy

import torch

import gradviz

model = torch.nn.Linear(2, 1)
target = copy.deepcopy(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
with gradviz.record(model, target) as run:
    goal = target(torch.ones(1, 2)).detach()
    loss = (model(torch.ones(1, 2)) - goal - 1).square().sum()
    loss.backward()
    optimizer.step()

why = gradviz.explain(run).of("target.weight")
