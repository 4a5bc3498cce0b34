"""Why has one layer of my model no gradient, while the others do?"""

# ask: model.extra.weight
# verdict: not connected

import torch
from torch import nn


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.extra = nn.Linear(3, 3)

    def forward(self, x):
        return self.first(x)


model = Model()
loss = model(torch.ones(2, 3)).mean()
loss.backward()
