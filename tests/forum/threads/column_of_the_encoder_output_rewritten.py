"""Problem About Changing the encoder_out

https://github.com/facebookresearch/fairseq/issues/251
"""

# ask: error
# verdict: changed in place

import torch
from torch import nn

encoder = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
encoder_out = encoder(torch.ones(2, 3))
for j in range(2):
    encoder_out[:, j] = encoder_out[:, j] * 0.5  # here
encoder_out.sum().backward()
