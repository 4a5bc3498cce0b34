"""Why is my gradient NaN, at each iteration?"""

# ask: w
# verdict: NaN
# says: log

import torch

w = torch.ones(3, requires_grad=True)
for _ in range(3):
    w.grad = None
    scores = (w * 0).log()  # here
    loss = (scores * 2).sum()
    loss.backward()
