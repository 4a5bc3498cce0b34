"""AttributeError: 'float' object has no attribute 'backward'"""

# ask: error
# verdict: not a tensor

import torch
from torch import nn

model, total = nn.Linear(2, 1), 0.0
for _ in range(3):
    loss = model(torch.ones(4, 2)).square().mean()
    total += loss.item()  # here
total.backward()
