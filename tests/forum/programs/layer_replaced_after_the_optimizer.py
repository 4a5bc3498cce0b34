"""Fine-tuning: the layer that the optimizer has gets no gradient"""

# ask: old.weight
# verdict: not connected
# says: not used by loss

import torch
from torch import nn

model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 10))
old = model[1]
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model[1] = nn.Linear(3, 2)
loss = model(torch.ones(4, 2)).square().mean()
loss.backward()
