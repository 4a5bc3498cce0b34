"""Why is `.grad` None, without a recording?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
loss = (w**2).sum()
loss.backward()
w.grad = None

why = gradviz.explain(w, loss)
