"""Grad can be implicitly created only for scalar outputs"""

# ask: error
# verdict: not a scalar

import torch
from torch import nn

model = nn.Linear(3, 2)
loss = nn.MSELoss(reduction="none")(model(torch.ones(4, 3)), torch.zeros(4, 2))
loss.backward()  # here
