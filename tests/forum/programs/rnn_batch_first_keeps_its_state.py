"""Backward through the graph a second time, with a batch_first RNN that keeps its state"""

# ask: error
# verdict: backward a second time
# says: is carried over from before that pass

import torch
from torch import nn

rnn = nn.GRU(3, 4, batch_first=True)
state = None
for _ in range(2):
    out, state = rnn(torch.ones(2, 5, 3), state)  # here
    loss = out.square().mean()
    loss.backward()
