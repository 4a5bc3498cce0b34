# %% softmax_over_one_logit: softmax with one output
# expect model[0].weight: zero
#   says: softmax
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 1), nn.Softmax(dim=1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = nn.functional.mse_loss(model(torch.randn(6, 3)), torch.rand(6, 1))
loss.backward()
optimizer.step()

# %% sigmoid_over_one_logit: the same, mended
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 1), nn.Sigmoid())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = nn.functional.mse_loss(model(torch.randn(6, 3)), torch.rand(6, 1))
loss.backward()
optimizer.step()

# %% every_label_ignored: a batch of padding (after bermanmaxim/LovaszSoftmax#14)
# thread: https://github.com/bermanmaxim/LovaszSoftmax/pull/14
# expect model.weight: NaN | zero
#   says: ignore
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 5)
labels = torch.full((4,), -100)
loss = nn.functional.cross_entropy(model(torch.randn(4, 3)), labels)  # here
loss.backward()

# %% hinge_that_is_met: the margin is met by every pair
# expect model.weight: zero
#   says: relu
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 2)
near, far = model(torch.ones(4, 3)), model(torch.ones(4, 3)) + 100
distance = (near - far).pow(2).sum(1)
loss = (1.0 - distance).relu().mean()  # here
loss.backward()

# %% saturated_sigmoid: inputs of 10,000 before a sigmoid
# expect model.weight: zero
#   says: sigmoid
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(2, 1)
x = torch.full((4, 2), 1e4)
p = torch.sigmoid(model(x))  # here
loss = (p - 0.5).pow(2).mean()
loss.backward()

# %% log_of_a_zero_probability: the logarithm of a probability that underflowed
# expect model.weight: NaN | infinite
#   says: log
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(2, 3)
p = (model(torch.full((4, 2), 1e3)) * 1.0).softmax(-1)
loss = -p.log().mean()  # here
loss.backward()

# %% log_softmax_instead: the same, mended
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(2, 3)
loss = -model(torch.full((4, 2), 1.0)).log_softmax(-1).mean()
loss.backward()

# %% svd_of_equal_values: singular vectors of a matrix with equal singular values
# expect w: NaN | infinite
#   says: svd
import torch

w = torch.ones(3, requires_grad=True)
u, s, v = torch.linalg.svd(torch.diag(w))  # here
loss = u[:, 0].sum() + v[0].sum()
loss.backward()

# %% float16_overflow: a product that leaves the range of float16
# expect model.weight: NaN | infinite
#   says: float16
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(4, 2)
out = model(torch.full((3, 4), 100.0)).half() * 6e4
loss = out.float().pow(2).mean()
loss.backward()

# %% zero_by_round_in_the_middle: round between two layers
# expect first.weight: zero
#   says: round
import torch
from torch import nn

torch.manual_seed(0)
first, second = nn.Linear(3, 3), nn.Linear(3, 1)
hidden = first(torch.randn(5, 3)).round()  # here
loss = second(hidden).pow(2).mean()
loss.backward()

# %% norm_of_zero_vectors: the norm of a difference that is 0
# expect model.weight: zero | NaN
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 2, bias=False)
loss = model(torch.zeros(4, 3)).norm(dim=1).sum()
loss.backward()

# %% some_relus_dead: half of the units are dead, which is well
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 1))
loss = model(torch.randn(32, 3)).pow(2).mean()
loss.backward()
