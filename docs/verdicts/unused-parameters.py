"""What does "Expected to have finished reduction in the prior iteration" mean?"""

import torch
import torch.distributed as dist
from torch import nn

import gradviz

dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
net = nn.ModuleDict({"used": nn.Linear(2, 1), "spare": nn.Linear(2, 1)})
net.forward = lambda x: net["used"](x).sum()
parallel = nn.parallel.DistributedDataParallel(net)
try:
    for _ in range(2):
        loss = parallel(torch.ones(1, 2))
        loss.backward()
except RuntimeError as error:
    why = gradviz.explain(error, loss, net)
dist.destroy_process_group()
