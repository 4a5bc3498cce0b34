# %% accumulation_over_micro_batches: gradients of 4 micro-batches, one step
# expect model: healthy | accumulated
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
optimizer.zero_grad()
for _ in range(4):
    (model(torch.randn(2, 3)).pow(2).mean() / 4).backward()
optimizer.step()

# %% shared_embedding: input and output embeddings are one tensor
# expect model: healthy
import torch
from torch import nn


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(7, 4), nn.Linear(4, 7, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens):
        return self.out(self.embed(tokens).tanh())


torch.manual_seed(0)
model = Language()
logits = model(torch.randint(0, 7, (3, 5)))
loss = nn.functional.cross_entropy(logits.flatten(0, 1), torch.randint(0, 7, (15,)))
loss.backward()

# %% clipping_as_documented: clip_grad_norm_ between backward and step
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.LSTM(3, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    out, _ = model(torch.randn(5, 2, 3))
    out.pow(2).mean().backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
    optimizer.step()

# %% meta_step_with_create_graph: one inner step of MAML by hand
# expect w: healthy
import torch

torch.manual_seed(0)
w = torch.randn(3, requires_grad=True)
x, y = torch.randn(4, 3), torch.randn(4)
(slope,) = torch.autograd.grad((x @ w - y).pow(2).mean(), w, create_graph=True)
loss = (x @ (w - 0.1 * slope) - y).pow(2).mean()
loss.backward()

# %% evaluation_between_epochs: no_grad around validation only
# expect model: healthy
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in range(2):
    model.train()
    optimizer.zero_grad()
    model(torch.randn(8, 3)).pow(2).mean().backward()
    optimizer.step()
    model.eval()
    with torch.no_grad():
        score = model(torch.randn(8, 3)).mean().item()

# %% dqn_with_a_target: gather of actions, and a target under no_grad
# expect online: healthy
import torch
from torch import nn

torch.manual_seed(0)
online, target = nn.Linear(4, 3), nn.Linear(4, 3)
state, then = torch.randn(6, 4), torch.randn(6, 4)
action = torch.tensor([[0], [1], [2], [0], [1], [2]])
with torch.no_grad():
    goal = torch.ones(6, 1) + 0.9 * target(then).max(1, keepdim=True).values
loss = nn.functional.smooth_l1_loss(online(state).gather(1, action), goal)
loss.backward()

# %% policy_gradient: log probabilities of sampled actions
# expect policy: healthy
import torch
from torch import nn

torch.manual_seed(0)
policy = nn.Linear(4, 3)
chosen = torch.distributions.Categorical(logits=policy(torch.randn(8, 4)))
action = chosen.sample()
loss = -(chosen.log_prob(action) * torch.randn(8)).mean()
loss.backward()

# %% vae_with_rsample: the reparametrisation trick
# expect encoder: healthy
# expect decoder: healthy
import torch
from torch import nn

torch.manual_seed(0)
encoder, decoder = nn.Linear(4, 4), nn.Linear(2, 4)
x = torch.randn(6, 4)
mean, spread = encoder(x).chunk(2, 1)
posterior = torch.distributions.Normal(mean, spread.exp())
loss = (decoder(posterior.rsample()) - x).pow(2).mean() + 0.1 * (mean.pow(2) + spread.exp()).mean()
loss.backward()

# %% truncated_backpropagation: the state is detached every step
# expect cell: healthy
import torch
from torch import nn

torch.manual_seed(0)
cell = nn.GRUCell(3, 4)
optimizer = torch.optim.SGD(cell.parameters(), lr=0.1)
state = torch.zeros(2, 4)
for _ in range(3):
    state = cell(torch.randn(2, 3), state.detach())
    optimizer.zero_grad()
    state.pow(2).mean().backward()
    optimizer.step()
