"""Why does model.parameters() not list my layers?"""

import torch

import gradviz

model = torch.nn.Module()
model.layers = [torch.nn.Linear(2, 1)]
loss = model.layers[0](torch.ones(1, 2)).sum()
loss.backward()

why = gradviz.explain(model, loss)
