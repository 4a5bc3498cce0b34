"""retain_graph=True cured one error and brought another"""

# ask: error
# verdict: changed in place

import torch
from torch import nn

cell, head = nn.RNNCell(2, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*cell.parameters(), *head.parameters()], lr=0.1)
hidden = torch.zeros(1, 3)
for _ in range(3):
    hidden = cell(torch.ones(1, 2), hidden)
    loss = head(hidden).square().mean()
    optimizer.zero_grad()
    loss.backward(retain_graph=True)
    optimizer.step()  # here
