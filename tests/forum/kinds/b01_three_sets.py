# %% layers_in_a_plain_list: layers in a Python list
# thread: https://github.com/pytorch/pytorch/issues/40983
# expect model.hidden[0].weight: !fine
#   says: optimizer
#   line: any
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = [nn.Linear(4, 4) for _ in range(2)]
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        for layer in self.hidden:
            x = layer(x).relu()
        return self.out(x)


torch.manual_seed(0)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()

# %% layers_in_a_module_list: the same, mended
# expect model: healthy
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.out = nn.Linear(4, 1)

    def forward(self, x):
        for layer in self.hidden:
            x = layer(x).tanh()
        return self.out(x)


torch.manual_seed(0)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean()
    loss.backward()
    optimizer.step()

# %% generator_used_up: the parameters are a generator that a count has used up
# expect backbone.weight: !fine
#   says: optimizer
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
backbone, head = nn.Linear(4, 4), nn.Linear(4, 1)
trainable = backbone.parameters()
count = sum(p.numel() for p in trainable)
optimizer = torch.optim.SGD([{"params": trainable}, {"params": head.parameters()}], lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    loss = head(backbone(torch.randn(8, 4)).tanh()).pow(2).mean()
    loss.backward()
    optimizer.step()

# %% head_replaced_after_the_optimizer: fine-tuning with a new head (after microsoft/nni#4521)
# thread: https://github.com/microsoft/nni/issues/4521
# expect model.head.weight: !fine
#   says: optimizer
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Module()
model.body, model.head = nn.Linear(4, 4), nn.Linear(4, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model.head = nn.Linear(4, 2)
for _ in range(2):
    optimizer.zero_grad()
    loss = model.head(model.body(torch.randn(8, 4)).tanh()).pow(2).mean()
    loss.backward()
    optimizer.step()

# %% optimizer_of_a_copy: the optimizer was given the parameters of a deep copy
# expect model.weight: !fine
#   says: optimizer
#   line: any
import copy

import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
clone = copy.deepcopy(model)
optimizer = torch.optim.SGD(clone.parameters(), lr=0.1)
for _ in range(2):
    model.zero_grad()
    loss = model(torch.randn(8, 3)).pow(2).mean()
    loss.backward()
    optimizer.step()

# %% zero_grad_between_backward_and_step: every step has nothing to do
# expect model.weight: !fine
#   says: zero_grad
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    loss = model(torch.randn(8, 3)).pow(2).mean()
    loss.backward()
    optimizer.zero_grad()  # here
    optimizer.step()

# %% two_optimizers: a GAN's two optimizers, each with its own parameters
# expect generator: healthy
# expect critic: healthy | accumulated
import torch
from torch import nn

torch.manual_seed(0)
generator, critic = nn.Linear(2, 3), nn.Linear(3, 1)
first = torch.optim.SGD(generator.parameters(), lr=0.1)
second = torch.optim.SGD(critic.parameters(), lr=0.1)
for _ in range(2):
    second.zero_grad()
    critic(generator(torch.randn(4, 2)).detach()).pow(2).mean().backward()
    second.step()
    first.zero_grad()
    critic(generator(torch.randn(4, 2))).mean().backward()
    first.step()

# %% frozen_body_left_out: a frozen body that is left out of the optimizer on purpose
# expect head: healthy
# expect body: frozen
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Linear(3, 3), nn.Linear(3, 1)
for p in body.parameters():
    p.requires_grad_(False)
optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    head(body(torch.randn(8, 3))).pow(2).mean().backward()
    optimizer.step()

# %% momentum_moves_a_frozen_layer: frozen after the first epoch, the momentum goes on
# expect body.weight: !fine
#   says: momentum
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Linear(3, 3), nn.Linear(3, 1)
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1, momentum=0.9)
for epoch in range(3):
    if epoch == 1:
        body.requires_grad_(False)
    optimizer.zero_grad(set_to_none=False)
    head(body(torch.randn(8, 3)).tanh()).pow(2).mean().backward()
    optimizer.step()
