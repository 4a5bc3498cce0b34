"""Why does DistributedDataParallel say "Expected to mark a variable ready only once"?"""

import torch
import torch.distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

import gradviz

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
layer = nn.Linear(2, 2)
net = nn.ModuleList([layer])
once = lambda x: checkpoint(layer, x, use_reentrant=True)
net.forward = lambda x: once(once(x))
model = nn.parallel.DistributedDataParallel(net, find_unused_parameters=True)
try:
    model(torch.ones(1, 2, requires_grad=True)).sum().backward()
except RuntimeError as error:
    why = gradviz.explain(error)
dist.destroy_process_group()
