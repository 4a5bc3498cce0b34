"""My VAE does not train its encoder: grad is None"""

# ask: encoder.weight
# verdict: cut
# says: sample(), which runs under no_grad

import torch
from torch import nn

encoder, decoder = nn.Linear(3, 2), nn.Linear(2, 3)
mean = encoder(torch.ones(4, 3))
z = torch.distributions.Normal(mean, 1.0).sample()  # here
loss = decoder(z).square().mean()
loss.backward()
