"""Why is the gradient None when I print it at the end of the step?"""

# ask: model.weight
# verdict: cleared

import torch
from torch import nn

model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = model(torch.ones(2, 3)).mean()
loss.backward()
optimizer.step()
optimizer.zero_grad()  # here
