# %% mask_of_zeros: a padding mask that is all zeros, then a square
# expect linear.weight: zero
#   says: mask
#   never: start at a value other than zero
import torch
from torch import nn

torch.manual_seed(0)
linear = nn.Linear(3, 2)
lengths = torch.zeros(4)
mask = (torch.arange(5)[None] < lengths[:, None]).float()[..., None]
error = linear(torch.randn(4, 5, 3)) * mask  # here
loss = error.pow(2).sum()
loss.backward()

# %% mask_of_some: the same with one token, which is well
# expect linear: healthy
import torch
from torch import nn

torch.manual_seed(0)
linear = nn.Linear(3, 2)
lengths = torch.tensor([0.0, 2.0, 1.0, 0.0])
mask = (torch.arange(5)[None] < lengths[:, None]).float()[..., None]
error = linear(torch.randn(4, 5, 3)) * mask
loss = error.pow(2).sum()
loss.backward()

# %% loss_weight_of_zero: the weight of a loss is annealed from 0
# expect kl.weight: zero
#   says: 0
import torch
from torch import nn

torch.manual_seed(0)
body, kl = nn.Linear(3, 2), nn.Linear(3, 2)
x = torch.randn(4, 3)
beta = 0.0
loss = body(x).pow(2).mean() + beta * kl(x).pow(2).mean()  # here
loss.backward()

# %% class_weights_of_zero: the class that occurs has weight 0
# expect model.weight: zero | NaN
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 2)
criterion = nn.CrossEntropyLoss(weight=torch.tensor([0.0, 1.0]), reduction="sum")
loss = criterion(model(torch.randn(4, 3)), torch.zeros(4, dtype=torch.long))  # here
loss.backward()

# %% masked_fill_everywhere: every score is filled before the softmax
# expect query.weight: zero
#   says: masked_fill
import torch
from torch import nn

torch.manual_seed(0)
query = nn.Linear(3, 4, bias=False)
keys = torch.randn(5, 4)
scores = query(torch.randn(2, 3)) @ keys.t()
filled = scores.masked_fill(torch.ones(2, 5, dtype=torch.bool), -1e4)  # here
loss = (filled.softmax(-1) @ keys).pow(2).sum()
loss.backward()

# %% error_of_zero: the target is the prediction itself
# expect model.weight: zero
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 2)
x = torch.randn(4, 3)
target = model(x).detach()
loss = nn.functional.mse_loss(model(x), target)  # here
loss.backward()
