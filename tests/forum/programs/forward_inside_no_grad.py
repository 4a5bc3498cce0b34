"""Element 0 of tensors does not require grad, but all my parameters do"""

# ask: error
# verdict: nothing to differentiate

import torch
from torch import nn

model = nn.Linear(3, 1)
with torch.no_grad():
    features = model(torch.ones(2, 3))  # here
loss = features.mean()
loss.backward()
