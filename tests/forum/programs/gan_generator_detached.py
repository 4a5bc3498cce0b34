"""My GAN: the generator gets no gradient"""

# ask: generator.weight
# verdict: cut

import torch
from torch import nn

generator, discriminator = nn.Linear(2, 3), nn.Linear(3, 1)
fake = generator(torch.ones(4, 2))
score = discriminator(fake.detach())  # here
g_loss = -score.mean()
g_loss.backward()
