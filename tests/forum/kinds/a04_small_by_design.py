# %% bias_before_batchnorm: a convolution with a bias before BatchNorm
# expect model: healthy | zero
#   never: vanishing
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 3)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(torch.randn(8, 1, 8, 8)), torch.randint(0, 3, (8,)))
    loss.backward()
    optimizer.step()

# %% bias_before_layernorm: a scalar shift before LayerNorm
# expect model: healthy | zero
#   never: vanishing
import torch
from torch import nn


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(5, 6)
        self.shift = nn.Parameter(torch.zeros(()))
        self.norm = nn.LayerNorm(6)
        self.out = nn.Linear(6, 2)

    def forward(self, x):
        return self.out(self.norm(self.embed(x) + self.shift))


torch.manual_seed(0)
model = Shifted()
loss = model(torch.randn(7, 5)).pow(2).mean()
loss.backward()

# %% key_bias_of_attention: MultiheadAttention, where the bias of the keys has no effect
# expect model: healthy
#   never: vanishing
import torch
from torch import nn

torch.manual_seed(0)
model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
loss = (model(torch.randn(4, 6, 8)) - torch.randn(4, 6, 8)).pow(2).mean()
loss.backward()

# %% logits_before_softmax_loss: a constant added to all logits
# expect model: healthy | zero
#   never: vanishing
import torch
from torch import nn


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.linear(x) + self.offset


torch.manual_seed(0)
model = Classifier()
loss = nn.functional.cross_entropy(model(torch.randn(9, 4)), torch.randint(0, 3, (9,)))
loss.backward()

# %% group_norm_and_instance_norm: biases before two other normalisations
# expect model: healthy | zero
#   never: vanishing
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(2, 4, 3),
    nn.InstanceNorm2d(4),
    nn.GELU(),
    nn.Conv2d(4, 4, 3),
    nn.GroupNorm(4, 4),
    nn.GELU(),
    nn.Flatten(),
    nn.Linear(4 * 16, 2),
)
loss = model(torch.randn(3, 2, 8, 8)).pow(2).mean()
loss.backward()

# %% twenty_sigmoids: a chain of 20 layers with sigmoid, which does vanish
# expect model[0].weight: vanishing
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(*[m for _ in range(20) for m in (nn.Linear(4, 4), nn.Sigmoid())])
loss = model(torch.randn(8, 4)).pow(2).mean()
loss.backward()
