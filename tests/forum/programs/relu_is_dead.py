"""Why are all my gradients zero?"""

# ask: w
# verdict: zero

import torch

w = torch.tensor([1.0, 2.0], requires_grad=True)
h = torch.relu(w - 5)  # here
loss = h.sum()
loss.backward()
