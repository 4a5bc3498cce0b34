"""Why does PyTorch warn that my target size is different to the input size?"""

import torch

import gradviz

model = torch.nn.Linear(2, 1)
inputs, target = torch.randn(4, 2), torch.randn(4)
with gradviz.record() as run:
    loss = torch.nn.functional.mse_loss(model(inputs), target)
    loss.backward()

why = gradviz.explain(model.weight, run)
