"""one of the variables needed for gradient computation has been modified by an inplace operation

https://github.com/pytorch/pytorch/issues/36470
"""

# ask: error
# verdict: changed in place

import torch

x = torch.ones(1, requires_grad=True)
f = torch.zeros(10)
f[0] = 1
for i in range(1, 10):
    f[i] = f[i - 1] * x  # here
    f[i] = 1 / (1.0 + torch.exp(-f[i]))
loss = torch.sum(f)
torch.autograd.grad(loss, [x])
