"""Can't call numpy() on Tensor that requires grad"""

# ask: error
# verdict: numpy

import torch

w = torch.ones(3, requires_grad=True)
print(w.numpy())  # here
