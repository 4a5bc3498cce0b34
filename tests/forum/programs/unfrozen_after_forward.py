"""I unfroze the layer and it still gets no gradient"""

# ask: layer.weight
# verdict: cut

import torch
from torch import nn

layer, head = nn.Linear(2, 3), nn.Linear(3, 1)
layer.requires_grad_(False)  # here
out = head(layer(torch.ones(4, 2)))
layer.requires_grad_(True)
out.mean().backward()
