"""Where does the NaN in my gradient come from?"""

import torch

import gradviz

w = torch.tensor([0.0, 4.0], requires_grad=True)
with gradviz.record() as run:
    square = w * w
    length = torch.sqrt(square)
    loss = length.sum()
    loss.backward()

why = gradviz.explain(w, run)
