"""Why do the weights of the ranks differ, although I use DistributedDataParallel?"""

import torch
import torch.distributed as dist
from torch import nn
from torch.testing._internal.distributed.fake_pg import FakeStore

import gradviz

dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
model = nn.parallel.DistributedDataParallel(nn.Linear(2, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
with gradviz.record(model) as run:
    loss = model.module(torch.ones(1, 2)).sum()
    loss.backward()
    optimizer.step()
dist.destroy_process_group()
why = gradviz.explain(run)
