"""RuntimeError: Trying to backward through the graph a second time

https://github.com/lucidrains/denoising-diffusion-pytorch/issues/109
"""

# ask: error
# verdict: backward a second time

import torch
from torch import nn

convert, model = nn.Conv1d(1, 4, 3), nn.Sequential(nn.Conv1d(4, 4, 3), nn.Tanh())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = convert(torch.ones(2, 1, 9))  # here
for _ in range(2):
    loss = model(data).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
