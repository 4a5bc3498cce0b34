"""GAN: a variable needed for gradient computation was modified by an inplace operation"""

# ask: error
# verdict: changed in place

import torch
from torch import nn

generator, critic = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
fake = generator(torch.ones(5, 2))
score = critic(fake)
loss_critic = score.mean()
loss_generator = -score.mean()
loss_critic.backward(retain_graph=True)
optimizer.step()  # here
loss_generator.backward()
