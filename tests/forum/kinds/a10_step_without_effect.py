# %% learning_rate_of_zero: a warm-up that starts at 0
# expect run: step changed 0
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
loss = model(torch.randn(4, 3)).pow(2).mean()
loss.backward()
optimizer.step()

# %% bfloat16_too_small: the update is smaller than the spacing of bfloat16
# expect run: step changed 0
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1, bias=False).to(torch.bfloat16)
with torch.no_grad():
    model.weight.fill_(100.0)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
loss = model(torch.ones(4, 3, dtype=torch.bfloat16)).sum()
loss.backward()
optimizer.step()

# %% an_ordinary_step: a step that changes both parameters
# expect run: step changed 2
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = model(torch.randn(4, 3)).pow(2).mean()
loss.backward()
optimizer.step()

# %% zero_grad_before_step: zero_grad between backward and step
# expect run: step changed 0
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
loss = model(torch.randn(4, 3)).pow(2).mean()
loss.backward()
optimizer.zero_grad()
optimizer.step()

# %% adam_step: a step of Adam
# expect run: step changed 2
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Linear(3, 1)
optimizer = torch.optim.Adam(model.parameters())
loss = model(torch.randn(4, 3)).pow(2).mean()
loss.backward()
optimizer.step()
