"""Is this gradient as it should be?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
loss = (w**2).sum()
loss.backward()

why = gradviz.explain(w, loss)
