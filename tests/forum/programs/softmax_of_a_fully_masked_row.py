"""My attention gives NaN gradients"""

# ask: values
# verdict: NaN

import torch

scores = torch.ones(2, 3, requires_grad=True)
values = torch.ones(3, 4, requires_grad=True)
mask = torch.tensor([[False, False, True], [True, True, True]])
masked = scores.masked_fill(mask, float("-inf"))
weights = masked.softmax(dim=-1)  # here
loss = (weights @ values).sum()
loss.backward()
