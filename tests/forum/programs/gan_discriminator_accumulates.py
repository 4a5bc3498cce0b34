"""My GAN: the discriminator gets too large gradients"""

# ask: discriminator.weight
# verdict: accumulated

import torch
from torch import nn

generator, discriminator = nn.Linear(2, 3), nn.Linear(3, 1)
optimizer_g = torch.optim.SGD(generator.parameters(), lr=0.1)
fake = generator(torch.ones(4, 2))
g_loss = -discriminator(fake).mean()
optimizer_g.zero_grad()
g_loss.backward()
d_loss = discriminator(fake.detach()).square().mean()
d_loss.backward()  # here
