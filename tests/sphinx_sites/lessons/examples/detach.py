"""A detached twin."""

import torch
from helper import twice

import gradviz

x = torch.tensor([1.0, 2.0], requires_grad=True)
tracked = twice(x).sum()

with gradviz.record() as run:
    detached = twice(x.detach()).sum()

story = gradviz.Story(
    [
        gradviz.Frame("tracked", gradviz.trace(tracked)),
        gradviz.Frame("detached", run.frames[-1].graph),
    ]
)
