"""What does "can't optimize a non-leaf Tensor" mean?"""

import torch

import gradviz

images = torch.tensor([1.0, 2.0, 3.0], requires_grad=True) * 0.01
try:
    torch.optim.SGD([images], lr=0.1)
except ValueError as error:
    why = gradviz.explain(error, images)
