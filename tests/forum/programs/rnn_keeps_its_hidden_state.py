"""Trying to backward through the graph a second time, in the loop of my RNN"""

# ask: error
# verdict: backward a second time

import torch
from torch import nn

rnn = nn.RNN(2, 3)
hidden = torch.zeros(1, 1, 3)
optimizer = torch.optim.SGD(rnn.parameters(), lr=0.1)
for _ in range(3):
    output, hidden = rnn(torch.ones(5, 1, 2), hidden)  # here
    loss = output.pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
