# %% codebook_of_nearest: nearest code by argmin, straight-through by detach (after ritheshkumar95/pytorch-vqvae#14)
# thread: https://github.com/ritheshkumar95/pytorch-vqvae/issues/14
# expect codebook.weight: cut
#   says: detach
#   never: argmin
import torch
from torch import nn

torch.manual_seed(0)
encoder, codebook, decoder = nn.Linear(4, 2), nn.Embedding(6, 2), nn.Linear(2, 4)
x = torch.randn(5, 4)
z = encoder(x)
index = torch.cdist(z, codebook.weight).argmin(1)
nearest = codebook(index)
passed = z + (nearest - z).detach()  # here
loss = (decoder(passed) - x).pow(2).mean()
loss.backward()

# %% codebook_with_its_loss: the same with the codebook loss, mended
# expect codebook: healthy
# expect encoder: healthy
# expect decoder: healthy
import torch
from torch import nn

torch.manual_seed(0)
encoder, codebook, decoder = nn.Linear(4, 2), nn.Embedding(6, 2), nn.Linear(2, 4)
x = torch.randn(5, 4)
z = encoder(x)
index = torch.cdist(z, codebook.weight).argmin(1)
nearest = codebook(index)
passed = z + (nearest - z).detach()
loss = (decoder(passed) - x).pow(2).mean() + (nearest - z.detach()).pow(2).mean()
loss.backward()

# %% only_an_index: the router's scores are used by topk's indices alone
# expect router.weight: !fine
#   says: topk
import torch
from torch import nn

torch.manual_seed(0)
router = nn.Linear(3, 4)
experts = nn.ModuleList(nn.Linear(3, 1) for _ in range(4))
x = torch.randn(3)
best = router(x).topk(2).indices  # here
loss = sum(experts[i](x).pow(2).sum() for i in best.tolist())
loss.backward()

# %% detached_then_rounded: a detach first, a round after it
# expect w: cut
#   says: detach
#   never: round
import torch

w = torch.tensor([0.3, 1.7], requires_grad=True)
v = torch.ones(2, requires_grad=True)
kept = w.detach()  # here
loss = (kept.round() * v).sum()
loss.backward()

# %% far_below_the_cut: the cut is 30 operations away from the root
# expect w: cut
#   says: detach
#   never: roll
import torch

w = torch.ones(4, requires_grad=True)
v = torch.ones(4, requires_grad=True)
x = (w * 2).detach()  # here
for step in range(30):
    x = x.roll(1) * 1.01 + step
loss = (x * v).sum()
loss.backward()

# %% numpy_between_and_detach_elsewhere: two ways from a to the loss, each cut
# expect a: cut
#   line: any
#   never: round
import torch

a = torch.ones(3, requires_grad=True)
b = torch.ones(3, requires_grad=True)
first = torch.from_numpy((a * 2).detach().numpy())
second = (a * 3).detach()
loss = ((first + second) * b).sum()
loss.backward()
