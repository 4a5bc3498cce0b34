"""A leaf Variable that requires grad is being used in an in-place operation"""

# ask: error
# verdict: leaf changed in place

import torch

w = torch.ones(3, requires_grad=True)
loss = (w**2).sum()
loss.backward()
w -= 0.1 * w.grad  # here
