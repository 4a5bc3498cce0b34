"""The encoder does not train: its gradients are None, those of the decoder are not"""

# ask: encoder.weight
# verdict: cut

import torch
from torch import nn

encoder, decoder = nn.Linear(3, 2), nn.Linear(2, 3)
x = torch.ones(4, 3)
code = encoder(x)
code = code.detach()  # here
loss = (decoder(code) - x).pow(2).mean()
loss.backward()
