# %% frozen_by_a_loop: a loop over parameters, p.requires_grad = False
# expect body.weight: frozen
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Linear(3, 3), nn.Linear(3, 1)
for p in body.parameters():
    p.requires_grad = False  # here
loss = head(body(torch.randn(4, 3))).pow(2).mean()
loss.backward()

# %% frozen_by_name: parameters are frozen by their names
# expect model[0].weight: frozen
# expect model[1].weight: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
for name, p in model.named_parameters():
    if name.startswith("0."):
        p.requires_grad_(False)  # here
loss = model(torch.randn(4, 3)).pow(2).mean()
loss.backward()

# %% frozen_in_a_method: a method of the user freezes
# expect model.body.weight: frozen
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(3, 3), nn.Linear(3, 1)

    def freeze(self):
        self.body.requires_grad_(False)  # here

    def forward(self, x):
        return self.head(self.body(x))


torch.manual_seed(0)
model = Net()
model.freeze()
loss = model(torch.randn(4, 3)).pow(2).mean()
loss.backward()

# %% unfrozen_again: frozen and then unfrozen before the forward pass
# expect body: healthy
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Linear(3, 3), nn.Linear(3, 1)
body.requires_grad_(False)
body.requires_grad_(True)
loss = head(body(torch.randn(4, 3))).pow(2).mean()
loss.backward()

# %% only_the_norms_trained: everything but the norms is frozen
# expect model[0].weight: frozen
# expect model[1].weight: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1))
for module in model.modules():
    if isinstance(module, nn.Linear):
        module.requires_grad_(False)  # here
loss = model(torch.randn(4, 3)).pow(2).mean()
loss.backward()
