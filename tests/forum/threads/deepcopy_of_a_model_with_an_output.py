"""Problem about using "deepcopy(model)"

https://github.com/pytorch/pytorch/issues/54580
"""

# ask: error
# verdict: leaf required

import copy

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x):
        self.features = self.layer(x)
        return self.features.sum()


model = Net()
model(torch.ones(1, 3)).backward()
ema = copy.deepcopy(model)  # here
