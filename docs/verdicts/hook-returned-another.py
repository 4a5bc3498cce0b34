"""Why is the gradient not the one that I computed by hand?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0], requires_grad=True)
with gradviz.record() as run:
    w.register_hook(lambda grad: grad.clamp(-1, 1))
    loss = (w * 3).sum()
    loss.backward()

why = gradviz.explain(w, run)
