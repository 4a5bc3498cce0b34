"""Why does a layer with a gradient not learn?"""

import torch

import gradviz

body, head = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
with gradviz.record() as run:
    loss = head(body(torch.ones(1, 2))).sum()
    loss.backward()
    optimizer.step()

why = gradviz.explain(body.weight, run)
