"""My helper function loses the gradient"""

# ask: encoder.weight
# verdict: cut

import torch
from torch import nn

encoder, head = nn.Linear(2, 3), nn.Linear(3, 1)


@torch.no_grad()
def encode(x):
    return encoder(x)  # here


loss = head(encode(torch.ones(4, 2))).mean()
loss.backward()
