"""Why does my frozen layer still get a gradient?"""

import torch

import gradviz

model = torch.nn.Linear(2, 1)
model.weight.require_grad = False
loss = model(torch.ones(1, 2)).sum()
loss.backward()

why = gradviz.explain(model.weight, loss)
