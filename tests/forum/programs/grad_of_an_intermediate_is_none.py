"""Why can I not read the gradient of an intermediate variable?"""

# ask: y
# verdict: not a leaf

import torch

x = torch.tensor([1.0, 2.0], requires_grad=True)
y = x * x  # here
z = y.mean()
z.backward()
