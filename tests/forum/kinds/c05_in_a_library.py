# %% generate_of_a_library: a library's function runs under no_grad
# file lib.py:
# | import torch
# |
# |
# | @torch.no_grad()
# | def generate(model, x):
# |     return model(x).relu()
# expect error: nothing to differentiate
#   says: no_grad
import torch
from torch import nn
import lib

torch.manual_seed(0)
model = nn.Linear(3, 2)
out = lib.generate(model, torch.ones(1, 3))  # here
loss = out.sum()
loss.backward()

# %% embed_of_a_library: a library detaches what it returns
# file lib.py:
# | def embed(model, x):
# |     return model(x).detach()
# expect encoder.weight: cut
#   says: detach
import torch
from torch import nn
import lib

torch.manual_seed(0)
encoder, head = nn.Linear(3, 2), nn.Linear(2, 1)
features = lib.embed(encoder, torch.ones(4, 3))  # here
loss = head(features).pow(2).mean()
loss.backward()

# %% embed_that_keeps_the_graph: a library that keeps the graph
# file lib.py:
# | def embed(model, x):
# |     return model(x).tanh()
# expect encoder: healthy
# expect head: healthy
import torch
from torch import nn
import lib

torch.manual_seed(0)
encoder, head = nn.Linear(3, 2), nn.Linear(2, 1)
features = lib.embed(encoder, torch.randn(4, 3))
loss = head(features).pow(2).mean()
loss.backward()

# %% trainer_of_a_library: the loop itself is in a library, the cut is the user's
# file lib.py:
# | def fit(step, parameters):
# |     for p in parameters:
# |         p.grad = None
# |     step().backward()
# expect encoder.weight: cut
#   says: detach
import torch
from torch import nn
import lib

torch.manual_seed(0)
encoder, head = nn.Linear(3, 2), nn.Linear(2, 1)


def step():
    hidden = encoder(torch.ones(4, 3)).detach()  # here
    return head(hidden).pow(2).mean()


lib.fit(step, [*encoder.parameters(), *head.parameters()])

# %% in_place_of_a_library: a library normalises its argument in place
# file lib.py:
# | def normalise(x):
# |     x -= x.mean()
# |     x /= x.std()
# |     return x
# expect error: changed in place
import torch
from torch import nn
import lib

torch.manual_seed(0)
model = nn.Linear(3, 2)
hidden = model(torch.randn(4, 3)).sigmoid()
other = hidden.exp()
again = lib.normalise(other)  # here
loss = (again + hidden).sum() + other.log().sum()
loss.backward()
