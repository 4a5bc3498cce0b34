"""Mixed precision causes NaN loss

https://github.com/pytorch/pytorch/issues/40497
"""

# ask: w
# verdict: infinite

import torch

w = torch.tensor([2.0, 12.0], requires_grad=True)
half = w.half()
odds = half.exp()  # here
loss = odds.float().sum()
loss.backward()
