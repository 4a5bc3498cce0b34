"""What does "Trying to backward through the graph a second time" mean?"""

import torch

import gradviz

w, hidden = torch.tensor([0.5, 1.0], requires_grad=True), torch.zeros(2)
try:
    with gradviz.record() as run:
        for _ in range(2):
            hidden = torch.tanh(w * hidden + 1)
            loss = (hidden**2).sum()
            loss.backward()
except RuntimeError as error:
    why = gradviz.explain(error, run)
