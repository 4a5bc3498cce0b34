"""torch.std NaN gradient

https://github.com/pytorch/pytorch/issues/4320
"""

# ask: x
# verdict: NaN

import torch

x = torch.randn(1, 10, 10, requires_grad=True)
spread = torch.std(x, dim=0)  # here
spread.mean().backward()
