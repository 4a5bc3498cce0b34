"""
A loss
======
"""

import torch

import gradviz

x = torch.ones(3, requires_grad=True)
loss = (x * 2).sum()
gradviz.draw(loss)

# %%
# The answer to a question:
loss.backward()
gradviz.explain(x, loss)

# %%
# A recording:
with gradviz.record() as run:
    y = (x.detach() * x).sum()
run  # noqa: B018
