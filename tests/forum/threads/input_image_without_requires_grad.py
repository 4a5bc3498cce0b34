"""Pytorch - vanilla Gradient Visualization

https://whosebug.com/question/6424513/Pytorch-vanilla-Gradient-Visualization
"""

# ask: image
# verdict: does not require grad

import torch
from torch import nn

model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 10))
image = torch.rand(1, 1, 8, 8)
score = model(image)[0, 3]
score.backward()
