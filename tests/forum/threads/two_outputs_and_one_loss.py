"""RuntimeError: Expected to have finished reduction in the prior iteration before starting a new …

https://github.com/pytorch/pytorch/issues/43259
"""

# ask: error
# verdict: unused parameters
# says: second.weight

import torch
import torch.distributed as dist
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.first(x), self.second(x)


dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
try:
    model = nn.parallel.DistributedDataParallel(Net())
    for _ in range(2):
        one, other = model(torch.ones(1, 2))  # here
        loss = one.sum()
        loss.backward()
finally:
    dist.destroy_process_group()
