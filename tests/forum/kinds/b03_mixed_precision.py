# %% clip_before_unscale: gradients are clipped while they are scaled (after Pytorch-UNet#468)
# thread: https://github.com/milesial/Pytorch-UNet/issues/468
# expect model.weight: !fine
#   says: unscale_
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
loss = model(torch.randn(8, 3)).pow(2).mean()
scaler.scale(loss).backward()
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # here
scaler.step(optimizer)
scaler.update()

# %% clip_after_unscale: the same, mended
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
loss = model(torch.randn(8, 3)).pow(2).mean()
scaler.scale(loss).backward()
scaler.unscale_(optimizer)
torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
scaler.step(optimizer)
scaler.update()

# %% skipped_step: an infinite gradient, the step is skipped
# expect model.weight: infinite | NaN
#   says: skip
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
loss = model(torch.randn(8, 3)).pow(2).sum() * 1e25
scaler.scale(loss).backward()
scaler.step(optimizer)
scaler.update()

# %% scaled_gradient_looked_at: gradients are looked at while they are scaled
# expect model.weight: fine | accumulated | !fine
#   says: scaled
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
scaler = torch.amp.GradScaler("cpu", init_scale=65536.0)
loss = model(torch.randn(8, 3)).pow(2).mean()
scaler.scale(loss).backward()

# %% autocast_bfloat16: autocast with bfloat16, no scaler
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(8, 3))
    out.float().pow(2).mean().backward()
    optimizer.step()

# %% scaler_as_documented: the loop of the documentation
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
for _ in range(3):
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(torch.randn(8, 3))
        loss = out.float().pow(2).mean()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
