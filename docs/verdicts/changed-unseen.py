"""Why does the gradient of my loss over all ranks miss the part of the other ranks?"""

import torch
import torch.distributed as dist
from torch import nn

import gradviz

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
net = nn.Linear(2, 2)
with gradviz.record(net) as run:
    mean = net(torch.ones(4, 2)).mean(0)
    dist.all_reduce(mean)
    loss = mean.square().sum()
    loss.backward()
why = gradviz.explain(net.weight, run)
dist.destroy_process_group()
