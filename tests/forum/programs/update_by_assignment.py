"""Why is the gradient None in the second iteration of my own gradient descent?"""

# ask: w
# verdict: not a leaf

import torch

w = torch.ones(3, requires_grad=True)
loss = (w**2).sum()
loss.backward()
w = w - 0.1 * w.grad  # here
loss = (w**2).sum()
loss.backward()
