"""Why does my moving average never differ from the model?"""

import torch

import gradviz

with gradviz.record() as run:
    model = torch.nn.Linear(2, 1)
    average = model
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).square().sum().backward()
        optimizer.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 0.01)

why = gradviz.explain(run).of("average")
