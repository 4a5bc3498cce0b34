# %% weight_made_before_the_loop: a weight is computed from a parameter once (after karpathy/nn-zero-to-hero#31)
# thread: https://github.com/karpathy/nn-zero-to-hero/issues/31
# expect error: backward a second time
#   fix: inside
#   never: .detach()
import torch

torch.manual_seed(0)
raw = torch.randn(3, requires_grad=True)
scale = raw.exp()  # here
for _ in range(2):
    loss = (scale * torch.randn(3)).pow(2).sum()
    loss.backward()

# %% weight_made_inside: the same, mended
# expect raw: accumulated | fine
import torch

torch.manual_seed(0)
raw = torch.randn(3, requires_grad=True)
for _ in range(2):
    raw.grad = None
    scale = raw.exp()
    loss = (scale * torch.randn(3)).pow(2).sum()
    loss.backward()

# %% penalty_before_the_epochs: a weight penalty is added up before the epochs
# expect error: backward a second time
#   fix: inside
#   never: .detach()
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
penalty = sum(p.pow(2).sum() for p in model.parameters())  # here
for _ in range(3):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).pow(2).mean() + 0.1 * penalty
    loss.backward()
    optimizer.step()

# %% forward_before_the_loop: predictions are made once, only the loss is in the loop
# thread: https://github.com/karpathy/nn-zero-to-hero/issues/31
# expect error: backward a second time
#   fix: inside
#   never: .detach()
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = torch.optim.Adam(model.parameters())
x, y = torch.randn(8, 2), torch.randn(8, 1)
prediction = model(x)  # here
for _ in range(3):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(prediction, y)
    loss.backward()
    optimizer.step()

# %% two_losses_share_a_trunk: two losses, backward called on each
# expect error: backward a second time
#   fix: retain_graph
import torch
from torch import nn

torch.manual_seed(0)
trunk, left, right = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
hidden = trunk(torch.randn(5, 3)).tanh()
first = left(hidden).pow(2).mean()
second = right(hidden).pow(2).mean()
first.backward()  # here
second.backward()

# %% two_losses_added: the same, mended
# expect trunk: healthy
# expect left: healthy
# expect right: healthy
import torch
from torch import nn

torch.manual_seed(0)
trunk, left, right = nn.Linear(3, 4), nn.Linear(4, 1), nn.Linear(4, 1)
hidden = trunk(torch.randn(5, 3)).tanh()
first = left(hidden).pow(2).mean()
second = right(hidden).pow(2).mean()
(first + second).backward()

# %% adjacency_from_a_parameter: the adjacency matrix of a graph network is made in __init__
# expect error: backward a second time
#   never: .detach()
import torch
from torch import nn


class Graph(nn.Module):
    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(3, 3))
        self.adjacency = self.logits.softmax(-1)  # here
        self.linear = nn.Linear(2, 1)

    def forward(self, x):
        return self.linear(self.adjacency @ x)


torch.manual_seed(0)
model = Graph()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    loss = model(torch.randn(3, 2)).pow(2).mean()
    loss.backward()
    optimizer.step()
