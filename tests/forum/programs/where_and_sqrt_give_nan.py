"""Why is the gradient NaN, although torch.where leaves out the bad branch?"""

# ask: x
# verdict: NaN

import torch

x = torch.tensor([0.0, 4.0], requires_grad=True)
root = torch.sqrt(x)  # here
y = torch.where(x > 0, root, torch.zeros(2))
loss = y.sum()
loss.backward()
