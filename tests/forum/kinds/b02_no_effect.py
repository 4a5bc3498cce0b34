# %% freeze_a_module_by_an_attribute: module.requires_grad = False sets an attribute that nobody reads
# expect run: names requires_grad
#   says: requires_grad_(False)
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Linear(3, 3), nn.Linear(3, 1)
body.requires_grad = False  # here
optimizer = torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.1)
loss = head(body(torch.randn(4, 3)).tanh()).pow(2).mean()
loss.backward()
optimizer.step()

# %% misspelt_on_a_parameter: p.require_grad = False
# expect run: names require_grad
#   says: requires_grad
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Linear(3, 3), nn.Linear(3, 1)
for p in body.parameters():
    p.require_grad = False  # here
loss = head(body(torch.randn(4, 3)).tanh()).pow(2).mean()
loss.backward()

# %% freeze_a_module_rightly: the same, mended
# expect body: frozen
#   line: any
# expect head: healthy
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Linear(3, 3), nn.Linear(3, 1)
body.requires_grad_(False)
loss = head(body(torch.randn(4, 3)).tanh()).pow(2).mean()
loss.backward()

# %% eval_does_not_freeze: eval() is called, which does not freeze, and all is trained
# expect body: healthy
# expect head: healthy
import torch
from torch import nn

torch.manual_seed(0)
body, head = nn.Linear(3, 3), nn.Linear(3, 1)
body.eval()
loss = head(body(torch.randn(4, 3)).tanh()).pow(2).mean()
loss.backward()

# %% freeze_a_sequential_by_an_attribute: model.features.requires_grad = False
# expect run: names requires_grad
#   says: requires_grad_(False)
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Module()
model.features = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
model.classifier = nn.Linear(4, 2)
model.features.requires_grad = False  # here
loss = model.classifier(model.features(torch.randn(4, 3))).pow(2).mean()
loss.backward()
