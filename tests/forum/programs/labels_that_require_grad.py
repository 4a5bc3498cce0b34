"""Only Tensors of floating point dtype can require gradients"""

# ask: error
# verdict: not floating point

import torch

x = torch.tensor([1, 2, 3], requires_grad=True)  # here
