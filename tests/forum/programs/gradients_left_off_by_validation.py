"""Element 0 of tensors does not require grad, but only in the second epoch"""

# ask: error
# verdict: nothing to differentiate
# says: set_grad_enabled(False)

import torch
from torch import nn

model = nn.Linear(3, 1)


def validate():
    torch.set_grad_enabled(False)  # here
    return model(torch.ones(4, 3)).mean().item()


for _ in range(2):
    loss = model(torch.ones(8, 3)).square().mean()
    loss.backward()
    validate()
