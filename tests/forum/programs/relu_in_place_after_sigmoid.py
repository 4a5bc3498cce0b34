"""One of the variables has been modified by nn.ReLU(inplace=True)"""

# ask: error
# verdict: changed in place

import torch
from torch import nn

model = nn.Sequential(nn.Linear(2, 3), nn.Sigmoid(), nn.ReLU(inplace=True))
loss = model(torch.ones(4, 2)).sum()  # here
loss.backward()
