"""Where does the infinite gradient come from?"""

import torch

import gradviz

w = torch.tensor([0.0, 4.0], requires_grad=True)
with gradviz.record() as run:
    root = torch.sqrt(w)
    loss = root.sum()
    loss.backward()

why = gradviz.explain(w, run)
