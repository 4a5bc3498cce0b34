"""Modified by an inplace operation: SigmoidBackward, when I add the residual with +="""

# ask: error
# verdict: changed in place

import torch
from torch import nn

layer = nn.Linear(3, 3)
x = torch.ones(2, 3)
out = torch.sigmoid(layer(x))
out += x  # here
out.sum().backward()
