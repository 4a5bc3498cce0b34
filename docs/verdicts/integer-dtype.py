"""Why do integers have no gradient?"""

import torch

import gradviz

labels = torch.arange(3)
weight = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
loss = (labels * weight).sum()
loss.backward()

why = gradviz.explain(labels, loss)
