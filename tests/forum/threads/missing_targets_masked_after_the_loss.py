"""NaNs propagating to grad even when masked out

https://github.com/pytorch/pytorch/issues/64305
"""

# ask: model.weight
# verdict: NaN

import torch

model = torch.nn.Linear(1, 2, bias=False)
target = torch.tensor([[float("nan"), 0.0]])
known = ~torch.isnan(target)
prediction = model(torch.tensor([[0.0]]))
difference = prediction - target  # here
loss = difference.square()[known].sum()
loss.backward()
