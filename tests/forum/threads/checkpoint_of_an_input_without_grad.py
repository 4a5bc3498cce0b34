"""checkpoint(function, *args) should has the same requires_grad as function(*args)

https://github.com/pytorch/pytorch/issues/7617
"""

# ask: error
# verdict: nothing to differentiate

import warnings

import torch
from torch.utils.checkpoint import checkpoint

warnings.filterwarnings("ignore", message="None of the inputs")
m = torch.nn.Linear(4, 3)
x = torch.randn(10, 4)
z = checkpoint(lambda given: m(given), x, use_reentrant=True)  # here
z.sum().backward()
