"""Warning on infinite acos gradients?

https://github.com/pytorch/pytorch/issues/4605
"""

# ask: angle
# verdict: NaN

import torch

angle = torch.zeros(1, requires_grad=True)
cosine = torch.cos(angle)
back = torch.acos(cosine)  # here
back.sum().backward()
