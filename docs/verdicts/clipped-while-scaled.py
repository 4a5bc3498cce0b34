"""Why is my gradient so small with a GradScaler?"""

import torch

import gradviz

model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
with gradviz.record() as run:
    scaler.scale(model(torch.ones(1, 2)).sum()).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()

why = gradviz.explain(model.weight, run)
