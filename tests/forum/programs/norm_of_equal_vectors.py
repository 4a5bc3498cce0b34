"""The gradient of a distance is zero at the start"""

# ask: a
# verdict: zero

import torch

a, b = torch.ones(3, requires_grad=True), torch.ones(3)
distance = (a - b).norm()  # here
distance.backward()
