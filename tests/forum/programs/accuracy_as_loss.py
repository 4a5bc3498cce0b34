"""Element 0 of tensors does not require grad, when I train on the accuracy"""

# ask: error
# verdict: nothing to differentiate

import torch
from torch import nn

model = nn.Linear(3, 2)
labels = torch.tensor([0, 1])
predicted = model(torch.ones(2, 3)).argmax(dim=1)  # here
loss = (predicted != labels).float().mean()
loss.backward()
