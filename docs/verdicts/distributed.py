"""Why does DistributedDataParallel say "Expected to mark a variable ready only once"?"""

import torch
import torch.distributed as dist
from torch.utils.checkpoint import checkpoint

import gradviz


class Net(torch.nn.Linear):
    def forward(self, x):
        for _ in range(2):
            x = checkpoint(super().forward, x, use_reentrant=True)
        return x


dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
model = torch.nn.parallel.DistributedDataParallel(Net(2, 2), find_unused_parameters=True)
try:
    model(torch.ones(1, 2, requires_grad=True)).sum().backward()
except RuntimeError as error:
    why = gradviz.explain(error)
dist.destroy_process_group()
