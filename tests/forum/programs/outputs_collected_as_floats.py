"""The loss goes down but my model does not learn"""

# ask: model.weight
# verdict: cut

import torch
from torch import nn

model = nn.Linear(2, 1)
outputs = []
for row in torch.ones(4, 2):
    outputs.append(float(model(row)))  # here
loss = torch.tensor(outputs, requires_grad=True).square().mean()
loss.backward()
