"""Why is `.grad` None before I call `backward()`?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
loss = (w**2).sum()

why = gradviz.explain(w, loss)
