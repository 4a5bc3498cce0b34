# %% grad_of_an_unused_parameter: torch.autograd.grad of all parameters, one layer is not used
# expect error: input not used
#   says: never.weight
#   never: left
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.never = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x):
        return self.used(x)


torch.manual_seed(0)
model = Net()
left = model(torch.randn(3, 2)).sum()
right = torch.randn(3)
slopes = torch.autograd.grad(model(torch.randn(3, 2)).sum(), list(model.parameters()))  # here

# %% grad_with_allow_unused: the same, mended
# expect model.used.weight: !error
#   line: any
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.never = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x):
        return self.used(x)


torch.manual_seed(0)
model = Net()
slopes = torch.autograd.grad(
    model(torch.randn(3, 2)).sum(), list(model.parameters()), allow_unused=True
)
model(torch.randn(3, 2)).sum().backward()

# %% zero_init_residual: the last norm of a residual block starts at 0 (as torchvision does)
# expect model.first.weight: zero
#   says: norm
#   line: any
# expect model.skip: healthy
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.skip, self.first = nn.Linear(4, 4), nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x):
        return self.skip(x) + self.norm(self.first(x))


torch.manual_seed(0)
model = Block()
loss = model(torch.randn(6, 4)).pow(2).mean()
loss.backward()

# %% assertion_on_a_shape_of_values: an assertion takes a number, and is not to blame
# expect model.unused.weight: not connected | !fine
#   never: assert
#   line: any
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x):
        out = self.used(x)
        assert out.abs().max().item() < 1e6
        return out


torch.manual_seed(0)
model = Net()
model(torch.randn(3, 2)).pow(2).mean().backward()

# %% called_and_thrown_away: a layer that is called, and its result is not used
# expect model.extra.weight: !fine
#   never: not called
#   line: any
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.main, self.extra = nn.Linear(2, 1), nn.Linear(2, 1)

    def forward(self, x):
        hidden = self.extra(x)
        return self.main(x)


torch.manual_seed(0)
model = Net()
model(torch.randn(3, 2)).pow(2).mean().backward()

# %% own_attribute_called_module: a wrapper of the user's own with an attribute called module
# expect model: healthy
import torch
from torch import nn


class Wrapper(nn.Module):
    def __init__(self):
        super().__init__()
        self.module = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))

    def forward(self, x):
        return self.module(x)


torch.manual_seed(0)
model = Wrapper()
model(torch.randn(3, 2)).pow(2).mean().backward()

# %% names_with_spaces: parameters in a dictionary, with names of two words, emoji and quotes
# expect weights["first layer"]: healthy
# expect weights["größe 🎉"]: healthy
# expect weights["it's \"quoted\""]: !fine
#   line: any
import torch

torch.manual_seed(0)
weights = torch.nn.ParameterDict()
weights = {
    "first layer": torch.randn(3, requires_grad=True),
    "größe 🎉": torch.randn(3, requires_grad=True),
    'it\'s "quoted"': torch.randn(3, requires_grad=True),
}
optimizer = torch.optim.SGD(weights.values(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    loss = (weights["first layer"] * weights["größe 🎉"]).pow(2).sum()
    loss.backward()
    optimizer.step()
