"""Why does my gradient double at every iteration?"""

# ask: w
# verdict: accumulated

import torch

w = torch.tensor([1.0, 2.0], requires_grad=True)
for _ in range(2):
    loss = (3 * w).sum()
    loss.backward()  # here
