"""NaN gradients not properly masked

https://github.com/pytorch/pytorch/issues/17455
"""

# ask: x
# verdict: NaN

import torch

x = torch.tensor([0.0, 100.0], requires_grad=True)
grown = torch.exp(x)  # here
f = torch.log(grown + 1)
f[1] = 0
f.sum().backward()
