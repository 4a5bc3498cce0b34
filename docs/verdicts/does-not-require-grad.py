"""Why is the gradient of my input image None?"""

import torch

import gradviz

image = torch.tensor([0.1, 0.9, 0.4])
weight = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
with gradviz.record() as run:
    score = (image * weight).sum()
    score.backward()

why = gradviz.explain(image, run)
