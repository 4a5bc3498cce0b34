# %% max_norm_between: an embedding with max_norm renormalises what was saved
# expect error: changed in place
#   says: max_norm
#   fix: clone
import torch
from torch import nn

torch.manual_seed(0)
table, out = nn.Embedding(6, 4, max_norm=0.5), nn.Linear(4, 2)
everyone = table.weight @ out.weight.t()
some = out(table(torch.tensor([1, 2])))  # here
loss = everyone.pow(2).sum() + some.pow(2).sum()
loss.backward()

# %% max_norm_alone: the same embedding used once, which is well
# expect table: healthy
# expect out: healthy
import torch
from torch import nn

torch.manual_seed(0)
table, out = nn.Embedding(6, 4, max_norm=0.5), nn.Linear(4, 2)
loss = out(table(torch.tensor([0, 1, 2, 3, 4, 5]))).pow(2).sum()
loss.backward()

# %% step_between_two_backwards: optimizer.step between two losses of one graph
# expect error: changed in place
#   says: step
import torch
from torch import nn

torch.manual_seed(0)
actor, critic = nn.Linear(3, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=0.1)
value = critic(actor(torch.randn(4, 3)).tanh())
first, second = value.pow(2).mean(), value.exp().mean()
first.backward(retain_graph=True)
optimizer.step()  # here
second.backward()

# %% both_backwards_then_step: the same, mended
# expect actor: healthy
# expect critic: healthy
import torch
from torch import nn

torch.manual_seed(0)
actor, critic = nn.Linear(3, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*actor.parameters(), *critic.parameters()], lr=0.1)
value = critic(actor(torch.randn(4, 3)).tanh())
first, second = value.pow(2).mean(), value.exp().mean()
(first + second).backward()
optimizer.step()

# %% weights_loaded_before_backward: a checkpoint is loaded between forward and backward
# expect error: changed in place
#   says: load_state_dict
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
best = {name: value.clone() for name, value in model.state_dict().items()}
loss = model(torch.randn(5, 3)).pow(2).mean()
model.load_state_dict(best)  # here
loss.backward()
