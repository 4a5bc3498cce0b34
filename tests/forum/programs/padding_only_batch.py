"""The gradient of my embedding is all zeros"""

# ask: table.weight
# verdict: zero

import torch
from torch import nn

table = nn.Embedding(10, 4, padding_idx=0)
tokens = torch.zeros(2, 5, dtype=torch.long)
loss = table(tokens).sum()  # here
loss.backward()
