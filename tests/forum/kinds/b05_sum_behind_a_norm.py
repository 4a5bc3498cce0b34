# %% sum_of_a_layernorm: the loss is the sum of normalised values, which is a constant
# expect linear.weight: !fine
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
linear, norm = nn.Linear(4, 6), nn.LayerNorm(6, elementwise_affine=False)
loss = norm(linear(torch.randn(3, 4))).sum()
loss.backward()

# %% mean_of_a_batchnorm: the mean over a batch of normalised values
# expect linear.weight: !fine
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
linear, norm = nn.Linear(4, 6), nn.BatchNorm1d(6)
loss = norm(linear(torch.randn(16, 4))).mean()
loss.backward()

# %% sum_of_a_softmax: probabilities that are summed over the classes
# expect linear.weight: !fine
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
linear = nn.Linear(4, 6)
loss = linear(torch.randn(3, 4)).softmax(-1).sum()
loss.backward()

# %% square_behind_a_layernorm: weighted, which is well
# expect linear: healthy
import torch
from torch import nn

torch.manual_seed(0)
linear, norm = nn.Linear(4, 6), nn.LayerNorm(6)
target = torch.randn(3, 6)
loss = (norm(linear(torch.randn(3, 4))) - target).pow(2).sum()
loss.backward()

# %% entropy_of_a_softmax: the entropy of probabilities, which is well
# expect linear: healthy
import torch
from torch import nn

torch.manual_seed(0)
linear = nn.Linear(4, 6)
p = linear(torch.randn(3, 4)).softmax(-1)
loss = -(p * p.log()).sum()
loss.backward()
