"""Why is grad None, when I reshape it under no_grad?"""

# ask: w
# verdict: cut
# says: no_grad

import torch

w = torch.ones(6, requires_grad=True)
h = w * 2
with torch.no_grad():
    rows = h.view(2, 3)  # here
    scale = rows.exp()
v = torch.ones(3, requires_grad=True)
loss = (scale * v).sum()
loss.backward()
