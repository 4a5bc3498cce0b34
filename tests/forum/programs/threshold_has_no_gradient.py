"""Why does the gradient not flow through my threshold (x > 0.5).float()?"""

# ask: w
# verdict: cut

import torch

w = torch.tensor([0.2, 0.8], requires_grad=True)
scale = torch.tensor([1.0, 2.0], requires_grad=True)
mask = w > 0.5  # here
loss = (mask.float() * scale).sum()
loss.backward()
