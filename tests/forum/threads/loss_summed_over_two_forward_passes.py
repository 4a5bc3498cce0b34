"""RuntimeError: Trying to backward through the graph a second time, but the saved intermediate …

https://github.com/davda54/sam/issues/10
"""

# ask: error
# verdict: backward a second time

import torch
from torch import nn

model = nn.Linear(3, 2)
image, targets = torch.ones(4, 3), [torch.zeros(4, 2), torch.ones(4, 2)]
loss = 0
output = model(image)
for target in targets:
    loss = loss + nn.functional.mse_loss(output, target)  # here
loss.backward()
output = model(image)
for target in targets:
    loss = loss + nn.functional.mse_loss(output, target)
loss.backward()
