# %% gan_with_switched_grads: the critic is frozen and unfrozen in each step
# expect generator: healthy
# expect critic.weight: fine | accumulated | cleared | frozen
#   line: any
#   never: cleared
import torch
from torch import nn

torch.manual_seed(0)
generator, critic = nn.Linear(2, 2), nn.Linear(2, 1)
first = torch.optim.SGD(generator.parameters(), lr=0.1)
second = torch.optim.SGD(critic.parameters(), lr=0.1)
for _ in range(2):
    z = torch.randn(4, 2)
    critic.requires_grad_(True)
    second.zero_grad()
    (critic(torch.randn(4, 2)) - critic(generator(z).detach())).pow(2).mean().backward()
    second.step()
    critic.requires_grad_(False)
    first.zero_grad()
    critic(generator(z)).mean().backward()
    first.step()
critic.requires_grad_(True)

# %% number_of_two_tensors: a number made of two tensors is a factor of the loss
# expect b: cut | !fine
#   says: item
#   never: not used
import torch

a = torch.ones(3, requires_grad=True)
b = torch.ones(3, requires_grad=True)
h = a * 2
k = (b * h).sum().item()  # here
loss = (k * h).sum()
loss.backward()

# %% loss_after_the_last_pass: a loss made after the last backward pass
# expect v: cut
#   says: detach
import torch

w = torch.ones(3, requires_grad=True)
v = torch.ones(3, requires_grad=True)
first = (w * 2).sum()
first.backward()
loss = (v.detach() * w).sum()  # here

# %% function_of_detached_data: a custom Function of detached data
# expect x: cut
#   says: detach
#   never: not used
import torch


class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return gradient


w = torch.ones(3, requires_grad=True)
x = torch.ones(3, requires_grad=True)
kept = x.detach()  # here
loss = (w * Square.apply(kept)).sum()
loss.backward()

# %% buffer_overwritten: a detached buffer is overwritten by another tensor
# expect a: not connected
#   line: any
#   never: detach
import torch

a = torch.ones(3, requires_grad=True)
b = torch.ones(3, requires_grad=True)
w = torch.ones(3, requires_grad=True)
buffer = a.detach() * 2
buffer.copy_(b.detach())
loss = (w * buffer).sum()
loss.backward()

# %% scatter_add_not_run: no pass has run yet
# expect x: backward not run
#   line: any
#   never: freed
import torch

x = torch.rand(3, requires_grad=True)
loss = x.scatter_add(0, torch.tensor([0, 1, 2]), torch.ones(3)).sum()

# %% function_that_saves_nothing: a Function that saves nothing, backward twice
# expect x: accumulated | fine
#   line: any
#   never: freed
import torch


class Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


x = torch.rand(3, requires_grad=True)
loss = Scale.apply(x).sum()
loss.backward()
loss.backward()

# %% root_twice: the same root is given twice to backward
# expect x: healthy
import torch

x = torch.ones(3, requires_grad=True)
y = x * 2
torch.autograd.backward([y, y], [torch.ones(3), torch.ones(3)])

# %% set_of_a_result: set_ on a tracked tensor
# expect x: !error
#   line: any
import torch

x = torch.ones(3, requires_grad=True)
y, z = x * 2, x * 3
y.set_(z)
x.sum().backward()
