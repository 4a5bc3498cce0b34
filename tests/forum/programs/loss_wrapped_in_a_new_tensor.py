"""My weights do not change: I made the loss a tensor with requires_grad=True"""

# ask: model.weight
# verdict: cut

import warnings

import torch
from torch import nn

warnings.simplefilter("ignore")
model = nn.Linear(3, 1)
value = model(torch.ones(2, 3)).mean()
loss = torch.tensor(value, requires_grad=True)  # here
loss.backward()
