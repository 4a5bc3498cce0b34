"""register_hook-modified gradient cannot be applied to optimizer

https://github.com/pytorch/pytorch/issues/2843
"""

# ask: a
# verdict: hook returned another

import torch

a = torch.tensor([2.0], requires_grad=True)
a.register_hook(lambda grad: grad * 10)  # here
y = a * 4
loss = (y - 7).pow(2).mean()
loss.backward()
