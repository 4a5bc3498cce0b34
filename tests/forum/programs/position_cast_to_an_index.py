"""No gradient for the position that I look up"""

# ask: position
# verdict: cut

import torch

table = torch.arange(10.0, requires_grad=True)
position = torch.tensor([2.4, 7.1], requires_grad=True)
index = position.long()  # here
loss = table[index].sum()
loss.backward()
