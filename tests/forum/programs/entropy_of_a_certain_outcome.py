"""NaN gradient from an entropy"""

# ask: p
# verdict: NaN

import torch

p = torch.tensor([0.0, 1.0], requires_grad=True)
logs = torch.log(p)  # here
entropy = -(p * logs).sum()
entropy.backward()
