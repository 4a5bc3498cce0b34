"""Inference tensors cannot be saved for backward"""

# ask: error
# verdict: inference tensor used

import torch
from torch import nn

backbone, head = nn.Linear(3, 3), nn.Linear(3, 1)
with torch.inference_mode():
    features = backbone(torch.ones(2, 3))
loss = head(features).mean()  # here
