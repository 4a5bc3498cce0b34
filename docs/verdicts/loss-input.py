"""Why does a network with a softmax and CrossEntropyLoss train so slowly?"""

import torch

import gradviz

model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Softmax(dim=1))
inputs, target = torch.randn(4, 2), torch.tensor([0, 2, 1, 1])
with gradviz.record() as run:
    loss = torch.nn.functional.cross_entropy(model(inputs), target)
    loss.backward()

why = gradviz.explain(model[0].weight, run)
