"""Why are all gradients zero, at each iteration?"""

# ask: model.weight
# verdict: zero
# says: its slope is 0

import torch
from torch import nn

model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    p = torch.round(torch.sigmoid(model(torch.ones(4, 3))))  # here
    loss = (p - 0.3).square().mean()
    loss.backward()
    optimizer.step()
