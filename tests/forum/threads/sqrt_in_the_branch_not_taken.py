"""torch.where backward propagates NaN gradient from inactive sqrt branch

https://github.com/pytorch/pytorch/issues/187297
"""

# ask: x
# verdict: NaN

import torch

x = torch.tensor([-1.0, -4.0], requires_grad=True)
root = torch.sqrt(x)  # here
y = torch.where(x > 0, root, x).sum()
y.backward()
