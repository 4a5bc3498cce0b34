"""Did this loss give my parameter its gradient?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
other = (w * 2).sum()
loss = (w.detach() * 2).sum()
other.backward()

why = gradviz.explain(w, loss)
