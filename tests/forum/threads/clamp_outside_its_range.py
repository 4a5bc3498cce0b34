"""torch.clamp kills gradients at the border

https://github.com/pytorch/pytorch/issues/7002
"""

# ask: a
# verdict: zero

import torch

a = torch.tensor([1.5, -0.5], requires_grad=True)
clipped = torch.clamp(a, 0, 1)  # here
clipped.sum().backward()
