"""What does "hook has changed the size of value" mean?"""

import torch

import gradviz

w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
try:
    with gradviz.record() as run:
        h = w * 2
        h.register_hook(lambda grad: grad[:2])
        h.sum().backward()
except RuntimeError as error:
    why = gradviz.explain(error, run)
