"""A hook for features stops the training of the layers before it"""

# ask: model[0].weight
# verdict: cut

import torch
from torch import nn


def keep(module, inputs, output):
    return output.detach()  # here


model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
model[0].register_forward_hook(keep)
loss = model(torch.ones(4, 2)).mean()
loss.backward()
