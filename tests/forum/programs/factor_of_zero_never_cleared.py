"""Why is the gradient zero? I forgot zero_grad as well"""

# ask: w
# verdict: zero
# says: the other factor is 0

import torch

w = torch.ones(3, requires_grad=True)
for _ in range(3):
    p = w * 0.0  # here
    loss = p.sum()
    loss.backward()
