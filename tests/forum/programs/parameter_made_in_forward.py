"""grad of my scale is None, although forward uses it"""

# ask: model.scale
# verdict: cut
# says: nn.Parameter()

import torch
from torch import nn


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.head = nn.Linear(3, 1)

    def forward(self, x):
        scale = nn.Parameter(self.scale.exp())
        return self.head(x * scale)


model = Scaled()
loss = model(torch.ones(4, 3)).sum()
loss.backward()
