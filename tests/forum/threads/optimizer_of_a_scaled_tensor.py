"""ValueError: can't optimize a non-leaf Tensor

https://github.com/pytorch/pytorch/issues/140469
"""

# ask: error
# verdict: leaf required

import torch

images = torch.randn(4, 3, requires_grad=True) * 0.01  # here
optimizer = torch.optim.SGD([images], lr=0.1)
