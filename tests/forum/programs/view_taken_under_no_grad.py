"""Why is grad None, when I only reshape under no_grad?"""

# ask: w
# verdict: cut
# says: no_grad

import torch

w = torch.ones(6, requires_grad=True)
h = w * 2
with torch.no_grad():
    rows = h.view(2, 3)  # here
v = torch.ones(3, requires_grad=True)
loss = (rows * v).sum()
loss.backward()
