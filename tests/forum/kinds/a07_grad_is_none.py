# %% sign_of_a_result: FGSM of a normalised image (after anishmadan23/adversarial-attacks-pytorch#1)
# thread: https://github.com/anishmadan23/adversarial-attacks-pytorch/issues/1
# expect error: !fine
#   says: non-leaf
#   fix: retain_grad
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 2)
raw = torch.rand(1, 4, requires_grad=True)
image = (raw - 0.5) / 0.5
loss = model(image).sum()
loss.backward()
attack = image + 0.1 * image.grad.sign()  # here

# %% sign_of_a_leaf: the same, mended
# expect image: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 2)
image = ((torch.rand(1, 4) - 0.5) / 0.5).requires_grad_()
loss = model(image).sum()
loss.backward()
attack = image + 0.1 * image.grad.sign()

# %% loop_over_an_unused_layer: gradients are averaged in a loop (after learnables/learn2learn#428)
# thread: https://github.com/learnables/learn2learn/issues/428
# expect error: !fine
#   says: unused.weight
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(3, 1), nn.Linear(3, 1)

    def forward(self, x):
        return self.used(x)


torch.manual_seed(0)
model = Net()
model(torch.randn(4, 3)).sum().backward()
for name, parameter in model.named_parameters():
    parameter.grad.data.mul_(0.25)  # here

# %% frozen_in_a_loop: norms of all gradients, one layer is frozen
# expect error: !fine
#   says: frozen
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
model[0].weight.requires_grad = False
model(torch.randn(4, 3)).sum().backward()
norms = [p.grad.norm() for p in model.parameters()]  # here

# %% before_backward: norms are logged before backward (after yunjey/pytorch-tutorial#133)
# thread: https://github.com/yunjey/pytorch-tutorial/issues/133
# expect error: !fine
#   says: backward
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
loss = model(torch.randn(4, 3)).sum()
norm = model.weight.grad.norm()  # here

# %% cleared_before_logging: zero_grad stands before the log
# expect error: !fine
#   says: zero_grad
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = model(torch.randn(4, 3)).sum()
loss.backward()
optimizer.step()
optimizer.zero_grad()  # here
norm = model.weight.grad.norm()

# %% new_tensor_each_step: PGD where the image is replaced by a result (after BorealisAI/advertorch#49)
# thread: https://github.com/BorealisAI/advertorch/issues/49
# expect error: !fine
#   says: non-leaf
import torch

image = torch.ones(3, requires_grad=True)
for _ in range(2):
    loss = (image**2).sum()
    loss.backward()
    image = image + 0.1 * image.grad.sign()  # here

# %% norms_where_there_is_one: None is asked for first
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
model(torch.randn(4, 3)).sum().backward()
norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
