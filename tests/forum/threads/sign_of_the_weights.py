"""How could you calculate the derivative respect to binary weights(-1, +1)?

https://github.com/MatthieuCourbariaux/BinaryConnect/issues/7
"""

# ask: weight
# verdict: zero

import torch

weight = torch.tensor([0.3, -0.2], requires_grad=True)
binary = torch.sign(weight)  # here
loss = (binary * torch.tensor([1.0, 2.0])).sum()
loss.backward()
