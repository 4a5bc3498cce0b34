# %% running_centroid: a running mean of features is kept on the module (after jlamprou/Infini-Attention#3)
# thread: https://github.com/jlamprou/Infini-Attention/issues/3
# expect error: backward a second time
#   says: memory
#   fix: detach
#   never: feature.detach
import torch
from torch import nn


class Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(3, 2)
        self.memory = torch.zeros(2)

    def forward(self, x):
        feature = self.encode(x).tanh()
        self.memory = 0.9 * self.memory + 0.1 * feature.mean(0)  # here
        return (feature - self.memory).pow(2).sum()


torch.manual_seed(0)
model = Memory()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    loss = model(torch.randn(4, 3))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% running_centroid_detached: the same, mended
# expect model: healthy
import torch
from torch import nn


class Memory(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(3, 2)
        self.memory = torch.zeros(2)

    def forward(self, x):
        feature = self.encode(x).tanh()
        self.memory = (0.9 * self.memory + 0.1 * feature.mean(0)).detach()
        return (feature - self.memory).pow(2).sum()


torch.manual_seed(0)
model = Memory()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    loss = model(torch.randn(4, 3))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% negatives_in_a_queue: keys of earlier batches are negatives, with zero_grad after the forward pass
# thread: https://github.com/sgadgil6/cnslab_fmri/issues/4
# expect error: backward a second time
#   says: queue
#   fix: detach
import torch
from torch import nn

torch.manual_seed(0)
encoder = nn.Linear(4, 3)
optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-2)
queue = []
for _ in range(3):
    keys = encoder(torch.randn(5, 4)).tanh()
    negatives = torch.cat([*queue, keys])
    loss = (keys @ negatives.t()).logsumexp(1).mean()
    queue.append(keys)  # here
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% lstm_state_on_self: the state of an LSTM is a tuple on the module
# thread: https://github.com/sgadgil6/cnslab_fmri/issues/4
# expect error: backward a second time
#   says: hidden
#   fix: detach
#   never: h.detach()
import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.out = nn.Linear(4, 1)
        self.hidden = (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))

    def forward(self, x):
        seen, self.hidden = self.lstm(x, self.hidden)  # here
        return self.out(seen[:, -1])


torch.manual_seed(0)
model = Tagger()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    loss = model(torch.randn(2, 5, 3)).pow(2).mean()
    loss.backward()
    optimizer.step()

# %% lstm_state_detached: the same, mended
# expect model: healthy
import torch
from torch import nn


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.out = nn.Linear(4, 1)
        self.hidden = (torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))

    def forward(self, x):
        seen, (h, c) = self.lstm(x, self.hidden)
        self.hidden = (h.detach(), c.detach())
        return self.out(seen[:, -1])


torch.manual_seed(0)
model = Tagger()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    loss = model(torch.randn(2, 5, 3)).pow(2).mean()
    loss.backward()
    optimizer.step()

# %% baseline_of_rewards: a moving baseline of the critic, a plain variable of the loop
# expect error: backward a second time
#   says: baseline
#   fix: baseline
import torch
from torch import nn

torch.manual_seed(0)
critic = nn.Linear(3, 1)
optimizer = torch.optim.SGD(critic.parameters(), lr=0.05)
baseline = torch.zeros(())
for _ in range(3):
    value = critic(torch.randn(6, 3)).mean()
    baseline = 0.5 * baseline + 0.5 * value.exp()  # here
    loss = (value - baseline).pow(2) + value.pow(2)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
