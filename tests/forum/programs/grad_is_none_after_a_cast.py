"""Why is .grad None after I moved my tensor to another device or dtype?"""

# ask: w
# verdict: not a leaf

import torch

x = torch.ones(3, dtype=torch.float64)
w = torch.randn(3, requires_grad=True).to(torch.float64)  # here
loss = (w * x).sum()
loss.backward()
