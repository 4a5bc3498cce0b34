# %% lora_first_step: LoRA's A gets zeros while B is zero, and the optimizer steps (after microsoft/LoRA#59)
# thread: https://github.com/microsoft/LoRA/issues/59
# expect lora_a.weight: zero
#   says: lora_b
#   line: any
# expect lora_b: healthy
import torch
from torch import nn

torch.manual_seed(0)
base, lora_a, lora_b = nn.Linear(6, 8), nn.Linear(6, 3, bias=False), nn.Linear(3, 8, bias=False)
base.requires_grad_(False)
nn.init.zeros_(lora_b.weight)
optimizer = torch.optim.AdamW([*lora_a.parameters(), *lora_b.parameters()], lr=1e-2)
x = torch.randn(5, 6)
loss = (base(x) + lora_b(lora_a(x))).pow(2).mean()
loss.backward()
optimizer.step()

# %% lora_second_step: the second step of the same, where A learns
# expect lora_a: healthy
# expect lora_b: healthy
import torch
from torch import nn

torch.manual_seed(0)
base, lora_a, lora_b = nn.Linear(6, 8), nn.Linear(6, 3, bias=False), nn.Linear(3, 8, bias=False)
base.requires_grad_(False)
nn.init.zeros_(lora_b.weight)
optimizer = torch.optim.AdamW([*lora_a.parameters(), *lora_b.parameters()], lr=1e-2)
x = torch.randn(5, 6)
for _ in range(2):
    optimizer.zero_grad()
    loss = (base(x) + lora_b(lora_a(x))).pow(2).mean()
    loss.backward()
    optimizer.step()

# %% dead_relu_of_64: a layer of 64 dead units, and a step
# expect model[0].weight: zero
#   says: relu
#   line: any
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 1))
nn.init.constant_(model[0].bias, -1e3)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = model(torch.randn(7, 4)).pow(2).mean()
loss.backward()
optimizer.step()

# %% gate_of_zero: a ReZero gate of 0 with a step of Adam
# expect body.weight: zero
#   says: gate
import torch
from torch import nn

torch.manual_seed(0)
body = nn.Linear(16, 16)
gate = nn.Parameter(torch.zeros(1))
optimizer = torch.optim.Adam([*body.parameters(), gate], lr=1e-3)
x = torch.randn(4, 16)
out = x + gate * body(x)  # here
loss = out.pow(2).mean()
loss.backward()
optimizer.step()

# %% sqrt_of_zero_and_a_step: sqrt at 0 over 64 entries, and a step
# expect p: NaN | infinite
#   says: sqrt
import torch
from torch import nn

p = nn.Parameter(torch.zeros(64))
q = nn.Parameter(torch.ones(64))
optimizer = torch.optim.SGD([p, q], lr=0.1)
loss = (p * q).sqrt().sum()  # here
loss.backward()
optimizer.step()

# %% a_step_of_everything: a model of 64 units that is well
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 64), nn.GELU(), nn.Linear(64, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loss = model(torch.randn(7, 4)).pow(2).mean()
loss.backward()
optimizer.step()
