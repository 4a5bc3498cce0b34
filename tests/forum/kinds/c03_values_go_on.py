# %% hypernetwork_data_copy: weights from a hypernetwork are copied into .data
# expect hyper.weight: cut
#   says: data
import torch
from torch import nn

torch.manual_seed(0)
hyper, net = nn.Linear(2, 6, bias=False), nn.Linear(3, 2, bias=False)
made = hyper(torch.ones(2)).view(2, 3)
net.weight.data.copy_(made)  # here
loss = net(torch.randn(4, 3)).pow(2).mean()
loss.backward()

# %% hypernetwork_functional_call: the same, mended
# expect hyper: healthy
import torch
from torch import nn

torch.manual_seed(0)
hyper, net = nn.Linear(2, 6, bias=False), nn.Linear(3, 2, bias=False)
made = hyper(torch.ones(2)).view(2, 3)
out = torch.func.functional_call(net, {"weight": made}, torch.randn(4, 3))
loss = out.pow(2).mean()
loss.backward()

# %% fast_weights_loaded: MAML loads its fast weights with load_state_dict (after dragen1860/MAML-Pytorch#47)
# thread: https://github.com/dragen1860/MAML-Pytorch/issues/47
# expect meta.weight: !fine
#   says: load_state_dict
import torch
from torch import nn

torch.manual_seed(0)
meta, learner = nn.Linear(3, 1, bias=False), nn.Linear(3, 1, bias=False)
x, y = torch.randn(5, 3), torch.randn(5, 1)
inner = (meta(x) - y).pow(2).mean()
(slope,) = torch.autograd.grad(inner, meta.weight, create_graph=True)
learner.load_state_dict({"weight": meta.weight - 0.1 * slope})  # here
loss = (learner(x) - y).pow(2).mean()
loss.backward()

# %% result_made_a_parameter: nn.Parameter of a result
# expect scale: cut
#   says: Parameter
import torch
from torch import nn

torch.manual_seed(0)
scale = torch.ones(3, requires_grad=True)
layer = nn.Linear(3, 1)
layer.weight = nn.Parameter(scale * layer.weight.detach())  # here
loss = layer(torch.randn(4, 3)).pow(2).mean()
loss.backward()

# %% target_network_copied: a target network is copied on purpose, the online network is well
# expect online: healthy
import torch
from torch import nn

torch.manual_seed(0)
online, target = nn.Linear(3, 2), nn.Linear(3, 2)
target.load_state_dict(online.state_dict())
x = torch.randn(4, 3)
loss = (online(x) - target(x).detach()).pow(2).mean() + online(x).pow(2).mean()
loss.backward()

# %% average_of_weights: an exponential average under no_grad, the model is well
# expect model: healthy
import copy

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
average = copy.deepcopy(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    model(torch.randn(4, 3)).pow(2).mean().backward()
    optimizer.step()
    with torch.no_grad():
        for kept, new in zip(average.parameters(), model.parameters()):
            kept.mul_(0.9).add_(new, alpha=0.1)
