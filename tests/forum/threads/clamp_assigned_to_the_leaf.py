"""clamp makes grad None

https://github.com/pytorch/pytorch/issues/6991
"""

# ask: a
# verdict: not a leaf

import torch

a = torch.rand(1, requires_grad=True)
a = torch.clamp(a, 0, 1)  # here
z = 2 * a
z.backward()
