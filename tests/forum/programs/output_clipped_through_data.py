"""Why do I get no gradient after I clamp the output through .data?"""

# ask: w
# verdict: cut

import torch

w = torch.tensor([0.5, 2.0], requires_grad=True)
bias = torch.zeros(2, requires_grad=True)
clipped = w.data.clamp(max=1.0)  # here
loss = (clipped + bias).sum()
loss.backward()
