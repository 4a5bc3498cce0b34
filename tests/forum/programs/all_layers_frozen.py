"""Element 0 of tensors does not require grad, after freezing the pretrained layers"""

# ask: error
# verdict: nothing to differentiate

import torch
from torch import nn

model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
for parameter in model.parameters():
    parameter.requires_grad = False  # here
loss = model(torch.ones(2, 4)).sum()
loss.backward()
