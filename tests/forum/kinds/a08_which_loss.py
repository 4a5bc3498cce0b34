# %% two_losses_one_cut: a parameter is cut off from one of two losses, and fine by the other
# expect model.weight: healthy
import torch
from torch import nn

torch.manual_seed(0)
model, head = nn.Linear(2, 2), nn.Linear(2, 1)
hidden = model(torch.randn(3, 2))
probe = head(hidden.detach()).pow(2).mean()
probe.backward()
loss = hidden.pow(2).mean()
loss.backward()

# %% the_detached_first_layer: the first layer is cut off, asked with its name
# expect model[0].weight: cut
#   says: detach
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
loss = model[1](model[0](torch.ones(1, 2)).detach()).sum()  # here
loss.backward()

# %% metric_after_the_loss: a metric is computed under no_grad after backward
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(2, 1)
x, y = torch.randn(6, 2), torch.randn(6, 1)
loss = (model(x) - y).pow(2).mean()
loss.backward()
with torch.no_grad():
    error = (model(x) - y).abs().mean()

# %% logged_as_numbers: the loss is logged as a number, which blames nothing
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(2, 1)
history = []
for _ in range(2):
    model.zero_grad()
    loss = model(torch.randn(6, 2)).pow(2).mean()
    history.append(loss.item())
    loss.backward()

# %% auxiliary_loss_forgotten: the auxiliary loss is computed and not added
# expect aux.weight: !fine
#   never: zero_grad
#   line: any
# expect main: healthy
import torch
from torch import nn

torch.manual_seed(0)
main, aux = nn.Linear(3, 2), nn.Linear(3, 1)
x = torch.randn(4, 3)
loss = main(x).pow(2).mean()
auxiliary = aux(x).pow(2).mean()
loss.backward()
